"""Words that a device learns: recordings of synthesised voices, where there is a synthesiser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kws_edge import AudioFile, ConfigError, Model, ModelError, Spotter, TakeError, TaughtWords, find_word
from kws_edge.detection.room_profile import profile_path
from kws_edge.errors import WriteError
from kws_edge.files import sha256_hex
from kws_edge.teach.encoder import Encoder, normalised
from kws_edge.teach.listener import BUDGET
from kws_edge.teach.recorder import Recorder
from kws_edge.teach.words import BACKUP, taught_path
from tests.voices import QUIET, RATE, record, spoken

EMBEDDINGS = "d4d5761dde428447"
"""Checksum of the embeddings of the demo's first seconds."""
KILLS = 20


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    return record(tmp_path_factory.mktemp("spoken"))


@pytest.fixture(scope="module")
def model():
    return Model("commands12", kernels="builtin")


@pytest.fixture
def words(model, tmp_path):
    return TaughtWords(model, tmp_path / "taught.json")


def takes(recordings, word, n=5):
    return [find_word(samples, RATE) for samples in recordings[word][:n]]


def heard(model, words, samples):
    spotter = Spotter(model, taught=words)
    return [found.keyword for found in spotter.process(samples) + spotter.flush()]


def test_taught_words_are_heard_beside_the_model_s_own(model, words, recordings, demo_stream):
    for word in ("lamp", "kitchen", "banana"):
        words.teach(word, takes(recordings, word), date="2026-11-28")
    with AudioFile(demo_stream, sample_rate=RATE) as source:
        own = source.read_all()
    before = heard(model, None, own)
    stream = np.concatenate([own, *(recordings[word][5] for word in words)])
    found = heard(model, words, stream)
    assert found[: len(before)] == before
    assert found[len(before) :] == ["lamp", "kitchen", "banana"]
    spotter = Spotter(model, taught=words)
    blocks = [block for at in range(0, len(stream), 1111) for block in spotter.process(stream[at : at + 1111])]
    assert [one.keyword for one in blocks + spotter.flush()] == found


