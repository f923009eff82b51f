"""A model file on long streams, through kws_edge's own chain: what it misses, and how often it fires for nothing.

Every stream is heard once, by :class:`kws_edge.Spotter`; its posteriors are kept as the model's output holds them (for
twelve labels 0.7 MB an hour, times included), and :func:`replay` runs :class:`kws_edge.Detector` over them with any
other settings. To evaluate settings on what has been heard::

    tracks = [heard.track for heard in hear_all("commands12", streams, config)]
    result = score_replayed(streams, tracks, other_config)
"""

from __future__ import annotations

import dataclasses
import functools
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from host_tools.data.annotations import Word, anything_said, labels_beside, read_also_said, read_labels
from host_tools.data.recordings import recordings
from host_tools.errors import DatasetError
from host_tools.evaluation.scoring import Heard, Score, score
from host_tools.parallel import run_parallel
from host_tools.sampling.augment import AugmentConfig, room_response
from host_tools.sampling.noise_gate import gated
from kws_edge.audio import AudioFile
from kws_edge.config import DetectorConfig, FrontendConfig
from kws_edge.detection.detector import Detection, Detector
from kws_edge.errors import AudioError, ConfigError
from kws_edge.model.model import Model
from kws_edge.model.quantization import dequantize, quantize
from kws_edge.spotter import Spotter

__all__ = [
    "THRESHOLDS",
    "Condition",
    "HeardTrack",
    "Stream",
    "Track",
    "find_streams",
    "hear",
    "hear_all",
    "replay",
    "samples_of",
    "score_heard",
    "score_replayed",
    "sweep",
]

THRESHOLDS = tuple(round(0.30 + 0.05 * i, 2) for i in range(14))
"""Of the DET curve: 0.30 to 0.95."""
_PARALLEL_FROM_S = 120  # seconds of audio; for less, starting workers takes longer than the work
_CHUNK = 4096  # windows that are replayed at a time


@dataclass(frozen=True)
class Stream:
    """A recording, and what is said in it."""

    path: Path
    words: tuple[Word, ...] = ()
    labels: Path | None = None
    """Where the words come from; None: nothing is said in it."""

    @property
    def spoken(self) -> bool:
        """Whether a word is said in it that is to be heard."""
        return anything_said(self.words)


@dataclass(frozen=True)
class Condition:
    """How the streams are heard."""

    gain_db: float = 0.0
    room: bool = False
    """In a synthetic room, each stream in one of its own."""
    gated: bool = False
    """Digitally silent but for the labelled words, as behind a gate; see :mod:`host_tools.sampling.noise_gate`."""

    def __post_init__(self) -> None:
        if not abs(self.gain_db) <= 200:
            raise DatasetError(f"a gain of {self.gain_db} dB is beyond -200 to 200")

    @property
    def name(self) -> str:
        return f"{self.gain_db:+g} dB" + ", in rooms" * self.room + ", gated" * self.gated

    def takes(self, stream: Stream) -> bool:
        """Whether the stream is heard under this condition: a gate opens for words, of which some have none."""
        return not self.gated or stream.spoken


@dataclass(frozen=True)
class Track:
    """The posteriors of one stream."""

    labels: tuple[str, ...]
    times_s: np.ndarray
    """End of each window, shape (n,), float64."""
    outputs: np.ndarray
    """The model's output, shape (n, len(labels)), of the output's dtype."""
    scale: float | None
    """Quantisation of `outputs`; None where they are posteriors themselves."""
    zero_point: int
    step_ms: float
    """The setting that they were computed with."""
    step_s: float
    clip_s: float
    duration_s: float
    """Length of the stream."""

    def posteriors(self, part: slice = slice(None)) -> np.ndarray:
        """shape (n, len(labels)), float32; the very numbers that the spotter saw, of all windows or some."""
        rows = self.outputs[part]
        return rows if self.scale is None else dequantize(rows, self.scale, self.zero_point)


@dataclass(frozen=True)
class HeardTrack:
    """What hearing one stream gave."""

    track: Track
    detections: tuple[Detection, ...]
    """Of the live run."""
    swept: tuple[tuple[Detection, ...], ...]
    """Of a replay at each of the thresholds asked for."""
    cpu_s: float
    """Processor time of the live run."""


