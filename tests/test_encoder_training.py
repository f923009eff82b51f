"""``kws-host encoder``, from clips to taught words, on words of a synthesiser."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import soundfile

from kws_edge import Model, TaughtWords, find_word
from kws_edge.model.model import shipped_models
from kws_edge.teach.encoder import ENDING
from tests.conftest import assert_one_line_error_at_end
from tests.voices import RATE, spoken

pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")
pytestmark = pytest.mark.host

WORDS = (
    "table",
    "window",
    "garden",
    "bottle",
    "river",
    "music",
    "seven",
    "orange",
    "stop",
    "doctor",
    "paper",
    "summer",
)
STORY = (
    "the old farmer carried a heavy basket along the narrow road while his daughter counted white birds above them",
    "nobody in this village remembers when the bridge was built or who planted those enormous trees beside it",
)
COPIES, CLIPS, TIMES = 2, 10, 20


def write(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Clips of words, two long recordings of speech, and noise."""
    root, rng = tmp_path_factory.mktemp("sounds"), np.random.default_rng(1)
    for word in WORDS:
        for i in range(CLIPS):
            said = find_word(spoken(root, word, speed=130 + 6 * i, pitch=30 + 5 * i), RATE)
            write(root / "words" / word / f"voice{i}_nohash_0.wav", said.window(RATE))
    for i, text in enumerate(STORY):
        part = spoken(root, f"{text}. " * 4, pitch=40 + 15 * i)
        write(root / "speech" / f"{i}.wav", np.tile(part, TIMES // 2))
    write(root / "noise" / "hiss.wav", rng.normal(0, 900, 5 * RATE).astype(np.int16))
    return root


def arguments(sounds, output):
    return (
        "encoder", "commands12", "-o", output, "--words", sounds / "words", "--speech", sounds / "speech",
        "--noise", sounds / "noise", "--without", "summer", "--copies", COPIES, "--epochs", 4,
    )  # fmt: skip


def test_an_encoder_is_trained_and_learns_a_word(run_cli, sounds, tmp_path):
    path = tmp_path / "mine.tflite"
    shutil.copy(shipped_models()["commands12"], path)
    output = tmp_path / f"mine{ENDING}"
    done = run_cli(*arguments(sounds, output), package="host_tools")
    assert done.returncode == 0, done.stderr.decode()
    assert "loss=nan" not in done.stderr.decode(), "it trains with fewer clips than a batch"
    n = CLIPS * (len(WORDS) - 1)
    assert f"of {n} clips of {len(WORDS) - 1} words" in done.stdout.decode()
    assert os.path.getsize(output) < 700_000
    with np.load(output) as content:
        about = json.loads(str(content["about"]))
    assert about["made"]["without"] == ["summer"]
    assert about["own"] == ["stop"]
    assert "summer" not in about["words"]
    rates, scores = zip(*about["points"], strict=True)
    assert min(rates) <= 1 <= max(rates)
    assert list(scores) == sorted(scores, reverse=True), "fewer false accepts take a higher score"
    words = TaughtWords(Model(path), tmp_path / "taught.json")
    lamp = [find_word(spoken(tmp_path, "lamp", speed=145 + 5 * i), RATE) for i in range(4)]
    words.teach("lamp", lamp[:3], date="")
    same, other = (
        words.best(words.embeddings(take))["lamp"] for take in (lamp[3], find_word(spoken(tmp_path, "kitchen"), RATE))
    )
    assert same > other


def test_too_little_speech_is_refused_in_one_line(run_cli, sounds, tmp_path):
    short = tmp_path / "short"
    for i in range(2):
        samples, _ = soundfile.read(sounds / "speech" / f"{i}.wav", dtype="int16")
        write(short / f"{i}.wav", samples[: 10 * RATE])
    done = run_cli(*arguments(sounds, tmp_path / f"x{ENDING}"), "--speech", short, package="host_tools")
    assert_one_line_error_at_end(done, "too little running speech to measure 1 false accept an hour")
    assert not (tmp_path / f"x{ENDING}").exists()
