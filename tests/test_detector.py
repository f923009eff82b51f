import itertools
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kws_edge import ConfigError, Detector, DetectorConfig

LABELS = ("silence", "unknown", "yes", "no", "up")


def posteriors(**scores):
    """A posterior vector with these scores. Silence gets the rest."""
    values = np.zeros(len(LABELS), np.float32)
    for label, score in scores.items():
        values[LABELS.index(label)] = score
    values[0] += 1 - values.sum()
    return values


def detector(**settings):
    settings = {"smoothing_ms": 300, "threshold": 0.8, "refractory_ms": 500, **settings}
    return Detector(LABELS, DetectorConfig(**settings), step_s=0.1, clip_s=1.0)


def feed(d, rows, start=1.0):
    """Feed rows a step apart. Returns (step number, detection) pairs."""
    found = [(i, d.process(row, start + i * 0.1)) for i, row in enumerate(rows)]
    return [(i, f) for i, f in found if f]


def test_smoothing_needs_its_whole_span():
    rows = [posteriors()] * 5 + [posteriors(yes=1.0)] * 5
    ((at, found),) = feed(detector(), rows)
    assert at == 7  # the third window of three
    assert found.keyword == "yes"
    assert found.score == pytest.approx(1.0)


def test_one_spike_is_not_enough():
    rows = [posteriors()] * 4 + [posteriors(yes=1.0)] + [posteriors()] * 4
    assert feed(detector(), rows) == []
    assert len(feed(detector(smoothing_ms=0), rows)) == 1


def test_times_are_those_of_the_window_that_decided():
    ((at, found),) = feed(detector(), [posteriors(yes=0.9)] * 3, start=2.0)
    assert found.end_s == pytest.approx(2.0 + at * 0.1)
    assert found.start_s == pytest.approx(found.end_s - 1.0)
    ((_, early),) = feed(detector(smoothing_ms=0), [posteriors(yes=0.9)], start=0.3)
    assert early.start_s == 0.0


def test_held_word_is_reported_once():
    assert len(feed(detector(), [posteriors(yes=0.95)] * 60)) == 1


def test_hysteresis():
    """A dip below the release level re-arms. A dip above it does not."""
    dip = posteriors(yes=0.6)
    deep = posteriors(yes=0.3)
    high = posteriors(yes=0.95)
    settings = {"smoothing_ms": 0, "refractory_ms": 0, "hysteresis": 0.5}
    assert [i for i, _ in feed(detector(**settings), [high, dip, high, dip, high])] == [0]
    assert [i for i, _ in feed(detector(**settings), [high, deep, high])] == [0, 2]


def test_nothing_stale_triggers():
    """After a detection, windows before the end of the refractory time count in no average."""
    rows = [posteriors(yes=1.0)] * 3 + [posteriors(no=1.0)] * 5 + [posteriors()] * 10
    # The five windows of "no" fall into the refractory time: averaged in, they would trigger at its end.
    found = feed(detector(), rows)
    assert [f.keyword for _, f in found] == ["yes"]


def test_another_keyword_after_the_refractory_time():
    rows = [posteriors(yes=1.0)] * 3 + [posteriors()] * 5 + [posteriors(no=1.0)] * 4
    found = feed(detector(), rows)
    assert [(i, f.keyword) for i, f in found] == [(2, "yes"), (10, "no")]


def test_per_keyword_thresholds():
    d = detector(thresholds={"no": 0.5})
    assert [f.keyword for _, f in feed(d, [posteriors(no=0.6, unknown=0.1)] * 5)] == ["no"]
    assert feed(detector(), [posteriors(yes=0.6)] * 5) == []


