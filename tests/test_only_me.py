"""``--only-me``: the voice of the user is heard, others are left out. The voices are synthesised."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from kws_edge import AudioFile, ConfigError, Me, Model, ModelError, Spotter, TakeError, TaughtWords, find_word
from kws_edge.files import sha256_hex
from kws_edge.voice.me import UTTERANCES
from kws_edge.voice.voices import Voices, statistics, voices_path
from tests.conftest import assert_one_line_error, assert_usage_error
from tests.voices import QUIET, RATE, spoken, spoken_by_another

SAID = ("yes", "no", "stop", "left", "right", "down", "kitchen", "banana", "tomorrow", "umbrella", "lamp", "window")
MINE, OTHER = "mine", "other"
EMBEDDINGS = "315dc1f75c0daa19"
"""Checksum of the voices of the demo's first seconds, in steps of 0.001."""


@pytest.fixture(scope="module")
def model():
    return Model("commands12", kernels="builtin")


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """Each word in both voices, by voice."""
    folder = tmp_path_factory.mktemp("said")
    return {
        MINE: [spoken(folder, word, speed=145 + 2 * i, pitch=48 + i % 5) for i, word in enumerate(SAID)],
        OTHER: [spoken_by_another(folder, word) for word in SAID],
    }


@pytest.fixture
def me(model, said, tmp_path):
    found = Me(model, tmp_path / "me.json")
    found.learn([found.embedding(one) for one in said[MINE][:UTTERANCES]], date="2026-11-28")
    return found


def test_the_user_passes_and_another_does_not(me, model, said):
    for voice, passes in ((MINE, True), (OTHER, False)):
        likeness = [me.likeness(model.frontend.frames(one)) for one in said[voice][UTTERANCES:]]
        assert [one >= me.threshold for one in likeness] == [passes] * len(likeness), likeness


def test_another_utters_nothing_that_counts(me, model, said, tmp_path):
    """Without --only-me a taught word of both is heard, with it the user's alone."""
    words = TaughtWords(model, tmp_path / "taught.json")
    takes = [spoken(tmp_path, "lamp", pitch=45), spoken(tmp_path, "lamp", pitch=55), said[MINE][10]]
    takes += [spoken_by_another(tmp_path, "lamp", speed) for speed in (0.9, 1.0, 1.1)]
    words.teach("lamp", [find_word(one, RATE) for one in takes], date="")
    stream = np.concatenate([said[MINE][10], said[OTHER][10], said[MINE][10], QUIET])

    def heard(only_me, taught):
        spotter, left_out = Spotter(model, taught=taught, only_me=only_me), []
        if spotter.only_me:
            spotter.only_me.on_other = lambda found, likeness: left_out.append((found.keyword, likeness))
        return [one.keyword for one in spotter.process(stream) + spotter.flush()], left_out

    assert heard(None, words)[0] == ["lamp"] * 3
    keywords, left_out = heard(me, words)
    assert keywords == ["lamp"] * 2
    assert [word for word, _ in left_out] == ["lamp"]
    assert left_out[0][1] < me.threshold


def test_a_wake_word_of_another_arms_nothing(me, model, demo_stream):
    """The demo's voices are not the user's."""
    with AudioFile(demo_stream, sample_rate=RATE) as source:
        samples = source.read_all()
    config = replace(model.detector_config, wake_word="yes")
    spotter, left_out = Spotter(model, detector_config=config, only_me=me), []
    spotter.only_me.on_other = lambda found, likeness: left_out.append(found.keyword)
    assert spotter.process(samples[: 8 * RATE]) == []
    assert left_out and set(left_out) == {"yes"}, "commands behind it never count"


def test_utterances_of_two_people_are_refused(model, said, tmp_path):
    me = Me(model, tmp_path / "two.json")
    mixed = [me.embedding(one) for one in [*said[MINE][:9], said[OTHER][8]]]
    with pytest.raises(TakeError, match="utterance 10 does not sound like the speaker of the others"):
        me.learn(mixed, date="")
    assert not me.known
    assert not Me(model, me.path).known


def test_what_cannot_make_a_voice_known(model, said, tmp_path):
    me = Me(model, tmp_path / "few.json")
    with pytest.raises(TakeError, match="too little speech"):
        me.embedding(np.zeros(RATE, np.int16))
    with pytest.raises(ConfigError, match="9 utterances; give 10 or more"):
        me.learn([me.embedding(one) for one in said[MINE][:9]], date="")
    with pytest.raises(ConfigError, match="your voice is not known; kws-edge teach --me"):
        Spotter(model, only_me=me)
    with pytest.raises(ConfigError, match="your voice is not known"):
        me.forget()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": 2}', '{"format": 1, "voices_sha256": "0"}'])
def test_a_damaged_voice_is_one_line(model, me, damage):
    """It is not taken for an unknown one, because then everybody would count."""
    with open(me.path, "w") as file:
        file.write(damage)
    with pytest.raises(ConfigError, match=r"me\.json: your voice cannot be used: .*kws-edge teach --me"):
        Me(model, me.path)


def test_the_file_is_read_as_it_was_written(model, me, said):
    levels = model.frontend.frames(said[MINE][11])
    assert Me(model, me.path).likeness(levels) == me.likeness(levels)
    with open(me.path) as file:
        assert json.load(file)["utterances"] == UTTERANCES
    me.forget()
    assert not Me(model, me.path).known


