"""Settings for a budget of false accepts: counts, choice and promise."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from host_tools.data.annotations import Word
from host_tools.errors import DatasetError
from host_tools.evaluation.budget import SMOOTHINGS_MS, Promise, chosen, least_expected, promised
from host_tools.evaluation.calibration import Trial, _choose
from host_tools.evaluation.scoring import FALSE_ACCEPT, HIT, MISS, Event, Score
from host_tools.evaluation.stream_audio import Stream
from host_tools.evaluation.stream_tally import HeardStreams, Tally, places
from kws_edge import DetectorConfig
from kws_edge.detection.calibration import poisson_interval, wilson
from tests.tracks import INSTANT, track_of

pytestmark = pytest.mark.host

EVERY = np.ones(5, bool)


def score(*times, stream="a"):
    """Score of a stream of a minute with false accepts of "yes" at these times."""
    return Score(("yes",), 60.0, tuple(Event(FALSE_ACCEPT, stream, t - 1, t, None, "yes") for t in times))


def test_places():
    assert places([]) == places([score()]) == []
    assert places([score(1.0, 1.6)]) == [("a", 1.0), ("a", 1.6)]  # twice under one condition
    assert places([score(1.0), score(1.6), score(0.8)]) == [("a", 0.8)]
    assert len(places([score(1.0), score(2.0)])) == 1
    assert len(places([score(1.0), score(2.01)])) == 2
    assert len(places([score(1.0), score(1.0, stream="b")])) == 2
    assert len(places([score(1.0, 5.0), score(5.1, 9.0)])) == 3
    assert len(places([score(1.0, 1.2), score(1.1)])) == 2
    other = Score(("yes",), 60.0, (Event(MISS, "a", 1, 2, "yes", None),))
    assert places([other]) == []


def ten_words(name="words.flac"):
    """A stream in which "yes" is said every five seconds, ten times."""
    return Stream(Path(name), tuple(Word(5.0 * i + 1, 5.0 * i + 1.5, "yes") for i in range(10)))


def at(second):
    """The window that ends at this second."""
    return round(10 * second) - 10


def test_words_are_tallied_by_fold():
    """Each fold has two words, in the order in which they are said, with hits, misses and duplicates."""
    heard = {at(5 * i + 1.8): "yes" for i in range(10) if i not in (0, 9)} | {at(10 + 2.4): "yes"}
    streams = HeardStreams([(ten_words(), track_of(heard, n=500))], [[(Stream(Path("q.flac")), track_of({}))]])
    tally = streams.tally(INSTANT)
    assert tally.words.tolist() == [2, 2, 2, 2, 2]
    assert tally.missed.tolist() == [1, 0, 0, 0, 1]
    assert tally.duplicates.tolist() == [0, 1, 0, 0, 0]
    assert (tally.errors, streams.distinct) == (3, 10)
    some = np.array([True, True, False, False, False])
    assert (tally.of(some).errors, tally.of(~some).errors) == (2, 1)
    assert streams.on_words(INSTANT).false_rejects == 2


def test_words_of_several_streams_and_conditions_are_one_sequence():
    """The second stream's words follow the first one's. Under another condition they are the same words."""
    first, second = ten_words("a.flac"), ten_words("b.flac")
    every = {at(5 * i + 1.8): "yes" for i in range(10)}
    none, all_ = track_of({}, n=500), track_of(every, n=500)
    quiet = [[(Stream(Path("q.flac")), track_of({}))]] * 2
    streams = HeardStreams([(first, all_), (second, none), (first, none), (second, none)], quiet)
    assert streams.distinct == 20
    tally = streams.tally(INSTANT)
    assert tally.words.tolist() == [8] * 5
    assert tally.missed.tolist() == [4, 4, 6, 8, 8]
    optional = dataclasses.replace(
        first, words=(*first.words, Word(60, 61, "no", optional=True), Word(62, 63, "hello"), Word(64, 65, "unknown"))
    )
    assert HeardStreams([(optional, track_of({}, n=700))], quiet).distinct == 10


def test_false_accepts_are_tallied_by_time():
    """Streams are sorted by speaker and cut into five equal parts. Several conditions give one place."""
    a, b = Stream(Path("speech/7-1-0001.flac")), Stream(Path("speech/3-1-0001.flac"))
    in_a, in_b = track_of({at(2): "yes", at(9.5): "no"}, duration_s=10.0, n=90), track_of({at(14): "yes"}, n=140)
    again = track_of({at(2.4): "yes"}, duration_s=10.0, n=90)
    spoken = [(ten_words(), track_of({}, n=500))]
    streams = HeardStreams(spoken, [[(a, in_a), (b, in_b)], [(a, again), (b, track_of({}, n=140))]])
    assert [part.false_accepts for part in streams.on_quiet(INSTANT)] == [3, 1]
    # 3-1 comes first: 14.9 s of 24.9; a fold has 4.98 s. At 14, 14.9 + 2 and 14.9 + 9.5 s.
    assert streams.tally(INSTANT).places.tolist() == [0, 0, 1, 1, 1]
    at_the_end = HeardStreams(spoken, [[(a, track_of({59: "yes"}))]])
    assert at_the_end.tally(INSTANT).places.tolist() == [0, 0, 0, 0, 1]


def test_a_tally_is_remembered_for_its_settings_only():
    quiet = [[(Stream(Path("q.flac")), track_of({at(2): ("yes", 0.7)}))]]
    streams = HeardStreams([(ten_words(), track_of({}, n=500))], quiet)
    assert streams.tally(INSTANT) is streams.tally(dataclasses.replace(INSTANT))
    assert streams.tally(dataclasses.replace(INSTANT, threshold=0.8)).places.sum() == 0
    assert streams.tally(INSTANT).places.sum() == 1


def tally_of(places=lambda config: 0, missed=lambda config: 0, duplicates=lambda config: 0):
    """The tally of ten words and any streams, equal in all folds."""

    def tally(config):
        counts = (places(config), 2, missed(config), duplicates(config))
        return Tally(*(np.full(5, n) if np.isscalar(n) else np.array(n) for n in counts))

    return tally


@pytest.mark.parametrize("least", [0.5, 0.51, 0.73, 0.74, 0.96, 0.97])
def test_the_lowest_threshold_that_keeps_to_the_budget(least):
    """At most two false accepts are counted, because one more is expected: this keeps to a budget of 3, not of 2."""
    tally = tally_of(places=lambda config: [1, 1, 0, 0, 0] if config.threshold > least - 0.005 else [3, 0, 0, 0, 0])
    found = chosen(tally, DetectorConfig(), (400.0,), 3.0, EVERY)
    assert (found.threshold, found.smoothing_ms) == (least, 400.0)
    assert chosen(tally, DetectorConfig(), (400.0,), 2.9, EVERY) is None


def test_the_least_budget_is_named_and_is_one_that_keeps():
    """Each smoothing time leaves other false accepts at the highest threshold."""
    accepts = {400.0: 4, 600.0: 2, 800.0: 3}
    tally = tally_of(places=lambda config: [accepts[config.smoothing_ms], 0, 0, 0, 0])
    least = least_expected(tally, DetectorConfig(), tuple(accepts))
    assert least == 3
    assert chosen(tally, DetectorConfig(), tuple(accepts), least, EVERY).smoothing_ms == 600.0
    assert chosen(tally, DetectorConfig(), tuple(accepts), least - 0.01, EVERY) is None


def test_a_refused_budget_names_one_that_is_kept():
    fires = track_of({at(2): ("yes", 0.99), at(9): ("yes", 0.99)}, n=140)
    streams = HeardStreams([(ten_words(), track_of({}, n=500))], [[(Stream(Path("q.flac")), fires)]])
    with pytest.raises(DatasetError, match=r"keeps to 1 .* on these 1\.40 hours: give --budget 2\.15 or more"):
        _choose(streams, INSTANT, (INSTANT.smoothing_ms,), 1.0, 1.4, print)
    assert _choose(streams, INSTANT, (INSTANT.smoothing_ms,), 2.15, 1.4, print).config.threshold == 0.5


def test_a_budget_is_that_of_all_folds():
    """If four of five folds choose, they have four fifths of the hours."""
    tally = tally_of(places=lambda config: [0, 1, 1, 0, 0] if config.threshold < 0.8 else [0] * 5)
    four = np.array([False, True, True, True, True])
    assert chosen(tally, DetectorConfig(), (400.0,), 3.5, four).threshold == 0.5  # 2 * 5 / 4 + 1
    assert chosen(tally, DetectorConfig(), (400.0,), 3.4, four).threshold == 0.8
    assert chosen(tally, DetectorConfig(), (400.0,), 3.4, EVERY).threshold == 0.5
    assert chosen(tally, DetectorConfig(), (400.0,), 1.0, ~four).threshold == 0.5


def test_errors_come_first_then_false_accepts_then_short_smoothing():
    errors = {400.0: 2, 500.0: 1, 600.0: 1, 700.0: 1}
    accepts = {400.0: 0, 500.0: 3, 600.0: 2, 700.0: 2}
    tally = tally_of(
        places=lambda config: [accepts[config.smoothing_ms], 0, 0, 0, 0],
        missed=lambda config: [errors[config.smoothing_ms], 0, 0, 0, 0],
    )
    assert chosen(tally, DetectorConfig(), tuple(errors), 10.0, EVERY).smoothing_ms == 600.0
    twice = tally_of(duplicates=lambda config: [config.smoothing_ms < 600, 0, 0, 0, 0])
    assert chosen(twice, DetectorConfig(), tuple(errors), 10.0, EVERY).smoothing_ms == 600.0


def test_hysteresis_and_refractory_time_change_for_fewer_errors_only():
    base = DetectorConfig(hysteresis=0.3, refractory_ms=600)

    def choose(errors, places=lambda config: [0] * 5):
        return chosen(tally_of(places=places, missed=errors), base, (400.0,), 2.0, EVERY)

    same = choose(lambda config: [1, 0, 0, 0, 0])
    assert (same.hysteresis, same.refractory_ms) == (0.3, 600)
    fewer = choose(lambda config: [3 - (config.hysteresis == 0.6) - (config.refractory_ms == 1000), 0, 0, 0, 0])
    assert (fewer.hysteresis, fewer.refractory_ms) == (0.6, 1000)
    first = choose(lambda config: [1 + (config.hysteresis == 0.3), 0, 0, 0, 0])
    assert (first.hysteresis, first.refractory_ms) == (0.2, 600)  # 0.4 and 0.6 have as few
    beyond = choose(
        lambda config: [1 + (config.hysteresis != 0.4), 0, 0, 0, 0],
        lambda config: [2 * (config.hysteresis == 0.4), 0, 0, 0, 0],
    )
    assert beyond.hysteresis == 0.3


def test_a_promise_adds_up_what_each_fifth_gives_with_the_choice_of_the_others():
    """A fold's own choice would look too good. Here each choice is wrong in all other folds."""
    configs = [dataclasses.replace(DetectorConfig(), threshold=0.5 + 0.1 * fold) for fold in range(4)]

    def choice(folds):
        assert folds.sum() == 4
        left_out = int(np.flatnonzero(~folds)[0])
        return configs[left_out] if left_out < 4 else None

    def tally(config):
        fold = next((i for i, one in enumerate(configs) if one == config), 4)
        own = np.arange(5) == fold
        elsewhere = 3 if fold < 4 else 0
        return Tally(np.where(own, 2, 0), np.full(5, 4), np.where(own, 1, elsewhere), np.where(own, 7, 0))

    promise = promised(tally, choice, DetectorConfig(threshold=0.99), 2.0, 10)
    assert (promise.missed, promise.words, promise.distinct) == (5, 20, 10)
    assert (promise.false_accepts, promise.hours) == ((2, 10), 2.0)
    assert promised(tally, choice, configs[0], 2.0, 10).missed == 13  # no better than on all streams
    few = promised(tally_of(places=lambda config: [1, 0, 1, 0, 0]), choice, DetectorConfig(), 2.0, 10)
    assert few.false_accepts == (2, 3)