def test_a_taught_word_is_a_command_behind_a_wake_word(model, words, recordings, demo_stream):
    words.teach("lamp", takes(recordings, "lamp"), date="2026-11-28")
    config = replace(model.detector_config, wake_word="yes")
    with AudioFile(demo_stream, sample_rate=RATE) as source:
        yes = source.read_all()[: 2 * RATE]
    spotter = Spotter(model, detector_config=config, taught=words)
    assert spotter.keywords[-1] == "lamp"
    assert not spotter.process(recordings["lamp"][5])
    spotter.reset()
    said = np.concatenate([yes, recordings["lamp"][5][RATE // 2 :], recordings["lamp"][4]])
    found = spotter.process(said) + spotter.flush()
    assert [one.keyword for one in found] == ["yes", "lamp"], "one command for each wake word"


def test_scores_tell_words_apart(words, recordings):
    for word in ("lamp", "kitchen"):
        words.teach(word, takes(recordings, word), date="2026-11-28")
    least = words.encoder.threshold(BUDGET)
    for word in ("lamp", "kitchen", "banana"):
        scores = words.best(words.embeddings(find_word(recordings[word][5], RATE)))
        assert {name: score >= least for name, score in scores.items()} == {n: n == word for n in words}


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("silence", lambda x: (x * 1e-4).astype(np.int16)),
        ("noise only", lambda x: np.random.default_rng(1).normal(0, 900, len(x)).astype(np.int16)),
        ("clipped", lambda x: np.clip(x * 40.0, -32768, 32767).astype(np.int16)),
        ("cut off at the start", lambda x: x[RATE + 3000 :]),
        ("cut off at the end", lambda x: x[: RATE + 3000]),
        ("2 words with a pause", lambda x: np.concatenate([x[: -RATE // 2], x[RATE - 2000 :]])),
        ("a click", lambda x: np.concatenate([QUIET, np.full(400, 9000, np.int16) * (-1) ** np.arange(400), QUIET])),
        ("only 0.05 s", lambda x: x[:800]),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_recordings_that_cannot_teach_are_refused(recordings, reason, change):
    with pytest.raises(TakeError, match=reason):
        find_word(change(recordings["lamp"][0]).astype(np.int16), RATE)


def test_long_words_are_refused(tmp_path):
    with pytest.raises(TakeError, match="the model hears 1 s"):
        find_word(spoken(tmp_path, "supercalifragilistic", speed=100), RATE)


def test_the_word_is_found_where_it_is(recordings):
    for samples in recordings["kitchen"]:
        take = find_word(samples, RATE)
        assert RATE * 0.95 < take.start < RATE * 1.1
        assert take.end < len(samples) - RATE * 0.9
        assert np.array_equal(take.window(RATE, 100)[100:], take.window(RATE)[:-100])


def test_another_word_among_the_takes_is_refused(words, recordings):
    mixed = [*takes(recordings, "lamp", 4), find_word(recordings["banana"][0], RATE)]
    with pytest.raises(TakeError, match="take 5 does not match the other takes"):
        words.teach("lamp", mixed, date="")
    assert not words


def test_words_that_are_too_near_are_refused(words, recordings, model, demo_stream):
    words.teach("lamp", takes(recordings, "lamp"), date="")
    with pytest.raises(
        ConfigError, match=r"'light' sounds too much like the taught word 'lamp': the distance is 0\.\d+"
    ):
        words.teach("light", takes(recordings, "lamp"), date="")
    label = "stop"
    own = np.stack([words.encoder.own[label]] * 8)
    with pytest.raises(ConfigError, match=r"the model's own word 'stop': the distance is 0\.00"):
        words.learn("halt", [own] * 3, date="")


@pytest.mark.parametrize("name", ["Stop", "unknown", "silence", "", "a\nb", "x" * 101])
def test_names_that_cannot_be_taught(words, name):
    with pytest.raises(ConfigError):
        words.check_name(name)


def test_three_to_ten_takes(words, recordings):
    with pytest.raises(ConfigError, match="2 takes of 'lamp'; give 3 to 10"):
        words.teach("lamp", takes(recordings, "lamp", 2), date="")


def test_the_file_is_read_as_it_was_written(model, words, recordings):
    word = words.teach("lamp", takes(recordings, "lamp"), date="2026-11-28")
    again = TaughtWords(model, words.path)
    assert list(again) == ["lamp"]
    assert again["lamp"].others == word.others
    np.testing.assert_array_equal(normalised(again["lamp"].prototype), normalised(word.prototype))
    again.remove("lamp")
    assert not TaughtWords(model, words.path)
    with pytest.raises(ConfigError, match="'lamp' is not taught; taught are none"):
        again.remove("lamp")


@pytest.mark.parametrize("damage", [b"", b"{", b"\x00" * 999, b'{"format": 1, "words": 3}', None], ids=repr)
def test_a_torn_file_loses_no_word(model, words, recordings, damage):
    words.teach("lamp", takes(recordings, "lamp"), date="")
    words.teach("kitchen", takes(recordings, "kitchen"), date="")
    path = Path(words.path)
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    again = TaughtWords(model, path)
    assert list(again) == ["lamp", "kitchen"]
    assert BACKUP in again.repaired
    again.teach("banana", takes(recordings, "banana"), date="")
    assert list(TaughtWords(model, path)) == ["lamp", "kitchen", "banana"]


def test_a_file_of_another_encoder_is_refused(model, words, recordings):
    words.teach("lamp", takes(recordings, "lamp"), date="")
    for path in (words.path, words.path + BACKUP):
        with open(path) as file:
            values = json.load(file)
        with open(path, "w") as file:
            json.dump({**values, "encoder_sha256": "0" * 64}, file)
    with pytest.raises(ConfigError, match=r"made with another encoder .*teach the words anew"):
        TaughtWords(model, words.path)


def test_a_full_disk_loses_no_word(model, words, recordings, monkeypatch):
    words.teach("lamp", takes(recordings, "lamp"), date="")
    embeddings = [words.embeddings(take) for take in takes(recordings, "kitchen")]

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="make room there"):
        words.learn("kitchen", embeddings, date="")
    monkeypatch.undo()
    assert [*words] == [*TaughtWords(model, words.path)] == ["lamp"]


SAVES = """
import dataclasses, sys
from kws_edge import Model, TaughtWords
words = TaughtWords(Model("commands12", kernels="builtin"), sys.argv[1])
first = next(iter(words.values()))
words._save({"first": dataclasses.replace(first, name="first")})
for i in range(1, 100_000):
    words._save({"first": words["first"], "last": dataclasses.replace(first, name="last", takes=i)})
    print(i, flush=True)
"""
"""Teaches without end, as fast as the disk allows, and says what is saved."""


def test_a_killed_process_loses_no_word(model, words, recordings):
    """It is killed at random times. Then the latest words that it reported are there, or the ones after them."""
    words.teach("lamp", takes(recordings, "lamp"), date="")
    rng = np.random.default_rng()
    for _ in range(KILLS):
        with subprocess.Popen([sys.executable, "-c", SAVES, words.path], stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout.readline() == b"1\n"
                time.sleep(rng.uniform(0, 0.05))
            finally:
                process.kill()
            lines = process.stdout.read().splitlines(keepends=True)
        said = int([b"1\n", *(line for line in lines if line.endswith(b"\n"))][-1])
        again = TaughtWords(model, words.path)
        assert list(again) == ["first", "last"]
        assert again["last"].takes in (said, said + 1)
        assert not again.repaired, "the file itself is whole"
    assert len(os.listdir(os.path.dirname(words.path))) <= 3, "what a killed process leaves is cleared away"


def test_models_without_an_encoder_say_so():
    with pytest.raises(ModelError, match=r"micro12.*has no encoder.*--model commands12 can"):
        Encoder(Model("micro12"))


@pytest.mark.parametrize("damage", [lambda d: d[:1000], lambda d: b"PK" + d[2:200] + d[300:], lambda d: b""])
def test_damaged_encoders_are_refused(model, tmp_path, damage):
    path = tmp_path / "x.encoder.npz"
    with open(Encoder(model).path, "rb") as file:
        path.write_bytes(damage(file.read()))
    with pytest.raises(ModelError, match="damaged encoder"):
        Encoder(model, path)


def test_tapping_changes_no_answer(model, demo_stream):
    encoder = Encoder(model)
    with AudioFile(demo_stream, sample_rate=RATE) as source:
        samples = source.read_all()
    for at in range(0, 10 * RATE, RATE // 2):
        q = model.quantize(model.features(samples[at : at + RATE]))
        np.testing.assert_array_equal(encoder.interpreter.invoke(q), model.interpreter.invoke(q))


def test_the_encoder_is_small(model):
    assert os.path.getsize(Encoder(model).path) < 700_000


def test_every_runtime_gives_the_same_embeddings(model, demo_stream):
    """This test runs with the older runtime, too."""
    with AudioFile(demo_stream, sample_rate=RATE) as source:
        samples = source.read_all()[: 8 * RATE]
    encoder, codes = Encoder(model), []
    for at in range(0, len(samples) - RATE, RATE):
        encoder.embed(samples[at : at + RATE])
        codes.append(encoder._head(encoder.interpreter.tapped))
    assert sha256_hex(np.concatenate(codes).astype("<f4").tobytes())[:16] == EMBEDDINGS


def test_the_recorder_cuts_single_words(recordings):
    stream = np.concatenate([*recordings["lamp"][:3], *recordings["kitchen"][:2], QUIET])
    for size in (160, 1601, 16000):
        recorder = Recorder(RATE)
        found = [
            cut for at in range(0, len(stream), size) if (cut := recorder.hear(stream[at : at + size])) is not None
        ]
        assert len(found) == 5
        for cut in found:
            find_word(cut, RATE)


def test_the_recorder_gives_up_on_silence_and_noise():
    for samples, reason in ((np.zeros(9 * RATE, np.int16), "silence"), (np.tile(QUIET * 100, 9), "noise only")):
        recording = Recorder(RATE).hear(samples)
        with pytest.raises(TakeError, match=reason):
            find_word(recording, RATE)


def test_words_lie_beside_the_room_profile(model):
    assert taught_path(model) == profile_path(model).replace("room-", "taught-")
