"""Where samples come from: files, raw PCM on a pipe, the microphone; all give mono int16 blocks at a given rate."""

from kws_edge.audio.capture import Capture, InputDevice
from kws_edge.audio.file import AudioFile
from kws_edge.audio.microphone import Microphone, find_device, input_devices
from kws_edge.audio.pipe import PcmStream
from kws_edge.audio.playback import Playback
from kws_edge.audio.queue import BlockQueue
from kws_edge.audio.source import BLOCK_MS, Resampler, Source

__all__ = [
    "BLOCK_MS",
    "AudioFile",
    "BlockQueue",
    "Capture",
    "InputDevice",
    "Microphone",
    "PcmStream",
    "Playback",
    "Resampler",
    "Source",
    "find_device",
    "input_devices",
]
