"""The detector's settings, chosen for a budget of false accepts on development streams."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from host_tools.data.recordings import group_of
from host_tools.errors import DatasetError
from host_tools.evaluation.intervals import poisson_interval, wilson
from host_tools.evaluation.scoring import DUPLICATE, FALSE_ACCEPT, HIT, MISS, Event, Score
from host_tools.evaluation.stream_inference import Condition, Stream, Track, hear_all, score_replayed
from kws_edge.config import DetectorConfig, FrontendConfig
from kws_edge.files import write_atomically
from kws_edge.labels import is_keyword
from kws_edge.model.file import pack
from kws_edge.model.model import Model

__all__ = ["Calibration", "Promise", "Tally", "Trial", "calibrate", "chosen", "promised", "write_calibrated"]

SMOOTHINGS_MS = (300.0, 400.0, 500.0, 600.0, 700.0, 800.0)
HYSTERESES = (0.2, 0.4, 0.6)
REFRACTORIES_MS = (500.0, 700.0, 1000.0)
_CURVE = tuple(round(0.3 + 0.05 * i, 2) for i in range(14))  # thresholds of the miss curve
_STEP = 0.01
_LOWEST, _HIGHEST = 50, 97  # steps; below a half, all that is no such keyword is the likelier
_PLACE_S = 1.0
_FOLDS = 5
_Pair = tuple[Stream, Track]


class Tally(NamedTuple):
    """What a detector did on the streams, by fold."""

    places: np.ndarray
    """False accepts on streams in which nothing is said, a place once; shape (folds,), int."""
    words: np.ndarray
    """Words said, under all conditions; shape (folds,), int."""
    missed: np.ndarray
    """Of these."""
    duplicates: np.ndarray
    """Words heard twice."""

    def of(self, folds: np.ndarray) -> Tally:
        """Of some folds: shape (folds,), bool."""
        return Tally(*(values[folds] for values in self))

    @property
    def errors(self) -> int:
        """Words that were missed or heard twice."""
        return int(self.missed.sum() + self.duplicates.sum())


@dataclass(frozen=True)
class Promise:
    """What is to be expected of other streams, with 95 % intervals.

    What a choice gives where it was made flatters it. So each fifth of the streams was heard with the settings that the
    other fifths choose.
    """

    missed: int
    words: int
    """Under all conditions."""
    distinct: int
    """Words as they were said: one that is heard under several conditions tells little more than under one."""
    false_accepts: tuple[int, int]
    """Counted with the settings that all choose, and expected: in the fifths, or one more than counted (see
    :func:`calibrate`) if that is more."""
    hours: float

    @property
    def miss_interval(self) -> tuple[float, float]:
        """Wilson's, of the distinct words."""
        return _miss_interval(self.missed, self.words, self.distinct)

    @property
    def accept_interval(self) -> tuple[float, float]:
        """Per hour, Poisson's, of what was counted and what is expected."""
        counted, expected = map(poisson_interval, self.false_accepts)
        return counted[0] / self.hours, expected[1] / self.hours

    def to_dict(self) -> dict:
        """The numbers as a JSON-ready dict."""
        return {
            "false_reject_rate": round(self.missed / max(1, self.words), 5),
            "false_reject_interval_95": [round(x, 5) for x in self.miss_interval],
            "words": self.words,
            "distinct_words": self.distinct,
            "false_accepts_per_hour": round(self.false_accepts[1] / self.hours, 3),
            "interval_95": [round(x, 3) for x in self.accept_interval],
            "hours": round(self.hours, 3),
        }

    def __str__(self) -> str:
        v = self.to_dict()
        (low, high), (least, most) = v["false_reject_interval_95"], v["interval_95"]
        return (
            f"{100 * v['false_reject_rate']:.1f} % of words missed ({100 * low:.1f} to {100 * high:.1f}, from"
            f" {self.distinct} words), {v['false_accepts_per_hour']:.2f} false accepts per hour ({least:.2f} to"
            f" {most:.2f}, from {self.hours:.2f} hours)"
        )


def _miss_interval(missed: int, words: int, distinct: int) -> tuple[float, float]:
    return wilson(missed / max(1, words) * distinct, distinct)


