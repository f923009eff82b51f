"""A network with state on the device: streams, clips, files that contradict themselves."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from kws_edge import AudioFile, ConfigError, DetectorConfig, Metadata, Model, ModelError, Spotter, pack, preset, unpack
from kws_edge.cli.demo import STREAM
from kws_edge.config import StepConfig
from kws_edge.model.classification import classified
from tests.conftest import assert_usage_error

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


def test_streams_take_turns_within_one_interpreter(model, samples):
    """Also when one of them begins anew in between."""
    hop = model.interpreter.hop_frames
    one, other = model.stepping(), model.stepping()
    assert one.native is other.native is model.interpreter.native
    assert model.stepping(2 * hop).native is not one.native
    levels = np.random.default_rng(3).integers(-98, 127, (60, 1, hop, 1, 40)).astype(np.int8)
    alone = [one.invoke(x) for x in levels]
    one.reset()
    for i, x in enumerate(levels):
        assert np.array_equal(one.invoke(x), alone[i]), i
        if i % 3 == 0:
            other.invoke(x[:, ::-1])
        if i % 7 == 0:
            other.reset()
    assert not np.array_equal(alone[-1], model.stepping().invoke(levels[-1]))  # the past counts


def test_states_are_those_that_the_runtime_gives(model, samples):
    """Setting and getting tensors by the runtime's own functions gives the same bytes."""
    native, flat = model.stepping(4).native, model.flat
    taken, given = native.get_input_details(), native.get_output_details()
    states = [np.full(t.shape, t.zero_point, t.dtype) for t in flat.inputs[1:]]
    stream = model.stepping(4)
    for x in np.random.default_rng(4).integers(-98, 127, (50, 1, 4, 1, 40)).astype(np.int8):
        for detail, value in zip(taken, [x, *states], strict=True):
            native.set_tensor(detail["index"], value)
        native.invoke()
        scores, *states = (native.get_tensor(detail["index"]) for detail in given)
        assert np.array_equal(stream.invoke(x), scores)


@pytest.mark.parametrize(
    ("answer_ms", "step_ms", "hop_ms"),
    [(20, 100, 100), (20, 30, 40), (20, 10, 20), (20, 1000, 1000), (40, 100, 120), (40, 90, 80), (40, 10, 40)],
)
def test_hop_is_the_nearest_multiple_of_the_answers(file, answer_ms, step_ms, hop_ms):
    model = Model(file)
    step = StepConfig(frames=answer_ms // 10, score_offset=6.5)
    model.metadata = dataclasses.replace(METADATA, step=step)
    assert 10 * model.hop_frames(step_ms) == hop_ms


def test_silence_and_unknown_do_not_hide_a_word(file):
    """How a clip's posteriors become a label, with and without labels for what is no keyword."""

    def label(labels, *posteriors):
        metadata = dataclasses.replace(
            METADATA, labels=labels, detector_config=DetectorConfig(thresholds={"rise": 0.4})
        )
        found = classified(metadata, np.array(posteriors, np.float32))
        return found.label, round(found.score, 4)

    words = ("rise", "fall", "rest")
    assert label(words, 0.3, 0.2, 0.1) == ("silence", 0.7)
    assert label(words, 0.5, 0.7, 0.1) == ("rise", 0.5)  # the other one is below its threshold
    assert label(words, 0.5, 0.8, 0.1) == ("fall", 0.8)
    some = ("unknown", "rise", "fall")
    assert label(some, 0.99, 0.1, 0.8) == ("fall", 0.8)
    assert label(some, 0.6, 0.1, 0.7) == ("unknown", 0.6)
    assert label(some, 0.4, 0.1, 0.7) == ("silence", 0.3)
    every = ("_silence_", "unknown", "rise")
    assert label(every, 0.9, 0.6, 0.5) == ("rise", 0.5)
    assert label(every, 0.9, 0.6, 0.3) == ("unknown", 0.6)
    assert label(every, 0.2, 0.3, 0.3) == ("_silence_", 0.2)


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

    assert "has 5 inputs and outputs, as the bare graph of a network with state" in refusal(step=None)
    assert "every 5 frames" in refusal(step=StepConfig(frames=5, score_offset=6.5))
    assert "nothing would ever be detected" in refusal(step=StepConfig(frames=2, score_offset=90))
    assert "3 outputs, but 2 labels" in refusal(labels=("rise", "fall"))
    assert "40 frames" not in refusal(frontend_config=dataclasses.replace(preset("logmel40"), n_mels=20))
    with pytest.raises(ConfigError, match="frames"):
        StepConfig(frames=0, score_offset=1)


def test_commands_take_it(run_cli, file, tmp_path):
    values = json.loads(run_cli("info", file, "--json").stdout)
    assert values["step"] == {"frames": 2, "score_offset": 6.5, "answer_ms": 20}
    size = sum(np.prod(state["shape"]) for state in values["inputs"][1:])
    text = run_cli("info", file).stdout.decode()
    assert re.search(rf"^state +4 tensors of {size:,} bytes; answers every 20 ms$", text, re.MULTILINE)
    assert "input 1" not in text
    found = json.loads(run_cli("detect", STREAM, "--model", file, "--json").stdout.splitlines()[0])
    assert found["keyword"] in METADATA.labels
    clip = json.loads(run_cli("classify", STREAM, "--model", file, "--json", "--top", 9).stdout)
    assert sorted(label for label, _ in clip["top"]) in (sorted(METADATA.labels), sorted((*METADATA.labels, "silence")))
    assert clip["top"][0][0] == Model(file).classify(_middle()).label
    report = json.loads(run_cli("doctor", STREAM, "--model", file, "--json").stdout)
    assert 0 < report["model"]["inference_ms"] < 50
    for step_ms in (20, 60):  # another hop than the graph is written for
        quick = ("--inferences", 5, "--seconds", 0.5, "--json")
        values = json.loads(run_cli("bench", "--model", file, "--step-ms", step_ms, *quick).stdout)
        assert values["results"][0]["step_s"] == step_ms / 1000
        assert values["results"][0]["live"]["deadline_s"] == step_ms / 1000
    done = run_cli("calibrate", STREAM, "--model", file, "--force", "--budget", 2000, "-o", "room.json", "--json")
    chosen = json.loads(done.stdout)
    heard = run_cli("detect", STREAM, "--model", file, "--room", "room.json", "--json").stdout
    within = [found for found in map(json.loads, heard.splitlines()) if found["end_s"] < 30.9]  # detect adds silence
    assert len(within) == chosen["false_accepts"] > 0


def _middle() -> np.ndarray:
    with AudioFile(STREAM, sample_rate=16000) as audio:
        return audio.read_all()


def test_step_ms_is_a_multiple_of_the_answers(run_cli, file):
    for given, parts in ((30, "20 or 40"), (10, "20 or 40"), (55, "40 or 60")):
        failed = run_cli("detect", STREAM, "--model", file, "--step-ms", given)
        assert_usage_error(failed, f"--step-ms {given}: this model answers every 20 ms", parts)
    assert b"answers every 20 ms, so --step-ms takes" in b" ".join(
        run_cli("detect", "--model", file, "--help").stdout.split()
    )


def test_plot_draws_every_answer(run_cli, file, tmp_path):
    pytest.importorskip("matplotlib", exc_type=ImportError, reason="matplotlib is not installed here")
    assert run_cli("detect", STREAM, "--model", file, "--plot", "step.png").returncode == 0
    assert (tmp_path / "step.png").read_bytes()[:4] == b"\x89PNG"
