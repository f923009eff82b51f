"""Compares planted detections with the truth, so that every count is known."""

import pytest

from host_tools.data.annotations import Word
from host_tools.evaluation.scoring import (
    CONFUSION,
    DUPLICATE,
    FALSE_ACCEPT,
    GENUINE,
    HIT,
    MISS,
    Heard,
    Score,
    match,
    score,
)
from kws_edge import Detection
from kws_edge.detection.calibration import poisson_interval, wilson

pytestmark = pytest.mark.host

KEYWORDS = ("yes", "no", "up")


def heard(keyword, at, score=0.9):
    return Detection(keyword=keyword, score=score, start_s=max(0.0, at - 1), end_s=at)


def kinds(detections, words):
    return [(e.kind, e.said, e.keyword) for e in match(detections, words, KEYWORDS)]


def test_a_word_is_credited_within_its_span_and_no_further():
    """The span reaches from 0.1 s after the word's start to 1 s after its end."""
    word = [Word(10.0, 10.5, "yes")]
    for at in (10.1, 10.4, 11.5):
        (event,) = match([heard("yes", at)], word, KEYWORDS, stream="a.wav")
        assert (event.kind, event.stream, event.said, event.keyword) == (HIT, "a.wav", "yes", "yes")
        assert event.delay_s == pytest.approx(at - 10.5)
    for at in (10.09, 11.51):
        assert sorted(kinds([heard("yes", at)], word)) == [(FALSE_ACCEPT, None, "yes"), (MISS, "yes", None)]
    (event, _) = match([heard("yes", 10.7)], word, KEYWORDS, tolerance_s=0.1)
    assert event.kind == MISS


def test_sums_of_times_may_be_a_rounding_off():
    """Detections at the ends of a span count, though sums of floats are a little short or long."""
    assert 0.7 + 0.1 < 0.8 and 0.2 + 0.1 > 0.3
    for at, word in ((0.8, Word(0.1, 0.7, "yes")), (0.3, Word(0.2, 0.4, "yes"))):
        (event,) = match([heard("yes", at)], [word], KEYWORDS, tolerance_s=0.1)
        assert event.kind == HIT


def test_a_word_is_credited_once():
    word = [Word(1.0, 1.5, "yes")]
    assert kinds([heard("yes", 2.4), heard("yes", 1.6)], word) == [(HIT, "yes", "yes"), (DUPLICATE, "yes", "yes")]
    events = match([heard("yes", 1.6), heard("yes", 2.4), heard("no", 2.0), heard("no", 9.0)], word, KEYWORDS)
    assert [e.kind for e in events if e.delay_s is None] == [CONFUSION, DUPLICATE, FALSE_ACCEPT]  # hits alone have one


def test_two_words_in_reach_are_credited_in_turn():
    words = [Word(1.0, 1.4, "yes"), Word(1.6, 2.0, "yes")]
    events = match([heard("yes", 1.9), heard("yes", 2.3), heard("yes", 2.35)], words, KEYWORDS)
    assert [e.kind for e in events] == [HIT, HIT, DUPLICATE]
    assert [e.delay_s for e in events[:2]] == pytest.approx([0.5, 0.3])


def test_words_are_credited_in_the_order_in_which_they_end():
    words = [Word(1.6, 2.0, "yes"), Word(1.0, 1.4, "yes")]
    (event,) = (e for e in match([heard("yes", 1.9)], words, KEYWORDS) if e.kind == HIT)
    assert event.delay_s == pytest.approx(0.5)  # of the one that ended first


def test_the_word_that_an_error_names():
    """A duplicate names its own word, even if another follows. Others name the last word in reach, keywords first."""
    yes, no = Word(1.0, 1.4, "yes"), Word(1.6, 2.0, "no")
    assert kinds([heard("yes", 1.5), heard("yes", 2.2)], [yes, no]) == [
        (HIT, "yes", "yes"), (MISS, "no", None), (DUPLICATE, "yes", "yes")
    ]  # fmt: skip
    assert kinds([heard("up", 2.2)], [yes, no])[-1] == (CONFUSION, "no", "up")
    hello, there = Word(1.0, 1.4, "hello"), Word(1.6, 2.0, "there")
    assert kinds([heard("up", 2.2)], [hello, there]) == [(FALSE_ACCEPT, "there", "up")]
    assert kinds([heard("up", 2.2)], [yes, there])[-1] == (CONFUSION, "yes", "up")


def test_a_confusion_leaves_the_word_missed_unless_it_is_heard_too():
    word = [Word(1.0, 1.5, "yes")]
    assert kinds([heard("no", 1.6)], word) == [(MISS, "yes", None), (CONFUSION, "yes", "no")]
    assert kinds([heard("no", 1.3), heard("yes", 1.9)], word) == [(CONFUSION, "yes", "no"), (HIT, "yes", "yes")]


def test_other_words_need_no_detection_and_excuse_none():
    assert kinds([], [Word(1.0, 1.5, "hello")]) == []
    assert kinds([heard("no", 1.6)], [Word(1.0, 1.5, "hello")]) == [(FALSE_ACCEPT, "hello", "no")]
    assert kinds([heard("no", 5.0)], []) == [(FALSE_ACCEPT, None, "no")]


