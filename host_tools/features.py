"""Training features, always through kws_edge's own front end.

Training keeps *raw levels*: ``log_gain * ln(bands + log_offset)`` without the front end's offset and clips. From them
the band power can be had back, so shift, gain and noise can be applied after the fact, to features of recordings and to
precomputed features alike.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from host_tools.errors import DatasetError
from kws_edge.config import FrontendConfig
from kws_edge.frontend import Frontend, fit_clip

__all__ = [
    "clip_features",
    "levels_to_raw",
    "power_to_raw",
    "raw_config",
    "raw_to_levels",
    "raw_to_power",
    "read_clip",
    "recording_features",
]


def raw_config(config: FrontendConfig) -> FrontendConfig:
    """`config` without level offset and clips: the front end whose output are raw levels."""
    return dataclasses.replace(config, level_offset=0, level_min=None, level_max=None, resize_frames=None)


def raw_to_power(raw: np.ndarray, config: FrontendConfig) -> np.ndarray:
    """Power in each mel band, from raw levels (magnitude front ends: the square of the band's magnitude)."""
    bands = np.exp(raw * np.float32(1 / config.log_gain)) - np.float32(config.log_offset)
    np.maximum(bands, 0, out=bands)
    return np.square(bands) if config.spectrum == "magnitude" else bands


def power_to_raw(power: np.ndarray, config: FrontendConfig) -> np.ndarray:
    """Inverse of :func:`raw_to_power`."""
    bands = np.sqrt(power) if config.spectrum == "magnitude" else power
    return np.log(bands + np.float32(config.log_offset)) * np.float32(config.log_gain)


def raw_to_levels(raw: np.ndarray, config: FrontendConfig) -> np.ndarray:
    """The front end's output levels, from raw levels."""
    levels = raw + np.float32(config.level_offset)
    if config.level_min is not None or config.level_max is not None:
        np.clip(levels, config.level_min, config.level_max, out=levels)
    return levels


def levels_to_raw(levels: np.ndarray, config: FrontendConfig) -> np.ndarray:
    """Raw levels from output levels (of a clipped level: the clip)."""
    return levels.astype(np.float32) - np.float32(config.level_offset)


def read_clip(path: Path, config: FrontendConfig) -> np.ndarray:
    """Mono int16 samples of a training recording.

    Raises
    ------
    DatasetError
        If the file cannot be decoded, is empty, or is of another rate or channel count.
    """
    try:
        samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise DatasetError(f"{path}: cannot be read as audio ({error})") from None
    if rate != config.sample_rate or samples.shape[1] != 1:
        raise DatasetError(
            f"{path}: {rate} Hz with {samples.shape[1]} channels; training takes mono at {config.sample_rate} Hz"
        )
    if not len(samples):
        raise DatasetError(f"{path}: holds no samples")
    return samples[:, 0]


def _raw_features(path: Path, *, config: FrontendConfig, whole: bool) -> np.ndarray:
    samples = read_clip(path, config)
    if not whole:
        samples = fit_clip(samples, config.clip_samples)
    return _frontend(raw_config(config)).frames(samples).astype(np.float16)


@functools.cache
def _frontend(config: FrontendConfig) -> Frontend:
    return Frontend(config)


def _extract(paths: Sequence[Path], config: FrontendConfig, *, whole: bool, what: str, workers: int | None):
    work = functools.partial(_raw_features, config=config, whole=whole)
    bar = functools.partial(tqdm, total=len(paths), desc=what, unit="file", mininterval=0.5)
    if workers == 1 or len(paths) < 200:
        return list(bar(map(work, paths)))
    with ProcessPoolExecutor(workers) as pool:
        return list(bar(pool.map(work, paths, chunksize=64)))


def clip_features(
    paths: Sequence[Path], config: FrontendConfig, *, what: str = "features", workers: int | None = None
) -> np.ndarray:
    """Raw levels of clips, each centred in the clip's length.

    Returns
    -------
    numpy.ndarray, shape (len(paths), config.n_frames, config.n_mels), float16
    """
    rows = _extract(paths, config, whole=False, what=what, workers=workers)
    return np.stack(rows) if rows else np.empty((0, config.n_frames, config.n_mels), np.float16)


def recording_features(
    paths: Sequence[Path], config: FrontendConfig, *, what: str = "recordings", workers: int | None = None
) -> list[np.ndarray]:
    """Raw levels of whole recordings.

    Returns
    -------
    list of numpy.ndarray, shape (frames, config.n_mels), float16
        One array a recording, in order.
    """
    return _extract(paths, config, whole=True, what=what, workers=workers)