def find_streams(
    paths: Sequence[str | Path],
    *,
    truth: Sequence[str | Path] = (),
    half: str | None = None,
    also_said: str | Path | None = None,
) -> list[Stream]:
    """Recordings, with the label files that belong to them.

    Parameters
    ----------
    paths : sequence of path
        Files, and folders, of which every recording is taken, by :func:`host_tools.data.recordings.recordings`.
    truth : sequence of path
        Label files, one for each of `paths`, which then are files. Without it, a recording's labels are those of
        :func:`host_tools.data.annotations.labels_beside`, and where there are none, nothing is said in it.
    half : str, optional
        ``training`` or ``reporting``: only these recordings of the folders.
    also_said : path, optional
        List of optional words of the recordings; see :func:`host_tools.data.annotations.read_also_said`.

    Raises
    ------
    DatasetError
        If a path does not exist, nothing is left, or labels are wrong.
    """
    if truth and len(truth) != len(paths):
        raise DatasetError(f"{len(truth)} label files for {len(paths)} recordings; give one for each, in their order")
    streams = []
    for number, path in enumerate(map(Path, paths)):
        if path.is_dir():
            if truth:
                raise DatasetError(f"{path}: is a folder; --truth goes with files")
            streams += [_stream(p, labels_beside(p)) for p in recordings(path, half).paths]
        elif path.exists():
            streams.append(_stream(path, Path(truth[number]) if truth else labels_beside(path)))
        else:
            raise DatasetError(f"{path}: no such file or folder")
    if not streams:
        raise DatasetError(f"{', '.join(map(str, paths))}: no recordings" + (f" of the {half} half" if half else ""))
    if also_said is not None:
        said = read_also_said(also_said)
        streams = [
            dataclasses.replace(s, words=s.words + said.get(s.path.stem, ()), labels=s.labels or Path(also_said))
            for s in streams
        ]
    return streams


def _stream(path: Path, labels: Path | None) -> Stream:
    return Stream(path, tuple(read_labels(labels)) if labels else (), labels)


def samples_of(stream: Stream, rate: int, condition: Condition, *, seed: int = 0) -> Iterator[np.ndarray]:
    """Blocks of a recording as it is heard under a condition; as many samples as it has.

    Parameters
    ----------
    stream : Stream
    rate : int
        Hz of the blocks.
    condition : Condition
    seed : int
        Of the room.

    Yields
    ------
    numpy.ndarray, shape (n,), int16
    """
    with AudioFile(stream.path, rate=rate) as audio:
        blocks = iter(audio)
        if condition.room or condition.gain_db:
            blocks = _played(blocks, rate, condition, seed)
        if condition.gated:
            blocks = gated(blocks, [word for word in stream.words if not word.optional], rate)
        yield from blocks


def _played(blocks: Iterable[np.ndarray], rate: int, condition: Condition, seed: int) -> Iterator[np.ndarray]:
    blocks = (block.astype(np.float64) for block in blocks)
    if condition.room:
        rng, ranges = np.random.default_rng(seed), AugmentConfig()
        response = room_response(rng, rate, rng.uniform(*ranges.rt60_ms), rng.uniform(*ranges.direct_db))
        blocks = _convolved(blocks, response)
    gain = 10 ** (condition.gain_db / 20)
    for block in blocks:
        yield np.clip(np.round(block * gain), -32768, 32767).astype(np.int16)


def _convolved(blocks: Iterable[np.ndarray], response: np.ndarray) -> Iterator[np.ndarray]:
    from scipy.signal import oaconvolve

    tail = np.zeros(len(response) - 1)
    for block in blocks:
        whole = oaconvolve(block, response)
        whole[: len(tail)] += tail
        yield whole[: len(block)]
        tail = whole[len(block) :]