def test_the_numbers_of_a_promise():
    """20 of 60 words under two conditions are missed, like 10 of 30. 2 false accepts are counted, and 4 expected."""
    promise = Promise(20, 60, 30, (2, 4), 3.14159)
    assert promise.miss_interval == pytest.approx(wilson(10, 30))
    least, most = poisson_interval(2)[0], poisson_interval(4)[1]
    assert promise.accept_interval == pytest.approx((least / 3.14159, most / 3.14159))
    assert promise.to_dict() == {
        "false_reject_rate": 0.33333,
        "false_reject_interval_95": [0.19230, 0.51220],
        "words": 60,
        "distinct_words": 30,
        "false_accepts_per_hour": 1.273,
        "interval_95": [0.077, 3.260],
        "hours": 3.142,
    }
    assert str(promise) == (
        "33.3 % of words missed (19.2 to 51.2, from 30 words), 1.27 false accepts per hour (0.08 to 3.26, from 3.14"
        " hours)"
    )
    assert Promise(1, 1, 1, (0, 1), 1.0).to_dict()["false_reject_rate"] == 1.0
    assert Promise(1, 1, 1, (0, 1), 1.0).miss_interval == pytest.approx(wilson(1, 1))
    assert Promise(0, 0, 0, (0, 1), 1.0).to_dict()["false_reject_interval_95"] == [0.0, 1.0]