@dataclass(frozen=True)
class Trial:
    """A detector on the streams."""

    config: DetectorConfig
    negatives: tuple[Score, ...]
    """On streams in which nothing is said, one of each condition."""
    positives: Score
    """On streams with words, all conditions."""
    distinct: int
    """Words as they were said, under whichever conditions they are heard."""

    @property
    def hours(self) -> float:
        """Length of the streams in which nothing is said, however often they were heard."""
        return self.negatives[0].hours

    @cached_property
    def false_accepts(self) -> int:
        """Places of the streams in which nothing is said, but something was detected, under whichever conditions."""
        return len(_places(self.negatives))

    @property
    def expected_per_hour(self) -> float:
        """False accepts per hour to be expected on other streams: one more than counted. See :func:`calibrate`."""
        return _expected_per_hour(self.negatives)

    @cached_property
    def errors(self) -> int:
        """Words that were missed or heard twice."""
        return self.positives.false_rejects + len(self.positives.of_kind(DUPLICATE))

    def to_dict(self) -> dict:
        """The numbers as a JSON-ready dict."""
        low, high = poisson_interval(self.false_accepts)
        delays = self.positives.delays_ms(50, 95)
        return {
            **{
                name: getattr(self.config, name)
                for name in ("smoothing_ms", "threshold", "speech_margin", "hysteresis", "refractory_ms")
            },
            **({"thresholds": self.config.thresholds} if self.config.thresholds else {}),
            "false_accepts": self.false_accepts,
            "false_accepts_per_hour": round(self.false_accepts / self.hours, 3),
            "interval_95": [round(low / self.hours, 3), round(high / self.hours, 3)],
            "expected_per_hour": round(self.expected_per_hour, 3),
            "hours": round(self.hours, 3),
            "false_reject_rate": round(self.positives.false_reject_rate or 0.0, 5),
            "false_reject_interval_95": [
                round(x, 5) for x in _miss_interval(self.positives.false_rejects, self.positives.words, self.distinct)
            ],
            "words": self.positives.words,
            "distinct_words": self.distinct,
            "duplicates": len(self.positives.of_kind(DUPLICATE)),
            "delay_ms": [round(x, 1) for x in delays] if delays else None,
        }


@dataclass(frozen=True)
class Calibration:
    """Results of :func:`calibrate`."""

    frontend_config: FrontendConfig
    """What the model heard by."""
    budget: float | None
    """False accepts per hour; None where the threshold was given."""
    before: Trial
    """With the model file's settings."""
    after: Trial
    """The choice."""
    promise: Promise
    """What it is to be expected to do on other streams."""
    by_smoothing: tuple[Trial, ...]
    """The lowest threshold that keeps to the budget, at each smoothing time where there is one."""
    miss_curve: tuple[tuple[float, float], ...]
    """Threshold and share of missed words, with the settings chosen otherwise."""

    def to_dict(self) -> dict:
        """The results as a JSON-ready dict."""
        return {
            "budget_per_hour": self.budget,
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "promise": self.promise.to_dict(),
            "by_smoothing": [trial.to_dict() for trial in self.by_smoothing],
            "miss_curve": [list(point) for point in self.miss_curve],
        }


