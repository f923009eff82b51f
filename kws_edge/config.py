"""Frozen configurations of the front end and the detector.

A configuration travels inside the model file as a dict, and every consumer (training, device, firmware) derives what it
needs from the same object: durations are given in milliseconds or seconds here and nowhere else.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from kws_edge.errors import ConfigError
from kws_edge.files import sha256_hex

__all__ = ["PRESETS", "DetectorConfig", "FrontendConfig", "preset"]


class _Config:
    """Dict round-trip shared by the configurations."""

    def to_dict(self) -> dict[str, Any]:
        """The configuration as a JSON-ready dict, one entry per field."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]):
        """Build a configuration from :meth:`to_dict`'s output.

        Raises
        ------
        ConfigError
            If `values` is no dict, or has an unknown or missing field.
        """
        if not isinstance(values, dict):
            raise ConfigError(f"{cls.__name__}: expected a dict of settings, got {values!r}")
        fields = {f.name: f for f in dataclasses.fields(cls)}
        unknown = sorted(set(values) - set(fields))
        if unknown:
            raise ConfigError(f"{cls.__name__}: unknown setting {unknown[0]!r}; known are {', '.join(fields)}")
        required = {
            name
            for name, f in fields.items()
            if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        }
        missing = sorted(required - set(values))
        if missing:
            raise ConfigError(f"{cls.__name__}: setting {missing[0]!r} is missing")
        return cls(**values)


