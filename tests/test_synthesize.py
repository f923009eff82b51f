"""Synthetic speech of the real synthesisers."""

import csv
import os

import numpy as np
import pytest
import soundfile

from host_tools.data.sentences import HOMOPHONES, from_text, sentence, spoken_words
from host_tools.data.synthesize import _spoken, voices
from host_tools.errors import DatasetError
from tests.conftest import assert_one_line_error, need_program

pytestmark = pytest.mark.host

COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")


def test_sentences_hold_no_keyword():
    rng = np.random.default_rng(0)
    said = [sentence(rng, COMMANDS) for _ in range(2000)]
    words = {word for text in said for word in spoken_words(text)}
    avoided = {*COMMANDS, *(h for c in COMMANDS for h in HOMOPHONES.get(c, ()))}
    assert not words & avoided
    assert len(words) > 400
    assert len(set(said)) > 1990


def test_text_of_the_users():
    text = "Nobody can say so. You know that. Please go home.\nThe left door is open! It was upon us."
    assert from_text(text, COMMANDS) == ["Nobody can say so.", "It was upon us."]
    with pytest.raises(DatasetError, match="none of the text's 1 sentences"):
        from_text("Go home now, please.", COMMANDS)


def test_speech_and_words(run_cli, tmp_path):
    need_program("espeak-ng")
    command = ["synthesize", "-o", "out", "--labels", "hello,lamp", "--minutes", "0.4", "--per-word", "5"]
    done = run_cli(*command, package="host_tools")
    assert done.returncode == 0, done.stderr
    speech = sorted((tmp_path / "out" / "speech").glob("*.flac"))
    lengths = [soundfile.info(path) for path in speech]
    assert all(info.samplerate == 16000 and info.channels == 1 for info in lengths)
    assert 24 <= sum(info.duration for info in lengths) < 60
    with (tmp_path / "out" / "speech" / "texts.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["file"] for row in rows} <= {path.name for path in speech}
    assert not {"hello", "lamp"} & {word for row in rows for word in spoken_words(row["text"])}
    for word in ("hello", "lamp"):
        clips = sorted((tmp_path / "out" / "words" / word).glob("*_nohash_*.wav"))
        assert len(clips) == 5
        for clip in clips:
            samples, rate = soundfile.read(clip)
            assert (len(samples), rate) == (16000, 16000)
            assert np.abs(samples).max() > 0.05
            # The word lies in the middle.
            power = np.square(samples)
            centre = (power * np.arange(16000)).sum() / power.sum()
            assert 4000 < centre < 12000
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    speech[0].unlink()
    assert run_cli(*command, package="host_tools").returncode == 0
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")} == before


def test_every_engine_speaks():
    need_program("espeak-ng")
    known = voices()
    for engine in {voice.engine for voice in known}:
        voice = next(voice for voice in known if voice.engine == engine)
        samples = _spoken(voice, "no", np.random.default_rng(1))
        assert samples.dtype == np.int16
        assert len(samples) > 1600
        assert np.abs(samples.astype(int)).max() > 300, engine


def test_errors(run_cli, tmp_path):
    need_program("espeak-ng")
    missing = run_cli("synthesize", "-o", "out", "--text", "gone.txt", package="host_tools")
    assert_one_line_error(missing, "gone.txt", program="kws-host")
    silent = run_cli("synthesize", "-o", "out", "--labels", "hello,a/b", "--minutes", "0", package="host_tools")
    assert_one_line_error(silent, "a/b", program="kws-host")
    nothing = run_cli("synthesize", "-o", "out", package="host_tools", env={**os.environ, "PATH": "/nowhere"})
    assert_one_line_error(nothing, "apt install espeak-ng", program="kws-host")
