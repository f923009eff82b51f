"""Settings for a budget of false accepts: what is counted, what is chosen, and what it promises."""

import numpy as np
import pytest

from host_tools.evaluation.budget import SMOOTHINGS_MS, chosen, promised
from host_tools.evaluation.scoring import FALSE_ACCEPT, Event, Score
from host_tools.evaluation.stream_tally import Tally, places
from kws_edge import DetectorConfig

pytestmark = pytest.mark.host


def testplaces():
    def score(*times, stream="a"):
        return Score(("yes",), 60.0, tuple(Event(FALSE_ACCEPT, stream, t - 1, t, None, "yes") for t in times))

    assert places([]) == places([score()]) == []
    assert len(places([score(1.0, 1.6)])) == 2  # twice under one condition
    assert len(places([score(1.0), score(1.6), score(0.8)])) == 1
    assert len(places([score(1.0), score(2.1)])) == 2
    assert len(places([score(1.0), score(1.0, stream="b")])) == 2
    assert len(places([score(1.0, 5.0), score(5.1, 9.0)])) == 3


def synthetic_streams(rng, words, hours, *, most=5):
    """What detectors of every threshold do on streams: scores of words, and of places in speech without them."""
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
    """Settings are chosen on some streams; on very long ones of the same kind, misses lie within the promised interval
    in nine of ten draws or more, and false accepts, too."""
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
    """With a dozen words every smoothing time misses as few: the budget is not used up for nothing."""

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
