"""The process that records. :class:`kws_edge.audio.capture.Capture` runs this file by its path.

If a sound server dies or hangs, PortAudio and the systems below it wait without a limit and leave busy-looping threads.
So they run in a process that can be killed. This process loads neither the package nor NumPy.

Standard input carries orders, one JSON value on each line. ``"sources"`` asks for the sources of the sound server. The
first object says what to open, and the next object starts the recording. A number sets how many blocks are handed on
together. The process ends when its standard input ends, whatever it is doing. It also ends when its parent ends: a fork
of the parent may still hold the pipes.

Standard output carries messages. Each message is a :data:`HEADER`, then as many bytes as the header says. These bytes
are samples or a JSON object. The first object lists the devices. Each order except a number is then answered by one
object. An error is sent in place of an answer, as ``{"error": TEXT}``.
"""

from __future__ import annotations

import _thread
import contextlib
import functools
import os
import struct
import sys
import time

TYPE_CHECKING = False  # not imported: this process does without typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Opened = tuple[int, int, Callable[[], object]]
    """Rate in Hz, number of channels, and the function that starts the recording."""

HEADER = struct.Struct("<I??2xddd")
"""Header of a message, with these fields in order:

- number of bytes that follow
- whether these bytes are samples
- whether the audio system lost samples before them
- arrival time of their last block, by :func:`time.perf_counter`, whose clock all processes of a machine share
- age of the first sample of that block on arrival, in seconds
- CPU time of the process so far, in seconds
"""
_writing = _thread.allocate_lock()


def write(out: int, body: bytes, is_samples: bool, lost: bool = False, arrived: float = 0.0, age: float = 0.0) -> None:
    """Send a whole message. This waits while the parent does not read."""
    left = memoryview(HEADER.pack(len(body), is_samples, lost, arrived, age, time.process_time()) + body)
    with _writing:
        while left:  # stopping and continuing this process while it waits cuts a large write short
            left = left[os.write(out, left) :]


class Blocks:
    """Blocks of samples that are sent together, so that the parent wakes up less often."""

    def __init__(self, out: int) -> None:
        self.wanted = 1
        self._out = out
        self._held: list[bytes] = []
        self._lost, self._arrived, self._age = False, 0.0, 0.0

    def add(self, data: Any, samples: int, when: Any, status: Any) -> None:
        """Take a block from PortAudio, which calls this."""
        self.hold(bytes(data), when.currentTime - when.inputBufferAdcTime, status.input_overflow)

    def hold(self, data: bytes, age: float, lost: bool) -> None:
        """Take a block, the age of its first sample in seconds, and whether samples before it were lost."""
        if lost:
            self.flush()
            self._lost = True
        self._held.append(data)
        self._arrived = time.perf_counter()
        self._age = age if 0 <= age < 60 else 0.0  # some systems report nonsense
        if len(self._held) >= self.wanted:
            self.flush()

    def flush(self) -> None:
        """Send the blocks that are held."""
        if self._held:
            write(self._out, b"".join(self._held), True, self._lost, self._arrived, self._age)
            self._held.clear()
            self._lost = False


def without_encoders() -> None:
    """Take ALSA's AC-3 encoder out of the process's configuration.

    PortAudio opens every device of the configuration to see whether the device can record. This encoder cannot record.
    But if libasound2-plugins is installed, opening the encoder loads FFmpeg: 14 MB, and a tenth of a second.
    """
    import ctypes

    try:
        alsa = ctypes.CDLL("libasound.so.2")
        if alsa.snd_config_update() >= 0:
            root, found = ctypes.c_void_p.in_dll(alsa, "snd_config"), ctypes.c_void_p()
            if alsa.snd_config_search(root, b"pcm.a52", ctypes.byref(found)) == 0:
                alsa.snd_config_delete(found)
    except (OSError, AttributeError, ValueError):  # without ALSA there is nothing to take out
        pass


def load() -> Any:
    """Return the module sounddevice, or raise the reason why it does not load."""
    without_encoders()
    try:
        import sounddevice
    except ImportError:
        raise RuntimeError("the microphone needs sounddevice: pip install sounddevice") from None
    except OSError as error:
        raise RuntimeError(f"the microphone needs PortAudio ({error}): sudo apt install libportaudio2") from None
    return sounddevice


