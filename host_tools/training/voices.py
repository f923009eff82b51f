"""Learn what tells voices apart; see :mod:`kws_edge.voice.voices`.

Linear discriminant analysis of the statistics of many people's words. Each word is varied by equalisers and noise, so
that the projection tells voices apart, and less the microphones of the speakers. Speakers that do not train set the
thresholds.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.linalg import eigh
from tqdm import tqdm

from host_tools.config import AugmentConfig
from host_tools.data.dataset import Clip
from host_tools.data.features import clip_features, recording_features
from host_tools.data.recordings import find_audio
from host_tools.errors import TrainingError
from host_tools.sampling.augment import augment
from kws_edge.config import FrontendConfig
from kws_edge.files import write_atomically
from kws_edge.teach.encoder import normalised
from kws_edge.voice.me import UTTERANCES
from kws_edge.voice.voices import FORMAT, statistics

__all__ = ["apart", "train_voices", "varied"]

_DIMENSIONS, _SHRINKAGE, _LEAST = 48, 0.05, 3
"""Size of an embedding, share of a round covariance, and clips of a speaker that train."""
_HELD_OUT, _PARTS = 3, 10
"""Tenths of the speakers that set the thresholds."""
_SHARES = (0.2, 0.1, 0.05, 0.02, 0.01)
_MISFIT = 0.01
"""Share of a person's own utterances that do not match the others."""
_BATCH = 256
_AUGMENT = AugmentConfig(
    shift_ms=0, stretch=0, time_masks=0, frequency_masks=0, snr_db=(12.0, 40.0), equalisation_db=6.0, reverberation=0
)


def varied(
    raw: np.ndarray, noise: Sequence[np.ndarray], config: FrontendConfig, rng: np.random.Generator
) -> np.ndarray:
    """Statistics of clips of raw levels, each with an equaliser and noise of its own, shape (n, features), float32.

    Rows of clips with too little speech are NaN.
    """
    rows = []
    for at in tqdm(range(0, len(raw), _BATCH), desc="voices", unit="batch", mininterval=0.5):
        batch = raw[at : at + _BATCH].astype(np.float32)
        sounds = np.stack([_window(noise, batch.shape[1], rng) for _ in batch])
        rows += [statistics(one) for one in augment(batch, sounds, rng, config, _AUGMENT)]
    width = next(len(row) for row in rows if row is not None)
    return np.array([np.full(width, np.nan, np.float32) if row is None else row for row in rows])


def _window(recordings: Sequence[np.ndarray], frames: int, rng: np.random.Generator) -> np.ndarray:
    one = recordings[int(rng.integers(len(recordings)))]
    start = int(rng.integers(len(one) - frames))
    return one[start : start + frames].astype(np.float32)


def _discriminant(rows: np.ndarray, speakers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the rows, and a projection that keeps what differs between speakers, shape (features, dimensions)."""
    _, group, counts = np.unique(speakers, return_inverse=True, return_counts=True)
    rows, group = rows[counts[group] >= _LEAST], group[counts[group] >= _LEAST]
    _, group, counts = np.unique(group, return_inverse=True, return_counts=True)
    if len(counts) <= _DIMENSIONS:
        raise TrainingError(f"{len(counts)} speakers with {_LEAST} clips or more; voices take {_DIMENSIONS + 1}")
    mean, scale = rows.mean(axis=0), rows.std(axis=0) + 1e-6
    rows = (rows - mean) / scale
    centres = np.zeros((len(counts), rows.shape[1]))
    np.add.at(centres, group, rows)
    centres /= counts[:, None]
    within = np.cov((rows - centres[group]).T, bias=True)
    within += _SHRINKAGE * np.trace(within) / len(within) * np.eye(len(within))
    between = (centres * counts[:, None]).T @ centres / len(rows)
    directions = eigh(between, within)[1][:, ::-1][:, :_DIMENSIONS]
    return mean, directions / scale[:, None]


def apart(
    embeddings: np.ndarray, speakers: np.ndarray, rng: np.random.Generator
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Cosines to the mean of ten utterances of each speaker who has twelve or more.

    Parameters
    ----------
    embeddings : numpy.ndarray, shape (n, dimensions)
    speakers : numpy.ndarray, shape (n,)

    Returns
    -------
    own, others, rows : list of numpy.ndarray
        For each speaker: cosines of the further utterances, those of other people's, and the rows of `embeddings` that
        gave the mean, then those of the further ones.
    """
    own, others, chosen = [], [], []
    names, counts = np.unique(speakers, return_counts=True)
    for name in names[counts >= UTTERANCES + 2]:
        rows = rng.permutation(np.flatnonzero(speakers == name))
        voice = normalised(embeddings[rows[:UTTERANCES]].mean(axis=0))
        own.append(embeddings[rows[UTTERANCES:]] @ voice)
        others.append(embeddings[speakers != name] @ voice)
        chosen.append(rows)
    return own, others, chosen


def train_voices(
    clips: Sequence[Clip], noise: Path, config: FrontendConfig, output: Path, *, copies: int, seed: int
) -> dict[str, Any]:
    """Learn the projection from the training clips of Speech Commands, and write its file.

    Parameters
    ----------
    clips : sequence of Clip
        Those of validation and test speakers do not count.
    noise : path
        Folder of recordings.
    config : FrontendConfig
    output : path
    copies : int
        Variations of each clip.
    seed : int

    Returns
    -------
    dict
        JSON-ready description of what was learnt.

    Raises
    ------
    TrainingError
        If there are too few speakers.
    """
    rng = np.random.default_rng(seed)
    clips = [clip for clip in clips if clip.split == "training" and clip.speaker]
    sounds = recording_features(find_audio(noise).paths, config, what="noise")[0]
    sounds = [one for one in sounds if len(one) > 2 * config.n_frames]
    if not clips or not sounds:
        raise TrainingError("voices need clips of known speakers, and recordings of noise")
    found = clip_features([clip.path for clip in clips], config, what="clips")
    raw = np.asarray(found.levels)
    speakers = np.array([clip.speaker for clip in clips])
    trains = np.array([zlib.crc32(name.encode()) % _PARTS >= _HELD_OUT for name in speakers])
    rows = np.concatenate([varied(raw, sounds, config, rng) for _ in range(copies)])
    names, used = np.tile(speakers, copies), np.tile(trains, copies) & ~np.isnan(rows[:, 0])
    mean, projection = _discriminant(rows[used], names[used])
    held = ~trains & ~np.isnan(rows[: len(clips), 0])
    own, others, _ = apart(normalised((rows[: len(clips)][held] - mean) @ projection), speakers[held], rng)
    if not own:
        raise TrainingError(f"no speaker of {UTTERANCES + 2} clips is left to set the thresholds")
    about = {
        "format": FORMAT,
        "frontend_hash": config.hash,
        "points": [[share, float(np.quantile(np.concatenate(others), 1 - share))] for share in _SHARES],
        "match": float(np.quantile(np.concatenate(own), _MISFIT)),
        "made": {
            "clips": int(used.sum()) // copies,
            "speakers": len(set(names[used])),
            "speakers_of_thresholds": len(own),
            "copies": copies,
            "seed": seed,
        },
    }
    content: dict[str, Any] = {
        "about": np.array(json.dumps(about)),
        "mean": mean.astype("f4"),
        "projection": projection.astype("f4"),
    }
    write_atomically(output, lambda path: np.savez(path, **content))
    return about
