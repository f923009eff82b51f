"""What the service tells its outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING

from kws_edge.detection.detector import Detection

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Detected", "Event", "Misheard", "Reloaded", "Scores", "Telemetry", "utc_now"]


def utc_now() -> str:
    """The present time in UTC, ISO 8601 with milliseconds."""
    import datetime

    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")


@dataclass(frozen=True, kw_only=True, eq=False)
class Event:
    """Something that happened in a room."""

    room: str
    """Name of the source that heard it."""
    time: str = field(default_factory=utc_now)
    """Wall-clock time in UTC, ISO 8601. It may jump when the clock is set."""
    made: float = field(default_factory=monotonic)
    """Time of :func:`time.monotonic`, from which the age of the event counts."""

    @property
    def age_s(self) -> float:
        """Seconds since the event was made."""
        return monotonic() - self.made


@dataclass(frozen=True, kw_only=True, eq=False)
class Detected(Event):
    """A keyword was heard."""

    detection: Detection
    """Keyword, score, start and end in the room's stream, and whether it is the wake word."""
    threshold: float
    """Threshold that the score reached."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Misheard(Event):
    """A user said that a detection was wrong. An output that keeps clips puts it into its own queue."""

    end_s: float | None
    """End of its window in the room's stream, in seconds; None means the last one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Telemetry(Event):
    """How a room fares; one every few seconds, and one when the microphone goes or returns."""

    present: bool
    """Whether audio arrives. False while a microphone is gone."""
    level_db: float | None
    """Mean level since the last such event, dBFS; None if nothing was heard."""
    noise_db: float | None
    """Noise floor: the level that is exceeded nine tenths of the time, dBFS; None if it is unknown yet."""
    lost_s: float
    """Seconds of audio that were lost since the start."""
    outages: int
    """How often the source was gone since the start."""
    detections: int
    """Detections since the start."""
    latency_s: float | None
    """Longest time from the arrival of a sample to the decision since the last such event; None if there was none."""
    heard_s: float
    """Position in the room's stream, in seconds."""
    temperature_c: float | None
    """Temperature of the processor, if the system tells it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scores(Event):
    """One inference. Such events are made only if an output wants them."""

    time_s: float
    """End of the window in the room's stream, in seconds."""
    level_db: float
    """Level of the audio since the last inference, dBFS."""
    posteriors: NDArray[np.float32]
    """Posterior of each of the labels of the last :class:`Reloaded`, shape (n_labels,), float32. A taught
    word has its score, which is not averaged."""
    smoothed: NDArray[np.float32]
    """Their average, which is compared with the thresholds. It is zero in the refractory time."""
    thresholds: NDArray[np.float32]
    """Threshold of each label that holds now, with the margin after speech if it applies."""
    frames: NDArray[np.float32]
    """Log-mel frames since the last inference, shape (n_frames, n_mels), float32."""
    armed: bool
    """Whether the wake word's window is open."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reloaded(Event):
    """What a room listens for: sent when it starts, after a reload, and after each change."""

    model: str
    """Path of the model file."""
    labels: tuple[str, ...]
    """All labels of the model, then the active taught words, in the order of posteriors."""
    keywords: tuple[str, ...]
    """The active keywords, with the wake word and taught ones."""
    possible: tuple[str, ...]
    """All keywords that can be active: the model's own, then the taught ones."""
    taught: tuple[str, ...]
    """Those of them that were taught."""
    taught_file: str | None
    """File of the taught words; None if the configuration does not ask for them."""
    thresholds: Mapping[str, float]
    """Threshold of each possible keyword."""
    sensitivity: float | None
    """The sensitivity, 0 to 1; None if thresholds were set one by one."""
    has_sensitivity: bool
    """Whether the model file has measured operating points, so that a sensitivity can be set."""
    wake_word: str | None
    step_s: float
    """Seconds from one inference to the next."""
    level_range: tuple[float, float]
    """Log-mel values of digital silence and of a full-scale tone."""
