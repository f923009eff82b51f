"""Taught words learn from what was wrongly taken for them: real recordings of bird, and of bed in its place."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws_edge import AudioFile, ConfigError, Model, Spotter, TakeError, TaughtWords, find_word
from kws_edge.detection.room_profile import profile_path
from kws_edge.errors import WriteError
from kws_edge.teach.words import taught_path
from kws_edge.teach.wrong import windows
from tests.conftest import wait_until
from tests.served import served

RATE = 16000


@pytest.fixture(scope="module")
def model():
    return Model("commands12", kernels="builtin")


@pytest.fixture(scope="module")
def recorded(data):
    """Clips of bird and of bed, with half a second of silence around them."""

    def clip(path):
        with AudioFile(path, sample_rate=RATE) as audio:
            return np.pad(audio.read_all(), RATE // 2)

    words = {"bird": 19, "bed": 80}
    return {
        word: [clip(path) for path in sorted((data / "speech_commands" / word).iterdir())[:n]]
        for word, n in words.items()
    }


@pytest.fixture(scope="module")
def bird(model, recorded, tmp_path_factory):
    """The file of the word bird, which was taught from five people, and the recordings that taught nothing."""
    words = TaughtWords(model, tmp_path_factory.mktemp("bird") / "taught.json")
    takes, rest = [], []
    for samples in recorded["bird"]:
        try:
            found = words.embeddings(find_word(samples, RATE))
            words.check_match(found, takes)
        except TakeError:
            continue
        takes.append(found) if len(takes) < 5 else rest.append(samples)
    words.learn("bird", takes, date="2026-11-28")
    return Path(words.path).read_bytes(), rest


@pytest.fixture
def words(model, bird, tmp_path):
    path = tmp_path / "taught.json"
    path.write_bytes(bird[0])
    return TaughtWords(model, path)


def heard(words, recordings):
    """Numbers of the recordings in which a stream hears bird."""
    spotter = Spotter(words.model, taught=words)
    found = []
    for i, samples in enumerate(recordings):
        spotter.reset()
        if any(one.keyword == "bird" for one in spotter.process(samples) + spotter.flush()):
            found.append(i)
    return found


def test_a_mistake_is_made_no_more_and_less_by_others(words, bird, recorded):
    hits, before = heard(words, bird[1]), heard(words, recorded["bed"])
    assert len(hits) >= 6 and len(before) >= 8, "there is something to learn, and to lose"
    first = recorded["bed"][before[0]]
    told = words.was_wrong(windows(words.encoder, first))
    assert told["bird"][0] >= 0.5 > told["bird"][1]
    after = heard(words, recorded["bed"])
    assert before[0] not in after
    assert len(after) <= 0.7 * len(before), "others say bed, too"
    assert len(heard(words, bird[1])) >= len(hits) - 1
    again = TaughtWords(words.model, words.path)
    assert heard(again, [first]) == [] and len(again["bird"].wrong) > 0
    assert not again.was_wrong(windows(again.encoder, first)), "there is nothing left to learn"


def test_several_mistakes_are_all_remembered(words, recorded):
    before = heard(words, recorded["bed"])[:6]
    for i in before:
        words.was_wrong(windows(words.encoder, recorded["bed"][i]))
    assert not set(heard(words, recorded["bed"])) & set(before)


def test_the_word_itself_is_not_wrong(words, bird):
    best = max(bird[1], key=lambda samples: float((windows(words.encoder, samples) @ words["bird"].mean).max()))
    embeddings = windows(words.encoder, best)
    embeddings[np.argmax(embeddings @ words["bird"].mean)] = words["bird"].mean
    with pytest.raises(
        ConfigError, match=r"as much like 'bird' as its own takes are \(likeness 1\.00, 0\.9 is the most"
    ):
        words.was_wrong(embeddings)
    assert not len(words["bird"].wrong)


def test_what_was_said_is_no_mistake(words, bird):
    said = bird[1][heard(words, bird[1])[0]]
    assert not words.was_wrong(windows(words.encoder, said), but="bird")


def test_a_full_disk_loses_nothing(words, recorded, monkeypatch):
    first = recorded["bed"][heard(words, recorded["bed"])[0]]
    embeddings = windows(words.encoder, first)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="make room there"):
        words.was_wrong(embeddings)
    monkeypatch.undo()
    again = TaughtWords(words.model, words.path)
    assert [*again] == [*words] == ["bird"]
    assert not len(again["bird"].wrong) and not len(words["bird"].wrong)
    words.was_wrong(embeddings)
    Path(words.path).write_bytes(b"{")
    assert len(TaughtWords(words.model, words.path)["bird"].wrong), "the copy has learnt, too"


def test_a_lower_threshold_keeps_off_what_was_wrong(words, recorded):
    first = recorded["bed"][heard(words, recorded["bed"])[0]]
    words.was_wrong(windows(words.encoder, first))
    words.set_thresholds({"bird": 0.2})
    assert heard(words, [first]) == []
    with pytest.raises(ConfigError, match="'lamp' is not taught; taught are bird"):
        words.set_thresholds({"lamp": 0.5})


def test_the_command(words, recorded, run_cli, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = Path(taught_path(words.model))
    path.parent.mkdir()
    path.write_bytes(Path(words.path).read_bytes())
    wrong = heard(words, recorded["bed"])[0]
    soundfile.write(tmp_path / "wrong.wav", recorded["bed"][wrong], RATE)
    soundfile.write(tmp_path / "quiet.wav", np.zeros(RATE, np.int16), RATE)
    done = run_cli("teach", "--wrong", tmp_path / "wrong.wav", tmp_path / "quiet.wav")
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0, done.stderr
    assert "wrong.wav: bird was heard with 0." in lines[0] and "now 0." in lines[0]
    assert lines[1].endswith("quiet.wav: no taught word is heard")
    assert "of what is wrong" in run_cli("teach", "--list").stdout.decode()
    for arguments, reason in (((), "--wrong takes recordings"), (("-",), "not standard input")):
        refused = run_cli("teach", "--wrong", *arguments)
        assert refused.returncode == 2 and reason in refused.stderr.decode()


def test_that_was_wrong_on_the_page_is_learnt(words, recorded, tmp_path):
    """The service hears bed as bird, is told so, and goes on without that mistake."""
    pytest.importorskip("h11", reason="h11 is not installed here")
    wrong = recorded["bed"][heard(words, recorded["bed"])[0]]
    soundfile.write(tmp_path / "said.wav", np.pad(wrong, RATE), RATE)
    sections = '[model]\ntaught = "taught.json"\n[web]\nport = 0\n[clips]\nfolder = "clips"\n'
    with served(tmp_path, sections, tmp_path / "said.wav", pace=2.0) as service:
        with service.events() as events:
            found = next(values for kind, values in events if kind == "detection")
            assert found["keyword"] == "bird"
            assert service.ask("POST", "/api/wrong", {"room": "kitchen", "end_s": found["end_s"]})[0] == 200
            wait_until(lambda: "bird has learnt from what was wrong" in service.log, 30)
            told = next(values for kind, values in events if kind == "settings")
            assert told["taught"] == ["bird"]
        heard_s = service.event("telemetry")["heard_s"]
        with service.events() as events:
            # The recording is heard twice at least until then.
            kinds = (kind for kind, v in events if kind == "detection" or v.get("heard_s", 0) > heard_s + 12)
            assert next(kinds) == "telemetry"
    assert len(TaughtWords(words.model, words.path)["bird"].wrong)


@pytest.mark.parametrize("said", ["unknown", "bird"])
def test_a_label_of_the_page_is_learnt(words, recorded, tmp_path, said):
    from kws_edge.service.clips import HIT, ClipFolder
    from kws_edge.service.taught import Taught
    from kws_edge.service.web.teaching import Teaching

    class Service:
        def taught(self):
            return taught

    taught = Taught(words.model, words.path, threading.Lock())
    folder = ClipFolder(str(tmp_path / "clips"), most_bytes=10**9)
    wrong = recorded["bed"][heard(words, recorded["bed"])[0]]
    name = folder.add(wrong, RATE, room="kitchen", word="bird", score=0.6, kind=HIT)
    answer = Teaching(Service(), lambda: folder).label(name, said)
    assert (answer["learnt"], answer["note"]) == (["bird"] if said == "unknown" else [], "")
    assert folder.find(answer["name"]).word == said


def test_calibrate_raises_the_threshold_of_a_word_that_fires(words, recorded, run_cli, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = Path(taught_path(words.model))
    path.parent.mkdir()
    path.write_bytes(Path(words.path).read_bytes())
    before = heard(words, recorded["bed"])
    site = np.concatenate([recorded["bed"][i] for i in before])
    soundfile.write(tmp_path / "site.wav", site, RATE)
    done = run_cli("calibrate", tmp_path / "site.wav", "--taught", "--force", "--budget", "1", "--json")
    assert done.returncode == 0, done.stderr
    chosen = json.loads(done.stdout)
    assert chosen["defaults"]["bird"] == 0.5 < chosen["thresholds"]["bird"]
    again = TaughtWords(words.model, path)
    assert again["bird"].threshold == chosen["thresholds"]["bird"]
    assert not heard(again, [site])
    assert "bird" not in json.loads(Path(profile_path(words.model)).read_text())["detector_config"]["thresholds"]
    done = run_cli("calibrate", tmp_path / "site.wav", "--taught", "--force", "--budget", "100000")
    assert done.returncode == 0, done.stderr
    assert TaughtWords(words.model, path)["bird"].threshold < 0.5, "a large budget lowers it"
    assert f"wrote the thresholds of bird to {path}" in done.stdout.decode()