def hear(
    model: Model,
    blocks: Iterable[np.ndarray],
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
        As for :meth:`kws_edge.Spotter.run`.
    config : DetectorConfig
    thresholds : sequence of float
        To replay it at afterwards; see :func:`sweep`.
    on_seconds : callable
        Called with the length of each block.
    """
    rate, output = model.frontend_config.sample_rate, model.output
    spotter = Spotter(model, detector_config=config)
    dtype = np.dtype(output.dtype)
    times, outputs, detections = array("d"), bytearray(), []

    def counted() -> Iterator[np.ndarray]:
        for block in blocks:
            yield block
            on_seconds(len(block) / rate)

    start = time.process_time()
    for step in spotter.steps(counted()):
        times.append(step.time_s)
        raw = step.posteriors
        if output.scale:
            raw = quantize(raw, output.scale, output.zero_point, dtype)
        outputs += raw.tobytes()
        if step.detection:
            detections.append(step.detection)
    cpu_s = time.process_time() - start
    track = Track(
        labels=model.labels,
        times_s=np.frombuffer(times),
        outputs=np.frombuffer(outputs, dtype).reshape(-1, len(model.labels)),
        scale=output.scale or None,
        zero_point=output.zero_point,
        step_ms=config.step_ms,
        step_s=spotter.step_frames * model.frontend_config.hop_length / rate,
        clip_s=model.frontend_config.clip_samples / rate,
        duration_s=spotter.n_samples / rate,
    )
    swept = tuple(tuple(replay(track, c)) for c in sweep(config, thresholds))
    return HeardTrack(track, tuple(detections), swept, cpu_s)


def replay(track: Track, config: DetectorConfig) -> list[Detection]:
    """What :class:`kws_edge.Spotter` with these settings detects in the stream, computed from its posteriors.

    Raises
    ------
    ConfigError
        If `config` has another `step_ms` than the posteriors were computed with.
    """
    if config.step_ms != track.step_ms:
        raise ConfigError(
            f"step_ms={config.step_ms:g}, but the posteriors were computed every {track.step_ms:g} ms; hear them again"
        )
    detector = Detector(track.labels, config, step_s=track.step_s, clip_s=track.clip_s)
    found = []
    for start in range(0, len(track.outputs), _CHUNK):
        rows = track.posteriors(slice(start, start + _CHUNK))
        for posteriors, time_s in zip(rows, track.times_s[start : start + _CHUNK].tolist(), strict=True):
            if detection := detector.process(posteriors, time_s):
                # As Spotter.finish has it: what is heard in the silence after the end was heard at the end.
                found.append(dataclasses.replace(detection, end_s=min(detection.end_s, track.duration_s)))
    return found


def sweep(config: DetectorConfig, thresholds: Sequence[float]) -> list[DetectorConfig]:
    """`config` with each of these as the threshold of every keyword."""
    return [dataclasses.replace(config, threshold=threshold, thresholds={}) for threshold in thresholds]


def score_replayed(streams: Sequence[Stream], tracks: Sequence[Track], config: DetectorConfig, **options) -> Score:
    """Score of a replay; `options` as of :func:`host_tools.evaluation.scoring.score`.

    Parameters
    ----------
    streams, tracks : sequences, of the same length
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
    """Score of the detections of each stream.

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
    labels = tracks[0].labels
    keywords = Detector(labels, config, step_s=tracks[0].step_s, clip_s=tracks[0].clip_s).keywords
    return score(heard, keywords, **options)


@functools.cache
def _model(
    name: str, kernels: str, labels: tuple[str, ...] | None = None, frontend_config: FrontendConfig | None = None
) -> Model:
    return Model(name, kernels=kernels, labels=labels, frontend_config=frontend_config)


@dataclass(frozen=True)
class _Job:
    """One stream under one condition; the arguments of :func:`hear` and :func:`samples_of`."""

    model: tuple
    """Arguments of :func:`_model`."""
    stream: Stream
    condition: Condition
    seed: int
    config: DetectorConfig
    thresholds: tuple[float, ...]


def _hear(job: _Job, on_seconds: Callable[[float], object] = lambda seconds: None) -> HeardTrack:
    model = _model(*job.model)
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
    progress: Callable = tqdm,
) -> list[HeardTrack]:
    """Every stream under every condition that takes it, each from a new start, by several processes.

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
        The streams that the first condition takes, in order, then those of the second, and so on.

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
    total = sum(lengths) * (1 + 1e-9)  # so that sums of blocks do not go beyond it
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
    """Length that the file's header gives; 0 where it gives none, and for what hearing it will refuse."""
    try:
        with AudioFile(path, rate=16000) as audio:
            return audio.seconds or 0.0
    except AudioError:
        return 0.0