def calibrate(
    model: str | Path,
    streams: Sequence[Stream],
    *,
    budget: float | None,
    conditions: Sequence[Condition] = (Condition(),),
    smoothing_ms: float | None = None,
    threshold: float | None = None,
    thresholds: Mapping[str, float] = MappingProxyType({}),
    speech_margin: float | None = None,
    labels: Sequence[str] | None = None,
    frontend_config: FrontendConfig | None = None,
    workers: int | None = None,
    say: Callable[[str], None] = print,
) -> Calibration:
    """Choose smoothing, threshold, hysteresis and refractory time.

    At each smoothing time the lowest common threshold from 0.5 on is taken that keeps to the budget on the streams
    without words. Of these the one with the fewest errors (misses and duplicates) on the streams with words wins. Where
    they tie, fewer false accepts win, and then the shorter smoothing. Hysteresis and refractory time are chosen in the
    same way. Per-keyword thresholds of the file are dropped: hours as few as these would fit them to chance.

    The budget is to be kept to elsewhere. So a place of a stream counts once, even if it is taken for a keyword under
    several conditions, against the hours of the streams, and one is added: a threshold just above the (n + 1)th highest
    of many peaks lets n + 1 of as many others through on average (Wilks, 1941). And what the choice does on the very
    streams that it was made on flatters it: :class:`Promise` is cross-validated, with intervals.

    Parameters
    ----------
    model : str or path
    streams : sequence of Stream
        Those without words count false accepts; those with words count misses.
    budget : float or None
        False accepts per hour to be expected on other streams, of all keywords together. None if `threshold` is given.
    conditions : sequence of Condition
        The streams are heard under each that takes them; those that are gated show misses only.
    smoothing_ms : float, optional
        This smoothing time, whatever others would give.
    threshold : float, optional
        This threshold: nothing is chosen, but what it gives is found out. Smoothing, hysteresis and refractory time are
        the model's own, if not given.
    thresholds : mapping
        Single keywords', besides `threshold`.
    speech_margin : float, optional
        In place of the model's own. It is not chosen: what it costs, words that are missed in running speech, streams
        of single words do not show.
    labels, frontend_config
        As for :class:`kws_edge.Model`; the front end may also be another than the file's own, before as after.
    workers : int, optional

    Raises
    ------
    DatasetError
        If there are no streams of one kind, or no setting keeps to the budget.
    """
    if (budget is None) == (threshold is None):
        raise ValueError("calibrate takes either a budget or a threshold")
    loaded = Model(model, labels=labels, frontend_config=frontend_config)
    own = loaded.detector_config
    given = {"smoothing_ms": smoothing_ms, "threshold": threshold, "speech_margin": speech_margin}
    given = {name: value for name, value in given.items() if value is not None}
    base = dataclasses.replace(own, thresholds=dict(thresholds), **given)
    silent = [not stream.spoken for stream in streams]
    for kind, there in (("without words", any(silent)), ("with words", not all(silent))):
        if not there:
            raise DatasetError(f"none of the {len(streams)} streams is one {kind}; calibrating takes both")
    heard = iter(
        hear_all(
            model, streams, base, conditions=conditions, labels=labels, frontend_config=frontend_config, workers=workers
        )
    )
    spoken: list[_Pair] = []
    quiet: list[list[_Pair]] = []
    for condition in conditions:
        taken = [stream for stream in streams if condition.takes(stream)]
        pairs = [(stream, next(heard).track) for stream in taken]
        spoken += [pair for pair in pairs if pair[0].spoken]
        if not condition.gated:
            quiet.append([pair for pair in pairs if not pair[0].spoken])

    heard_streams = _Heard(spoken, quiet)

    def trial(config: DetectorConfig) -> Trial:
        negatives = tuple(_score(part, config) for part in quiet)
        return Trial(config, negatives, _score(spoken, config), heard_streams.distinct)

    before = trial(own)
    hours = before.hours
    if budget is not None and budget * hours < 1:
        raise DatasetError(
            f"{hours:.2f} h without words are too few for {budget:g} false accepts per hour: even with none in them"
            f" {1 / hours:.3g} are to be expected; give {1 / budget:.3g} h or more, or a larger --budget"
        )
    found: list[Trial] = []
    if budget is None:
        config = base
        given = heard_streams.tally(base)
        missed, words, places = (int(n.sum()) for n in (given.missed, given.words, given.places))
        promise = Promise(missed, words, heard_streams.distinct, (places, places), hours)
    else:
        smoothings = SMOOTHINGS_MS if smoothing_ms is None else (smoothing_ms,)

        def choice(folds: np.ndarray) -> DetectorConfig | None:
            return chosen(heard_streams.tally, base, smoothings, budget * hours, folds)

        config = choice(np.ones(_FOLDS, bool))
        if config is None:
            raise DatasetError(
                f"no setting keeps to {budget:g} false accepts per hour on these {hours:.2f} hours; raise --budget, or "
                "train with what fires (kws-host stream-eval -o DIR saves it)"
            )
        for kept in _by_smoothing(heard_streams.tally, base, smoothings, budget * hours, np.ones(_FOLDS, bool)):
            found.append(trial(kept))
            say(_line(found[-1]))
        promise = promised(heard_streams.tally, choice, config, hours, heard_streams.distinct)
    best = trial(config)
    curve = [(t, _score(spoken, dataclasses.replace(best.config, threshold=t)).false_reject_rate) for t in _CURVE]
    return Calibration(
        loaded.frontend_config,
        budget,
        before,
        best,
        promise,
        tuple(found),
        tuple((t, round(rate or 0.0, 5)) for t, rate in curve),
    )


