"""Run a compiled ESPHome program, with its loop called from here: PROGRAM MODEL SECONDS LIMIT.

Where the program has no TensorFlow Lite Micro of its own, TFLite Micro's interpreter here computes its inferences. The
program ends SECONDS after its recording, or LIMIT seconds after its start.
"""

import ctypes
import os
import sys
import time

from firmware_export.arena import MicroInterpreter
from firmware_export.states import at_hop
from kws_edge import Model, Spotter
from tests.firmware.host import bridge


def main(program: str, path: str, seconds: float, limit: float) -> None:
    c = ctypes.CDLL(program)
    kept = None
    if hasattr(c, "bridge_set"):
        model = Model(path, kernels="builtin")
        spotter = Spotter(model)
        if model.step is not None:
            model = at_hop(model, spotter.step_frames)
        step_samples = ctypes.c_size_t(round(spotter.step_s * model.frontend_config.sample_rate))
        kept = bridge(c, MicroInterpreter(model.flat, path), lambda _: c.recording_heard(step_samples))
    c._ZN7esphome4host17setup_preferencesEv()
    c._Z5setupv()
    end, ended = time.monotonic() + limit, False
    while time.monotonic() < end:
        c._Z4loopv()
        if not ended and c.recording_ended() & 1:
            end, ended = time.monotonic() + seconds, True
    assert kept is None or kept
    sys.stdout.flush()
    os._exit(0)  # the program's threads go on


main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
