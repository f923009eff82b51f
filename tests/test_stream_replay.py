"""Replays of posteriors made by hand: the detections with any settings, and their score."""

import dataclasses

import pytest

from host_tools.data.annotations import Word
from host_tools.errors import DatasetError
from host_tools.evaluation.scoring import DUPLICATE, HIT, MISS
from host_tools.evaluation.stream_audio import Stream
from host_tools.evaluation.stream_replay import replay, score_heard, score_replayed, sweep
from kws_edge import Detector
from tests.tracks import INSTANT, LABELS, track_of

pytestmark = pytest.mark.host


def times(detections):
    return [(d.keyword, round(d.end_s, 3)) for d in detections]


def test_every_window_is_looked_at():
    """This includes the first and last windows, and those at the limits of a long stream's parts."""
    peaks = {0: "yes", 4095: "no", 4196: "yes", 8191: "no", 8292: "yes", 9999: "no"}
    found = replay(track_of(peaks, n=10_000), INSTANT)
    assert times(found) == [(label, round(1 + 0.1 * window, 3)) for window, label in peaks.items()]
    assert times(replay(track_of({4096: "yes"}, n=5000), INSTANT)) == [("yes", 410.6)]


def test_the_detector_goes_on_from_part_to_part():
    """Averages and refractory times reach over the cuts of a long stream."""
    smoothed = dataclasses.replace(INSTANT, smoothing_ms=300)
    across = track_of({4094: "yes", 4095: "yes", 4096: "yes"}, n=5000)
    detector = Detector(LABELS, smoothed, step_s=0.1, clip_s=1.0)
    whole = [d for row, at in zip(across.posteriors(), across.times_s, strict=True) if (d := detector.process(row, at))]
    assert times(replay(across, smoothed)) == times(whole) == [("yes", 410.6)]
    assert times(replay(track_of({4093: "yes", 4097: "yes"}, n=5000), INSTANT)) == [("yes", 410.3)]


@pytest.mark.parametrize(("gap", "n"), [(1, 1), (5, 1), (6, 2)])
def test_refractory_time_ends_as_it_says(gap, n):
    """With half a second, the five windows after a detection detect nothing, and the sixth does."""
    assert len(replay(track_of({10: "yes", 10 + gap: "yes"}), INSTANT)) == n


def test_what_is_heard_after_the_end_was_heard_at_the_end():
    assert times(replay(track_of({59: "yes"}, duration_s=6.5), INSTANT)) == [("yes", 6.5)]


def test_a_sweep_sets_the_threshold_of_every_keyword():
    config = dataclasses.replace(INSTANT, thresholds={"yes": 0.99})
    low, high = sweep(config, (0.5, 0.95))
    assert (low.threshold, low.thresholds, high.threshold) == (0.5, {}, 0.95)
    assert low.refractory_ms == config.refractory_ms
    track = track_of({10: "yes"})
    assert [len(replay(track, c)) for c in (config, low, high)] == [0, 1, 0]


def test_a_replay_is_scored_against_the_words():
    """In two streams one word is heard twice, and another word is no keyword of the detector."""
    streams = [Stream("a.wav", (Word(1.5, 2.0, "yes"), Word(4.0, 4.4, "no"))), Stream("b.wav")]
    tracks = [track_of({11: "yes", 17: "yes"}), track_of({5: "no"})]
    result = score_replayed(streams, tracks, dataclasses.replace(INSTANT, keywords=("yes",)))
    assert [(e.kind, e.stream, e.said) for e in result.events] == [(HIT, "a.wav", "yes"), (DUPLICATE, "a.wav", "yes")]
    assert (result.keywords, result.seconds) == (("yes",), pytest.approx(2 * 6.9))
    every = score_replayed(streams, tracks, INSTANT)
    assert (every.false_accepts, len(every.of_kind(MISS)), every.wordless.false_accepts) == (1, 1, 1)
    strict = score_replayed(streams, tracks, INSTANT, tolerance_s=0.05)
    assert strict.false_rejects == 2


def test_words_after_the_end_of_the_stream_are_refused():
    track = track_of({}, duration_s=5.0)
    assert score_heard([Stream("a.wav", (Word(4.999, 6.0, "yes"),))], [track], [()], INSTANT).words == 1
    for start_s in (5.0, 5.5):
        stream = Stream("a.wav", (Word(start_s, 6.0, "yes"),), "a.csv")
        with pytest.raises(DatasetError, match=rf"a.csv: 'yes' at {start_s:g} s, but a.wav ends at 5.00 s"):
            score_heard([stream], [track], [()], INSTANT)
