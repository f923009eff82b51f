"""Calibrates a model file on development streams: chooses its detector's settings for a budget of false accepts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from host_tools.errors import DatasetError
from host_tools.evaluation.budget import (
    SMOOTHINGS_MS,
    STEP_SMOOTHINGS_MS,
    Promise,
    by_smoothing,
    chosen,
    expected_accepts,
    least_expected,
    miss_interval,
    promised,
)
from host_tools.evaluation.operating_points import operating_points
from host_tools.evaluation.scoring import DUPLICATE, Score
from host_tools.evaluation.stream_audio import Condition, Stream
from host_tools.evaluation.stream_inference import hear_all
from host_tools.evaluation.stream_replay import Track
from host_tools.evaluation.stream_tally import FOLDS, HeardStreams, Tally, places
from kws_edge.config import DetectorConfig, FrontendConfig
from kws_edge.detection.calibration import poisson_interval
from kws_edge.detection.sensitivity import OperatingPoint
from kws_edge.files import write_atomically
from kws_edge.model.file import pack
from kws_edge.model.model import Model

__all__ = ["Calibration", "Trial", "calibrate", "write_calibrated"]

_CURVE = tuple(round(0.3 + 0.05 * i, 2) for i in range(14))  # thresholds of the miss curve


@dataclass(frozen=True)
class Trial:
    """The scores of a detector on the streams."""

    config: DetectorConfig
    negatives: tuple[Score, ...]
    """Scores on streams without words, one for each condition."""
    positives: Score
    """Score on streams with words, under all conditions."""
    distinct: int
    """Number of words as they were said, each counted once for all conditions."""

    @property
    def hours(self) -> float:
        """Length of the streams without words. Each stream counts once for all conditions."""
        return self.negatives[0].hours

    @cached_property
    def false_accepts(self) -> int:
        """Number of places in streams without words where something was detected under any condition."""
        return len(places(self.negatives))

    @property
    def expected_per_hour(self) -> float:
        """False accepts per hour to expect on other streams."""
        return expected_accepts(self.false_accepts) / self.hours

    def to_dict(self) -> dict[str, Any]:
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
                round(x, 5) for x in miss_interval(self.positives.false_rejects, self.positives.words, self.distinct)
            ],
            "words": self.positives.words,
            "distinct_words": self.distinct,
            "duplicates": len(self.positives.of_kind(DUPLICATE)),
            "delay_ms": [round(x, 1) for x in delays] if delays else None,
        }

    def __str__(self) -> str:
        v = self.to_dict()
        delay = f"{v['delay_ms'][0]:.0f} and {v['delay_ms'][1]:.0f} ms" if v["delay_ms"] else "none"
        return (
            f"smoothing {v['smoothing_ms']:g} ms, threshold {v['threshold']:.2f}: {v['expected_per_hour']:.2f} false"
            f" accepts per hour to be expected, {100 * v['false_reject_rate']:.2f} % of {v['words']} words missed,"
            f" {v['duplicates']} heard twice, delay p50 and p95 {delay}"
        )


@dataclass(frozen=True)
class Calibration:
    """Results of :func:`calibrate`."""

    frontend_config: FrontendConfig
    """The front end that the model heard by."""
    budget: float | None
    """False accepts per hour; None if the threshold was given."""
    before: Trial
    """Trial of the model file's settings, at the step that was asked for."""
    after: Trial
    """Trial of the chosen settings."""
    promise: Promise
    """Results to expect of the chosen settings on other streams."""
    by_smoothing: tuple[Trial, ...]
    """Trials of the lowest threshold that keeps to the budget, for each smoothing time that has one."""
    miss_curve: tuple[tuple[float, float], ...]
    """Thresholds and shares of missed words. All other settings are the chosen ones."""
    operating_points: tuple[OperatingPoint, ...]
    """What the chosen settings do at other thresholds, by rising sensitivity."""

    def to_dict(self) -> dict[str, Any]:
        """The results as a JSON-ready dict."""
        return {
            "budget_per_hour": self.budget,
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "promise": self.promise.to_dict(),
            "by_smoothing": [trial.to_dict() for trial in self.by_smoothing],
            "miss_curve": [list(point) for point in self.miss_curve],
            "operating_points": [point.to_dict() for point in self.operating_points],
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
    step_ms: float | None = None,
    labels: Sequence[str] | None = None,
    frontend_config: FrontendConfig | None = None,
    workers: int | None = None,
    say: Callable[[str], None] = print,
) -> Calibration:
    """Choose smoothing, threshold, hysteresis and refractory time; see :func:`host_tools.evaluation.budget.chosen`.

    Per-keyword thresholds of the file are dropped: in so few hours, chance would set them. A place of a stream counts
    once, even if a keyword is detected there under several conditions. So does each hour of the streams.

    Parameters
    ----------
    model : str or path
    streams : sequence of Stream
        Streams without words count false accepts. Streams with words count misses.
    budget : float or None
        False accepts per hour to expect on other streams, of all keywords together. None if `threshold` is given.
    conditions : sequence of Condition
        Each stream is heard under every condition that takes it. Gated conditions show misses only.
    smoothing_ms : float, optional
        Smoothing time to use; no other is tried.
    threshold : float, optional
        Measure this threshold and choose nothing. Other settings are the model's own, unless you give them.
    thresholds : mapping
        Thresholds of single keywords, besides `threshold`.
    speech_margin : float, optional
        Replaces the model's own. It is never chosen: streams of single words do not show what it costs.
    step_ms : float, optional
        Replaces the model's own, before and after.
    labels, frontend_config, workers
        As for :func:`hear_all`. A front end that you give replaces the file's own, in the trials before and after.

    Raises
    ------
    DatasetError
        If streams with words or streams without words are missing, or no setting keeps to the budget.
    """
    if (budget is None) == (threshold is None):
        raise ValueError("calibrate takes either a budget or a threshold")
    loaded = Model(model, labels=labels, frontend_config=frontend_config)
    given = {"smoothing_ms": smoothing_ms, "threshold": threshold, "speech_margin": speech_margin}
    own = _changed(loaded.detector_config, step_ms=step_ms)
    base = _changed(own, thresholds=dict(thresholds), **given)
    heard = _hear(model, streams, base, conditions, labels=labels, frontend_config=frontend_config, workers=workers)
    before = _trial(heard, own)
    if budget is None:
        choice = _Choice(base, _measured(heard.tally(base), before.hours, heard.distinct), ())
    else:
        usual = SMOOTHINGS_MS if loaded.step is None else STEP_SMOOTHINGS_MS
        smoothings = usual if smoothing_ms is None else (smoothing_ms,)
        choice = _choose(heard, base, smoothings, budget, before.hours, say)
    after, curve = _trial(heard, choice.config), _miss_curve(heard, choice.config)
    points = operating_points(heard.tally, choice.config, before.hours)
    return Calibration(loaded.frontend_config, budget, before, after, choice.promise, choice.tried, curve, points)


