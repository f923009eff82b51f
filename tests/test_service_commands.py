"""What outputs ask of the service while it hears, and what they are told."""

from __future__ import annotations

import dataclasses
import json
import threading
from contextlib import closing

import numpy as np
import pytest
import soundfile

from kws_edge import ConfigError, Model, Spotter, pack
from kws_edge.model.model import read_model
from kws_edge.service import config as config_module
from kws_edge.service.events import Detected, Reloaded, Scores, Telemetry
from kws_edge.service.service import Service
from tests import probe
from tests.conftest import wait_until
from tests.serving import RATE, Feed, silence

TEXT = """
[service]
telemetry_s = 0.2
state = "state"
[[source]]
name = "kitchen"
file = "feed"
[model]
kernels = "builtin"
[probe]
"""


@pytest.fixture(scope="module")
def speech(demo_stream):
    return soundfile.read(demo_stream, dtype="int16")[0]


class Running:
    """A service in a thread, with a probe for output, and a pipe of audio."""

    def __init__(self, folder, text=TEXT):
        self.path, self.notices = folder / "serve.toml", []
        self.path.write_text(text)
        self.service = Service(str(self.path), notice=self.notices.append)
        self.error = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        try:
            self.service.run()
        except BaseException as error:
            self.error = error

    @property
    def probe(self):
        wait_until(lambda: probe.PROBES, 30)
        return probe.PROBES[-1]

    def heard(self):
        """Keywords so far."""
        return [event.detection.keyword for event in self.probe.of(Detected)]

    def join(self):
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture
def feed(tmp_path):
    with closing(Feed(tmp_path / "feed")) as feed:
        yield feed


@pytest.fixture
def running(tmp_path, feed, monkeypatch):
    """Starts a service, and ends it with its audio."""
    monkeypatch.setitem(config_module.OUTPUTS, "probe", "tests.probe")
    probe.PROBES.clear()
    started = []

    def start(text=TEXT):
        started.append(Running(tmp_path, text))
        return started[-1]

    yield start
    for one in started:
        feed.close()
        one.join()
        assert one.error is None


def test_outputs_are_told_everything(running, feed, speech):
    """Each inference, each detection, what is listened for, and how the room fares."""
    one = running()
    feed.write(speech)
    feed.close()
    one.join()
    got = one.probe
    (settings,) = got.of(Reloaded)
    assert (settings.room, settings.keywords) == ("kitchen", settings.possible)
    assert settings.model.endswith("commands12.tflite")
    assert settings.step_s == pytest.approx(0.1)
    spotter = Spotter(Model("commands12", kernels="builtin"))
    expected = [*spotter.process(speech), *spotter.flush()]
    assert [event.detection for event in got.of(Detected)] == expected
    assert all(event.threshold <= event.detection.score for event in got.of(Detected))
    scores = got.of(Scores)
    assert [event.time_s for event in scores] == [step.time_s for step in spotter.steps([speech])]
    spotter.reset()
    for event, step in zip(scores, spotter.process_steps(speech), strict=False):
        assert np.array_equal(event.posteriors, step.posteriors)
        assert np.array_equal(event.smoothed, spotter.detector.smoothed)
        assert event.frames.shape == (10, 40)
        assert event.thresholds.shape == event.posteriors.shape
    low, high = settings.level_range
    assert all(low <= event.frames.min() and event.frames.max() <= high for event in scores)
    last = got.of(Telemetry)[-1]
    assert last.heard_s == pytest.approx(len(speech) / RATE)
    assert (last.lost_s, last.outages, last.detections) == (0, 0, len(expected))
    assert -70 <= last.noise_db < -40 and 0 < last.latency_s < 1


