"""One side of a comparison, in a process and an environment of its own. It speaks JSON lines.

    python worker.py WORKLOAD RECORDING '{"option": "value"}'

RECORDING holds mono int16 samples at 16 kHz, nothing else. A workload is a function that imports and prepares its
library. It returns functions that are called with each block, by name, a function that converts samples to its blocks,
and the length of a block. The process answers each line of standard input by a line of standard output:

    {"blocks": 40, "call": "NAME"}   hears 40 blocks as fast as possible: {"cpu_s", "wall_s"}
    {"live_s": 4, "call": "NAME"}    hears 4 s at a microphone's pace: {"cpu_s", "wall_s"}
    {"memory": true}                 {"peak_bytes"} of resident memory so far

It imports only what it needs, because its start-up and its memory are measured.
"""

import json
import sys
import time

import numpy as np

RATE = 16000
WORKLOADS = {}


def workload(function):
    WORKLOADS[function.__name__] = function
    return function


def as_is(block):
    return block


def to_bytes(block):
    return block.tobytes()


# Ours.


@workload
def clips(block=RATE, **config):
    """Features of clips, and their least possible cost: transform and matrix product on the same arrays."""
    from kws_edge.config import FrontendConfig
    from kws_edge.features.frontend import Frontend
    from kws_edge.features.log_mel import BATCH, LANES, LogMel

    settings = {
        "frame_ms": 25,
        "hop_ms": 10,
        "n_fft": 512,
        "n_mels": 40,
        "f_min_hz": 20,
        "f_max_hz": 8000,
        "spectrum": "power",
        "sample_scale": 1 / 32768,
        "log_offset": 1e-6,
    }
    frontend = Frontend(FrontendConfig(**{**settings, **config}))
    matrix = LogMel(frontend.config)._matrix
    frames = np.zeros((BATCH, frontend.config.n_fft))
    bins = np.empty((BATCH, frontend.config.n_fft // 2 + 1), complex)
    spectrum = np.ones((BATCH // LANES, LANES, len(matrix)), np.float32)
    bands = np.empty((BATCH // LANES, LANES, frontend.config.n_mels), np.float32)

    def floor(samples):
        n = frontend.config.frames_in(len(samples))
        for rows in (min(BATCH, n - at) for at in range(0, n, BATCH)):
            np.fft.rfft(frames[:rows], out=bins[:rows])
            groups = -(-rows // LANES)
            np.matmul(spectrum[:groups], matrix, out=bands[:groups])

    return {"ours": frontend.frames, "floor": floor}, as_is, block


@workload
def stream(block=1280):
    from kws_edge import StreamingFrontend, preset

    return {"ours": StreamingFrontend(preset("logmel40")).process}, as_is, block


@workload
def spotter(block=1280, model="commands12", streams=1, keywords=0):
    """The whole detector on several streams that take turns. `keywords` is the number of active ones; 0: all."""
    import dataclasses

    from kws_edge import Model, Spotter

    loaded = Model(model)
    detector = loaded.detector_config
    if keywords:
        words = [label for label in loaded.labels if not label.startswith("_") and label not in ("silence", "unknown")]
        detector = dataclasses.replace(detector, keywords=tuple(words[:keywords]), thresholds={})
    spotters = [Spotter(loaded, detector_config=detector) for _ in range(streams)]

    def hear(samples):
        for one in spotters:
            one.process(samples)

    return {"ours": spotters[0].process if streams == 1 else hear}, as_is, block


@workload
def invoke(model, runtime="auto", block=160):
    """The interpreter of this package, and a bare one, on the same input."""
    from kws_edge.model.interpreter import Interpreter
    from kws_edge.model.model import read_model

    interpreter = Interpreter(read_model(model)[1], runtime=runtime)
    native = interpreter.native
    first, last = native.get_input_details()[0], native.get_output_details()[0]
    source, target = first["index"], last["index"]
    values = np.random.default_rng(0).integers(-128, 128, first["shape"], np.int8)

    def bare(samples):
        native.set_tensor(source, values)
        native.invoke()
        native.get_tensor(target)

    return {"ours": lambda samples: interpreter.invoke(values), "bare": bare}, as_is, block


# The peers.


@workload
def librosa(block=RATE):
    import librosa

    def features(samples):
        mel = librosa.feature.melspectrogram(
            y=samples, sr=RATE, n_fft=512, win_length=400, hop_length=160, center=False, n_mels=40, fmin=20, fmax=8000
        )
        return np.log(mel + 1e-6)

    return {"peer": features}, lambda samples: samples.astype(np.float32) / 32768, block


@workload
def kaldi_native_fbank(block=RATE):
    import kaldi_native_fbank as knf

    options = knf.FbankOptions()
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = 40

    def features(samples):
        fbank = knf.OnlineFbank(options)
        fbank.accept_waveform(RATE, samples)
        fbank.input_finished()
        return [fbank.get_frame(i) for i in range(fbank.num_frames_ready)]

    return {"peer": features}, lambda samples: (samples / 32768).tolist(), block  # it is quickest with a list


@workload
def python_speech_features(block=RATE):
    from python_speech_features import logfbank

    return {"peer": lambda samples: logfbank(samples, RATE, nfilt=40, nfft=512, lowfreq=20)}, as_is, block


@workload
def pymicro_features(block=RATE):
    """Its front end is fixed: 40 mel bands from 125 to 7500 Hz, frames of 30 ms and a hop of 10 ms."""
    from pymicro_features import MicroFrontend

    frontend = MicroFrontend()

    def features(audio):
        return [frontend.process_samples(audio[at : at + 320]).features for at in range(0, len(audio), 320)]

    return {"peer": features}, to_bytes, block


@workload
def tf_signal(block=RATE):
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    matrix = tf.signal.linear_to_mel_weight_matrix(40, 257, RATE, 20.0, 8000.0)

    @tf.function(input_signature=[tf.TensorSpec([block], tf.float32)])
    def features(samples):
        spectrum = tf.signal.stft(samples, 400, 160, 512)
        return tf.math.log(tf.matmul(tf.square(tf.abs(spectrum)), matrix) + 1e-6)

    return {"peer": features}, lambda samples: tf.constant(samples / 32768, tf.float32), block


@workload
def pymicro_wakeword(block=1280):
    from pymicro_wakeword import MicroWakeWord, MicroWakeWordFeatures, Model

    word, features = MicroWakeWord.from_builtin(Model.OKAY_NABU), MicroWakeWordFeatures()

    def hear(audio):
        for frame in features.process_streaming(audio):
            word.process_streaming(frame)

    return {"peer": hear}, to_bytes, block


def peak_bytes():
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def hear(call, blocks, n, pace_s=0.0):
    """CPU seconds of all threads, and seconds of the clock, for `n` blocks. With a pace, each waits for its time."""
    cpu, wall = time.process_time(), time.perf_counter()
    for i in range(n):
        if pace_s:
            time.sleep(max(0.0, wall + (i + 1) * pace_s - time.perf_counter()))
        call(blocks[i % len(blocks)])
    return {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}


def main():
    name, recording, arguments = sys.argv[1:]
    calls, prepare, size = WORKLOADS[name](**json.loads(arguments))
    samples = np.fromfile(recording, np.int16)
    blocks = [prepare(samples[at : at + size]) for at in range(0, len(samples) - size + 1, size)]
    for line in sys.stdin:
        ask = json.loads(line)
        call = calls[ask.get("call") or next(iter(calls))]
        if "memory" in ask:
            answer = {"peak_bytes": peak_bytes()}
        elif "live_s" in ask:
            answer = hear(call, blocks, round(ask["live_s"] * RATE / size), size / RATE)
        else:
            answer = hear(call, blocks, ask["blocks"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
