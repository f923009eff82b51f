"""A lamp at pin 17 of a Raspberry Pi follows "on" and "off": python lamp.py [RECORDING]"""

import sys

from gpiozero import LED

from kws_edge import AudioFile, Microphone, Model, Spotter

lamp = LED(17)
model = Model("commands12")
rate = model.frontend_config.sample_rate
with AudioFile(sys.argv[1], sample_rate=rate) if sys.argv[1:] else Microphone(sample_rate=rate) as source:
    for detection in Spotter(model).detections(source):
        if detection.keyword == "on":
            lamp.on()
        elif detection.keyword == "off":
            lamp.off()
        else:
            continue
        print(f"lamp {detection.keyword}: pin 17 is {lamp.value}", flush=True)
