"""Front ends whose features depend on the clip: windows, streams and resets; and public models that take them."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws_edge import DetectorConfig, Frontend, Metadata, Model, Spotter, StreamingFrontend, pack, preset
from kws_edge.config import StepConfig

MODELS = Path(__file__).parent / "models"
MICRO, RATE = preset("microfrontend"), 16000
WHOLE = {
    "microfrontend": MICRO,
    "mfcc": dataclasses.replace(preset("logmel40"), n_mfcc=40, normalise=True, level_min=None, level_max=None),
    "normalised": dataclasses.replace(preset("logmel40"), normalise=True, log_offset=1e-3, log_gain=20),
    "resized": dataclasses.replace(MICRO, hop_ms=20, resize_frames=98),
}
"""Front ends of 98 rows of 40, as the model of one wake word takes them."""
LOUDER = dataclasses.replace(MICRO, log_gain=20, level_max=208)
"""Levels of the range that the small models take."""


@pytest.fixture(scope="module")
def samples():
    """Noise that comes and goes, with a pause."""
    rng, seconds = np.random.default_rng(5), 4
    loudness = np.repeat(np.exp(rng.uniform(2, 9, seconds * 4)), RATE // 4)
    loudness[RATE : RATE + 4000] = 0
    return rng.normal(0, loudness).clip(-32768, 32767).astype(np.int16)


def model_of(name, folder, config, labels=("hum",), **fields):
    path = folder / f"{name}.tflite"
    metadata = Metadata(labels=labels, frontend_config=config, name=name, **fields)
    path.write_bytes(pack((MODELS / f"{name}.tflite").read_bytes(), metadata))
    return Model(path, kernels="builtin")


def steps_of(spotter, samples, size):
    """What the network took, and the frames shown, at each inference. One may give several steps."""
    for at in range(0, len(samples), size):
        for step in spotter.process_steps(samples[at : at + size]):
            if step.time_s == step.known_s:
                yield step, spotter.input.copy(), spotter.frames


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("size", [333, 1600, 48000])
def test_a_window_in_a_stream_is_a_clip_of_its_own(tmp_path, samples, name, size):
    """The network takes the same bits for a window as for a clip of its samples."""
    config = WHOLE[name]
    model, frontend = model_of("one", tmp_path, config), Frontend(config)
    length, compared = (config.n_frames - 1) * config.hop_length + config.frame_length, 0
    for step, taken, frames in steps_of(Spotter(model, detector_config=DetectorConfig(step_ms=100)), samples, size):
        end = round(step.time_s * RATE)
        if end < length:
            continue
        features = frontend.frames(samples[end - length : end])
        assert np.array_equal(taken, model.quantize(frontend.resize(features)))
        assert np.array_equal(frames, features[-len(frames) :])
        compared += 1
    assert compared >= 28


def test_before_a_stream_is_silence(tmp_path, samples):
    """The first windows begin in it."""
    model = model_of("one", tmp_path, MICRO)
    heard = [taken for _, taken, _ in steps_of(Spotter(model), samples[:RATE], 1600)]
    padded = np.concatenate([np.zeros(MICRO.hop_length * MICRO.n_frames, np.int16), samples[:RATE]])
    again = [taken for _, taken, _ in steps_of(Spotter(model), padded, 1600)][-len(heard) :]
    length = (MICRO.n_frames - 1) * MICRO.hop_length + MICRO.frame_length
    whole = Frontend(MICRO).frames(np.concatenate([np.zeros(length, np.int16), samples[:RATE]]))
    assert len(heard) == len(again) == 9
    assert heard[0].any()
    assert whole.any()


def test_a_reset_and_a_gap_begin_anew(tmp_path, samples):
    for name, config, fields in (
        ("one", MICRO, {}),
        ("stateful", dataclasses.replace(MICRO, clip_ms=50), {"detector_config": DetectorConfig(step_ms=30)}),
        ("step", LOUDER, {"labels": ("a", "b", "c"), "step": StepConfig(frames=2, score_offset=6.5)}),
    ):
        spotter = Spotter(model_of(name, tmp_path, config, **fields))
        first = [(taken, frames) for _, taken, frames in steps_of(spotter, samples[:RATE], 1000)]
        for begin in (spotter.reset, lambda spotter=spotter: spotter.skip(777)):
            begin()
            again = [(taken, frames) for _, taken, frames in steps_of(spotter, samples[:RATE], 1000)]
            assert len(again) == len(first) > 5
            for what in (0, 1):
                assert np.array_equal([one[what] for one in first], [one[what] for one in again])


@pytest.mark.parametrize("name", ["stateful", "step"])
def test_a_network_with_state_hears_a_running_stream(tmp_path, samples, name):
    """So does one whose state is in variables, as microWakeWord's models have it."""
    if name == "step":
        step = StepConfig(frames=2, score_offset=6.5)
        config, model = LOUDER, model_of("step", tmp_path, LOUDER, labels=("a", "b", "c"), step=step)
    else:
        config = dataclasses.replace(MICRO, clip_ms=50)
        model = model_of("stateful", tmp_path, config, detector_config=DetectorConfig(step_ms=30))
    expected = Frontend(config).frames(samples)
    heard = list(steps_of(Spotter(model), samples, 1234))
    frames = np.concatenate([frames for _, _, frames in heard])
    assert len(expected) - len(frames) < 10
    assert np.array_equal(frames, expected[: len(frames)])
    taken = np.concatenate([taken.reshape(-1, 40) for _, taken, _ in heard])
    quantised = np.empty(frames.shape, model.input.dtype)
    model.quantize_levels(frames, out=quantised)
    assert np.array_equal(taken, quantised)
    assert np.array_equal(StreamingFrontend(config).process(samples), expected)