def devices(sd: Any) -> list[dict[str, Any]]:
    """List every device that can record, each as the fields of an :class:`kws_edge.audio.capture.InputDevice`."""
    apis = [api["name"] for api in sd.query_hostapis()]
    default = sd.default.device[0]
    return [
        {
            "index": d["index"],
            "name": d["name"],
            "host_api": apis[d["hostapi"]],
            "channels": d["max_input_channels"],
            "rate": round(d["default_samplerate"]),
            "default": d["index"] == default,
        }
        for d in sd.query_devices()
        if d["max_input_channels"] > 0
    ]


@functools.cache
def sound_server() -> Any:
    """Connect to PulseAudio, or to PipeWire in its place."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("pulse", os.path.join(os.path.dirname(__file__), "pulse.py"))
    assert spec and spec.loader
    pulse = module_from_spec(spec)
    spec.loader.exec_module(pulse)
    return pulse.Pulse()


def sources() -> list[dict[str, Any]]:
    """List the sound server's sources as :func:`devices` does. The list is empty if there is no sound server."""
    try:
        found: list[dict[str, Any]] = sound_server().sources()
    except (OSError, RuntimeError):
        return []
    return found


def choose(sd: Any, device: int, rates: list[int], channels: list[int]) -> tuple[int, int]:
    """Return the first of the `rates`, with the first number of `channels`, that the device accepts."""
    for rate in rates:
        for n in channels:
            try:
                sd.check_input_settings(device, n, "int16", samplerate=rate)
            except sd.PortAudioError as error:
                if "unavailable" in str(error).lower():
                    break  # the device is busy: opening it will say so
            else:
                return rate, n
    return rates[0], 1  # opening the device will say what is wrong


def open_device(sd: Any, order: dict[str, Any], blocks: Blocks, on_end: Callable[[], None]) -> Opened:
    """Open a PortAudio device; return its rate, its channels, and the function that starts it."""
    rate, channels = choose(sd, order["device"], order["rates"], order["channels"])
    stream = sd.RawInputStream(
        samplerate=rate,
        blocksize=rate * order["block_ms"] // 1000,
        latency=order["latency_s"],
        device=order["device"],
        channels=channels,
        dtype="int16",
        callback=blocks.add,
        finished_callback=on_end,
    )
    return rate, channels, stream.start


def open_source(order: dict[str, Any], blocks: Blocks, on_end: Callable[[], None]) -> Opened:
    """Open a source of the sound server, which converts; return rate, channels, and the function that starts it."""
    import threading

    server = sound_server()
    rate, channels = next(rate for rate in order["rates"] if rate <= server.MAX_RATE), order["channels"][0]
    server.open(order["source"], rate, channels, order["latency_s"])

    def record() -> None:
        with contextlib.suppress(RuntimeError):
            for block in server.blocks(rate * order["block_ms"] // 1000):
                blocks.hold(*block)
        on_end()

    return rate, channels, threading.Thread(target=record, daemon=True).start


def main() -> None:
    """Answer orders until standard input ends."""
    import json
    import queue
    import signal
    import threading

    for name in ("SIGINT", "SIGTERM"):  # a terminal or a supervisor signals all processes; the parent decides
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    out, parent = os.dup(1), os.getppid()
    os.dup2(2, 1)  # output of native code must not mix with the messages
    orders: queue.SimpleQueue[Any] = queue.SimpleQueue()
    blocks = Blocks(out)

    def follow() -> None:
        for line in sys.stdin.buffer:
            order = json.loads(line)
            if isinstance(order, int):
                blocks.wanted = order
            else:
                orders.put(order)
        os._exit(0)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(0)

    def answer(values: dict[str, Any]) -> None:
        write(out, json.dumps(values).encode(), False)

    def on_end() -> None:
        blocks.flush()
        os._exit(0)

    for task in (follow, watch):
        threading.Thread(target=task, daemon=True).start()
    try:
        sd = load()
        answer({"devices": devices(sd)})
        while True:
            order = orders.get()
            if order == "sources":
                answer({"devices": sources()})
                continue
            opened = open_source(order, blocks, on_end) if order["source"] else open_device(sd, order, blocks, on_end)
            rate, channels, start = opened
            answer({"rate": rate, "channels": channels})
            orders.get()
            start()
            answer({})
    except Exception as error:  # the parent reports the error, whatever it is
        answer({"error": " ".join(str(error).split()) or type(error).__name__})
        os._exit(1)


if __name__ == "__main__":
    del sys.path[0]  # the modules of this folder share names with others
    import json

    sys.path[:] = json.loads(sys.argv[1])
    main()
