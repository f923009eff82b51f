"""Front ends by name."""

from __future__ import annotations

from kws_edge.config import MICROFRONTEND, FrontendConfig
from kws_edge.errors import ConfigError

__all__ = ["PRESETS", "preset"]

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
    # Levels are 0 to 255, so that an INT8 input with scale 1 and zero point -128 is the rounded level less 128. Levels
    # below 30 become 30, about the level of hiss in a quiet room. So digital silence looks like a quiet room.
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
        level_min=30,
        level_max=255,
    ),
    # TensorFlow Lite Micro's, as pymicro-features, microWakeWord and ESPHome compute it: levels are 64 times a natural
    # logarithm over 25.6. Models take 0 to 26.
    "microfrontend": FrontendConfig(
        algorithm=MICROFRONTEND,
        frame_ms=30,
        hop_ms=10,
        n_fft=512,
        n_mels=40,
        f_min_hz=125,
        f_max_hz=7500,
        spectrum="magnitude",
        sample_scale=1,
        log_offset=1,
        log_gain=64 / 25.6,
        level_min=0,
        level_max=26,
    ),
    # What the keyword-spotting model of MLPerf Tiny takes.
    "mfcc": FrontendConfig(
        frame_ms=40,
        hop_ms=20,
        n_fft=1024,
        n_mels=40,
        f_min_hz=20,
        f_max_hz=4000,
        spectrum="magnitude",
        sample_scale=1,
        log_offset=1e-6,
        n_mfcc=10,
        normalise=True,
    ),
}
"""Front ends by name. The shipped models use ``logmel40``, and the reference system uses ``reference``.

``microfrontend`` is that of microWakeWord, and ``mfcc`` that of MLPerf Tiny.
"""


def preset(name: str) -> FrontendConfig:
    """The front end called `name` in :data:`PRESETS`.

    Raises
    ------
    ConfigError
        If there is no preset of that name.

    Examples
    --------
    >>> from kws_edge import preset
    >>> preset("logmel40").feature_shape
    (98, 40)
    """
    try:
        return PRESETS[name]
    except KeyError:
        raise ConfigError(f"unknown front end {name!r}; presets are {', '.join(PRESETS)}") from None