def test_change_takes_effect_at_the_next_inference(running, feed, speech):
    """Keywords are changed in the middle of a word, and no sample is lost."""
    one = running()
    feed.write(speech[: 2 * RATE])
    wait_until(lambda: one.heard() == ["yes"], 30)
    one.service.set_keywords(["right", "up"], room="kitchen")
    feed.write(speech[2 * RATE : 12 * RATE])
    wait_until(lambda: one.heard() == ["yes", "right", "up"], 30)
    one.service.set_thresholds({"go": 1.0})
    one.service.set_keywords(["go", "down"])
    feed.write(speech[12 * RATE : 16 * RATE])
    wait_until(lambda: one.heard() == ["yes", "right", "up", "down"], 30)
    told = [event.keywords for event in one.probe.of(Reloaded)]
    assert (len(told[0]), told[1], told[-1]) == (10, ("right", "up"), ("go", "down"))
    assert one.service.rooms()["kitchen"].thresholds["go"] == 1.0
    assert one.service.telemetry()["kitchen"].present


def test_change_is_told_while_there_is_no_audio(running, feed):
    """A microphone that is unplugged keeps the page and the broker from nothing."""
    run = running()
    feed.write(silence(0.02))
    wait_until(lambda: run.probe.of(Reloaded))
    run.service.set_keywords(["stop"])
    wait_until(lambda: run.probe.of(Reloaded)[-1].keywords == ("stop",), 5)
    run.path.write_text(TEXT.replace('"feed"', '"feed"\nkeywords = ["yes"]'))
    run.service.reload()
    wait_until(lambda: run.probe.of(Reloaded)[-1].keywords == ("yes",), 10)
    feed.write(silence(1))
    feed.close()
    run.join()
    assert run.probe.of(Reloaded)[-1].keywords == ("yes",)


def test_wrong_requests_change_nothing(running, feed, speech):
    one = running()
    feed.write(speech[: 2 * RATE])
    before = one.service.rooms()["kitchen"]
    ask = one.service
    for wrong, message in (
        (lambda: ask.set_keywords(["banana"]), "'banana' is no keyword of this model"),
        (lambda: ask.set_keywords([]), "keywords"),
        (lambda: ask.set_thresholds({"on": 2}), "must be a number from 0.001 to 1, got 2"),
        (lambda: ask.set_thresholds({"banana": 0.5}), "'banana' is no keyword of this model"),
        (lambda: ask.set_thresholds({"on": float("nan")}), "must be a number from 0.001 to 1, got nan"),
        (lambda: ask.set_sensitivity(1.5), "sensitivity must be a number from 0 to 1, got 1.5"),
        (lambda: ask.set_sensitivity("high"), "sensitivity must be a number from 0 to 1, got 'high'"),
        (lambda: ask.set_keywords(["on"], room="hall"), "no room 'hall'; there are kitchen"),
        (lambda: ask.audio("hall", 0, 1), "no room 'hall'; there are kitchen"),
        (lambda: ask.was_wrong(room="hall"), "no room 'hall'; there are kitchen"),
    ):
        with pytest.raises(ConfigError) as error:
            wrong()
        assert message in str(error.value)
    after = ask.rooms()["kitchen"]
    assert (after.keywords, after.thresholds) == (before.keywords, before.thresholds)


def test_changes_are_saved_and_used_again(running, feed, speech, tmp_path):
    one = running()
    feed.write(speech[:RATE])
    one.service.set_keywords(["on", "off"])
    one.service.set_thresholds({"on": 0.9})
    one.service.save()
    saved = json.loads((tmp_path / "state/changes.json").read_text())
    assert saved == {"kitchen": {"thresholds": {"on": 0.9}, "keywords": ["on", "off"]}}
    again = Service(str(one.path), notice=one.notices.append)
    assert again.rooms()["kitchen"].keywords == ("on", "off")
    assert again.rooms()["kitchen"].thresholds["on"] == 0.9
    assert f"kitchen: as saved in {tmp_path}/state/changes.json" in one.notices


