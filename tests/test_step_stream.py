"""A network with state on the device: streams, clips, files that contradict themselves."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from kws_edge import AudioFile, ConfigError, DetectorConfig, Metadata, Model, ModelError, Spotter, pack, preset, unpack
from kws_edge.cli.demo import STREAM
from kws_edge.config import StepConfig

STEP = StepConfig(frames=2, score_offset=6.5)
METADATA = Metadata(
    labels=("rise", "fall", "rest"),
    frontend_config=preset("logmel40"),
    detector_config=DetectorConfig(smoothing_ms=60, threshold=0.6, refractory_ms=300),
    step=STEP,
    name="step",
)
GRAPH = (Path(__file__).parent / "models" / "step.tflite").read_bytes()


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("step") / "step.tflite"
    path.write_bytes(pack(GRAPH, METADATA))
    return path


@pytest.fixture(scope="module")
def model(file) -> Model:
    return Model(file)


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    with AudioFile(STREAM, sample_rate=16000) as file:
        return file.read_all()[: 16000 * 8]


def heard(spotter: Spotter, samples: np.ndarray, block: int) -> list:
    spotter.reset()
    steps = [s for at in range(0, len(samples), block) for s in spotter.process_steps(samples[at : at + block])]
    return steps + list(spotter.flush_steps())


def posteriors(steps: list) -> np.ndarray:
    return np.array([step.posteriors for step in steps])


def test_answers_every_step_between_0_and_1(model, samples):
    spotter = Spotter(model)
    steps = heard(spotter, samples, 1600)
    times = np.array([step.time_s for step in steps])
    assert spotter.answer_s == pytest.approx(0.02)
    assert spotter.step_s == pytest.approx(0.1)
    np.testing.assert_allclose(np.diff(times), 0.02)
    rows = posteriors(steps)
    assert rows.shape[1] == 3
    assert 0 <= rows.min() < 0.1
    assert 0.5 < rows.max() <= 1


def test_blocks_and_hops_change_nothing(model, samples):
    expected = posteriors(heard(Spotter(model), samples, 1600))
    for block in (160, 333, 16000, len(samples)):
        assert np.array_equal(posteriors(heard(Spotter(model), samples, block)), expected)
    for step_ms in (20, 40, 200):
        spotter = Spotter(model, detector_config=dataclasses.replace(model.detector_config, step_ms=step_ms))
        rows = posteriors(heard(spotter, samples, 1600))
        n = min(len(rows), len(expected))
        assert n > 390
        assert np.array_equal(rows[:n], expected[:n])


def test_decision_is_when_its_hop_is_there(model, samples):
    steps = heard(Spotter(model), samples, 1600)
    found = [step for step in steps if step.detection]
    assert found
    for step in found:
        assert step.detection.end_s == min(step.known_s, 8)
        assert 0 <= step.known_s - step.time_s < 0.081
        assert step.detection.start_s >= 0


def test_streams_that_take_turns_do_not_mix(model, samples):
    alone = posteriors(heard(Spotter(model), samples, 1600))
    one, other = Spotter(model), Spotter(model)
    turns = []
    for at in range(0, len(samples), 1600):
        turns += one.process_steps(samples[at : at + 1600])
        list(other.process_steps(samples[::-1][at : at + 1600]))
    assert np.array_equal(posteriors(turns), alone[: len(turns)])


def test_reset_and_skip_begin_anew(model, samples):
    spotter = Spotter(model)
    first = posteriors(heard(spotter, samples[:16000], 1600))
    assert np.array_equal(posteriors(heard(spotter, samples[:16000], 1600)), first)
    spotter.reset()
    list(spotter.process_steps(samples[16000:40000]))
    spotter.skip(1600)
    again = list(spotter.process_steps(samples[:16000]))
    assert np.array_equal(posteriors(again), first[: len(again)])
    assert again[0].time_s > 1.6


def test_clip_is_what_its_steps_reach_with_silence_after_it(model, samples):
    clip = samples[16000:32000]
    result = model.classify(clip)
    features = model.features(clip)
    levels = np.concatenate([features, np.tile(model.frontend.silence(), (32, 1))])
    q = np.empty(levels.shape, np.int8)
    model.quantize_levels(levels, out=q)
    reached = model.dequantize(model.interpreter.another(len(q)).invoke(q[np.newaxis, :, np.newaxis]))
    assert reached.shape == (65, 3)
    assert np.array_equal(result.posteriors, reached.max(axis=0))
    assert result.label == METADATA.labels[int(result.posteriors.argmax())]
    assert result.score == result.posteriors.max()
    list(Spotter(model).process_steps(samples))  # which leaves no trace
    assert np.array_equal(model.posteriors(features), result.posteriors)


def test_file_says_its_form(file, model):
    metadata = unpack(file.read_bytes(), "step")[1]
    assert metadata == METADATA
    assert model.step == STEP
    assert b'"step"' not in pack(GRAPH, dataclasses.replace(METADATA, step=None))


def test_wrong_files_and_settings_are_refused(model, tmp_path):
    def refusal(**changes) -> str:
        path = tmp_path / "wrong.tflite"
        path.write_bytes(pack(GRAPH, dataclasses.replace(METADATA, **changes)))
        with pytest.raises(ModelError) as caught:
            Model(path)
        return str(caught.value)

    assert "has 5 inputs; a keyword model has one" in refusal(step=None)
    assert "every 5 frames" in refusal(step=StepConfig(frames=5, score_offset=6.5))
    assert "nothing would ever be detected" in refusal(step=StepConfig(frames=2, score_offset=90))
    assert "3 outputs, but 2 labels" in refusal(labels=("rise", "fall"))
    assert "40 frames" not in refusal(frontend_config=dataclasses.replace(preset("logmel40"), n_mels=20))
    with pytest.raises(ConfigError, match="step_ms=30: this model answers every 20 ms"):
        Spotter(model, detector_config=DetectorConfig(step_ms=30))
    with pytest.raises(ConfigError, match="frames"):
        StepConfig(frames=0, score_offset=1)


def test_commands_take_it(run_cli, file, tmp_path):
    values = json.loads(run_cli("info", file, "--json").stdout)
    assert values["step"] == {"frames": 2, "score_offset": 6.5}
    assert b"answers every 20 ms" in run_cli("info", file).stdout
    found = json.loads(run_cli("detect", STREAM, "--model", file, "--json").stdout.splitlines()[0])
    assert found["keyword"] in METADATA.labels
