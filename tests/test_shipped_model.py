"""The shipped model on validation clips; its accuracy on the test clips is for `kws-host evaluate` to measure."""

import numpy as np
import pytest
import soundfile

from kws_edge import Model
from kws_edge.audio import AudioFile

COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")


@pytest.fixture(scope="module")
def live():
    """The model as `kws-edge listen` runs it."""
    return Model("commands12")


def test_labels(live):
    assert live.labels == ("silence", "unknown", *COMMANDS)


def test_commands(live, validation_paths):
    right = [
        live.labels[live.classify(soundfile.read(p, dtype="int16")[0]).argmax()] == p.parent.name
        for p in validation_paths
    ]
    assert len(right) > 1000
    assert np.mean(right) >= 0.94


def test_other_words_are_unknown(live, data):
    names = (data / "speech_commands" / "validation_list.txt").read_text().split()
    others = [data / "speech_commands" / name for name in names if name.split("/")[0] not in COMMANDS]
    posteriors = np.array([live.classify(soundfile.read(path, dtype="int16")[0]) for path in others])
    assert len(others) > 300
    assert (posteriors[:, 2:].max(axis=1) < 0.8).mean() >= 0.93


def test_silence_of_every_kind(live, data):
    rng = np.random.default_rng(0)
    for samples in (np.zeros(16000), rng.normal(0, 3, 16000), rng.normal(0, 3000, 16000)):
        assert live.labels[live.classify(samples.astype(np.int16)).argmax()] == "silence"
    right, total = 0, 0
    for path in sorted((data / "speech_commands" / "_background_noise_").glob("*.wav")):
        with AudioFile(path, rate=16000) as file:
            noise = file.read()
        for volume in (0.01, 0.1, 1.0):
            for at in range(0, len(noise) - 16000, 160_000):
                clip = (noise[at : at + 16000] * volume).astype(np.int16)
                right += live.labels[live.classify(clip).argmax()] == "silence"
                total += 1
    assert total > 80
    assert right / total >= 0.97


def test_the_file_records_what_quantisation_costs(live):
    measured = live.metadata.metrics["validation"]
    assert abs(measured["float_accuracy"] - measured["int8_accuracy"]) <= 0.003
    assert measured["int8_accuracy"] >= 0.94