def test_sensitivity_sets_all_thresholds(running, feed, speech, tmp_path):
    """By the operating points of the model file. Without them, there is no sensitivity."""
    _, flat, metadata = read_model("commands12")
    own = metadata.detector_config
    points = [
        {
            "sensitivity": at,
            "threshold": own.threshold + by,
            "thresholds": {word: min(0.99, value + by) for word, value in own.thresholds.items()},
            "misses": 0.1,
            "false_accepts_per_hour": 1.0,
        }
        for at, by in ((0.0, 0.1), (0.5, 0.0), (1.0, -0.2))
    ]
    measured = dataclasses.replace(metadata, metrics={**metadata.metrics, "operating_points": points})
    (tmp_path / "measured.tflite").write_bytes(pack(flat.data, measured))
    one = running(TEXT.replace("[model]", f"[model]\nfile = '{tmp_path}/measured.tflite'"))
    feed.write(speech[: 2 * RATE])
    before = one.service.rooms()["kitchen"].thresholds
    one.service.set_sensitivity(0.75)
    after = one.service.rooms()["kitchen"]
    assert after.sensitivity == 0.75
    assert after.thresholds == pytest.approx({word: value - 0.1 for word, value in before.items()})
    one.service.set_thresholds({"on": 0.9})
    assert one.service.rooms()["kitchen"].thresholds["on"] == 0.9
    one.service.set_sensitivity(0.5)
    assert one.service.rooms()["kitchen"].thresholds == pytest.approx(before)


def test_saved_changes_that_do_not_fit_are_told(running, feed, speech, tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "state/changes.json").write_text('{"kitchen": {"keywords": ["banana"]}}')
    one = running()
    feed.write(speech[:RATE])
    assert "on" in one.service.rooms()["kitchen"].keywords
    assert one.notices[0].startswith("kitchen: what was saved is not used: 'banana' is no keyword of this model")


def test_audio_of_a_detection(running, feed, speech):
    """An output cuts a clip out of the last ten seconds."""
    one = running()
    feed.write(speech[: 2 * RATE])
    wait_until(lambda: one.heard() == ["yes"], 30)
    found = one.probe.of(Detected)[0].detection
    clip = one.service.audio("kitchen", found.start_s, found.end_s)
    assert np.array_equal(clip, speech[round(found.start_s * RATE) : round(found.end_s * RATE)])
    assert one.service.sample_rate("kitchen") == RATE
    assert len(one.service.audio("kitchen", 100, 200)) == 0
    one.service.was_wrong(end_s=found.end_s)
    one.service.was_wrong(room="kitchen")
    assert one.probe.wrong == [("kitchen", found.end_s), ("kitchen", None)]


def test_changes_and_reloads_at_the_same_time(running, feed, speech):
    """Threads change the keywords and ask for reloads while audio goes on. In the end, nothing was lost."""
    one = running()
    stop, faults = threading.Event(), []

    def change(words):
        while not stop.is_set():
            try:
                one.service.set_keywords(words)
                one.service.set_thresholds({"yes": 0.5 if "yes" in words else 0.6})
                one.service.rooms(), one.service.outputs()
            except BaseException as error:
                faults.append(error)
            stop.wait(0.02)

    every = Model("commands12").labels[2:]
    threads = [threading.Thread(target=change, args=(words,)) for words in (every, [*every[1:], every[0]])]
    for thread in threads:
        thread.start()
    for at in range(0, 10 * RATE, 4000):
        feed.write(speech[at : at + 4000])
        if at % RATE == 0:
            one.service.reload()
    stop.set()
    for thread in threads:
        thread.join()
    feed.write(speech[10 * RATE : 16 * RATE])
    wait_until(lambda: len(one.heard()) == 7, 30)
    assert one.heard() == ["yes", "left", "stop", "right", "up", "go", "down"]
    assert not faults
    assert any(text.startswith("reloaded ") for text in one.notices)


def test_defect_of_an_output_ends_the_service(running, feed, speech, monkeypatch):
    one = running()
    feed.write(speech[:1600])  # opens the room
    monkeypatch.setattr(one.probe, "send", lambda event: 1 / 0)
    feed.write(speech[: 2 * RATE])
    one.join()
    assert isinstance(one.error, ZeroDivisionError)
    one.error = None