def test_detections_do_not_depend_on_blocks(me, model, said):
    stream = np.concatenate([*said[MINE][:4], *said[OTHER][:4]])
    whole, parts = Spotter(model, only_me=me), Spotter(model, only_me=me)
    found = [one for at in range(0, len(stream), 777) for one in parts.process(stream[at : at + 777])]
    assert whole.process(stream) == found
    assert found


@pytest.mark.parametrize("damage", [lambda d: d[:999], lambda d: b"PK" + d[2:200] + d[300:], lambda d: b""])
def test_damaged_projections_are_refused(model, tmp_path, damage):
    path = tmp_path / "x.voices.npz"
    with open(voices_path(), "rb") as file:
        path.write_bytes(damage(file.read()))
    with pytest.raises(ModelError, match="damaged"):
        Voices(model, path)


def test_another_front_end_cannot_tell(model):
    class Other:
        path, frontend_config = "other.tflite", replace(model.frontend_config, n_mels=32)

    with pytest.raises(ModelError, match=r"other.tflite: has another front end than logmel40.voices.npz"):
        Voices(Other)


def test_loudness_and_silence_change_nothing():
    rng = np.random.default_rng(0)
    levels = rng.uniform(100, 150, (98, 40)).astype(np.float32)
    levels[:30] = 10
    np.testing.assert_allclose(statistics(levels), statistics(levels + 20), atol=1e-3)
    assert statistics(levels[:11]) is None
    assert statistics(np.zeros((0, 40), np.float32)) is None


def test_every_runtime_gives_the_same_voices(model, demo_stream):
    """This test runs with the older runtime, too."""
    with AudioFile(demo_stream, sample_rate=RATE) as source:
        samples = source.read_all()[: 8 * RATE]
    voices = Voices(model)
    found = [voices.embed(model.frontend.frames(samples[at : at + 2 * RATE])) for at in range(0, len(samples), RATE)]
    found = np.round(1000 * np.stack([one for one in found if one is not None])).astype("<i2")
    assert sha256_hex(found.tobytes())[:16] == EMBEDDINGS


def test_commands(run_cli, said, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    files = [str(tmp_path / f"{i}.wav") for i in range(len(SAID))]
    for path, samples in zip(files, said[MINE], strict=True):
        soundfile.write(path, samples, RATE)
    other = str(tmp_path / "other.wav")
    soundfile.write(other, np.concatenate(said[OTHER][:6]), RATE)
    assert_one_line_error(run_cli("detect", "--only-me", other), "your voice is not known; kws-edge teach --me")
    assert_one_line_error(run_cli("teach", "--me", *files[:9]), "9 utterances; give 10 or more")
    done = run_cli("teach", "--me", *files[:UTTERANCES])
    assert done.returncode == 0, done.stderr
    assert b"not security" in done.stdout
    found = run_cli("detect", "--only-me", other)
    assert b"no keyword" in found.stdout
    assert b"left out: not your voice (likeness" in found.stderr
    for args in (["--me", "--list"], ["--me", "--remove", files[0]], ["--me", files[0], "-"]):
        assert_usage_error(run_cli("teach", *args))
    assert b"forgot your voice" in run_cli("teach", "--me", "--remove").stdout
    assert_one_line_error(run_cli("teach", "--me", "--remove"), "your voice is not known")


def test_utterances_from_a_pipe(said, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    mine, other = said[MINE], said[OTHER]
    stream = np.concatenate([*mine[:5], other[5], np.zeros(9 * RATE, np.int16), *mine[5:], QUIET])
    command = [sys.executable, "-m", "kws_edge", "teach", "--me", "-"]
    done = subprocess.run(command, input=stream.tobytes(), capture_output=True, timeout=120, check=False)
    errors = done.stderr.decode()
    assert done.returncode == 0, errors
    assert errors.index("utterance 5 of 10") < errors.index("does not sound like the speaker of the others")
    assert errors.index("refused: silence") < errors.index("utterance 6 of 10")


def test_the_recordings_of_people(model, data, tmp_path):
    """Speakers of Speech Commands that trained nothing in it: their own further words pass more often than others'."""
    me, by_speaker = Me(model, tmp_path / "people.json"), {}
    for line in sorted((data / "speech_commands" / "validation_list.txt").read_text().split()):
        by_speaker.setdefault(line.split("/")[1].split("_")[0], []).append(data / "speech_commands" / line)
    speakers = sorted((s for s in by_speaker if len(by_speaker[s]) >= 14), key=lambda s: -len(by_speaker[s]))[:4]
    embeddings = {
        speaker: [me.voices.embed(levels(model, path)) for path in by_speaker[speaker]] for speaker in speakers
    }
    own, others = [], []
    for speaker in speakers:
        usable = [one for one in embeddings[speaker] if one is not None]
        direction = np.mean(usable[:UTTERANCES], axis=0)
        own += [float(one @ direction) for one in usable[UTTERANCES:]]
        rest = [one for s in speakers if s != speaker for one in embeddings[s] if one is not None]
        others += [float(one @ direction) for one in rest]
    threshold = np.quantile(others, 0.9)
    assert np.mean(np.array(own) >= threshold) > 0.8


def levels(model, path):
    with AudioFile(path, sample_rate=RATE) as file:
        return model.frontend.frames(file.read_all())