def test_the_numbers_of_a_trial():
    """Half an hour without words under two conditions. One place fires under both, another under one."""
    words = [Event(HIT, "w", 1, 2, "yes", "yes", 0.9, 0.21), Event(MISS, "w", 5, 6, "yes", None)]
    quiet = [score(1.0, 30.0), score(1.4)]
    quiet = tuple(dataclasses.replace(one, seconds=1800.0) for one in quiet)
    trial = Trial(DetectorConfig(threshold=0.7), quiet, Score(("yes",), 60.0, tuple(words)), 1)
    assert (trial.false_accepts, trial.hours, trial.expected_per_hour) == (2, 0.5, 6.0)
    values = trial.to_dict()
    assert (values["false_accepts_per_hour"], values["interval_95"]) == (4.0, [0.484, 14.449])
    assert (values["false_reject_rate"], values["words"], values["distinct_words"]) == (0.5, 2, 1)
    assert values["false_reject_interval_95"] == [round(x, 5) for x in wilson(0.5, 1)]
    assert values["delay_ms"] == [210.0, 210.0]
    assert "thresholds" not in values
    assert str(trial) == (
        "smoothing 400 ms, threshold 0.70: 6.00 false accepts per hour to be expected, 50.00 % of 2 words missed,"
        " 0 heard twice, delay p50 and p95 210 and 210 ms"
    )


