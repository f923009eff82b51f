"""Find faults of a microphone's signal from some seconds of audio."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Channel", "Finding", "SignalQuality", "findings"]

FAULT, REMARK = "fault", "remark"
_FRAME_MS = 20
_SILENT_DB = -120.0
# Share of 300 commands that the shipped model hears: 95 % at their recorded level (median `level_db` -18) and at 30 dB
# less, 92 % at 40 dB less, 88 % at 46 dB less.
_QUIET_DB = -50.0
_DEAD_QUIET_DB = -80.0
_NOISY_DB = -35.0
_SPEECH_DB = 10.0
_WEAK_DB = 20.0
_CLIPPED = 2e-4
_OFFSET = 0.05
_SOME_OFFSET = 0.01
_DROPOUTS = 0.1


@dataclass(frozen=True)
class Finding:
    """A fault, or a remark that is worth knowing."""

    code: str
    """A fixed word for scripts."""
    what: str
    """Description of the finding, with the value."""
    remedy: str = ""
    """What to do."""
    level: str = FAULT


@dataclass(frozen=True)
class Channel:
    """The measurements of one channel. Levels are in dB of full scale."""

    peak_db: float
    """Level of the largest sample."""
    level_db: float
    """Level, without the offset, that is exceeded in 3 % of the time: that of speech, if there was speech."""
    floor_db: float
    """Level that is exceeded in 90 % of the time."""
    offset: float
    """Mean of the samples, as a share of full scale, -1 to 1."""
    clipped: float
    """Share of samples at an end of the range, 0 to 1."""
    silent: float
    """Share of the time in which no sample differs from the one before, 0 to 1."""


class SignalQuality:
    """Measures a signal block by block. Memory grows only by a few bytes for each frame of 20 ms.

    Parameters
    ----------
    rate : int
        Sample rate in Hz.
    channels : int
    """

    def __init__(self, rate: int, channels: int) -> None:
        self._frame = rate * _FRAME_MS // 1000
        self.rate, self.n_samples = rate, 0
        self._rest = np.empty((0, channels), np.int16)
        self._counts = np.zeros((channels, 1 << 16), np.int64)  # count of each sample value
        self._power: list[NDArray[np.float32]] = []
        self._still: list[NDArray[np.bool_]] = []

    def add(self, frames: NDArray[Any]) -> None:
        """Take a block.

        Parameters
        ----------
        frames : numpy.ndarray, shape (n, channels), int16 or float in [-1, 1)
        """
        if frames.dtype != np.int16:
            frames = np.clip(np.rint(np.nan_to_num(frames) * 32768.0), -32768, 32767).astype(np.int16)
        self._rest = np.concatenate([self._rest, frames])
        if len(self._rest) >= self.rate:
            self._measure()

    def _measure(self) -> None:
        n = len(self._rest) // self._frame
        taken, self._rest = self._rest[: n * self._frame], self._rest[n * self._frame :]
        self.n_samples += len(taken)
        for counts, samples in zip(self._counts, taken.T, strict=True):
            counts += np.bincount(samples.astype(np.int32) + 32768, minlength=1 << 16)
        pieces = taken.reshape(n, self._frame, taken.shape[1])
        self._power.append(pieces.astype(np.float32).var(axis=1) / 32768**2)
        self._still.append(pieces.max(axis=1) == pieces.min(axis=1))

    def channels(self) -> list[Channel]:
        """Measurements of each channel; an empty list if there is less than one frame."""
        self._measure()
        if not self.n_samples:
            return []
        power, still = np.concatenate(self._power), np.concatenate(self._still)
        return [_channel(counts, power[:, i], still[:, i]) for i, counts in enumerate(self._counts)]


def _db(power: float) -> float:
    return max(_SILENT_DB, 10 * math.log10(power + 1e-20))


def _channel(counts: NDArray[np.int64], power: NDArray[np.float32], still: NDArray[np.bool_]) -> Channel:
    values = np.arange(-32768, 32768)
    n = int(counts.sum())
    heard = power[~still] if not still.all() else power
    present = values[counts > 0]
    low, high = int(present[0]), int(present[-1])
    peak = max(-low, high) / 32768
    return Channel(
        peak_db=_db(peak**2),
        level_db=_db(float(np.percentile(heard, 97))),
        floor_db=_db(float(np.percentile(heard, 10))),
        offset=float(counts @ values) / n / 32768,
        clipped=(_flattened(counts, high + 32768) + _flattened(counts[::-1], 32767 - low)) / n,
        silent=float(still.mean()),
    )


def _flattened(counts: NDArray[np.int64], top: int) -> int:
    """Number of samples that are clipped at the upper end of the range, the value `top`.

    `top` counts as a clipping level if it is full scale. It also counts if most samples near it have this value, as in
    audio that was clipped before its gain. A wave that is not clipped passes such a value only briefly.
    """
    at_end = int(counts[top - 1 : top + 1].sum())
    height = top - 32768
    if height >= 32766:
        return at_end
    near = int(counts[32768 + round(0.98 * height) : top + 1].sum())
    return at_end if height > 0.05 * 32768 and at_end > 10 and at_end > 0.6 * near else 0


def findings(channels: list[Channel]) -> list[Finding]:
    """Findings about a signal of these channels, faults first.

    Parameters
    ----------
    channels : list of Channel
        All channels of one signal, from :meth:`SignalQuality.channels`.
    """
    alive = [c for c in channels if c.silent < 1]
    if not alive:
        stuck = channels[0].offset
        if abs(stuck) > 1 / 32768:
            return [Finding("stuck", f"every sample is {stuck:.1%} of full scale", "check wiring, or replace it")]
        return [
            Finding(
                "silent",
                "every sample is zero: it is muted, switched off, or not the microphone",
                "unmute it (alsamixer, F4; pactl set-source-mute @DEFAULT_SOURCE@ 0), or see kws-edge devices",
            )
        ]
    loudest = max(alive, key=lambda c: c.level_db)
    found: list[Finding] = []
    for i, c in enumerate(channels, 1):
        found += _of_channel(c, loudest, f"channel {i} of {len(channels)}: " if len(channels) > 1 else "")
    found += _of_level(loudest.level_db, loudest.floor_db)
    return sorted(found, key=lambda finding: finding.level != FAULT)


def _of_channel(c: Channel, loudest: Channel, of: str) -> list[Finding]:
    """Findings about one channel; `of` says which one it is."""
    found: list[Finding] = []
    if c.silent > _DROPOUTS:
        found.append(
            Finding(
                "dropouts",
                f"{of}silent {c.silent:.0%} of the time, to the bit",
                "check cable and plug; turn off noise gate and power saving; a dead channel halves the level",
            )
        )
    elif c.level_db < loudest.level_db - _WEAK_DB:
        found.append(
            Finding(
                "weak-channel",
                f"{of}{loudest.level_db - c.level_db:.0f} dB weaker than the best one",
                "check cable and plug, or record the other channel alone (ALSA's route, PulseAudio's remap-source)",
            )
        )
    if c.clipped > _CLIPPED:
        found.append(
            Finding(
                "clipping",
                f"{of}{c.clipped:.2%} of the samples are clipped, peak {c.peak_db:.1f} dBFS",
                "turn the gain down (alsamixer, F4; pactl set-source-volume), or speak from further away",
            )
        )
    if abs(c.offset) > _SOME_OFFSET:
        found.append(
            Finding(
                "offset",
                f"{of}the mean is {c.offset:+.1%} of full scale",
                "a fault of the sound card or its wiring; what is loud clips early: use another, or a high-pass",
                FAULT if abs(c.offset) > _OFFSET else REMARK,
            )
        )
    return found


def _of_level(level: float, floor: float) -> list[Finding]:
    """Findings about the level of the loudest and of the quietest moments, both in dB of full scale."""
    found: list[Finding] = []
    spoken = level - floor > _SPEECH_DB
    if level < _QUIET_DB and (spoken or level < _DEAD_QUIET_DB):
        found.append(
            Finding(
                "gain",
                f"too quiet: the loudest sound is at {level:.0f} dBFS, where speech is at -40 to -15",
                f"turn the gain up by {-25 - level:.0f} dB (alsamixer, F4; pactl set-source-volume), or go nearer",
            )
        )
    elif not spoken:
        remedy = "speak while it listens: only then is the gain known"
        found.append(Finding("no-speech", f"nothing louder than the room, at {level:.0f} dBFS", remedy, REMARK))
    if floor > _NOISY_DB:
        remedy = "move it away from what makes the noise, and turn the gain down if speech clips"
        found.append(Finding("noise", f"the quietest moments are at {floor:.0f} dBFS", remedy))
    return found


def as_dict(channel: Channel) -> dict[str, float]:
    """The measurements, rounded, for JSON."""
    return {
        key: round(value, 6 if key in ("offset", "clipped") else 3)
        for key, value in dataclasses.asdict(channel).items()
    }
