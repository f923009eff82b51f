"""``kws-host voices``: people who differ in how they sound are told apart, whatever they say."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import soundfile

from kws_edge import Frontend, Model
from kws_edge.voice.voices import Voices
from tests.conftest import assert_one_line_error_at_end

lfilter = pytest.importorskip("scipy.signal", reason="SciPy is not installed here").lfilter

pytestmark = pytest.mark.host

RATE = 16000


def utterance(speaker, rng):
    """A second of noise in bursts, coloured by the speaker's two resonances."""
    who = np.random.default_rng(zlib.crc32(speaker.encode()))
    out = rng.normal(0, 1, RATE) * np.interp(np.arange(RATE), np.arange(9) * RATE / 8, [0, *rng.uniform(0.2, 1, 7), 0])
    for low, high in ((250, 900), (1000, 3000)):
        angle = 2 * np.pi * who.uniform(low, high) * rng.uniform(0.97, 1.03) / RATE
        out = lfilter([1], [1, -1.9 * np.cos(angle), 0.9025], out)
    return (out / np.abs(out).max() * 8000).astype(np.int16)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Clips of 140 people, laid out as Speech Commands is, and noise."""
    folder, rng = tmp_path_factory.mktemp("people"), np.random.default_rng(3)
    for word in ("yes", "no"):
        (folder / "clips" / word).mkdir(parents=True)
    for name in ("validation_list.txt", "testing_list.txt"):
        (folder / "clips" / name).write_text("")
    for number in range(140):
        speaker = f"{number:08x}"
        for clip in range(13 if zlib.crc32(speaker.encode()) % 10 < 3 else 3):
            path = folder / "clips" / ("yes", "no")[clip % 2] / f"{speaker}_nohash_{clip // 2}.wav"
            soundfile.write(path, utterance(speaker, rng), RATE)
    (folder / "noise").mkdir()
    soundfile.write(folder / "noise" / "hiss.wav", rng.normal(0, 0.01, 4 * RATE), RATE)
    return folder


def test_people_are_told_apart(run_cli, data, tmp_path):
    target = tmp_path / "x.voices.npz"
    args = ("voices", str(data / "clips"), "--noise", str(data / "noise"), "--copies", "2", "-o", str(target))
    done = run_cli(*args, package="host_tools")
    assert done.returncode == 0, done.stderr
    model, rng = Model("micro12"), np.random.default_rng(5)
    voices, frontend = Voices(model, target), Frontend(model.frontend_config)
    names = ("someone", "another", "third")
    heard = {n: np.stack([voices.embed(frontend.frames(utterance(n, rng))) for _ in range(14)]) for n in names}
    own, others = [], []
    for name in names:
        direction = heard[name][:10].mean(axis=0)
        direction /= np.linalg.norm(direction)
        own += list(heard[name][10:] @ direction)
        others += [cosine for n in names if n != name for cosine in heard[n] @ direction]
    assert np.mean(own) - np.mean(others) > 0.5
    assert voices.threshold(0.01) > voices.threshold(0.2)


def test_too_few_people_are_one_line(run_cli, data, tmp_path):
    for clip in range(3):
        path = tmp_path / "few" / "yes" / f"0000000{clip}_nohash_0.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, utterance("a", np.random.default_rng(clip)), RATE)
    for name in ("validation_list.txt", "testing_list.txt"):
        (tmp_path / "few" / name).write_text("")
    args = ("voices", str(tmp_path / "few"), "--noise", str(data / "noise"), "-o", str(tmp_path / "y.npz"))
    failed = run_cli(*args, package="host_tools")
    assert_one_line_error_at_end(failed, "0 speakers with 3 clips or more; voices take 49")
