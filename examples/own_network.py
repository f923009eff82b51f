"""Run a network from elsewhere: python own_network.py NETWORK.tflite LABEL,LABEL,... RECORDING"""

import sys

from kws_edge import AudioFile, DetectorConfig, Model, Spotter, preset

if len(sys.argv) != 4:
    sys.exit(__doc__)
network, labels, recording = sys.argv[1:]
# Name the front end that the network was trained with: a preset, or your own FrontendConfig.
model = Model(network, labels=labels.split(","), frontend_config=preset("logmel40"))
config = DetectorConfig(threshold=0.6, smoothing_ms=500)
with AudioFile(recording, sample_rate=model.frontend_config.sample_rate) as source:
    for detection in Spotter(model, detector_config=config).detections(source):
        print(f"{detection.end_s:6.2f} s  {detection.keyword}  {detection.score:.2f}")
