"""Runs a model file on long streams. :class:`kws_edge.Spotter` hears every stream once.

From the posteriors that are kept, :mod:`host_tools.evaluation.stream_replay` computes what other settings would detect.
"""

from __future__ import annotations

import functools
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from host_tools.errors import DatasetError
from host_tools.evaluation.stream_audio import Condition, Stream, samples_of
from host_tools.evaluation.stream_replay import Track, replay, sweep
from host_tools.parallel import run_parallel
from kws_edge.audio.file import AudioFile
from kws_edge.config import DetectorConfig, FrontendConfig
from kws_edge.detection.detector import Detection
from kws_edge.errors import AudioError
from kws_edge.model.model import Model
from kws_edge.model.quantization import quantize
from kws_edge.spotter import Spotter

__all__ = ["HeardTrack", "hear", "hear_all", "loaded_model"]

_PARALLEL_FROM_S = 120  # seconds of audio; for less, starting workers takes longer than the work


@dataclass(frozen=True)
class HeardTrack:
    """The result of hearing one stream."""

    track: Track
    detections: tuple[Detection, ...]
    """Detections of the live run."""
    swept: tuple[tuple[Detection, ...], ...]
    """Detections of a replay at each of the given thresholds."""
    cpu_s: float
    """Processor time of the live run."""


def hear(
    model: Model,
    blocks: Iterable[NDArray[np.int16]],
    config: DetectorConfig,
    *,
    thresholds: Sequence[float] = (),
    on_seconds: Callable[[float], object] = lambda seconds: None,
) -> HeardTrack:
    """Run a stream through :class:`kws_edge.Spotter`.

    Parameters
    ----------
    model : Model
    blocks : iterable of numpy.ndarray
        As for :meth:`kws_edge.Spotter.steps`.
    config : DetectorConfig
    thresholds : sequence of float
        Thresholds to replay the stream at afterwards; see :func:`sweep`.
    on_seconds : callable
        Called with the length of each block in seconds.
    """
    rate, output = model.frontend_config.sample_rate, model.output
    spotter = Spotter(model, detector_config=config)
    # A network with state gives scores, which are no multiples of its posteriors.
    scale = output.scale if model.step is None else None
    dtype = np.dtype(output.dtype if scale else np.float32)
    times, outputs, detections = array("d"), bytearray(), []

    def counted() -> Iterator[NDArray[np.int16]]:
        for block in blocks:
            yield block
            on_seconds(len(block) / rate)

    start = time.process_time()
    for step in spotter.steps(counted()):
        times.append(step.known_s)
        raw = step.posteriors
        if scale:
            raw = quantize(raw, scale, output.zero_point, dtype)
        outputs += raw.tobytes()
        if step.detection:
            detections.append(step.detection)
    cpu_s = time.process_time() - start
    track = Track(
        labels=model.labels,
        times_s=np.frombuffer(times),
        outputs=np.frombuffer(outputs, dtype).reshape(-1, len(model.labels)),
        scale=scale or None,
        zero_point=output.zero_point,
        step_ms=config.step_ms,
        step_s=spotter.answer_s,
        clip_s=model.frontend_config.clip_samples / rate,
        duration_s=spotter.n_samples / rate,
        independent=model.step is not None,
    )
    swept = tuple(tuple(replay(track, c)) for c in sweep(config, thresholds))
    return HeardTrack(track, tuple(detections), swept, cpu_s)


@functools.cache
def loaded_model(
    name: str, kernels: str, labels: tuple[str, ...] | None = None, frontend_config: FrontendConfig | None = None
) -> Model:
    """A model, which a process loads once. The arguments are those of :class:`kws_edge.Model`."""
    return Model(name, kernels=kernels, labels=labels, frontend_config=frontend_config)


@dataclass(frozen=True)
class _Job:
    """One stream under one condition, with the arguments of :func:`hear` and :func:`samples_of`."""

    model: tuple[Any, ...]
    """Arguments of :func:`loaded_model`."""
    stream: Stream
    condition: Condition
    seed: int
    config: DetectorConfig
    thresholds: tuple[float, ...]


def _hear(job: _Job, on_seconds: Callable[[float], object] = lambda seconds: None) -> HeardTrack:
    model = loaded_model(*job.model)
    blocks = samples_of(job.stream, model.frontend_config.sample_rate, job.condition, seed=job.seed)
    return hear(model, blocks, job.config, thresholds=job.thresholds, on_seconds=on_seconds)


def hear_all(
    model: str | Path,
    streams: Sequence[Stream],
    config: DetectorConfig,
    *,
    conditions: Sequence[Condition] = (Condition(),),
    thresholds: Sequence[float] = (),
    kernels: str = "fast",
    labels: Sequence[str] | None = None,
    frontend_config: FrontendConfig | None = None,
    workers: int | None = None,
    progress: Callable[..., Any] = tqdm,
) -> list[HeardTrack]:
    """Hear every stream under every condition that takes it. Several processes each start a stream anew.

    Parameters
    ----------
    model : str or path
        Name of a shipped model, or a file.
    streams : sequence of Stream
    config : DetectorConfig
    conditions : sequence of Condition
    thresholds : sequence of float
        As for :func:`hear`.
    kernels, labels, frontend_config
        As for :class:`kws_edge.Model`.
    workers : int, optional
        Processes; by default one a core.

    Returns
    -------
    list of HeardTrack
        Results for the streams that the first condition takes, in order, then for those of the second, and so on.

    Raises
    ------
    KwsError
        If a stream or the model cannot be read.
    """
    if workers is not None and workers < 1:
        raise DatasetError(f"the number of processes must be at least 1, got {workers}")
    loading = (str(model), kernels, labels and tuple(labels), frontend_config)
    jobs = [
        _Job(loading, stream, condition, seed, config, tuple(thresholds))
        for condition in conditions
        for seed, stream in enumerate(streams)
        if condition.takes(stream)
    ]
    length = {stream.path: _seconds(stream.path) for stream in streams}
    lengths = [length[job.stream.path] for job in jobs]
    total = sum(lengths) * (1 + 1e-9)  # a little more, so that sums of blocks do not exceed it
    heard = []
    with progress(total=total, desc="hearing", unit="s", mininterval=0.5, unit_scale=True) as bar:
        if len(jobs) == 1 or workers == 1 or total < _PARALLEL_FROM_S:
            heard = [_hear(job, bar.update) for job in jobs]
        else:
            for result, seconds in zip(run_parallel(_hear, jobs, workers=workers), lengths, strict=True):
                heard.append(result)
                bar.update(seconds)
    return heard


def _seconds(path: Path) -> float:
    """Length in seconds from the file's header. 0 if the header has none, or if the file cannot be read."""
    try:
        with AudioFile(path, sample_rate=16000) as audio:
            return audio.seconds or 0.0
    except AudioError:
        return 0.0