def test_optional_words_are_neither_hits_nor_errors():
    words = [Word(10.0, 10.5, "yes", optional=True)]
    assert kinds([], words) == []
    assert kinds([heard("yes", 10.8), heard("yes", 11.3)], words) == [(GENUINE, None, "yes")] * 2
    assert kinds([heard("no", 10.8)], words) == [(FALSE_ACCEPT, None, "no")]
    assert kinds([heard("yes", 13.0)], words) == [(FALSE_ACCEPT, None, "yes")]
    for at, kind in ((10.09, FALSE_ACCEPT), (10.1, GENUINE), (11.5, GENUINE), (11.51, FALSE_ACCEPT)):
        assert kinds([heard("yes", at)], words) == [(kind, None, "yes")]
    result = score([Heard("a", 3600, words, [heard("yes", 10.8), heard("yes", 20.0)])], KEYWORDS)
    assert (result.words, result.false_rejects, result.false_accepts) == (0, 0, 1)
    assert result.to_dict()["genuine"] == 1


def test_counts_rates_and_intervals():
    words = [Word(10.0 * i, 10.0 * i + 0.5, "yes" if i < 8 else "no") for i in range(10)]
    detections = [heard("yes", w.end_s + 0.1 * (i + 1)) for i, w in enumerate(words[:6])]
    detections += [heard("yes", 0.9), heard("up", words[8].end_s), heard("up", 500.0), heard("up", 600.0)]
    streams = [Heard("a", 1800.0, words, detections), Heard("b", 5400.0, (), [heard("no", 7.0)])]
    result = score(streams, KEYWORDS)
    values = result.to_dict()
    assert values["hours"] == 2.0
    assert values["false_rejects"] == {
        "count": 4, "words": 10, "rate": 0.4, "interval_95": [round(x, 5) for x in wilson(4, 10)],
    }  # fmt: skip
    assert values["false_accepts"]["count"] == 3
    assert values["false_accepts"]["per_hour"] == 1.5
    assert values["false_accepts"]["interval_95"] == pytest.approx([0.6187 / 2, 8.7673 / 2], abs=1e-4)
    assert values["keywords"]["yes"]["false_rejects"]["count"] == 2
    assert values["keywords"]["no"]["false_rejects"]["count"] == 2
    assert {k: v["false_rejects"]["words"] for k, v in values["keywords"].items()} == {"yes": 8, "no": 2, "up": 0}
    assert {k: v["false_accepts"]["count"] for k, v in values["keywords"].items()} == {"yes": 0, "no": 1, "up": 2}
    assert values["confusions"] == 1
    assert values["duplicates"] == {"count": 1, "per_hit": round(1 / 6, 5)}
    assert values["delay_ms"] == {"p50": 350.0, "p95": 575.0}  # of 100, 200, ... 600 ms
    assert (result.false_reject_rate, result.false_accepts_per_hour) == (0.4, 1.5)


def test_false_accepts_where_nothing_is_said_are_counted_by_themselves():
    """They have their own hours. A recording with only optional words is one of them."""
    said, optional = [Word(1.0, 1.5, "yes")], [Word(1.0, 1.5, "no", optional=True)]
    streams = [
        Heard("a", 3000.0, said, [heard("up", 10.0), heard("yes", 1.6)]),
        Heard("b", 1000.0, optional, [heard("no", 1.6), heard("no", 50.0)]),
        Heard("c", 500.0, (), ()),
    ]
    result = score(streams, KEYWORDS)
    assert (result.seconds, result.wordless.seconds) == (4500.0, 1500.0)
    assert (result.false_accepts, result.wordless.false_accepts) == (2, 1)
    values = result.to_dict()
    assert (values["hours"], values["hours_without_words"]) == (1.25, 0.41667)
    assert values["false_accepts_without_words"] == {"count": 1, "per_hour": 2.4, "interval_95": [0.0608, 13.3719]}
    by_word = {word: v["false_accepts_without_words"]["count"] for word, v in values["keywords"].items()}
    assert by_word == {"yes": 0, "no": 1, "up": 0}
    assert result.wordless.to_dict()["hours_without_words"] is None


def test_numbers_are_rounded_for_people_who_read_the_json():
    """Hours are rounded to 0.04 s, rates to five digits, false accepts per hour to four, and delays to 0.1 ms."""
    words = [Word(10.0, 10.5, "yes"), Word(20.0, 20.5, "yes"), Word(30.0, 30.5, "no")]
    detections = [heard("yes", 10.51234), heard("yes", 10.9), heard("yes", 20.52371), heard("up", 90.0)]
    values = score([Heard("a", 1234.0, words, detections)], KEYWORDS).to_dict()
    assert values["hours"] == 0.34278
    assert values["false_rejects"]["rate"] == 0.33333
    assert values["false_accepts"]["per_hour"] == 2.9173
    assert values["duplicates"] == {"count": 1, "per_hit": 0.5}
    assert values["delay_ms"] == {"p50": 18.0, "p95": 23.1}


def test_nothing_said_and_nothing_heard():
    values = score([Heard("a", 3600.0, (), ())], KEYWORDS).to_dict()
    assert values["false_rejects"] == {"count": 0, "words": 0, "rate": None, "interval_95": None}
    assert values["false_accepts"]["interval_95"] == [0.0, 3.6889]
    assert values["delay_ms"] is None
    assert Score(KEYWORDS, 0.0, ()).false_accepts_per_hour is None


def test_poisson_interval_covers():
    """By the definition of the interval, the count has a probability of 2.5 % in each tail at its ends."""
    from scipy.stats import poisson

    low, high = poisson_interval(7)
    assert poisson.sf(6, low) == pytest.approx(0.025)
    assert poisson.cdf(7, high) == pytest.approx(0.025)
    assert poisson_interval(7, confidence=0.5)[0] > low