def write_calibrated(
    model: str | Path,
    calibration: Calibration,
    path: str | Path,
    *,
    data: Sequence[str],
    labels: Sequence[str] | None = None,
) -> None:
    """Write the model file with the chosen settings and the front end it heard by, and how they were chosen among its
    metrics.

    Parameters
    ----------
    model : str or path
    calibration : Calibration
    path : path
        May be the file itself.
    data : sequence of str
        Names of the streams.
    labels : sequence of str, optional
        Of a foreign model, as for :class:`kws_edge.Model`; the file says them itself from then on.
    """
    loaded = Model(model, labels=labels, frontend_config=calibration.frontend_config)
    values = calibration.to_dict()
    budget = {} if calibration.budget is None else {"budget_per_hour": calibration.budget}
    metrics = {
        **loaded.metadata.metrics,
        "miss_curve": values["miss_curve"],
        "calibration": {**values["after"], **budget, "promise": values["promise"], "data": list(data)},
    }
    changes = {
        "frontend_config": calibration.frontend_config,
        "detector_config": calibration.after.config,
        "metrics": metrics,
    }
    content = pack(loaded.flat.data, dataclasses.replace(loaded.metadata, **changes))
    write_atomically(path, content, durable=True)  # the model in use may be written over


def _score(pairs: Sequence[_Pair], config: DetectorConfig) -> Score:
    return score_replayed([stream for stream, _ in pairs], [track for _, track in pairs], config)


def _places(scores: Sequence[Score]) -> list[tuple[str, float]]:
    """False accepts, of which those under different conditions within a second are one: stream and time of each."""
    times = sorted(
        (event.stream, event.time_s, condition)
        for condition, score in enumerate(scores)
        for event in score.of_kind(FALSE_ACCEPT)
    )
    places, heard_under = [], set()
    for stream, time_s, condition in times:
        near = places and places[-1][0] == stream and time_s - places[-1][1] <= _PLACE_S
        if not near or condition in heard_under:
            places.append((stream, time_s))
            heard_under = set()
        heard_under.add(condition)
    return places


class _Heard:
    """What was heard, and what detectors do on it, by fold.

    Streams without words are cut into folds of equal length, by speaker as far as names tell; the words, in the order
    in which they are said, into folds of equally many.

    Parameters
    ----------
    spoken : sequence of (Stream, Track)
        Streams with words, under all conditions.
    quiet : sequence of sequences of (Stream, Track)
        Streams without words, one sequence for each condition.
    """

    def __init__(self, spoken: Sequence[_Pair], quiet: Sequence[Sequence[_Pair]]) -> None:
        self._spoken, self._quiet = spoken, quiet
        self._known: dict[str, Tally] = {}
        by_speaker = sorted(quiet[0], key=lambda pair: (group_of(pair[0].path), pair[0].path))
        ends = np.cumsum([0.0, *(track.duration_s for _, track in by_speaker)])
        self._starts = {str(stream.path): start for (stream, _), start in zip(by_speaker, ends[:-1], strict=True)}
        self._length_s = float(ends[-1])
        keywords = [label for label in spoken[0][1].labels if is_keyword(label)]
        said = {
            str(stream.path): sorted(w.end_s for w in stream.words if not w.optional and w.label in keywords)
            for stream, _ in spoken
        }
        self.distinct = sum(map(len, said.values()))
        """Words that are said."""
        numbers = np.cumsum([0, *map(len, said.values())])
        self._said = {name: (start, times) for start, (name, times) in zip(numbers[:-1], said.items(), strict=True)}

    def tally(self, config: DetectorConfig) -> Tally:
        """What a detector does."""
        key = repr(config)
        if key not in self._known:
            places = _places([_score(part, config) for part in self._quiet])
            score = _score(self._spoken, config)
            missed, hit, twice = (self._words(score.of_kind(kind)) for kind in (MISS, HIT, DUPLICATE))
            at = [(self._starts[stream] + time_s) / self._length_s for stream, time_s in places]
            self._known[key] = Tally(_folded(at), missed + hit, missed, twice)
        return self._known[key]

    def _words(self, events: Sequence[Event]) -> np.ndarray:
        """Number of events about words, by fold."""
        at = []
        for event in events:
            start, ends = self._said[event.stream]
            end_s = event.time_s - (event.delay_s or 0.0) + 1e-6
            at.append((start + max(1, np.searchsorted(ends, end_s)) - 0.5) / max(1, self.distinct))
        return _folded(at)