def synthetic_streams(rng, words, hours, *, most=5):
    """Scores of detectors with every threshold: on words, and on places in speech without words."""
    hard = rng.normal(0, 0.05, len(SMOOTHINGS_MS))
    said = rng.beta(6, 1.6, words)
    peaks = rng.beta(2, 3, rng.poisson(60 * hours))
    which = [np.arange(n) * most // max(1, n) for n in (words, len(peaks))]

    def tally(config):
        shift = hard[SMOOTHINGS_MS.index(config.smoothing_ms)]
        noise = np.random.default_rng(int(config.smoothing_ms))
        missed = said + shift + noise.normal(0, 0.05, words) < config.threshold
        fired = peaks + shift + noise.normal(0, 0.05, len(peaks)) >= config.threshold
        counts = [np.bincount(w[x], minlength=most) for w, x in zip(which, (missed, fired), strict=True)]
        return Tally(counts[1], np.bincount(which[0], minlength=most), counts[0], np.zeros(most, int))

    return tally


@pytest.mark.parametrize(("words", "budget"), [(20, 2.0), (150, 4.0)])
def test_promise_holds_on_other_streams(words, budget):
    """Settings are chosen on some streams and tried on very long streams of the same kind.

    In at least nine of ten draws, misses and false accepts lie within the promised intervals.
    """
    rng, kept, every = np.random.default_rng(5), [], np.ones(5, bool)
    base, hours = DetectorConfig(), 3.0
    for _ in range(100):
        state = rng.integers(2**32)
        tally = synthetic_streams(np.random.default_rng(state), words, hours)
        elsewhere_rng = np.random.default_rng(state)  # the same smoothing times are good
        elsewhere = synthetic_streams(elsewhere_rng, 4000, 100.0)

        def choice(folds, tally=tally):
            return chosen(tally, base, SMOOTHINGS_MS, budget * hours, folds)

        config = choice(every)
        promise = promised(tally, choice, config, hours, words)
        true = elsewhere(config)
        low, high = promise.miss_interval
        least, most = promise.accept_interval
        kept.append((low <= true.missed.sum() / 4000 <= high, least <= true.places.sum() / 100 <= most))
    misses, accepts = np.mean(kept, axis=0)
    assert misses >= 0.9
    assert accepts >= 0.9


def test_where_misses_tie_fewer_false_accepts_win():
    """With a dozen words every smoothing time misses equally few. Then the budget is not used up for nothing."""

    def tally(config):
        places = np.zeros(5, int)
        places[0] = 3 if config.smoothing_ms < 700 else 0
        return Tally(places, np.full(5, 2), np.zeros(5, int), np.zeros(5, int))

    config = chosen(tally, DetectorConfig(), SMOOTHINGS_MS, 5.0, np.ones(5, bool))
    assert (config.smoothing_ms, config.threshold) == (700, 0.5)
    assert chosen(tally, DetectorConfig(), SMOOTHINGS_MS[:1], 3.0, np.ones(5, bool)) is None
    promise = promised(tally, lambda folds: None, config, 2.0, 10)
    assert promise.false_accepts == (0, 1)
    assert promise.accept_interval[0] == 0
    assert 2.7 < promise.accept_interval[1] < 2.9
