import importlib.metadata

import numpy as np
import pytest

from kws_edge import AudioError, ConfigError, Model, RuntimeUnavailableError
from kws_edge.model.interpreter import Interpreter
from kws_edge.model.runtime import RUNTIMES, installed


def test_one_is_installed_and_reported(model):
    assert installed()
    assert model.interpreter.runtime == next(iter(installed()))
    assert model.interpreter.version == installed()[model.interpreter.runtime]


def test_unknown_and_missing():
    with pytest.raises(RuntimeUnavailableError, match="unknown runtime 'onnx'"):
        Model(runtime="onnx")
    for name in RUNTIMES:
        if name not in installed():
            with pytest.raises(RuntimeUnavailableError, match=f"{name} is not installed: pip install"):
                Model(runtime=name)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_do_not_change_the_result(model, threads):
    features = np.random.default_rng(0).uniform(0, 255, (98, 40)).astype(np.float32)
    other = Model(kernels="builtin", threads=threads)
    assert np.array_equal(other.posteriors(features), model.posteriors(features))


@pytest.mark.parametrize("wrong", ["transposed", "flat", "short", "nan", "infinite"])
def test_features_that_the_model_cannot_mean_are_refused(model, wrong):
    """98 x 40 and 40 x 98 have as many values: as a flat array, the wrong one would get an answer."""
    levels = np.full((98, 40), 100, np.float32)
    broken = {
        "transposed": levels.T,
        "flat": levels.ravel(),
        "short": levels[:97],
        "nan": np.where(levels == 100, np.float32(np.nan), levels),
        "infinite": np.where(levels == 100, np.float32(np.inf), levels),
    }
    with pytest.raises(AudioError, match=r"features must be finite, of shape \(98, 40\)"):
        model.posteriors(broken[wrong])


def test_a_clip_s_label_is_that_of_its_largest_posterior(model):
    noise = np.random.default_rng(0).integers(-3000, 3000, 16000).astype(np.int16)
    label, score, posteriors = model.classify(noise)
    assert np.array_equal(posteriors, model.posteriors(model.features(noise)))
    assert (label, score) == (model.labels[posteriors.argmax()], posteriors.max())


def test_output_is_a_copy(model):
    values = np.zeros((1, 98, 40, 1), np.int8)
    interpreter = Interpreter(model.flat, kernels="builtin")
    first = interpreter.invoke(values)
    kept = first.copy()
    interpreter.invoke(values + 90)
    assert np.array_equal(first, kept)


def test_numpy_2_with_tflite_runtime_is_explained(monkeypatch):
    """tflite-runtime imports under NumPy 2 and fails later with an obscure error. It is refused with a remedy."""
    found = {"tflite-runtime": "2.14.0"}
    monkeypatch.setattr("kws_edge.model.runtime.installed", lambda: found)
    monkeypatch.setattr(np, "__version__", "2.1.0")
    with pytest.raises(RuntimeUnavailableError, match=r"NumPy 2\.1\.0: pip install 'numpy<2'"):
        Model()
    found.clear()
    with pytest.raises(RuntimeUnavailableError, match="no TFLite runtime is installed: pip install ai-edge-litert"):
        Model()


def test_installed_versions_are_true():
    for name, version in installed().items():
        assert version in {importlib.metadata.version(d) for d in RUNTIMES[name][1] if _has(d)}


def _has(distribution):
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@pytest.mark.parametrize("threads", [0, -1, 65, 10**6, 10**400, 1.0, "1", None])
def test_threads_have_a_range(threads):
    with pytest.raises(ConfigError, match="threads must be a whole number from 1 to 64"):
        Model("micro12", threads=threads)
