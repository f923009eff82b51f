"""Training features. kws_edge's own front end computes them all.

Training keeps *raw levels*: ``log_gain * ln(bands + log_offset)`` without the front end's offset and clips. Raw levels
can be converted back to band power. So shift, gain and noise can be applied later, to features of recordings and to
precomputed features alike.

Raw levels of ``microfrontend`` are those before its noise reduction and gain control, which follow the augmentation. As
on the device, each clip or sequence then begins after silence. Its output levels cannot be converted back.

Features of clips are computed once, by all cores, into a memory-mapped file of a cache. Its key is made of the front
end's hash and the files. An interrupted computation goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from host_tools.errors import DatasetError
from host_tools.locks import locked
from host_tools.parallel import run_parallel
from kws_edge.audio.file import AudioFile
from kws_edge.config import MICROFRONTEND, FrontendConfig
from kws_edge.errors import AudioError
from kws_edge.features.frontend import Frontend, fit_clip, resize_frames
from kws_edge.features.microfrontend import Adaptation
from kws_edge.files import write_atomically

__all__ = [
    "ClipFeatures",
    "clip_features",
    "clip_levels",
    "default_cache",
    "levels_to_raw",
    "model_input",
    "power_to_raw",
    "raw_config",
    "raw_levels",
    "raw_to_levels",
    "raw_to_power",
    "read_clip",
    "recording_features",
    "span_range",
]

Samples = NDArray[np.int16]
Levels = NDArray[np.floating]
"""Of any shape, float16 or float32."""

_CHUNK = 64  # clips that a worker takes at a time; an interruption loses at most these of each worker
_PARALLEL_FROM = 200  # clips; for fewer, starting workers takes longer than the work
_LAYOUT = 3  # version of the cache's files, and of how recordings are read


def default_cache() -> Path:
    """The folder that keeps features between runs: ``kws-edge/features`` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kws-edge" / "features"


def raw_config(config: FrontendConfig) -> FrontendConfig:
    """`config` without level offset and clips, and without what follows the levels. Raw levels depend on the rest."""
    return dataclasses.replace(
        config, level_offset=0, level_min=None, level_max=None, resize_frames=None, n_mfcc=None, normalise=False
    )


def raw_levels(samples: Samples, config: FrontendConfig) -> NDArray[np.float32]:
    """Raw levels of every full frame in `samples`, shape (n, config.n_mels), float32."""
    rows = _frontend(raw_config(config)).rows(samples)
    return power_to_raw(np.square(rows), config) if config.algorithm == MICROFRONTEND else rows


def raw_to_power(raw: Levels, config: FrontendConfig) -> Levels:
    """Power in each mel band, from raw levels (magnitude front ends: the square of the band's magnitude)."""
    bands = raw * np.float32(1 / config.log_gain)
    np.exp(bands, out=bands)
    bands -= np.float32(config.log_offset)
    np.maximum(bands, 0, out=bands)
    return np.square(bands) if config.spectrum == "magnitude" else bands


def power_to_raw(power: Levels, config: FrontendConfig) -> Levels:
    """Inverse of :func:`raw_to_power`."""
    raw = (np.sqrt(power) if config.spectrum == "magnitude" else power) + np.float32(config.log_offset)
    np.log(raw, out=raw)
    raw *= np.float32(config.log_gain)
    return raw


def raw_to_levels(raw: Levels, config: FrontendConfig) -> Levels:
    """The front end's output levels, from raw levels.

    Parameters
    ----------
    raw : numpy.ndarray, shape (..., frames, mels)
        Of clips, or of sequences. Silence is before each.
    config : FrontendConfig
    """
    if config.algorithm == MICROFRONTEND:
        return _adaptation(config)(np.sqrt(raw_to_power(raw, config)))
    levels = raw + np.float32(config.level_offset)
    if config.level_min is not None or config.level_max is not None:
        np.clip(levels, config.level_min, config.level_max, out=levels)
    return levels


def levels_to_raw(levels: Levels, config: FrontendConfig) -> Levels:
    """Raw levels from output levels, not of ``microfrontend``. A clipped level gives the raw level of the clip."""
    return levels.astype(np.float32) - np.float32(config.level_offset)


