"""The shipped models compute the same bits in every runtime, on real clips."""

import os
import subprocess
import sys

import numpy as np
import pytest

from kws_edge import Frontend, Model
from kws_edge.model.interpreter import Interpreter
from kws_edge.model.runtime import installed
from tests.conftest import OF_CLIPS

_RUN = """
import sys, numpy as np
from kws_edge.model.interpreter import Interpreter
from kws_edge.model.tflite import FlatModel
interpreter = Interpreter(FlatModel(open(sys.argv[1], "rb").read(), "model"), runtime=sys.argv[4], kernels="builtin")
np.save(sys.argv[3], [interpreter.invoke(x) for x in np.load(sys.argv[2])])
"""


@pytest.fixture(scope="module", params=OF_CLIPS)
def model(request):
    return Model(request.param, kernels="builtin")


@pytest.fixture(scope="module")
def inputs(model, clips):
    frontend = Frontend(model.frontend_config)
    return np.array([model.quantize(frontend(clip)) for clip in clips[:50]])


def outputs_of(model, inputs, kernels):
    interpreter = Interpreter(model.flat, kernels=kernels)
    return np.array([interpreter.invoke(x) for x in inputs])


@pytest.fixture(scope="module")
def golden(model, inputs):
    outputs = outputs_of(model, inputs, "builtin")
    winners = outputs.reshape(50, -1).argmax(axis=1)
    # The comparison needs varied outputs: many labels win, and not all scores are saturated.
    assert len(set(winners)) >= 8
    assert len(np.unique(outputs)) > 25
    return outputs


def outputs_elsewhere(python, runtime, model, inputs, folder):
    """The outputs in a process with another Python or another runtime."""
    (folder / "model.tflite").write_bytes(model.flat.data)
    np.save(folder / "in.npy", inputs)
    command = [python, "-c", _RUN, "model.tflite", "in.npy", "out.npy", runtime]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return np.load(folder / "out.npy")


def test_reference_kernels(model, inputs, golden):
    assert np.array_equal(outputs_of(model, inputs, "reference"), golden)


def test_tflite_micro(model, inputs, golden):
    micro = pytest.importorskip("tflite_micro", exc_type=ImportError, reason="tflite-micro is not installed here")
    interpreter = micro.runtime.Interpreter.from_bytes(model.flat.data, arena_size=1 << 20)
    for x, expected in zip(inputs, golden, strict=True):
        interpreter.set_input(x, 0)
        interpreter.invoke()
        assert np.array_equal(interpreter.get_output(0), expected)


def test_tflite_runtime(model, inputs, golden, tmp_path):
    python = os.environ.get("KWS_TFLITE_PYTHON")
    if not python:
        pytest.skip("KWS_TFLITE_PYTHON does not name a Python with tflite-runtime and NumPy 1")
    assert np.array_equal(outputs_elsewhere(python, "tflite-runtime", model, inputs, tmp_path), golden)


def test_tensorflow(model, inputs, golden, tmp_path):
    if "tensorflow" not in installed():
        pytest.skip("TensorFlow is not installed here")
    assert np.array_equal(outputs_elsewhere(sys.executable, "tensorflow", model, inputs, tmp_path), golden)


def test_delegate_stays_close(model, inputs, golden):
    """The live path's XNNPACK kernels may differ by a few steps of 1/256, but agree on the label."""
    outputs = outputs_of(model, inputs, "fast")
    assert np.abs(outputs.astype(int) - golden).max() <= 24
    assert (outputs.argmax(axis=-1) == golden.argmax(axis=-1)).mean() >= 0.98
