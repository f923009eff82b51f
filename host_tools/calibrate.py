"""The detector's settings, chosen for a budget of false accepts on development streams."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from host_tools.errors import DatasetError
from host_tools.intervals import poisson_interval
from host_tools.scoring import DUPLICATE, FALSE_ACCEPT, Score
from host_tools.stream_eval import Condition, Stream, Track, hear_all, score_replayed
from kws_edge.config import DetectorConfig, FrontendConfig
from kws_edge.files import write_atomically
from kws_edge.model import Model
from kws_edge.modelfile import pack

__all__ = ["Calibration", "Trial", "calibrate", "write_calibrated"]

SMOOTHINGS_MS = (300.0, 400.0, 500.0, 600.0, 700.0, 800.0)
HYSTERESES = (0.2, 0.4, 0.6)
REFRACTORIES_MS = (500.0, 700.0, 1000.0)
_CURVE = tuple(round(0.3 + 0.05 * i, 2) for i in range(14))  # thresholds of the miss curve
_STEP = 0.01
_LOWEST, _HIGHEST = 50, 97  # steps; below a half, all that is no such keyword is the likelier
_PLACE_S = 1.0


@dataclass(frozen=True)
class Trial:
    """A detector on the streams."""

    config: DetectorConfig
    negatives: tuple[Score, ...]
    """On streams in which nothing is said, one of each condition."""
    positives: Score
    """On streams with words, all conditions."""

    @property
    def hours(self) -> float:
        """Length of the streams in which nothing is said, however often they were heard."""
        return self.negatives[0].hours

    @cached_property
    def false_accepts(self) -> int:
        """Places of the streams in which nothing is said, but something was detected, under whichever conditions."""
        return _places(self.negatives)

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
            "words": self.positives.words,
            "duplicates": len(self.positives.of_kind(DUPLICATE)),
            "delay_ms": [round(x, 1) for x in delays] if delays else None,
        }


@dataclass(frozen=True)
class Calibration:
    """Results of :func:`calibrate`."""

    front_end: FrontendConfig
    """What the model heard by."""
    budget: float | None
    """False accepts per hour; None where the threshold was given."""
    before: Trial
    """With the model file's settings."""
    after: Trial
    """The choice."""
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
    front_end: FrontendConfig | None = None,
    workers: int | None = None,
    say: Callable[[str], None] = print,
) -> Calibration:
    """Choose smoothing, threshold, hysteresis and refractory time.

    At each smoothing time the lowest common threshold from 0.5 on is taken that keeps to the budget on the streams
    without words. Of these the one with the fewest errors (misses and duplicates) on the streams with words wins, the
    shorter smoothing where they tie; then hysteresis and refractory time are chosen in the same way. Per-keyword
    thresholds of the file are dropped: hours as few as these would fit them to chance.

    The budget is to be kept to elsewhere. So a place of a stream counts once, even if it is taken for a keyword under
    several conditions, against the hours of the streams, and one is added: a threshold just above the (n + 1)th highest
    of many peaks lets n + 1 of as many others through on average (Wilks, 1941).

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
    labels, front_end
        As for :class:`kws_edge.Model`; the front end may also be another than the file's own, before as after.
    workers : int, optional

    Raises
    ------
    DatasetError
        If there are no streams of one kind, or no setting keeps to the budget.
    """
    if (budget is None) == (threshold is None):
        raise ValueError("calibrate takes either a budget or a threshold")
    loaded = Model(model, labels=labels, front_end=front_end)
    own = loaded.detector
    given = {"smoothing_ms": smoothing_ms, "threshold": threshold, "speech_margin": speech_margin}
    given = {name: value for name, value in given.items() if value is not None}
    base = dataclasses.replace(own, thresholds=dict(thresholds), **given)
    silent = [not stream.spoken for stream in streams]
    for kind, there in (("without words", any(silent)), ("with words", not all(silent))):
        if not there:
            raise DatasetError(f"none of the {len(streams)} streams is one {kind}; calibrating takes both")
    heard = iter(
        hear_all(model, streams, base, conditions=conditions, labels=labels, front_end=front_end, workers=workers)
    )
    spoken: list[tuple[Stream, Track]] = []
    quiet: list[list[tuple[Stream, Track]]] = []
    for condition in conditions:
        taken = [stream for stream in streams if condition.takes(stream)]
        pairs = [(stream, next(heard).track) for stream in taken]
        spoken += [pair for pair in pairs if pair[0].spoken]
        if not condition.gated:
            quiet.append([pair for pair in pairs if not pair[0].spoken])

    def negatives(config: DetectorConfig) -> tuple[Score, ...]:
        return tuple(_score(part, config) for part in quiet)

    def trial(config: DetectorConfig) -> Trial:
        return Trial(config, negatives(config), _score(spoken, config))

    def within(config: DetectorConfig) -> bool:
        return _expected_per_hour(negatives(config)) <= budget

    before, found = trial(own), []
    hours = before.hours
    if budget is not None and budget * hours < 1:
        raise DatasetError(
            f"{hours:.2f} h without words are too few for {budget:g} false accepts per hour: even with none in them"
            f" {1 / hours:.3g} are to be expected; give {1 / budget:.3g} h or more, or a larger --budget"
        )
    if threshold is not None:
        best = trial(base)
    else:
        for value in SMOOTHINGS_MS if smoothing_ms is None else [smoothing_ms]:
            config = dataclasses.replace(base, smoothing_ms=value)
            lowest = _lowest(lambda t, config=config: within(dataclasses.replace(config, threshold=t)))
            if lowest is not None:
                found.append(trial(dataclasses.replace(config, threshold=lowest)))
                say(_line(found[-1]))
        if not found:
            raise DatasetError(
                f"no setting keeps to {budget:g} false accepts per hour on these {hours:.2f} hours; raise --budget, or "
                "train with what fires (kws-host stream-eval -o DIR saves it)"
            )
        best = min(found, key=lambda t: (t.errors, t.config.smoothing_ms))
        for name, values in (("hysteresis", HYSTERESES), ("refractory_ms", REFRACTORIES_MS)):
            for value in values:
                other = trial(dataclasses.replace(best.config, **{name: value}))
                if other.expected_per_hour <= budget and other.errors < best.errors:
                    best = other
    curve = [(t, _score(spoken, dataclasses.replace(best.config, threshold=t)).false_reject_rate) for t in _CURVE]
    return Calibration(
        loaded.front_end, budget, before, best, tuple(found), tuple((t, round(rate or 0.0, 5)) for t, rate in curve)
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
    loaded = Model(model, labels=labels, front_end=calibration.front_end)
    values = calibration.to_dict()
    budget = {} if calibration.budget is None else {"budget_per_hour": calibration.budget}
    metrics = {
        **loaded.metadata.metrics,
        "miss_curve": values["miss_curve"],
        "calibration": {**values["after"], **budget, "data": list(data)},
    }
    changes = {"front_end": calibration.front_end, "detector": calibration.after.config, "metrics": metrics}
    content = pack(loaded.flat.data, dataclasses.replace(loaded.metadata, **changes))
    write_atomically(path, content, durable=True)  # the model in use may be written over


def _score(pairs: Sequence[tuple[Stream, Track]], config: DetectorConfig) -> Score:
    return score_replayed([stream for stream, _ in pairs], [track for _, track in pairs], config)


def _places(scores: Sequence[Score]) -> int:
    """False accepts, of which those under different conditions within a second are one."""
    times = sorted(
        (event.stream, event.time_s, condition)
        for condition, score in enumerate(scores)
        for event in score.of_kind(FALSE_ACCEPT)
    )
    count, place, since, heard_under = 0, "", 0.0, set()
    for stream, time_s, condition in times:
        if stream != place or time_s - since > _PLACE_S or condition in heard_under:
            count, place, since, heard_under = count + 1, stream, time_s, set()
        heard_under.add(condition)
    return count


def _expected_per_hour(scores: Sequence[Score]) -> float:
    """What the false accepts under each condition let expect of other streams; see :func:`calibrate`."""
    return (_places(scores) + 1) / scores[0].hours


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