def _number(config: str, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise ConfigError(f"{config}: {name} must be a number, got {value!r}")
    return float(value)


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _normalise(config: Any) -> None:
    """Check every field against its annotation, so that 20 and 20.0 give equal configurations with equal hashes."""
    name = type(config).__name__
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if f.type == "float" or (f.type == "float | None" and value is not None):
            object.__setattr__(config, f.name, _number(name, f.name, value))
        elif (f.type == "int" or (f.type == "int | None" and value is not None)) and type(value) is not int:
            raise ConfigError(f"{name}: {f.name} must be a whole number, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class FrontendConfig(_Config):
    """How int16 audio becomes the model's input features.

    For each frame ``x`` of int16 samples::

        spectrum = |rfft(x * sample_scale * window, n_fft)| ** (2 if spectrum == "power" else 1)
        level    = log_gain * ln(spectrum @ mel_matrix + log_offset) + level_offset
        level    = clip(level, level_min, level_max)          (where these are given)

    A clip of `clip_ms` gives `n_frames` frames of `n_mels` levels; with `resize_frames` they are then resized
    bilinearly along time, as ``tf.image.resize`` does.
    """

    frame_ms: float
    """Length of one analysis window."""
    hop_ms: float
    """Distance between the starts of consecutive frames."""
    n_fft: int
    """Length of the transform in samples; frames are zero-padded at their end to it."""
    n_mels: int
    """Number of mel bands."""
    f_min_hz: float
    """Lower edge of the lowest band."""
    f_max_hz: float
    """Upper edge of the highest band, at most half the sample rate."""
    spectrum: Literal["magnitude", "power"]
    """What the mel bands sum."""
    sample_scale: float
    """Factor on int16 samples: 1 keeps their scale, 1/32768 maps them to [-1, 1)."""
    log_offset: float
    """Added to a band before the natural logarithm."""
    sample_rate: int = 16000
    """Hz."""
    clip_ms: float = 1000.0
    """Audio that one inference sees."""
    window: Literal["hann", "hamming"] = "hann"
    """Analysis window, in its periodic form."""
    mel_scale: Literal["htk", "slaney"] = "htk"
    """Mel formula: ``2595 log10(1 + f/700)``, or Slaney's linear-then-logarithmic one. Triangles peak at 1."""
    log_gain: float = 1.0
    """Factor on the logarithm."""
    level_offset: float = 0.0
    """Added after `log_gain`."""
    level_min: float | None = None
    """Lower clip of the level; None for no clip."""
    level_max: float | None = None
    """Upper clip of the level; None for no clip."""
    resize_frames: int | None = None
    """Number of frames after bilinear resizing of a clip; None leaves `n_frames`."""

    def __post_init__(self) -> None:
        _normalise(self)
        for name in ("sample_rate", "frame_ms", "hop_ms", "n_fft", "n_mels", "clip_ms", "sample_scale", "log_offset"):
            _check(getattr(self, name) > 0, f"FrontendConfig: {name} must be positive, got {getattr(self, name)}")
        for name, known in (
            ("spectrum", ("magnitude", "power")),
            ("window", ("hann", "hamming")),
            ("mel_scale", ("htk", "slaney")),
        ):
            value = getattr(self, name)
            _check(value in known, f"FrontendConfig: {name} must be one of {', '.join(known)}, got {value!r}")
        for name in ("frame_ms", "hop_ms", "clip_ms"):
            samples = getattr(self, name) * self.sample_rate / 1000
            _check(
                abs(samples - round(samples)) < 1e-6,
                f"FrontendConfig: {name}={getattr(self, name)} is {samples} samples at {self.sample_rate} Hz; "
                "choose a duration that is a whole number of samples",
            )
        _check(
            self.frame_length <= self.n_fft,
            f"FrontendConfig: n_fft={self.n_fft} is shorter than the frame of {self.frame_length} samples",
        )
        _check(
            self.frame_length <= self.clip_samples,
            f"FrontendConfig: clip_ms={self.clip_ms} is shorter than frame_ms={self.frame_ms}",
        )
        _check(
            0 <= self.f_min_hz < self.f_max_hz <= self.sample_rate / 2,
            f"FrontendConfig: the band {self.f_min_hz} to {self.f_max_hz} Hz must lie within 0 to "
            f"{self.sample_rate / 2} Hz, lower edge first",
        )
        _check(
            self.level_min is None or self.level_max is None or self.level_min < self.level_max,
            f"FrontendConfig: level_min={self.level_min} must be below level_max={self.level_max}",
        )
        _check(
            self.resize_frames is None or self.resize_frames > 0,
            f"FrontendConfig: resize_frames must be positive, got {self.resize_frames}",
        )

    @property
    def frame_length(self) -> int:
        """Samples in a frame."""
        return round(self.frame_ms * self.sample_rate / 1000)

    @property
    def hop_length(self) -> int:
        """Samples between the starts of two frames."""
        return round(self.hop_ms * self.sample_rate / 1000)

    @property
    def clip_samples(self) -> int:
        """Samples in a clip."""
        return round(self.clip_ms * self.sample_rate / 1000)

    @property
    def n_frames(self) -> int:
        """Frames in a clip, before resizing."""
        return self.frames_in(self.clip_samples)

    def frames_in(self, samples: int) -> int:
        """Full frames in that many samples."""
        return max(0, 1 + (samples - self.frame_length) // self.hop_length)

    @property
    def feature_shape(self) -> tuple[int, int]:
        """Shape of a clip's features, ``(frames, n_mels)``."""
        return (self.resize_frames or self.n_frames, self.n_mels)

    @property
    def hash(self) -> str:
        """Sixteen hex digits that change with any setting: the key of feature caches and of provenance lines."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return sha256_hex(canonical.encode())[:16]


PRESETS: dict[str, FrontendConfig] = {
    # The reference system: 124 frames of log-mel magnitude, resized to (128, 64).
    "reference": FrontendConfig(
        frame_ms=16,
        hop_ms=8,
        n_fft=256,
        n_mels=64,
        f_min_hz=0,
        f_max_hz=8000,
        spectrum="magnitude",
        sample_scale=1 / 32768,
        log_offset=1e-6,
        resize_frames=128,
    ),
    # Levels of 0 to 255, so that an INT8 input with scale 1 and zero point -128 is the rounded level less 128.
    "logmel40": FrontendConfig(
        frame_ms=30,
        hop_ms=10,
        n_fft=512,
        n_mels=40,
        f_min_hz=0,
        f_max_hz=4000,
        spectrum="power",
        sample_scale=1,
        log_offset=1,
        log_gain=9.86,
        level_offset=-59,
        level_min=0,
        level_max=255,
    ),
}


def preset(name: str) -> FrontendConfig:
    """The front end called `name` in :data:`PRESETS`.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    try:
        return PRESETS[name]
    except KeyError:
        raise ConfigError(f"unknown front end {name!r}; presets are {', '.join(PRESETS)}") from None


@dataclass(frozen=True, kw_only=True)
class DetectorConfig(_Config):
    """How a sequence of posteriors becomes detections; see :class:`kws_edge.Detector`."""

    step_ms: float = 100.0
    """Time between inferences; rounded to whole frames by the spotter."""
    smoothing_ms: float = 400.0
    """Posteriors are averaged over the inferences of this duration (at least one)."""
    threshold: float = 0.75
    """Smoothed posterior at which a keyword is detected, in (0, 1]."""
    thresholds: dict[str, float] = field(default_factory=dict)
    """Per-keyword thresholds, in place of `threshold`."""
    hysteresis: float = 0.4
    """After a detection a keyword must fall below ``(1 - hysteresis)`` of its threshold to be detected again."""
    refractory_ms: float = 700.0
    """After a detection nothing is detected for this long; averaging starts anew after it."""
    keywords: tuple[str, ...] | None = None
    """The active keywords; the other words count as unknown. None: every label that is neither silence nor unknown."""
    speech_margin: float = 0.0
    """Added to a keyword's threshold right after other speech; 0: it counts like any other."""
    wake_word: str | None = None
    """A keyword that must be heard before the others count, whether `keywords` names it or not; None: all always do."""
    armed_s: float = 4.0
    """With a wake word: time from its detection within which another keyword is detected."""

    def __post_init__(self) -> None:
        _normalise(self)
        _check(self.step_ms > 0, f"DetectorConfig: step_ms must be positive, got {self.step_ms}")
        _check(self.smoothing_ms >= 0, f"DetectorConfig: smoothing_ms must not be negative, got {self.smoothing_ms}")
        _check(self.refractory_ms >= 0, f"DetectorConfig: refractory_ms must not be negative, got {self.refractory_ms}")
        _check(0 <= self.hysteresis < 1, f"DetectorConfig: hysteresis must be in [0, 1), got {self.hysteresis}")
        _check(
            0 <= self.speech_margin <= 1, f"DetectorConfig: speech_margin must be in [0, 1], got {self.speech_margin}"
        )
        if not isinstance(self.thresholds, dict):
            raise ConfigError(f"DetectorConfig: thresholds must map keywords to numbers, got {self.thresholds!r}")
        checked = {str(k): _number("DetectorConfig", f"the threshold of {k!r}", v) for k, v in self.thresholds.items()}
        object.__setattr__(self, "thresholds", checked)
        for keyword, value in {"(default)": self.threshold, **self.thresholds}.items():
            _check(0 < value <= 1, f"DetectorConfig: the threshold of {keyword} must be in (0, 1], got {value}")
        if self.keywords is not None:
            if isinstance(self.keywords, str) or not all(isinstance(k, str) for k in self.keywords):
                raise ConfigError(f"DetectorConfig: keywords must be a list of labels, got {self.keywords!r}")
            object.__setattr__(self, "keywords", tuple(self.keywords))
            _check(len(self.keywords) > 0, "DetectorConfig: keywords must name at least one label")
        _check(
            self.wake_word is None or (isinstance(self.wake_word, str) and self.wake_word != ""),
            f"DetectorConfig: wake_word must be a label, got {self.wake_word!r}",
        )
        _check(0 < self.armed_s < math.inf, f"DetectorConfig: armed_s must be positive, got {self.armed_s}")

    def to_dict(self) -> dict[str, Any]:
        """The configuration as a JSON-ready dict; `speech_margin`, `wake_word` and `armed_s`, which older versions do
        not know, are in it only where they are not the defaults."""
        values = super().to_dict()
        values["keywords"] = None if self.keywords is None else list(self.keywords)
        for f in dataclasses.fields(self):
            if f.name in ("speech_margin", "wake_word", "armed_s") and values[f.name] == f.default:
                del values[f.name]
        return values

    def threshold_of(self, keyword: str) -> float:
        """The threshold that holds for `keyword`."""
        return self.thresholds.get(keyword, self.threshold)
