"""Frozen configurations of the front end and the detector.

A configuration travels inside the model file as a dict. Training, device and firmware derive what they need from the
same object. Only here durations are in milliseconds or seconds.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any

from kws_edge.errors import ConfigError
from kws_edge.files import sha256_hex
from kws_edge.labels import check_labels
from kws_edge.ranges import number, whole
from kws_edge.settings import Choice, Flag, Settings, option
from kws_edge.text import shown

__all__ = ["MICROFRONTEND", "ConfirmConfig", "DetectorConfig", "FrontendConfig", "StepConfig"]

MICROFRONTEND = "microfrontend"
_LOG_MEL = "log-mel"
_MOST_LEVELS = 2**20
_MOST_POINTS = 2**22


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, kw_only=True)
class FrontendConfig(Settings):
    """How int16 audio becomes the model's input features.

    For each frame ``x`` of int16 samples::

        spectrum = |rfft(x * sample_scale * window, n_fft)| ** (2 if spectrum == "power" else 1)
        level    = log_gain * ln(spectrum @ mel_matrix + log_offset) + level_offset
        level    = clip(level, level_min, level_max)          (if these are given)

    A clip of `clip_ms` gives `n_frames` frames of `n_mels` levels. With `n_mfcc`, each frame's levels become that many
    coefficients. With `resize_frames`, the frames are then resized bilinearly along time, as ``tf.image.resize`` does.

    The algorithm ``microfrontend`` is TensorFlow Lite Micro's, in fixed point. Its noise reduction and gain control
    make the level of a band depend on the frames before. A clip, and a stream, begin after digital silence.

    Raises
    ------
    ConfigError
        If a setting is out of range, or two settings contradict each other.

    Examples
    --------
    >>> from kws_edge import FrontendConfig
    >>> config = FrontendConfig(
    ...     frame_ms=25, hop_ms=10, n_fft=512, n_mels=32, f_min_hz=60, f_max_hz=7600,
    ...     spectrum="power", sample_scale=1 / 32768, log_offset=1e-6,
    ... )
    >>> config.frame_length, config.hop_length, config.feature_shape
    (400, 160, (98, 32))
    >>> config.frames_in(16000), config.frames_of(100)
    (98, 10)
    """

    frame_ms: float = option(number(1, 1000))
    """Length of one analysis window."""
    hop_ms: float = option(number(1, 1000))
    """Distance between the starts of consecutive frames."""
    n_fft: int = option(whole(16, 8192))
    """Length of the transform in samples. Each frame is padded with zeros at its end to this length."""
    n_mels: int = option(whole(1, 256))
    """Number of mel bands."""
    f_min_hz: float = option(number(0, 96_000))
    """Lower edge of the lowest band."""
    f_max_hz: float = option(number(1, 96_000))
    """Upper edge of the highest band, at most half the sample rate."""
    spectrum: str = option(Choice("magnitude", "power"))
    """Quantity that the mel bands sum: ``magnitude`` or ``power``."""
    sample_scale: float = option(number(1e-6, 1000))
    """Factor on int16 samples: 1 keeps their scale, 1/32768 maps them to [-1, 1)."""
    log_offset: float = option(number(1e-30, 1e30))
    """Added to a band before the natural logarithm."""
    sample_rate: int = option(whole(1000, 192_000), 16000)
    """Sample rate, in Hz."""
    clip_ms: float = option(number(10, 10_000), 1000.0)
    """Length of the audio of one inference."""
    window: str = option(Choice("hann", "hamming"), "hann")
    """Analysis window, in its periodic form."""
    mel_scale: str = option(Choice("htk", "slaney"), "htk")
    """Mel formula: ``2595 log10(1 + f/700)``, or Slaney's, linear and then logarithmic. Triangles peak at 1."""
    log_gain: float = option(number(0.001, 10_000), 1.0)
    """Factor on the logarithm."""
    level_offset: float = option(number(-1e6, 1e6), 0.0)
    """Added after `log_gain`."""
    level_min: float | None = option(number(-1e6, 1e6), None)
    """Lower clip of the level; None for no clip."""
    level_max: float | None = option(number(-1e6, 1e6), None)
    """Upper clip of the level; None for no clip."""
    resize_frames: int | None = option(whole(1, 65_535), None)
    """Number of frames after bilinear resizing of a clip; None leaves `n_frames`."""
    algorithm: str = option(Choice(_LOG_MEL, MICROFRONTEND), _LOG_MEL, later=True)
    """``log-mel``, or ``microfrontend``, which fixes several settings."""
    n_mfcc: int | None = option(whole(1, 256), None, later=True)
    """Number of cepstral coefficients of a frame, in place of its levels; None for levels."""
    normalise: bool = option(Flag(), False, later=True)
    """Divide a clip by its largest sample. It cannot be done to a stream, so each window of a stream gets its own."""

    def __post_init__(self) -> None:
        self._check()
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
            self.f_min_hz + 1 <= self.f_max_hz <= self.sample_rate / 2,
            f"FrontendConfig: the band {self.f_min_hz} to {self.f_max_hz} Hz must lie within 0 to "
            f"{self.sample_rate / 2} Hz and be 1 Hz wide or wider",
        )
        _check(
            self.level_min is None or self.level_max is None or self.level_min < self.level_max,
            f"FrontendConfig: level_min={self.level_min} must be below level_max={self.level_max}",
        )
        _check(
            self.n_mfcc is None or self.n_mfcc <= self.n_mels,
            f"FrontendConfig: n_mfcc={self.n_mfcc} coefficients cannot come from n_mels={self.n_mels} bands",
        )
        if self.algorithm == MICROFRONTEND:
            self._check_microfrontend()
        for what, n, most in (
            ("levels in a clip", max(self.resize_frames or 0, self.n_frames) * self.n_mels, _MOST_LEVELS),
            ("points of its transforms in a clip", self.n_frames * self.n_fft, _MOST_POINTS),
        ):
            _check(n <= most, f"FrontendConfig: {n:,} {what} are more than {most:,}; lengthen hop_ms or cut clip_ms")

    def _check_microfrontend(self) -> None:
        fixed = {
            "spectrum": "magnitude",
            "sample_scale": 1,
            "log_offset": 1,
            "window": "hann",
            "mel_scale": "htk",
            "n_mfcc": None,
            "normalise": False,
            "n_fft": max(16, 1 << (self.frame_length - 1).bit_length()),
        }
        for name, only in fixed.items():
            value = getattr(self, name)
            _check(value == only, f"FrontendConfig: {MICROFRONTEND} has {name}={only} for these frames, got {value}")
        _check(
            self.f_max_hz < self.sample_rate / 2,
            f"FrontendConfig: {MICROFRONTEND} has no band up to f_max_hz={self.f_max_hz:g}, half the sample rate; "
            "lower it",
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
        """Full frames in this number of samples."""
        return max(0, 1 + (samples - self.frame_length) // self.hop_length)

    def frames_of(self, ms: float) -> int:
        """Hops in this time, rounded, and at least one."""
        return max(1, round(ms / 1000 / (self.hop_length / self.sample_rate)))

    @property
    def feature_shape(self) -> tuple[int, int]:
        """Shape of a clip's features, ``(frames, n_mels)``, or ``(frames, n_mfcc)``."""
        return (self.resize_frames or self.n_frames, self.n_mfcc or self.n_mels)

    @property
    def frame_text(self) -> str:
        """The number of a frame's features, in words."""
        return f"{self.n_mfcc} MFCC" if self.n_mfcc else f"{self.n_mels} mels"

    @property
    def contents(self) -> str:
        """What a frame's features are, in words."""
        mels = f"{self.n_mels} {self.mel_scale} mels of {self.spectrum}"
        clip = ", each clip normalised" if self.normalise else ""
        if self.algorithm == MICROFRONTEND:
            return f"{MICROFRONTEND} of {mels}"
        return (f"{self.n_mfcc} MFCC of {mels}" if self.n_mfcc else mels) + clip

    @property
    def level_range(self) -> tuple[float, float]:
        """The level of digital silence, and about the level of a full-scale tone in the middle of a band.

        With `n_mfcc` it is the range of the first coefficient, which has the widest one.
        """
        peak = self.sample_scale * 32768 * self.frame_length / 4
        bands = (0.0, peak * peak if self.spectrum == "power" else peak)
        low, high = sorted(self.log_gain * math.log(band + self.log_offset) + self.level_offset for band in bands)
        if self.level_min is not None:
            low, high = max(low, self.level_min), max(high, self.level_min)
        if self.level_max is not None:
            low, high = min(low, self.level_max), min(high, self.level_max)
        if self.n_mfcc is not None:
            low, high = (level * math.sqrt(2 * self.n_mels) for level in (low, high))
        return low, high

    @property
    def hash(self) -> str:
        """Sixteen hex digits that change with any setting. Feature caches and provenance lines use them as a key."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return sha256_hex(canonical.encode())[:16]


@dataclass(frozen=True, kw_only=True)
class DetectorConfig(Settings):
    """How a sequence of posteriors becomes detections. See :class:`kws_edge.Detector`.

    A model file has settings that were tuned for it. Change single ones with :func:`dataclasses.replace`.

    Raises
    ------
    ConfigError
        If a setting is out of range, or a name cannot be a keyword.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from kws_edge import Model
    >>> config = replace(Model("commands12").detector_config, keywords=("stop", "go"), thresholds={"go": 0.9})
    >>> config.keywords, config.threshold_of("go")
    (('stop', 'go'), 0.9)
    """

    step_ms: float = option(
        number(10, 10_000), 100.0, unit="ms", help="time between inferences, rounded to whole frames or whole answers"
    )
    smoothing_ms: float = option(
        number(0, 10_000), 400.0, unit="ms", help="time over which posteriors are averaged, at least one inference"
    )
    threshold: float = option(number(0.001, 1), 0.75, help="smoothed posterior at which a keyword is detected")
    thresholds: dict[str, float] = field(default_factory=dict)
    """Thresholds of single keywords, which override `threshold`."""
    hysteresis: float = option(
        number(0, 0.99), 0.4, help="share of its threshold that a keyword must fall by to be detected again"
    )
    refractory_ms: float = option(
        number(0, 600_000),
        700.0,
        unit="ms",
        help="time after a detection in which nothing is detected; averaging starts anew after it",
    )
    keywords: tuple[str, ...] | None = None
    """The active keywords. Other words count as unknown. None: every label that is neither silence nor unknown."""
    speech_margin: float = option(
        number(0, 1), 0.0, help="how much more than its threshold a keyword needs after speech; 0: no more", later=True
    )
    wake_word: str | None = field(default=None, metadata={"later": True})
    """A keyword that must be heard before the others count; `keywords` need not name it. None: all always count."""
    armed_s: float = option(
        number(0.01, 3600), 4.0, unit="s", help="time after the wake word for one other keyword", later=True
    )

    def __post_init__(self) -> None:
        self._check()
        if not isinstance(self.thresholds, dict):
            raise ConfigError(f"DetectorConfig: thresholds must map keywords to numbers, got {shown(self.thresholds)}")
        if self.thresholds:
            check_labels("DetectorConfig: thresholds", list(self.thresholds))
        check = self.range_of("threshold").check
        values = {k: check(f"DetectorConfig: the threshold of {shown(k)}", v) for k, v in self.thresholds.items()}
        object.__setattr__(self, "thresholds", values)
        if self.keywords is not None:
            object.__setattr__(self, "keywords", check_labels("DetectorConfig: keywords", self.keywords))
        if self.wake_word is not None:
            if not isinstance(self.wake_word, str):
                raise ConfigError(f"DetectorConfig: wake_word must be a name or None, got {shown(self.wake_word)}")
            check_labels("DetectorConfig: wake_word", [self.wake_word])

    def to_dict(self) -> dict[str, Any]:
        """The configuration as a JSON-ready dict."""
        values = super().to_dict()
        values["keywords"] = None if self.keywords is None else list(self.keywords)
        return values

    def threshold_of(self, keyword: str) -> float:
        """The threshold that holds for `keyword`."""
        return self.thresholds.get(keyword, self.threshold)

    def differences(self, other: DetectorConfig) -> list[str]:
        """Names of the settings, other than thresholds, in which `other` differs."""
        names = (f.name for f in dataclasses.fields(self) if f.name not in ("threshold", "thresholds"))
        return [name for name in names if getattr(self, name) != getattr(other, name)]


@dataclass(frozen=True, kw_only=True)
class StepConfig(Settings):
    """How a network with state answers; see :class:`kws_edge.model.step_graph.StepInterpreter`.

    Its outputs are scores. A label's posterior is ``1 / (1 + exp(score_offset - score))``, so that no output is
    negative: runtimes round negative halves in different ways.
    """

    frames: int = option(whole(1, 100), help="frames for each answer")
    score_offset: float = option(number(0, 100), help="score whose posterior is one half")

    def __post_init__(self) -> None:
        self._check()


@dataclass(frozen=True, kw_only=True)
class ConfirmConfig(Settings):
    """How a second network confirms answers; see :class:`kws_edge.model.confirm.Confirmer`."""

    least: float = option(number(0, 1), 0.12, help="posterior of the first network from which the second is asked")
    windows: int = option(whole(1, 100), 3, help="windows that the second network hears, whose posteriors are averaged")
    spacing_frames: int = option(whole(1, 100), 12, help="frames from the end of one window to the next")

    def __post_init__(self) -> None:
        self._check()
