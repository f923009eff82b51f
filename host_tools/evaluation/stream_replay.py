"""Replays detectors with other settings on streams that were heard once, and scores them.

:class:`Track` keeps a stream's posteriors in the type of the model's output. Twelve labels with their times take 0.7 MB
an hour. To score settings on streams that were heard::

    tracks = [heard.track for heard in hear_all("commands12", streams, config)]
    result = score_replayed(streams, tracks, other_config)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host_tools.errors import DatasetError
from host_tools.evaluation.scoring import Heard, Score, score
from host_tools.evaluation.stream_audio import Stream
from kws_edge.config import DetectorConfig
from kws_edge.detection.detector import Detection, Detector
from kws_edge.errors import ConfigError
from kws_edge.model.quantization import dequantize

__all__ = ["THRESHOLDS", "Track", "replay", "score_heard", "score_replayed", "sweep"]

THRESHOLDS = tuple(round(0.30 + 0.05 * i, 2) for i in range(14))
"""Of the DET curve: 0.30 to 0.95."""
_CHUNK = 4096  # windows that are replayed at a time


@dataclass(frozen=True)
class Track:
    """The posteriors of one stream."""

    labels: tuple[str, ...]
    times_s: NDArray[np.float64]
    """End of each window, shape (n,), float64."""
    outputs: NDArray[Any]
    """The model's output, shape (n, len(labels)), of the output's dtype."""
    scale: float | None
    """Quantisation of `outputs`; None if they are posteriors themselves."""
    zero_point: int
    step_ms: float
    """The setting that they were computed with."""
    step_s: float
    clip_s: float
    duration_s: float
    """Length of the stream."""
    independent: bool = False
    """As for :class:`kws_edge.Detector`."""

    def detector(self, config: DetectorConfig) -> Detector:
        """A detector for these posteriors."""
        return Detector(self.labels, config, step_s=self.step_s, clip_s=self.clip_s, independent=self.independent)

    def posteriors(self, part: slice = slice(None)) -> NDArray[np.float32]:
        """Posteriors of all windows or a part of them, exactly as the spotter saw them.

        Returns
        -------
        numpy.ndarray, shape (n, len(labels)), float32
        """
        rows = self.outputs[part]
        return rows if self.scale is None else dequantize(rows, self.scale, self.zero_point)


def replay(track: Track, config: DetectorConfig) -> list[Detection]:
    """Detections that :class:`kws_edge.Spotter` with these settings makes in the stream, from its posteriors.

    Raises
    ------
    ConfigError
        If `config` has another `step_ms` than the posteriors were computed with.
    """
    if config.step_ms != track.step_ms:
        raise ConfigError(
            f"step_ms={config.step_ms:g}, but the posteriors were computed every {track.step_ms:g} ms; hear them again"
        )
    detector = track.detector(config)
    found = []
    for start in range(0, len(track.outputs), _CHUNK):
        rows = track.posteriors(slice(start, start + _CHUNK))
        for posteriors, time_s in zip(rows, track.times_s[start : start + _CHUNK].tolist(), strict=True):
            if detection := detector.process(posteriors, time_s):
                # As in Spotter.finish, a detection in the silence after the end counts at the end.
                found.append(dataclasses.replace(detection, end_s=min(detection.end_s, track.duration_s)))
    return found


def sweep(config: DetectorConfig, thresholds: Sequence[float]) -> list[DetectorConfig]:
    """Copies of `config`, each with one of the thresholds for every keyword."""
    return [dataclasses.replace(config, threshold=threshold, thresholds={}) for threshold in thresholds]


def score_replayed(streams: Sequence[Stream], tracks: Sequence[Track], config: DetectorConfig, **options) -> Score:
    """Score of a replay. `options` are those of :func:`host_tools.evaluation.scoring.score`.

    Parameters
    ----------
    streams, tracks : sequences of the same length
    config : DetectorConfig
    """
    found = [replay(track, config) for track in tracks]
    return score_heard(streams, tracks, found, config, **options)


def score_heard(
    streams: Sequence[Stream],
    tracks: Sequence[Track],
    detections: Iterable[Sequence[Detection]],
    config: DetectorConfig,
    **options,
) -> Score:
    """Score of the detections in all streams. `detections` has a sequence for each stream.

    Raises
    ------
    DatasetError
        If a word is said after the end of its stream.
    """
    heard = []
    for stream, track, found in zip(streams, tracks, detections, strict=True):
        late = next((word for word in stream.words if word.start_s >= track.duration_s), None)
        if late:
            raise DatasetError(
                f"{stream.labels}: {late.label!r} at {late.start_s:g} s, but {stream.path} ends at "
                f"{track.duration_s:.2f} s; are these its labels?"
            )
        heard.append(Heard(str(stream.path), track.duration_s, stream.words, found))
    return score(heard, tracks[0].detector(config).keywords, **options)