def _changed(config: DetectorConfig, **changes: Any) -> DetectorConfig:
    """`config` with those of the changes that are not None."""
    return dataclasses.replace(config, **{name: value for name, value in changes.items() if value is not None})


class _Choice(NamedTuple):
    config: DetectorConfig
    promise: Promise
    tried: tuple[Trial, ...]
    """Settings for each smoothing time at which a threshold keeps to the budget."""


def _hear(
    model: str | Path,
    streams: Sequence[Stream],
    config: DetectorConfig,
    conditions: Sequence[Condition],
    **options: Any,
) -> HeardStreams:
    """Hear every stream under every condition. `options` are those of :func:`hear_all`."""
    silent = [not stream.spoken for stream in streams]
    for kind, there in (("without words", any(silent)), ("with words", not all(silent))):
        if not there:
            raise DatasetError(f"no stream of {len(streams)} is one {kind}; calibrating takes both")
    heard = iter(hear_all(model, streams, config, conditions=conditions, **options))
    spoken: list[tuple[Stream, Track]] = []
    quiet: list[list[tuple[Stream, Track]]] = []
    for condition in conditions:
        taken = [stream for stream in streams if condition.takes(stream)]
        pairs = [(stream, next(heard).track) for stream in taken]
        spoken += [pair for pair in pairs if pair[0].spoken]
        if not condition.gated:
            quiet.append([pair for pair in pairs if not pair[0].spoken])
    return HeardStreams(spoken, quiet)