def test_after_speech_a_keyword_needs_more():
    """Three windows are averaged. The three that end two windows earlier tell whether there was speech."""
    word = [posteriors(yes=0.85, unknown=0.15)] * 3
    enters = [posteriors(unknown=1.0)] * 2
    d = detector(speech_margin=0.1)
    for before, heard in (
        ([posteriors()] * 3, True),
        ([posteriors(unknown=0.9)] * 3, False),
        ([posteriors(unknown=0.67)] * 3, False),
        ([posteriors(unknown=0.66)] * 3, True),
        ([posteriors(unknown=1.0)] * 2 + [posteriors()], False),
        ([posteriors(unknown=1.0)] * 2 + [posteriors()] * 2, True),
        ([posteriors(no=0.7, unknown=0.3)] * 3, True),  # keywords do not count as such speech
        ([], True),  # the beginning does not count either
    ):
        d.reset()
        assert bool(feed(d, before + enters + word + [posteriors()] * 3)) == heard
        assert feed(detector(), before + enters + word)
    speech = [posteriors(unknown=0.9)] * 5
    assert feed(d, speech + [posteriors(yes=0.95, unknown=0.05)] * 3)
    # Other words count as unknown, also within the refractory time.
    assert not feed(detector(speech_margin=0.1, keywords=("yes",)), [posteriors(no=1.0)] * 5 + word)
    after = [posteriors(no=1.0)] * 3 + [posteriors(unknown=1.0)] * 5 + word
    assert [f.keyword for _, f in feed(detector(speech_margin=0.1), after)] == ["no"]
    assert [f.keyword for _, f in feed(detector(), after)] == ["no", "yes"]


def test_speech_margin_needs_a_label_for_speech():
    with pytest.raises(ConfigError, match=r"speech_margin=0.1.*unknown"):
        Detector(("silence", "yes"), DetectorConfig(speech_margin=0.1), step_s=0.1, clip_s=1.0)
    with pytest.raises(ConfigError, match="speech_margin must be a number from 0 to 1"):
        DetectorConfig(speech_margin=1.5)
    assert "speech_margin" not in DetectorConfig().to_dict()
    assert DetectorConfig.from_dict(DetectorConfig(speech_margin=0.2).to_dict()).speech_margin == 0.2


def test_the_largest_posterior_decides():
    rows = [posteriors(yes=0.45, unknown=0.55)] * 5
    assert feed(detector(threshold=0.4), rows) == []


def test_inactive_keywords_count_as_unknown():
    rows = [posteriors(yes=0.4, no=0.3, up=0.3)] * 5
    assert [f.keyword for _, f in feed(detector(threshold=0.35), rows)] == ["yes"]
    # "no" and "up" together now outweigh "yes".
    assert feed(detector(threshold=0.35, keywords=("yes",)), rows) == []
    d = detector(keywords=("no",))
    assert feed(d, [posteriors(yes=1.0)] * 5) == []
    assert d.smoothed[LABELS.index("unknown")] == pytest.approx(1.0)


def test_input_is_left_alone():
    row = posteriors(yes=0.5, no=0.5)
    kept = row.copy()
    detector(keywords=("no",)).process(row, 1.0)
    assert np.array_equal(row, kept)


def test_reset_reproduces_the_first_run():
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.full(5, 0.15), 400).astype(np.float32)
    d = detector(smoothing_ms=200, threshold=0.6)
    first = feed(d, rows)
    assert len(first) > 5
    again = [posteriors(yes=1.0)] * 3
    assert len(feed(d, again)) == 1
    assert feed(d, again) == []  # without a reset, the refractory time reaches over
    d.reset()
    assert feed(d, rows) == first


def heard(rows, **settings):
    """Detections with `yes` as the wake word and a second for a command."""
    return [(i, f.keyword, f.wake) for i, f in feed(detector(wake_word="yes", armed_s=1.5, **settings), rows)]


YES, NO, UP, QUIET = [posteriors(yes=1.0)], [posteriors(no=1.0)], [posteriors(up=1.0)], [posteriors()]


def test_without_a_wake_word_nothing_is_new():
    rows = np.random.default_rng(2).dirichlet(np.full(5, 0.15), 2000).astype(np.float32)
    found = feed(detector(smoothing_ms=200, threshold=0.6), rows)
    assert len(found) > 20
    assert not any(f.wake for _, f in found)
    assert feed(detector(smoothing_ms=200, threshold=0.6, armed_s=0.1), rows) == found


def test_a_command_counts_only_after_the_wake_word():
    assert heard(NO * 10) == []
    assert heard(YES * 3 + QUIET * 5 + NO * 4) == [(2, "yes", True), (10, "no", False)]


def test_the_window_lasts_from_decision_to_decision():
    for last, expected in ((17, [(2, "yes", True), (17, "no", False)]), (18, [(2, "yes", True)])):
        rows = YES * 3 + QUIET * (last - 5) + NO * 3
        assert len(rows) == last + 1
        assert heard(rows) == expected


