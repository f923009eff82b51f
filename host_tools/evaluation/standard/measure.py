"""Measures a model under the standard conditions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from host_tools.evaluation.scoring import GENUINE, Score
from host_tools.evaluation.standard.independent import HeardAlone, hear_independent, known_to
from host_tools.evaluation.standard.streams import StandardStreams
from host_tools.evaluation.stream_audio import Condition, Stream
from host_tools.evaluation.stream_inference import HeardTrack, hear_all
from host_tools.evaluation.stream_replay import THRESHOLDS, score_heard
from host_tools.evaluation.stream_tally import places
from kws_edge.config import DetectorConfig, FrontendConfig
from kws_edge.detection.calibration import poisson_interval
from kws_edge.model.model import Model

__all__ = ["AS_RECORDED", "DET_THRESHOLDS", "NEGATIVE_CONDITIONS", "macs_per_second", "measure"]

NEGATIVE_CONDITIONS = tuple(Condition(gain, room) for room in (False, True) for gain in (-12.0, 0.0, 8.0))
"""Conditions under which recordings without keywords are heard."""
AS_RECORDED = Condition().name
DET_THRESHOLDS = (*THRESHOLDS, 0.97, 0.98, 0.99)
"""Thresholds of the DET curve."""


def macs_per_second(model: Model, step_ms: float) -> float:
    """Multiply-accumulates of the network in a second of audio.

    Parameters
    ----------
    model : Model
    step_ms : float
        Time from one inference to the next. A network with state takes each frame once, whatever this is. A second
        network, which is rarely asked, does not count.
    """
    if model.step is None:
        return model.flat.macs * 1000 / step_ms
    frames = model.flat.inputs[0].shape[1]
    return model.flat.macs / frames * 1000 / model.frontend_config.hop_ms


def measure(
    model: str | Path,
    streams: StandardStreams,
    *,
    config: DetectorConfig | None = None,
    kernels: str = "fast",
    labels: Sequence[str] | None = None,
    frontend_config: FrontendConfig | None = None,
    workers: int | None = None,
    progress: Callable[..., Any] = tqdm,
) -> dict[str, Any]:
    """Hear the streams of the standard conditions with a model.

    Parameters
    ----------
    model : str or path
        Name of a shipped model, or a file.
    streams : StandardStreams
    config : DetectorConfig, optional
        Settings that replace the model's own.
    kernels, labels, frontend_config, workers
        As for :func:`host_tools.evaluation.stream_inference.hear_all`.

    Returns
    -------
    dict
        JSON-ready: ``model``, ``detector``, ``macs_per_second``, ``streams`` (a name for what was heard, by condition),
        ``snr_db``, ``words`` (by condition), ``negatives`` (by kind), ``independent`` (None if not measured), ``det``
        (by threshold), and ``not_measured`` (reasons).

    Raises
    ------
    KwsError
        If a stream or the model cannot be read.
    """
    loaded = Model(model, labels=labels, frontend_config=frontend_config, kernels=kernels)
    config = config or loaded.detector_config
    common: dict[str, Any] = {"thresholds": DET_THRESHOLDS, "workers": workers, "progress": progress}
    foreign: dict[str, Any] = {"kernels": kernels, "labels": labels, "frontend_config": frontend_config}

    def hear(some: Sequence[Stream], conditions: Sequence[Condition]) -> list[HeardTrack]:
        return hear_all(model, some, config, conditions=conditions, **foreign, **common)

    words, negatives, alone = {}, {}, None
    if streams.words:
        heard = hear(list(streams.words.values()), [Condition()])
        for (name, stream), one in zip(streams.words.items(), heard, strict=True):
            words[name] = _by_threshold([stream], [one], config)
    for kind, some in streams.negatives.items():
        heard = hear(some, NEGATIVE_CONDITIONS)
        parts = [heard[start : start + len(some)] for start in range(0, len(heard), len(some))]
        negatives[kind] = [_by_threshold(some, part, config) for part in parts]
    not_measured = dict(streams.not_measured)
    if recordings := known_to(streams.independent, loaded.labels):
        loading = (str(model), kernels, labels and tuple(labels), frontend_config)
        alone = hear_independent(recordings, loading, config, **common)
    elif streams.independent:
        not_measured["independent"] = "none of the commands is a keyword of the model"
    return {
        "model": loaded.metadata.name or loaded.path,
        "detector": config.to_dict(),
        "macs_per_second": round(macs_per_second(loaded, config.step_ms)),
        "streams": streams.names,
        "snr_db": streams.snr_db,
        "words": {name: scores[0].to_dict() for name, scores in words.items()},
        "negatives": {kind: _accepts([scores[0] for scores in parts]) for kind, parts in negatives.items()},
        "independent": alone and alone.to_dict(),
        "det": [
            {"threshold": threshold, **_point(number, words, negatives, alone)}
            for number, threshold in enumerate(DET_THRESHOLDS)
        ],
        "not_measured": not_measured,
    }


def _by_threshold(streams: Sequence[Stream], heard: Sequence[HeardTrack], config: DetectorConfig) -> list[Score]:
    """Score of the live run, and then of the replay at each threshold."""
    tracks = [one.track for one in heard]
    runs = zip(*([one.detections, *one.swept] for one in heard), strict=True)
    return [score_heard(streams, tracks, run, config) for run in runs]


def _accepts(scores: Sequence[Score]) -> dict[str, Any]:
    """False accepts per hour under all conditions together, and under each of them.

    The interval takes each place of a recording as one event, however many conditions something is heard under there.
    """
    count, hours = sum(score.false_accepts for score in scores), sum(score.hours for score in scores)
    found = len(places(scores))
    each = count / found if found else 1.0
    return {
        "count": count,
        "places": found,
        "genuine": sum(len(score.of_kind(GENUINE)) for score in scores),
        "hours": round(hours, 4),
        "recorded_hours": round(scores[0].hours, 4),
        "per_hour": count / hours,
        "interval_95": [bound * each / hours for bound in poisson_interval(found)],
        "conditions": {
            condition.name: {
                **score.to_dict()["false_accepts"],
                "genuine": len(score.of_kind(GENUINE)),
            }
            for condition, score in zip(NEGATIVE_CONDITIONS, scores, strict=True)
        },
    }


def _point(
    number: int,
    words: dict[str, list[Score]],
    negatives: dict[str, list[list[Score]]],
    alone: HeardAlone | None,
) -> dict[str, Any]:
    """What one of the thresholds gives."""
    rates = {}
    for kind, parts in negatives.items():
        at = [scores[1 + number] for scores in parts]
        rates[kind] = sum(score.false_accepts for score in at) / sum(score.hours for score in at)
    return {
        "missed": {name: scores[1 + number].false_reject_rate for name, scores in words.items()},
        "false_accepts_per_hour": rates,
        "independent": alone and alone.at_threshold(number),
    }