def _folded(places: Sequence[float]) -> np.ndarray:
    """How many of these, each from 0 to 1, each fold has."""
    return np.histogram(places, bins=_FOLDS, range=(0, 1 + 1e-9))[0]


def _by_smoothing(
    tally: Callable[[DetectorConfig], Tally],
    base: DetectorConfig,
    smoothings: Sequence[float],
    most: float,
    folds: np.ndarray,
) -> list[DetectorConfig]:
    """At each smoothing time where there is one, the lowest threshold that keeps to the budget; see :func:`chosen`."""

    def lowest(config: DetectorConfig) -> float | None:
        return _lowest(lambda t: _keeps(tally(dataclasses.replace(config, threshold=t)), most, folds))

    configs = [dataclasses.replace(base, smoothing_ms=value) for value in smoothings]
    return [dataclasses.replace(c, threshold=t) for c in configs if (t := lowest(c)) is not None]


def _keeps(tally: Tally, most: float, folds: np.ndarray) -> bool:
    return tally.places[folds].sum() / folds.mean() + 1 <= most


def chosen(
    tally: Callable[[DetectorConfig], Tally],
    base: DetectorConfig,
    smoothings: Sequence[float],
    most: float,
    folds: np.ndarray,
) -> DetectorConfig | None:
    """The settings that some folds choose, as :func:`calibrate` says; None where no setting keeps to the budget.

    Parameters
    ----------
    tally : callable
        What a detector does on the streams.
    base : DetectorConfig
        All other settings.
    smoothings : sequence of float
        Smoothing times to try.
    most : float
        False accepts to be expected in as many hours as all folds have.
    folds : numpy.ndarray, shape (folds,), bool
    """
    found = _by_smoothing(tally, base, smoothings, most, folds)
    if not found:
        return None

    def errors(config: DetectorConfig) -> int:
        return tally(config).of(folds).errors

    best = min(found, key=lambda config: (errors(config), tally(config).places[folds].sum(), config.smoothing_ms))
    for name, values in (("hysteresis", HYSTERESES), ("refractory_ms", REFRACTORIES_MS)):
        for value in values:
            other = dataclasses.replace(best, **{name: value})
            if errors(other) < errors(best) and _keeps(tally(other), most, folds):
                best = other
    return best


def promised(
    tally: Callable[[DetectorConfig], Tally],
    choice: Callable[[np.ndarray], DetectorConfig | None],
    config: DetectorConfig,
    hours: float,
    distinct: int,
) -> Promise:
    """What settings that were chosen promise.

    Parameters
    ----------
    tally : callable
        What a detector does on the streams.
    choice : callable
        Settings that some folds choose: shape (folds,), bool. None: there are none, and all folds' are taken.
    config : DetectorConfig
        Settings that all folds choose.
    hours : float
        Length of the streams without words.
    distinct : int
        Words that are said in the others.
    """
    parts = [tally(choice(~fold) or config).of(fold) for fold in np.eye(_FOLDS, dtype=bool)]
    places, words, missed, _ = (int(np.sum(values)) for values in zip(*parts, strict=True))
    counted = int(tally(config).places.sum())
    return Promise(missed, words, distinct, (counted, max(places, counted + 1)), hours)


def _expected_per_hour(scores: Sequence[Score]) -> float:
    """What the false accepts under each condition let expect of other streams; see :func:`calibrate`."""
    return (len(_places(scores)) + 1) / scores[0].hours


def _lowest(within: Callable[[float], bool]) -> float | None:
    """The lowest threshold on the grid that keeps to the budget, by bisection: false accepts fall with the threshold,
    but for rare ones that another one's refractory time had hidden."""
    low, high = _LOWEST, _HIGHEST
    if not within(high * _STEP):
        return None
    while low < high:
        middle = (low + high) // 2
        if within(round(middle * _STEP, 2)):
            high = middle
        else:
            low = middle + 1
    return round(high * _STEP, 2)


def _line(trial: Trial) -> str:
    v = trial.to_dict()
    delay = f"{v['delay_ms'][0]:.0f} and {v['delay_ms'][1]:.0f} ms" if v["delay_ms"] else "none"
    return (
        f"smoothing {v['smoothing_ms']:g} ms, threshold {v['threshold']:.2f}: {v['expected_per_hour']:.2f} false"
        f" accepts per hour to be expected, {100 * v['false_reject_rate']:.2f} % of {v['words']} words missed,"
        f" {v['duplicates']} heard twice, delay p50 and p95 {delay}"
    )