@pytest.fixture(scope="module")
def public() -> Path:
    """Public models and recordings under their own names, which are not part of this repository."""
    folder = os.environ.get("KWS_PUBLIC_MODELS")
    if not folder:
        pytest.skip("KWS_PUBLIC_MODELS is not set: no public models")
    return Path(folder)


@pytest.mark.host
def test_micro_speech_hears_its_own_recordings(public, run_cli, tmp_path):
    """The example of TensorFlow Lite Micro. It takes a frame every 20 ms."""
    settings = dataclasses.replace(MICRO, hop_ms=20).to_dict()
    (tmp_path / "frontend.json").write_text(json.dumps(settings))
    options = ("--labels", "silence,unknown,yes,no", "--frontend", "frontend.json", "-o", "micro_speech.tflite")
    done = run_cli("import", public / "micro_speech_quantized.tflite", *options, package="host_tools")
    assert done.returncode == 0, done.stderr
    for sound, label in (("yes", "yes"), ("no", "no"), ("silence", "silence"), ("noise", "silence")):
        done = run_cli("classify", public / f"{sound}_1000ms.wav", "--model", "micro_speech.tflite", "--json")
        assert json.loads(done.stdout)["top"][0][0] == label, sound
    model = Model(tmp_path / "micro_speech.tflite")
    for word in ("yes", "no"):
        samples = soundfile.read(public / f"{word}_1000ms.wav", dtype="int16")[0]
        best = max(step.posteriors[model.labels.index(word)] for step in Spotter(model).steps([samples]))
        assert best > 0.8


@pytest.mark.host
def test_mlperf_tiny_reaches_its_published_accuracy(public, data, run_cli):
    """The keyword-spotting reference model of MLPerf Tiny: about 92 % in INT8."""
    labels = "down,go,left,no,off,on,right,stop,up,yes,silence,unknown"
    options = ("--labels", labels, "--frontend", "mfcc", "-o", "kws_ref.tflite")
    done = run_cli("import", public / "kws_ref_model.tflite", *options, package="host_tools")
    assert done.returncode == 0, done.stderr
    assert b"49 frames of 10 MFCC to down" in done.stdout
    done = run_cli("evaluate", "kws_ref.tflite", "--clips", data / "test12", "--json", package="host_tools")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"][0]["accuracy"] == pytest.approx(0.92, abs=0.01)
