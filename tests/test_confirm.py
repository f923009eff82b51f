"""A second network that confirms the answers of a network with state: streams, files, commands."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from kws_edge import AudioFile, ConfigError, DetectorConfig, Metadata, Model, ModelError, Spotter, pack, preset, unpack
from kws_edge.cli.demo import STREAM
from kws_edge.config import ConfirmConfig, StepConfig
from kws_edge.diagnostics.latency import OFF
from kws_edge.features.frontend import StreamingFrontend
from kws_edge.model.model import shipped_models
from kws_edge.model.stream import StepStream

WORDS = ("rise", "fall", "rest")
GRAPH = (Path(__file__).parent / "models" / "step.tflite").read_bytes()
CLIP, CLIP_METADATA = unpack(Path(shipped_models()["micro12"]).read_bytes(), "micro12")
SECOND = pack(
    CLIP, dataclasses.replace(CLIP_METADATA, labels=("silence", "unknown", *WORDS, *"abcdefg"), name="second")
)
CONFIRM = ConfirmConfig(least=0.3, windows=3, spacing_frames=12)
METADATA = Metadata(
    labels=WORDS,
    frontend_config=preset("logmel40"),
    detector_config=DetectorConfig(smoothing_ms=60, threshold=0.6, refractory_ms=300),
    step=StepConfig(frames=2, score_offset=6.5),
    confirm=CONFIRM,
    confirming=SECOND,
    name="both",
)


def written(folder: Path, metadata: Metadata = METADATA) -> Path:
    path = folder / "both.tflite"
    path.write_bytes(pack(GRAPH, metadata))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Model:
    return Model(written(tmp_path_factory.mktemp("confirm")), kernels="builtin")


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    with AudioFile(STREAM, sample_rate=16000) as file:
        return file.read_all()[: 16000 * 6]


def heard(model: Model, samples: np.ndarray, *, block: int = 1600, step_ms: float = 100) -> np.ndarray:
    spotter = Spotter(model, detector_config=dataclasses.replace(model.detector_config, step_ms=step_ms))
    steps = [s for at in range(0, len(samples), block) for s in spotter.process_steps(samples[at : at + block])]
    return np.array([step.posteriors for step in [*steps, *spotter.flush_steps()]])


@pytest.fixture(scope="module")
def first(tmp_path_factory, samples) -> np.ndarray:
    alone = written(tmp_path_factory.mktemp("alone"), dataclasses.replace(METADATA, confirm=None, confirming=b""))
    return heard(Model(alone, kernels="builtin"), samples)


def test_likely_answers_become_the_mean_of_both_logits(model, samples, first):
    found = heard(model, samples)
    likely = first >= CONFIRM.least
    assert 0.02 < likely.any(axis=1).mean() < 0.98
    assert np.array_equal(found[~likely], first[~likely])
    assert model.confirming is not None
    second, n = model.confirming, model.frontend_config.n_frames
    frames = StreamingFrontend(model.frontend_config).process(samples)
    silent = np.tile(model.frontend.silence(), (n + 24, 1))
    levels = np.concatenate([silent, frames])

    def asked(end: int) -> np.ndarray:
        return second.posteriors(levels[len(silent) + end - n : len(silent) + end])[2:5].astype(float)

    def logit(p: np.ndarray) -> np.ndarray:
        p = np.clip(p.astype(float), 1e-5, 1 - 1e-5)
        return np.log(p / (1 - p))

    for row in np.flatnonzero(likely[: len(frames) // 2].any(axis=1)):
        end = 2 * (row + 1)
        mean = np.mean([asked(end - back) for back in (0, 12, 24)], axis=0)
        expected = 1 / (1 + np.exp(-(logit(first[row]) + logit(mean)) / 2))
        np.testing.assert_allclose(found[row][likely[row]], expected[likely[row]], atol=1e-4)


def test_blocks_and_hops_change_nothing(model, samples):
    expected = heard(model, samples)
    for block, step_ms in ((333, 100), (len(samples), 100), (1600, 20), (1600, 60), (1600, 400)):
        rows = heard(model, samples, block=block, step_ms=step_ms)
        n = min(len(rows), len(expected))
        assert n > 270
        assert np.array_equal(rows[:n], expected[:n])


def test_a_new_stream_forgets(model, samples):
    spotter = Spotter(model)
    once = [step.posteriors for step in spotter.steps([samples])]
    again = [step.posteriors for step in spotter.steps([samples])]
    assert np.array_equal(once, again)


def test_clips_are_confirmed_too(model, samples):
    clip = samples[16000 * 2 : 16000 * 3]
    found = model.posteriors(model.features(clip))
    alone = Model.__new__(Model)
    alone.__dict__ = {**model.__dict__, "confirming": None}
    unconfirmed = alone.posteriors(model.features(clip))
    assert found.shape == (3,)
    assert not np.array_equal(found, unconfirmed)


def test_unlikely_answers_ask_nothing(tmp_path, samples, first):
    config = dataclasses.replace(CONFIRM, least=1.0)
    model = Model(written(tmp_path, dataclasses.replace(METADATA, confirm=config)), kernels="builtin")
    stream = StepStream(model, 10)
    frames = StreamingFrontend(model.frontend_config).process(samples)
    found = [stream.posteriors(frames[at : at + 10], OFF) for at in range(0, 300, 10)]
    assert np.array_equal(np.concatenate(found), first[:150])
    assert stream._confirmer is not None
    assert not stream._confirmer._known


def test_the_file_keeps_both(model, tmp_path):
    data = Path(model.path).read_bytes()
    flatbuffer, metadata = unpack(data, "both")
    assert metadata == METADATA
    assert metadata.confirming == SECOND
    assert pack(flatbuffer, metadata) == data
    assert flatbuffer == GRAPH


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"confirm": None}, "go together"),
        ({"confirming": b""}, "go together"),
        ({"step": None}, "go together"),
    ],
)
def test_metadata_hold_together(change, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(METADATA, **change)


def test_files_that_do_not_fit_are_refused(tmp_path):
    lacking = pack(CLIP, dataclasses.replace(CLIP_METADATA, labels=("silence", "unknown", "rise", *"abcdefghi")))
    other = dataclasses.replace(preset("logmel40"), level_offset=-58.0)
    for second, message in (
        (lacking, "does not know fall, rest"),
        (pack(CLIP, dataclasses.replace(CLIP_METADATA, frontend_config=other)), "another front end"),
        (pack(GRAPH, dataclasses.replace(METADATA, confirm=None, confirming=b"")), "has state"),
        (CLIP, "says nothing of its labels"),
        (SECOND[:-100], "cannot be read"),
    ):
        with pytest.raises(ModelError, match=message):
            Model(written(tmp_path, dataclasses.replace(METADATA, confirming=second)))


def test_a_changed_second_network_is_refused(tmp_path):
    path = written(tmp_path)
    data = bytearray(path.read_bytes())
    other = pack(GRAPH, dataclasses.replace(METADATA, confirming=pack(CLIP, CLIP_METADATA)))
    at, size = bytes(data).find(b"confirming.tflite"), len(data)
    data[at + 5000] ^= 1
    path.write_bytes(bytes(data))
    assert size != len(other)
    with pytest.raises(ModelError, match=r"damaged|checksum"):
        Model(path)


@pytest.mark.host
def test_confirm_joins_two_files(run_cli, tmp_path, model):
    alone = tmp_path / "step.tflite"
    alone.write_bytes(pack(GRAPH, dataclasses.replace(METADATA, confirm=None, confirming=b"")))
    (tmp_path / "second.tflite").write_bytes(SECOND)
    done = run_cli(
        "confirm", "step.tflite", "second.tflite", "-o", "both.tflite", "--least", "0.3", package="host_tools"
    )
    assert done.returncode == 0, done.stderr
    made = Model(tmp_path / "both.tflite")
    assert made.metadata.confirm == CONFIRM
    info = run_cli("info", "both.tflite", "--json")
    assert json.loads(info.stdout)["confirm"] == {"least": 0.3, "windows": 3, "spacing_frames": 12, "name": "second"}
    assert b"by second, from a posterior of 0.3 on" in run_cli("info", "both.tflite").stdout
    for arguments, message in (
        (("second.tflite", "step.tflite"), b"hears whole clips"),
        (("step.tflite", "step.tflite"), b"has state"),
        (("step.tflite", "commands12"), b"does not know rise, fall, rest"),
        (("both.tflite", "missing.tflite"), b"missing.tflite: no such file"),
    ):
        done = run_cli("confirm", *arguments, "-o", "no.tflite", package="host_tools")
        assert done.returncode == 1
        assert message in done.stderr
        assert done.stderr.count(b"\n") == 1
        assert not (tmp_path / "no.tflite").exists()


@pytest.mark.host
def test_firmware_refuses(run_cli, model):
    done = run_cli("export", model.path, "-o", "out", package="firmware_export")
    assert done.returncode == 1
    assert b"a second network confirms its answers" in done.stderr


@pytest.mark.host
def test_the_card_names_the_second_network(model):
    from host_tools.convert.card import model_card

    macs = f"{model.confirming.flat.macs:,} multiply-accumulates each time it is asked"
    told = f"A second network in the file, second, confirms what the first almost hears: {macs}."
    assert told in model_card(model, ())