def _trial(heard: HeardStreams, config: DetectorConfig) -> Trial:
    return Trial(config, heard.on_quiet(config), heard.on_words(config), heard.distinct)


def _choose(
    heard: HeardStreams,
    base: DetectorConfig,
    smoothings: Sequence[float],
    budget: float,
    hours: float,
    say: Callable[[str], None],
) -> _Choice:
    """The settings that keep to a budget of false accepts per hour, and their promise."""
    if budget * hours < 1:
        raise DatasetError(
            f"{hours:.2f} h without words are too few for {budget:g} false accepts per hour: even with none in them"
            f" {1 / hours:.3g} are to be expected; give {1 / budget:.3g} h or more, or a larger --budget"
        )

    def choice(folds: NDArray[np.bool_]) -> DetectorConfig | None:
        return chosen(heard.tally, base, smoothings, budget * hours, folds)

    every = np.ones(FOLDS, bool)
    config = choice(every)
    if config is None:
        least = math.ceil(100 * least_expected(heard.tally, base, smoothings) / hours) / 100
        raise DatasetError(
            f"no setting keeps to {budget:g} false accepts per hour on these {hours:.2f} hours: give --budget "
            f"{least:g} or more, train longer (--minutes), or train with what fires (kws-host stream-eval -o DIR"
            " saves it; --more-speech and --more-noise take it)"
        )
    tried = []
    for kept in by_smoothing(heard.tally, base, smoothings, budget * hours, every):
        tried.append(_trial(heard, kept))
        say(str(tried[-1]))
    return _Choice(config, promised(heard.tally, choice, config, hours, heard.distinct), tuple(tried))


def _measured(tally: Tally, hours: float, distinct: int) -> Promise:
    """The promise of settings that were given. They were not chosen here, so the counts need no cross-validation."""
    missed, words, accepts = (int(n.sum()) for n in (tally.missed, tally.words, tally.places))
    return Promise(missed, words, distinct, (accepts, accepts), hours)


def _miss_curve(heard: HeardStreams, config: DetectorConfig) -> tuple[tuple[float, float], ...]:
    rates = [heard.on_words(dataclasses.replace(config, threshold=t)).false_reject_rate for t in _CURVE]
    return tuple((t, round(rate or 0.0, 5)) for t, rate in zip(_CURVE, rates, strict=True))


def write_calibrated(
    model: str | Path,
    calibration: Calibration,
    path: str | Path,
    *,
    data: Sequence[str],
    labels: Sequence[str] | None = None,
) -> None:
    """Write the model file with the chosen settings and the front end that it heard by.

    The metrics of the file say how the settings were chosen.

    Parameters
    ----------
    model : str or path
    calibration : Calibration
    path : path
        May be the file itself.
    data : sequence of str
        Names of the streams.
    labels : sequence of str, optional
        Labels of a foreign model, as for :class:`kws_edge.Model`. The written file names them itself.
    """
    loaded = Model(model, labels=labels, frontend_config=calibration.frontend_config)
    values = calibration.to_dict()
    budget = {} if calibration.budget is None else {"budget_per_hour": calibration.budget}
    metrics = {
        **loaded.metadata.metrics,
        "miss_curve": values["miss_curve"],
        "operating_points": values["operating_points"],
        "calibration": {**values["after"], **budget, "promise": values["promise"], "data": list(data)},
    }
    metadata = dataclasses.replace(
        loaded.metadata,
        frontend_config=calibration.frontend_config,
        detector_config=calibration.after.config,
        metrics=metrics,
    )
    content = pack(loaded.flat.data, metadata)
    write_atomically(path, content, durable=True)  # the file may replace the model in use