def model_input(levels: np.ndarray, config: FrontendConfig) -> np.ndarray:
    """Levels of clips as the network takes them. They are resized if the front end says so.

    Returns
    -------
    numpy.ndarray, shape (n, *config.feature_shape, 1), float32
    """
    if config.resize_frames is not None:
        levels = np.stack([resize_frames(row, config.resize_frames) for row in levels])
    return levels[..., np.newaxis]


def span_range(inputs: np.ndarray, config: FrontendConfig) -> np.ndarray:
    """If the front end clips levels, set two values of the first example to the ends of the levels' range.

    The range includes zero, as TFLite's ranges do. So the scale and zero point of a quantised input follow from the
    front end, not from the clips.

    Parameters
    ----------
    inputs : numpy.ndarray, shape (n, ...), float32
        The examples. They are changed in place and returned.
    config : FrontendConfig
    """
    for edge, position, widest in ((config.level_min, 0, min), (config.level_max, -1, max)):
        if edge is not None:
            inputs[0].flat[position] = widest(0.0, edge)
    return inputs


def read_clip(path: Path, config: FrontendConfig) -> Samples:
    """Mono int16 samples of a training recording, at the front end's rate, as the device would hear them.

    Raises
    ------
    DatasetError
        If the file cannot be decoded, is cut short, or is empty.
    """
    try:
        with AudioFile(path, sample_rate=config.sample_rate) as audio:
            samples = audio.read_all()
    except AudioError as error:
        raise DatasetError(str(error)) from None
    if audio.remark:
        raise DatasetError(f"{path}: {audio.remark}")
    return samples


@functools.cache
def _frontend(config: FrontendConfig) -> Frontend:
    return Frontend(config)


@functools.cache
def _adaptation(config: FrontendConfig) -> Adaptation:
    return Adaptation(config)


def clip_levels(samples: Samples, config: FrontendConfig) -> NDArray[np.float16]:
    """Raw levels of a clip, centred in the clip's length, float16 (frames, mels)."""
    return raw_levels(fit_clip(samples, config.clip_samples), config).astype(np.float16)


Variation = Callable[[Samples, int], Samples]
"""Maps samples and the clip's number to samples; see :class:`host_tools.sampling.augment.AudioVariation`."""


@dataclass(frozen=True)
class ClipFeatures:
    """Raw levels of clips, and the clips that were skipped."""

    levels: NDArray[np.float16]
    """float16 (n, frames, mels), memory-mapped. Clips that were skipped have zeros."""
    skipped: dict[int, str]
    """Why clips were skipped, by the clip's number."""

    @property
    def usable(self) -> NDArray[np.intp]:
        """Numbers of the clips that were not skipped, ascending."""
        return np.setdiff1d(np.arange(len(self.levels)), np.fromiter(self.skipped, int))


def clip_features(
    paths: Sequence[Path],
    config: FrontendConfig,
    *,
    cache: Path | None = None,
    vary: Variation | None = None,
    what: str = "features",
    workers: int | None = None,
) -> ClipFeatures:
    """Raw levels of clips, each centred in the clip's length.

    A clip that :func:`read_clip` refuses is skipped, and the result says why.

    Parameters
    ----------
    paths : sequence of path
    config : FrontendConfig
    cache : path, optional
        Folder that keeps the features. Complete features in it are used. Without a folder the features last as long as
        the process.
    vary : callable, optional
        Changes each clip's samples first. Its ``repr`` is part of the cache's key.
    what : str
        Names the progress bar.
    workers : int, optional
        Processes; by default one a core.
    """
    shape = (len(paths), config.n_frames, config.n_mels)
    if not paths:
        return ClipFeatures(np.empty(shape, np.float16), {})
    folder = (cache or _temporary_cache()) / _key(paths, config, vary)
    fill = functools.partial(_fill, folder=folder, config=config, vary=vary)
    if not _is_complete(folder):
        with locked(folder, wait=True):  # a process that has waited finds the work done
            _complete(folder, shape, paths, fill, what=what, workers=workers)
    return ClipFeatures(np.load(folder / "levels.npy", mmap_mode="r"), dict(sorted(_skipped(folder).items())))


def _is_complete(folder: Path) -> bool:
    try:
        return bool(np.load(folder / "done.npy").all())
    except FileNotFoundError:
        return False


