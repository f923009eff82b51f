"""Keyword spotting on small devices: audio in, detections out, no cloud.

>>> from kws_edge import AudioFile, Model, Spotter
>>> model = Model("commands12")
>>> spotter = Spotter(model)
>>> with AudioFile("commands.wav", rate=model.front_end.sample_rate) as audio:   # doctest: +SKIP
...     for step in spotter.run(audio):
...         if step.detection:
...             print(step.detection)
"""

import typing

from kws_edge.config import PRESETS, DetectorConfig, FrontendConfig, preset
from kws_edge.detector import Detection, Detector
from kws_edge.errors import AudioError, ConfigError, KwsError, ModelError, RuntimeUnavailableError
from kws_edge.frontend import Frontend, StreamingFrontend
from kws_edge.model import Model, shipped_models
from kws_edge.modelfile import Metadata, pack, unpack
from kws_edge.spotter import Spotter, Step

if typing.TYPE_CHECKING:
    from kws_edge.audio import AudioFile, Microphone, PcmStream, Resampler, input_devices

__version__ = "0.1.0"

__all__ = [
    "PRESETS",
    "AudioError",
    "AudioFile",
    "ConfigError",
    "Detection",
    "Detector",
    "DetectorConfig",
    "Frontend",
    "FrontendConfig",
    "KwsError",
    "Metadata",
    "Microphone",
    "Model",
    "ModelError",
    "PcmStream",
    "Resampler",
    "RuntimeUnavailableError",
    "Spotter",
    "Step",
    "StreamingFrontend",
    "input_devices",
    "pack",
    "preset",
    "shipped_models",
    "unpack",
]


def __getattr__(name: str) -> typing.Any:
    """What hears files and microphones is loaded by those who use it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from kws_edge import audio

    return globals().setdefault(name, getattr(audio, name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
