"""Keyword spotting on small devices: audio in, detections out, no cloud.

>>> from importlib.resources import files
>>> from kws_edge import AudioFile, Model, Spotter
>>> recording = files("kws_edge") / "demo/stream.flac"
>>> model = Model("commands12")
>>> with AudioFile(recording, sample_rate=model.frontend_config.sample_rate) as source:
...     for detection in Spotter(model).detections(source):
...         print(f"{detection.end_s:5.2f} s  {detection.keyword}")  # doctest: +ELLIPSIS
 1.42 s  yes
 3.12 s  left
...
29.52 s  up
"""

TYPE_CHECKING = False  # not imported: typing takes longer to load than the rest of a start
if TYPE_CHECKING:
    from kws_edge.audio.devices import input_devices
    from kws_edge.audio.file import AudioFile
    from kws_edge.audio.microphone import Microphone
    from kws_edge.audio.pipe import PcmStream
    from kws_edge.audio.resampler import Resampler
    from kws_edge.audio.source import LiveSource, Source
    from kws_edge.config import DetectorConfig, FrontendConfig
    from kws_edge.detection.detector import Detection, Detector
    from kws_edge.detection.room_profile import RoomProfile
    from kws_edge.detection.sensitivity import OperatingPoint
    from kws_edge.errors import AudioError, ConfigError, KwsError, ModelError, RuntimeUnavailableError
    from kws_edge.features.frontend import Frontend, StreamingFrontend
    from kws_edge.model.classification import Classification
    from kws_edge.model.file import Metadata, pack, unpack
    from kws_edge.model.model import Model, shipped_models
    from kws_edge.presets import PRESETS, preset
    from kws_edge.spotter import Spotter, Step
    from kws_edge.teach.takes import Take, TakeError, find_word
    from kws_edge.teach.word import TaughtWord
    from kws_edge.teach.words import TaughtWords
    from kws_edge.voice.me import Me
del TYPE_CHECKING

__version__ = "0.2.0"

__all__ = [
    "PRESETS",
    "AudioError",
    "AudioFile",
    "Classification",
    "ConfigError",
    "Detection",
    "Detector",
    "DetectorConfig",
    "Frontend",
    "FrontendConfig",
    "KwsError",
    "LiveSource",
    "Me",
    "Metadata",
    "Microphone",
    "Model",
    "ModelError",
    "OperatingPoint",
    "PcmStream",
    "Resampler",
    "RoomProfile",
    "RuntimeUnavailableError",
    "Source",
    "Spotter",
    "Step",
    "StreamingFrontend",
    "Take",
    "TakeError",
    "TaughtWord",
    "TaughtWords",
    "find_word",
    "input_devices",
    "pack",
    "preset",
    "shipped_models",
    "unpack",
]


_MODULES = (
    "errors",
    "config",
    "presets",
    "features.frontend",
    "detection.detector",
    "detection.sensitivity",
    "model.file",
    "model.classification",
    "model.model",
    "spotter",
    "detection.room_profile",
    "audio.source",
    "audio.file",
    "audio.pipe",
    "audio.resampler",
    "audio.microphone",
    "audio.devices",
    "teach.takes",
    "teach.word",
    "teach.words",
    "voice.me",
)
_PACKAGES = ("audio", "config", "detection", "errors", "features", "model", "spotter", "teach", "voice")


def __getattr__(name: str) -> object:
    """Load a module when a name in it is first used: commands must handle Ctrl-C before they load NumPy."""
    import importlib

    if name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in __all__:
        for module in _MODULES:
            if hasattr(loaded := importlib.import_module(f"{__name__}.{module}"), name):
                return globals().setdefault(name, getattr(loaded, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
