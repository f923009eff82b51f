"""``kws-edge teach``: from files, from a pipe and from a microphone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from tests.conftest import assert_one_line_error, assert_usage_error
from tests.sound import Listener, SoundServer
from tests.voices import QUIET, RATE, record

BREATH = slice(RATE // 2, -RATE // 4)
"""A recording without much of the quiet around its word, because a microphone takes its time."""


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    return record(tmp_path_factory.mktemp("spoken"))


@pytest.fixture
def output(run_cli):
    """What kws-edge prints, if it succeeds."""

    def run(*args):
        done = run_cli(*args)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    return run


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user's configuration folder."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


@pytest.fixture
def files(recordings, home):
    """Recordings of each word as files."""
    named = {word: [str(home / f"{word}{i}.wav") for i in range(len(one))] for word, one in recordings.items()}
    for word, paths in named.items():
        for path, samples in zip(paths, recordings[word], strict=True):
            soundfile.write(path, samples, RATE)
    return named


def clipped(samples):
    return np.clip(samples * 40.0, -32768, 32767).astype(np.int16)


def test_teach_detect_test_and_forget(run_cli, output, files, home):
    assert "no words are taught" in output("teach", "--list")
    assert_one_line_error(run_cli("detect", "--taught", files["lamp"][5]), "no words are taught; kws-edge teach WORD")
    for word in ("lamp", "kitchen"):
        assert f"taught {word} from 5 takes" in output("teach", word, *files[word][:5])
    assert [line.split()[0] for line in output("teach", "--list").splitlines()] == ["lamp", "kitchen"]
    for word in ("lamp", "kitchen"):
        assert word in output("detect", "--taught", files[word][5]).split()
        assert "no keyword" in output("detect", files[word][5])
    tested = output("teach", "--test", files["lamp"][5], files["banana"][5]).splitlines()
    assert ": lamp" in tested[0] and "heard" in tested[0]
    assert "heard" not in tested[1]
    assert "forgot lamp" in output("teach", "lamp", "--remove")
    assert "lamp" not in output("teach", "--list")
    assert_one_line_error(run_cli("teach", "lamp", "--remove"), "'lamp' is not taught; taught are kitchen")


def test_bad_files_teach_nothing(run_cli, output, files, recordings, home):
    bad = str(home / "bad.wav")
    soundfile.write(bad, clipped(recordings["lamp"][0]), RATE)
    assert_one_line_error(run_cli("teach", "lamp", *files["lamp"][:3], bad), "bad.wav: clipped")
    assert_one_line_error(run_cli("teach", "lamp", *files["lamp"][:3], files["banana"][0]), "take 4 does not match")
    assert_one_line_error(run_cli("teach", "lamp", *files["lamp"][:2]), "2 takes of 'lamp'; give 3 to 10")
    assert_one_line_error(run_cli("teach", "stop", *files["lamp"][:3]), "'stop' is a label of the model")
    assert_one_line_error(run_cli("teach", "lamp", "--model", "micro12"), "has no encoder")
    assert "no words" in output("teach", "--list")


@pytest.mark.parametrize(
    "args", [[], ["-"], ["--list", "lamp"], ["--remove"], ["lamp", "a.wav", "-"], ["--test"], ["lamp", "--takes", "2"]]
)
def test_wrong_usage(run_cli, home, args):
    assert_usage_error(run_cli("teach", *args))


def piped(word, samples, *options):
    command = [sys.executable, "-m", "kws_edge", "teach", word, "-", *options]
    return subprocess.run(command, input=samples.tobytes(), capture_output=True, timeout=120, check=False)


def test_takes_from_a_pipe(recordings, output, home):
    lamp, other = recordings["lamp"], recordings["banana"][0]
    done = piped("lamp", np.concatenate([lamp[0], clipped(lamp[1]), lamp[1], other, *lamp[2:]]))
    said = done.stderr.decode()
    assert done.returncode == 0, said
    assert said.index("take 1 of 5 is good") < said.index("refused: clipped") < said.index("take 2 of 5")
    assert said.index("take 2 of 5") < said.index("refused: does not match the other takes") < said.index("take 3 of 5")
    assert "lamp" in output("teach", "--list")


def test_three_words_of_a_newcomer(recordings, run_cli, output, home):
    """Every kind of bad take is among those of the first word. The stream goes faster than the time."""
    lamp, kitchen = recordings["lamp"], recordings["kitchen"]
    noise = np.random.default_rng(1).normal(0, 900, 8 * RATE).astype(np.int16)
    pause = RATE // 3
    twice = np.concatenate([lamp[1][: RATE + pause], np.zeros(pause // 2, np.int16), lamp[1][RATE - pause // 2 :]])
    bad = {
        "silence": np.zeros(8 * RATE, np.int16),
        "clipped": clipped(lamp[1]),
        "2 words with a pause": twice,
        "does not match the other takes": kitchen[0],
        "noise only": noise,
    }
    done = piped("lamp", np.concatenate([lamp[0], *bad.values(), *lamp[1:5], QUIET]))
    said = done.stderr.decode()
    assert done.returncode == 0, said
    refused = [line for line in said.splitlines() if "refused: " in line]
    assert [next((why for why in bad if f"refused: {why}" in line), line) for line in refused] == list(bad)
    for word in ("kitchen", "banana"):
        assert piped(word, np.concatenate([*recordings[word][:5], QUIET])).returncode == 0
    soundfile.write(home / "all.wav", np.concatenate([recordings[word][5] for word in recordings]), RATE)
    heard = [line.split()[4] for line in output("detect", "--taught", str(home / "all.wav")).splitlines()]
    assert heard == ["lamp", "kitchen", "banana"]


def test_a_pipe_that_ends_early_teaches_nothing(recordings, output, home):
    done = piped("lamp", np.concatenate(recordings["lamp"][:3]))
    assert done.returncode == 1
    assert "ended after 3 good takes of 5" in done.stderr.decode()
    assert "no words" in output("teach", "--list")


def test_ten_refusals_end_it(home):
    noise = np.random.default_rng(0).normal(0, 900, 90 * RATE).astype(np.int16)
    done = piped("lamp", noise)
    assert done.returncode == 1
    assert "10 takes were refused, the last: noise only" in done.stderr.decode()


def taught_by_microphone(server, home, word, takes):
    """Say `takes` to ``kws-edge teach``, of which three are good. Return what it says of them."""
    path = home / "takes.wav"
    soundfile.write(path, np.concatenate([*(take[BREATH] for take in takes), QUIET]), RATE)
    command = [sys.executable, "-m", "kws_edge", "teach", word, "--takes", "3"]
    teach = subprocess.Popen(command, env=server.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    server.clients.append(teach)
    assert f"say '{word}' 3 times" in teach.stderr.readline()
    for _ in range(5):
        if teach.poll() is None:  # a slow machine loses samples, and a user says the word again
            server.play(path)
    out, errors = teach.communicate(timeout=60)
    assert f"taught {word} from 3 takes" in out, errors
    return errors


@pytest.mark.sound
def test_words_taught_by_microphone_are_heard_by_microphone(recordings, home):
    server = SoundServer(home)
    server.environment["XDG_CONFIG_HOME"] = os.environ["XDG_CONFIG_HOME"]
    try:
        lamp, kitchen, banana = recordings.values()
        assert "refused: clipped" in taught_by_microphone(server, home, "lamp", [lamp[0], clipped(lamp[1]), *lamp[1:3]])
        said = taught_by_microphone(server, home, "kitchen", [*kitchen[:2], banana[1], kitchen[2]])
        assert "refused: does not match the other takes" in said
        assert "refused" not in taught_by_microphone(server, home, "banana", banana[:3])
        listener = Listener(server, "--taught")
        assert "go, lamp, kitchen, banana;" in listener.greeting
        for word, takes in recordings.items():
            soundfile.write(home / "again.wav", np.concatenate([takes[5], QUIET]), RATE)
            server.play(home / "again.wav")
            assert listener.detection()["keyword"] == word
        listener.finish(send=signal.SIGINT)
    finally:
        server.stop()