def test_one_command_for_each_wake_word():
    rows = YES * 3 + QUIET * 5 + NO * 3 + QUIET * 5 + UP * 3
    assert heard(rows, refractory_ms=300) == [(2, "yes", True), (10, "no", False)]
    again = rows + QUIET * 5 + YES * 3 + QUIET * 5 + UP * 3
    assert heard(again)[2:] == [(26, "yes", True), (34, "up", False)]


def test_the_wake_word_again_opens_the_window_anew():
    rows = YES * 3 + QUIET * 7 + YES * 3 + QUIET * 9 + NO * 3
    assert heard(rows) == [(2, "yes", True), (12, "yes", True), (24, "no", False)]


def test_a_command_out_of_time_leaves_no_trace():
    """A wake word that follows at once has no refractory time, and the command has no hysteresis."""
    held = posteriors(no=0.7)  # below its threshold, above its release
    rows = NO * 3 + YES * 3 + [held] * 5 + NO * 3
    assert heard(rows) == [(5, "yes", True), (13, "no", False)]


def test_commands_out_of_time_do_not_add_up_against_the_wake_word():
    rows = [posteriors(yes=0.4, no=0.3, up=0.3)] * 3
    assert heard(rows, threshold=0.35) == [(2, "yes", True)]
    # Words that are no commands leave a trace, as always.
    assert heard(rows, threshold=0.35, keywords=("no",)) == [(2, "yes", True)]
    assert heard([posteriors(yes=0.4, no=0.3, up=0.3, unknown=0.15)] * 3, threshold=0.35, keywords=("no",)) == []


def test_the_tail_of_the_wake_word_is_no_command():
    """Posteriors of the end of the wake word, within the refractory time, count in no average."""
    assert heard(YES * 3 + NO * 5 + QUIET * 10) == [(2, "yes", True)]
    assert heard(YES * 3 + NO * 5 + QUIET * 1 + UP * 3) == [(2, "yes", True), (11, "up", False)]


def test_the_wake_word_has_a_threshold_of_its_own():
    rows = [posteriors(yes=0.6)] * 3 + QUIET * 5 + [posteriors(no=0.6)] * 3
    assert heard(rows) == []
    assert heard(rows, thresholds={"yes": 0.5}) == [(2, "yes", True)]
    assert heard(rows, thresholds={"yes": 0.5, "no": 0.6}) == [(2, "yes", True), (10, "no", False)]


def test_keywords_and_wake_word():
    assert detector(wake_word="yes").keywords == ("yes", "no", "up")
    assert detector(wake_word="up", keywords=("no",)).keywords == ("up", "no")
    assert detector(wake_word="up", keywords=("no", "up")).keywords == ("up", "no")
    with pytest.raises(ConfigError, match="no keyword is left to follow the wake word 'up'"):
        detector(wake_word="up", keywords=("up",))
    with pytest.raises(ConfigError, match=r"armed_s=0.7 is over .* 0.8 s of it"):
        detector(wake_word="up", armed_s=0.7)
    assert feed(detector(wake_word="yes", armed_s=0.8), YES * 3 + QUIET * 5 + NO * 3)[1][1].keyword == "no"


def test_reset_closes_the_window():
    d = detector(wake_word="yes")
    assert not d.armed
    assert len(feed(d, YES * 3)) == 1
    assert d.armed
    d.reset()
    assert not d.armed
    assert feed(d, NO * 5) == []


@pytest.mark.parametrize("time", ["step_s", "clip_s"])
def test_times_have_a_range(time):
    for wrong in (0, -1, 1e-9, float("inf"), float("nan"), 10**400, "1"):
        with pytest.raises(ConfigError, match=time):
            Detector(LABELS, DetectorConfig(), **{"step_s": 0.1, "clip_s": 1.0, time: wrong})


@pytest.mark.parametrize("name", ["Unknown", "_unknown_", "1 unknown", "other"])
def test_unknown_speech_has_the_names_of_other_tools(name):
    d = Detector(("silence", "yes", name), DetectorConfig(speech_margin=0.1), step_s=0.1, clip_s=1.0)
    assert (d.unknown, d.keywords) == (2, ("yes",))


