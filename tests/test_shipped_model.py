"""The shipped models on validation clips. `kws-host evaluate` measures their accuracy on test clips."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws_edge import Model, Spotter, shipped_models
from kws_edge.audio.file import AudioFile
from kws_edge.labels import is_keyword

COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")


@pytest.fixture(scope="module")
def live():
    """The model as `kws-edge listen` runs it."""
    return Model("commands12")


def test_labels(live):
    assert live.labels == ("silence", "unknown", *COMMANDS)
    assert Model("micro12").labels == live.labels
    assert len(Model("words36").labels) == 36
    assert Model("micro12-stream").labels == Model("commands12-stream").labels == ("unknown", *COMMANDS)
    assert set(Model("words36-stream").labels) == {label for label in Model("words36").labels if is_keyword(label)}


@pytest.mark.parametrize(("name", "at_least"), [("commands12", 0.95), ("micro12", 0.92), ("words36", 0.94)])
def test_commands(name, at_least, validation_paths):
    model = Model(name)
    right = [model.classify(soundfile.read(p, dtype="int16")[0]).label == p.parent.name for p in validation_paths]
    assert len(right) > 1000
    assert np.mean(right) >= at_least
    # The card quotes the file's own accuracy, on clips of all its labels.
    assert abs(np.mean(right) - model.metadata.metrics["validation"]["int8_accuracy"]) <= 0.02


def test_sizes():
    """The sizes fit a microcontroller, and the budget of the other models."""
    assert Model("micro12").size <= 60_000
    assert Model("micro12").flat.macs <= 3_000_000
    assert Model("commands12").size <= 1_300_000
    stream = Model("micro12-stream")
    assert stream.size <= 180_000
    assert 100 * stream.flat.macs / stream.input.shape[1] <= 3_000_000  # a second of audio has 100 frames


def test_cards():
    for name, path in shipped_models().items():
        card = Path(path).with_suffix(".md").read_text()
        model = Model(name)
        assert card.startswith(f"# {name}\n")
        assert f"{model.size:,} bytes" in card
        assert model.frontend_config.hash in card


def test_locks():
    """The lock beside each model names exactly the bytes of its file."""
    for path in map(Path, shipped_models().values()):
        lock = json.loads(path.with_suffix(".lock.json").read_text())
        assert lock["model"] == {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        made = [stage["do"] for stage in lock["stages"]] if lock["recipe"] else lock["commands"]
        assert any("quantize" in one for one in made)
        assert "calibrate" in made[-1]


def test_a_command_after_a_wake_word(data):
    """By default a command is heard 0.3 s after the end of "marvin" or "sheila".

    The end of the wake word is not taken for a command.
    """
    model = Model("words36")
    root, rng = data / "speech_commands", np.random.default_rng(0)

    def known(path):
        samples = soundfile.read(path, dtype="int16")[0]
        posteriors = model.classify(samples).posteriors
        power = np.convolve(samples.astype(float) ** 2, np.ones(320), "same")
        loud = np.flatnonzero(power > power.max() * 10**-2.5)
        sure = posteriors[model.labels.index(path.parent.name)] > 0.9
        return samples[loud[0] : loud[-1] + 1] if sure else None

    names = [n for n in (root / "validation_list.txt").read_text().split() if n.split("/")[0] in ("yes", "no", "stop")]
    commands = [(n.split("/")[0], known(root / n)) for n in rng.permutation(names)[:60]]
    commands = [(word, samples) for word, samples in commands if samples is not None][:20]
    assert len(commands) == 20
    woken = heard = 0
    for wake_word in ("marvin", "sheila"):
        wakes = [w for path in sorted((root / wake_word).glob("*.wav")) if (w := known(path)) is not None][:10]
        assert len(wakes) == 10
        spotter = Spotter(model, detector_config=dataclasses.replace(model.detector_config, wake_word=wake_word))
        for i, (word, command) in enumerate(commands):
            before = [rng.normal(0, 20, 16000), wakes[i % 10], rng.normal(0, 20, 4800)]
            for follows in (command, np.zeros(0)):
                spotter.reset()
                stream = np.concatenate([*before, follows, rng.normal(0, 20, 24000)]).round().astype(np.int16)
                found = [(d.keyword, d.wake) for d in spotter.detections([stream])]
                if len(follows):
                    woken += found[:1] == [(wake_word, True)]
                    heard += found == [(wake_word, True), (word, False)]
                else:
                    assert found in ([(wake_word, True)], [])
    assert woken >= 37
    assert heard >= 0.9 * woken


def test_other_words_are_unknown(live, data):
    names = (data / "speech_commands" / "validation_list.txt").read_text().split()
    others = [data / "speech_commands" / name for name in names if name.split("/")[0] not in COMMANDS]
    posteriors = np.array([live.classify(soundfile.read(path, dtype="int16")[0]).posteriors for path in others])
    assert len(others) > 300
    assert (posteriors[:, 2:].max(axis=1) < 0.8).mean() >= 0.93


def test_silence_of_every_kind(live, data):
    rng = np.random.default_rng(0)
    for samples in (np.zeros(16000), rng.normal(0, 3, 16000), rng.normal(0, 3000, 16000)):
        assert not is_keyword(live.classify(samples.astype(np.int16)).label)
    right, total = 0, 0
    for path in sorted((data / "speech_commands" / "_background_noise_").glob("*.wav")):
        with AudioFile(path, sample_rate=16000) as file:
            noise = file.read_all()
        for volume in (0.01, 0.1, 1.0):
            for at in range(0, len(noise) - 16000, 160_000):
                clip = (noise[at : at + 16000] * volume).astype(np.int16)
                right += live.classify(clip).label == "silence"
                total += 1
    assert total > 80
    assert right / total >= 0.97


def test_a_network_with_state_answers_soon(live, validation_paths):
    """`commands12-stream` hears most words, and sooner than `commands12`."""
    quick = Model("commands12-stream")
    assert quick.labels == ("unknown", *COMMANDS)
    assert quick.confirming.labels == live.labels
    rng = np.random.default_rng(0)
    chosen = [validation_paths[i] for i in rng.permutation(len(validation_paths))[:100]]
    stream = rng.normal(0, 3, (100, 40_000))
    for one, path in zip(stream, chosen, strict=True):
        samples = soundfile.read(path, dtype="int16")[0]
        one[: len(samples)] += samples
    heard = {}
    for model in (live, quick):
        found = Spotter(model).detections([stream.round().astype(np.int16).ravel()])
        heard[model] = {int(d.end_s / 2.5): (d.keyword, d.end_s) for d in found}
    words = [path.parent.name for path in chosen]
    both = [i for i in range(100) if all(found.get(i, ("",))[0] == words[i] for found in heard.values())]
    assert len(both) >= 80
    assert np.median([heard[live][i][1] - heard[quick][i][1] for i in both]) >= 0.15