def _complete(
    folder: Path, shape: tuple[int, ...], paths: Sequence[Path], fill: Callable, *, what: str, workers: int | None
) -> None:
    """Compute what is missing of the cache's files in `folder`."""
    starts = range(0, len(paths), _CHUNK)
    _prepare(folder, shape, len(starts))
    done, skipped = np.load(folder / "done.npy", mmap_mode="r+"), _skipped(folder)
    jobs = [(paths[at : at + _CHUNK], at) for i, at in enumerate(starts) if not done[i]]
    with tqdm(total=len(paths), desc=what, unit="clip", mininterval=0.5, disable=not jobs) as bar:
        bar.update(len(paths) - sum(len(part) for part, _ in jobs))
        for (part, at), left_out in zip(jobs, _run(fill, jobs, len(paths), workers), strict=True):
            if left_out:
                skipped |= left_out
                write_atomically(folder / "skipped.json", json.dumps(list(skipped.items())))
            done[at // _CHUNK] = 1
            bar.update(len(part))


def _skipped(folder: Path) -> dict[int, str]:
    """Why clips were skipped, by number."""
    try:
        return dict(json.loads((folder / "skipped.json").read_text()))
    except FileNotFoundError:
        return {}


def recording_features(
    paths: Sequence[Path], config: FrontendConfig, *, what: str = "recordings", workers: int | None = None
) -> tuple[list[NDArray[np.float16]], dict[Path, str]]:
    """Raw levels of whole recordings.

    Returns
    -------
    levels : list of numpy.ndarray, shape (frames, config.n_mels), float16
        One array for each recording that could be read, in order.
    skipped : dict
        Why the other recordings could not be read, by path.
    """
    work = functools.partial(_recording, config=config)
    bar = tqdm(total=len(paths), desc=what, unit="file", mininterval=0.5, disable=not paths)
    levels, skipped = [], {}
    with bar:
        for path, result in zip(paths, _run(work, paths, len(paths), workers), strict=True):
            if isinstance(result, str):
                skipped[path] = result
            else:
                levels.append(result)
            bar.update()
    return levels, skipped


def _run(work: Callable, jobs: Sequence, n: int, workers: int | None) -> Iterable:
    return run_parallel(work, jobs, workers=1 if n < _PARALLEL_FROM else workers)


def _recording(path: Path, *, config: FrontendConfig) -> NDArray[np.float16] | str:
    try:
        return raw_levels(read_clip(path, config), config).astype(np.float16)
    except DatasetError as error:
        return str(error)


def _fill(job: tuple[Sequence[Path], int], *, folder: Path, config: FrontendConfig, vary: Variation | None) -> dict:
    """Compute features of some clips into the cache's file, from row `at` on. Returns why clips were skipped."""
    paths, at = job
    levels, skipped = np.load(folder / "levels.npy", mmap_mode="r+"), {}
    for number, path in enumerate(paths, at):
        try:
            samples = read_clip(path, config)
        except DatasetError as error:
            skipped[number] = str(error)
            continue
        if vary:
            samples = vary(samples, number)
        levels[number] = clip_levels(samples, config)
    return skipped


def _prepare(folder: Path, shape: tuple[int, ...], n_chunks: int) -> None:
    if (folder / "done.npy").exists():
        return
    for name, dtype, size in (("levels", np.float16, shape), ("done", np.uint8, (n_chunks,))):
        write_atomically(folder / f"{name}.npy", functools.partial(_allocate, dtype=dtype, shape=size))


def _allocate(path: str, *, dtype: type, shape: tuple[int, ...]) -> None:
    """Make an array file of zeros and reserve its space: if the disk is full, writing to the map kills the process."""
    np.lib.format.open_memmap(path, "w+", dtype, shape).flush()
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, os.path.getsize(path))
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system that cannot reserve space
                    raise


def _key(paths: Sequence[Path], config: FrontendConfig, vary: Variation | None) -> str:
    files = hashlib.sha256(f"{_LAYOUT} {vary!r}\n".encode())
    for path in paths:
        try:
            status = path.stat()
        except OSError as error:
            raise DatasetError(f"{path}: {error.strerror}") from None
        files.update(os.fsencode(f"{path.absolute()} {status.st_size} {status.st_mtime_ns}\n"))
    return f"{raw_config(config).hash}-{files.hexdigest()[:16]}"


@functools.cache
def _temporary() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="kws-features-")


def _temporary_cache() -> Path:
    return Path(_temporary().name)