def test_unknown_names_are_refused():
    for settings in (
        {"keywords": ("maybe",)},
        {"thresholds": {"maybe": 0.5}},
        {"keywords": ("unknown",)},
        {"wake_word": "hey"},
    ):
        with pytest.raises(ConfigError, match="its keywords are yes, no, up"):
            detector(**settings)
    with pytest.raises(ConfigError, match="none of the labels"):
        Detector(("silence", "_unknown_"), DetectorConfig(), step_s=0.1, clip_s=1.0)
    for labels in ("yes", (), ("yes", "yes"), ("yes", 5)):
        with pytest.raises(ConfigError, match="labels"):
            Detector(labels, DetectorConfig(), step_s=0.1, clip_s=1.0)


# The rule again, by its definition. Posteriors are whole 256ths and thresholds whole hundredths, so sums are exact.


def expected(rows, config, labels=LABELS):
    """Steps and words of the detections in `rows`. Rows are lists of 256ths, 100 ms apart."""
    n = max(1, round(config.smoothing_ms / 100))
    wait, armed = round(config.refractory_ms / 100), round(config.armed_s / 0.1)
    words = [label for label in labels[2:] if not config.keywords or label in (*config.keywords, config.wake_word)]
    found, listened, held, opened = [], 0, {}, None
    heard = []
    for i, row in enumerate(rows):
        scores = {label: Fraction(value, 256) for label, value in zip(labels, row, strict=True)}
        for label in labels[2:]:
            if label not in words:
                scores["unknown"] += scores.pop(label)
        heard.append(scores)
        for word in list(held):
            if scores[word] < Fraction(round(100 * config.threshold_of(word)), 100) * (1 - Fraction(2, 5)):
                del held[word]
        if i + 1 - listened < n:
            continue
        mean = {label: sum(past[label] for past in heard[i + 1 - n :]) / n for label in scores}
        best = max(mean, key=lambda label: mean[label])
        assume(sum(value == mean[best] for value in mean.values()) == 1)
        if best not in words or best in held:
            continue
        threshold = Fraction(round(100 * config.threshold_of(best)), 100)
        before = [past["unknown"] for past in heard[: i + 1 - n - 2]][-n:] if i + 1 - n - 2 > 0 else []
        if 3 * sum(before) >= 2 * n:
            threshold += Fraction(round(100 * config.speech_margin), 100)
        assume(abs(mean[best] - threshold) > 1e-6)
        if mean[best] < threshold:
            continue
        if config.wake_word and best != config.wake_word and (opened is None or i - opened > armed):
            continue
        found.append((i, best))
        held[best] = True
        opened = i if best == config.wake_word else None
        listened = i + 1 + wait
    return found


@st.composite
def streams(draw, most=60):
    """Rows of 256ths. Each run has one label at one level, like a word or a pause."""
    rows = []
    while len(rows) < draw(st.integers(20, most)):
        label, level = draw(st.integers(0, 4)), draw(st.sampled_from([256, 230, 200, 150, 101]))
        other = draw(st.integers(0, 1))
        row = [0] * 5
        row[label] += level
        row[other] += 256 - level
        rows += [row] * draw(st.integers(1, 6))
    return rows


def configs(**fixed):
    times = st.sampled_from([0, 100, 200, 300, 500])
    hundredths = st.integers(30, 95).map(lambda n: n / 100)
    settings = {
        "smoothing_ms": times,
        "refractory_ms": times,
        "threshold": hundredths,
        "speech_margin": st.sampled_from([0.0, 0.1, 0.3]),
        "thresholds": st.dictionaries(st.sampled_from(["yes", "no", "up"]), hundredths),
        "keywords": st.sampled_from([None, ("yes", "no"), ("no", "up")]),
        "wake_word": st.sampled_from([None, "yes", "no"]),
        "armed_s": st.sampled_from([1.2, 1.5, 3.0]),
    }
    return st.builds(DetectorConfig, **{**settings, **fixed})


def in_floats(rows):
    return [np.array(row, np.float32) / 256 for row in rows]


@given(streams(), configs())
def test_detects_by_its_definition(rows, config):
    d = Detector(LABELS, config, step_s=0.1, clip_s=1.0)
    found = [(i, f.keyword) for i, f in feed(d, in_floats(rows))]
    assert found == expected(rows, config)
    assert all(word in d.keywords for _, word in found)


@given(streams(most=150), configs(refractory_ms=st.integers(0, 20).map(lambda n: 100 * n), armed_s=st.just(5.0)))
def test_nothing_is_detected_within_the_refractory_time(rows, config):
    """The next detection also needs posteriors of the whole smoothing time after the refractory time."""
    d = Detector(LABELS, config, step_s=0.1, clip_s=1.0)
    at = [i for i, _ in feed(d, in_floats(rows))]
    between = round(config.refractory_ms / 100) + max(1, round(config.smoothing_ms / 100))
    assert all(b - a >= between for a, b in itertools.pairwise(at))
    assert all(i + 1 >= max(1, round(config.smoothing_ms / 100)) for i in at)


@given(streams(), configs(), st.data())
def test_what_was_heard_before_a_reset_does_not_count(rows, config, data):
    d = Detector(LABELS, config, step_s=0.1, clip_s=1.0)
    alone = feed(d, in_floats(rows))
    d.reset()
    feed(d, in_floats(data.draw(streams())))
    d.reset()
    assert feed(d, in_floats(rows)) == alone


@given(streams(), configs())
def test_a_window_is_told_by_its_end_and_length(rows, config):
    d = Detector(LABELS, config, step_s=0.1, clip_s=0.7)
    for i, found in feed(d, in_floats(rows), start=0.4):
        assert found.end_s == 0.4 + i * 0.1
        assert found.start_s == max(0, found.end_s - 0.7)
        assert found.score >= config.threshold_of(found.keyword) - 1e-6
        assert found.wake == (found.keyword == config.wake_word)


@given(streams(most=150), configs(), st.booleans(), st.data())
def test_posteriors_taken_together_detect_what_they_do_one_by_one(rows, config, independent, data):
    """Any number at a time gives the same detections and the same averages, bit for bit."""
    if independent:
        config = replace(config, speech_margin=0.0)
    one, many = (Detector(LABELS, config, step_s=0.1, clip_s=1.0, independent=independent) for _ in range(2))
    quiet = data.draw(st.sampled_from([1.0, 0.4]))  # much of a stream is far below the thresholds
    rows = np.array(in_floats(rows)) * np.float32(quiet) + np.float32(1e-3) * np.arange(5, dtype=np.float32)
    at = 0
    while at < len(rows):
        part = rows[at : at + data.draw(st.integers(1, 7))]
        at += len(part)
        assert many.process_all(part, at * 0.1) == [one.process(row, at * 0.1) for row in part]
        assert np.array_equal(many.smoothed, one.smoothed)
        assert (many.armed, many.in_speech) == (one.armed, one.in_speech)


@pytest.mark.parametrize("parts", [(4, 2), (2, 2, 2), (3, 3), (6,), (1, 3, 2)])
def test_an_average_may_reach_its_threshold_when_no_new_posterior_does(parts):
    """What was loud before counts as long as it is averaged."""
    rows = np.array([posteriors()] * 2 + [posteriors(yes=1.0)] * 2 + [posteriors(yes=0.7)] * 2)
    d, at, found = detector(), 0, []
    for n in parts:
        found += d.process_all(rows[at : at + n], 1.0)
        at += n
    assert [i for i, one in enumerate(found) if one] == [4]


def test_independent_posteriors_of_unknown_and_silence_do_not_compete():
    """Somebody talks, a door slams, and a word is said all the same."""
    row = np.array([1.0, 1.0, 0.9, 0.0, 0.2], np.float32)
    config = DetectorConfig(smoothing_ms=200, threshold=0.8)
    both = [Detector(LABELS, config, step_s=0.1, clip_s=1.0, independent=value) for value in (False, True)]
    shares, own = ([f.keyword for _, f in feed(d, [row] * 4)] for d in both)
    assert (shares, own) == ([], ["yes"])


def test_a_likelier_word_that_is_not_active_is_not_taken_for_another():
    row = np.array([0.0, 1.0, 0.85, 0.95, 0.0], np.float32)
    for keywords, found in ((("yes",), []), (("yes", "no"), ["no"]), (("yes", "up"), [])):
        config = DetectorConfig(smoothing_ms=200, threshold=0.8, keywords=keywords)
        d = Detector(LABELS, config, step_s=0.1, clip_s=1.0, independent=True)
        assert [f.keyword for _, f in feed(d, [row] * 4)] == found


def test_independent_posteriors_know_no_other_speech():
    with pytest.raises(ConfigError, match=r"speech_margin=0.1: this model hears speech in keywords, too"):
        Detector(LABELS, DetectorConfig(speech_margin=0.1), step_s=0.1, clip_s=1.0, independent=True)
