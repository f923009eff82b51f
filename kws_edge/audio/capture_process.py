"""The process that records, for :class:`kws_edge.audio.capture.Capture`, which runs this file by its path.

PortAudio and the systems below it wait without a limit where a sound server dies or hangs, and leave threads that spin.
So they live in a process that can be killed. It loads neither the package nor NumPy.

Standard input carries orders, one JSON value a line: ``"sources"`` asks for those of the sound server, an object says
what to open, another starts it, and a number says how many blocks are to be handed on together. Its end ends the
process, whatever else it is at, and so does the end of the parent, of which a fork may still hold the pipes. Standard
output carries messages: :data:`HEADER`, then as many bytes as it says. These are samples, or a JSON object: the devices
at first, then an answer to each order but a number, and instead of any of them ``{"error": TEXT}``.
"""

from __future__ import annotations

import _thread
import contextlib
import functools
import os
import struct
import sys
import time

TYPE_CHECKING = False  # of typing, which the process does without
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Opened = tuple[int, int, Callable[[], object]]
    """Rate, channels, and what starts it."""

HEADER = struct.Struct("<I??2xddd")
"""Bytes that follow; whether they are samples; whether the audio system lost some before them; when the last block of
them arrived, by :func:`time.perf_counter`, which all processes of a machine share; how many seconds before that the
first sample of this last block was captured; CPU seconds so far."""
_writing = _thread.allocate_lock()


def write(out: int, body: bytes, is_samples: bool, lost: bool = False, arrived: float = 0.0, age: float = 0.0) -> None:
    """Send a message, all of it before the next one; where the parent is late, this waits."""
    left = memoryview(HEADER.pack(len(body), is_samples, lost, arrived, age, time.process_time()) + body)
    with _writing:
        while left:  # a large one is cut where this process is stopped and continued while it waits
            left = left[os.write(out, left) :]


class Blocks:
    """Blocks of samples that go on together, so that the parent wakes up when they are of use."""

    def __init__(self, out: int) -> None:
        self.wanted = 1
        self._out = out
        self._held: list[bytes] = []
        self._lost, self._arrived, self._age = False, 0.0, 0.0

    def add(self, data: Any, samples: int, when: Any, status: Any) -> None:
        """Called by PortAudio."""
        self.hold(bytes(data), when.currentTime - when.inputBufferAdcTime, status.input_overflow)

    def hold(self, data: bytes, age: float, lost: bool) -> None:
        """Take a block, the age of its first sample in seconds, and whether something before it was lost."""
        if lost:
            self.flush()
            self._lost = True
        self._held.append(data)
        self._arrived = time.perf_counter()
        self._age = age if 0 <= age < 60 else 0.0  # some systems do not know
        if len(self._held) >= self.wanted:
            self.flush()

    def flush(self) -> None:
        """Send what is held."""
        if self._held:
            write(self._out, b"".join(self._held), True, self._lost, self._arrived, self._age)
            self._held.clear()
            self._lost = False


def without_encoders() -> None:
    """Take ALSA's AC-3 encoder out of the process's configuration.

    PortAudio opens every device of the configuration to see whether it can record. This one cannot, but where
    libasound2-plugins is installed opening it loads FFmpeg: 14 MB, and a tenth of a second.
    """
    import ctypes

    try:
        alsa = ctypes.CDLL("libasound.so.2")
        if alsa.snd_config_update() >= 0:
            root, found = ctypes.c_void_p.in_dll(alsa, "snd_config"), ctypes.c_void_p()
            if alsa.snd_config_search(root, b"pcm.a52", ctypes.byref(found)) == 0:
                alsa.snd_config_delete(found)
    except (OSError, AttributeError, ValueError):  # no ALSA: nothing to take out
        pass


def load() -> Any:
    """The module sounddevice, or why there is none."""
    without_encoders()
    try:
        import sounddevice
    except ImportError:
        raise RuntimeError("the microphone needs sounddevice: pip install sounddevice") from None
    except OSError as error:
        raise RuntimeError(f"the microphone needs PortAudio ({error}): sudo apt install libportaudio2") from None
    return sounddevice


def devices(sd: Any) -> list[dict[str, Any]]:
    """Every device that can record, as the fields of an :class:`kws_edge.audio.InputDevice`."""
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
    """The connection to PulseAudio, or to PipeWire in its place."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("pulse", os.path.join(os.path.dirname(__file__), "pulse.py"))
    assert spec and spec.loader
    pulse = module_from_spec(spec)
    spec.loader.exec_module(pulse)
    return pulse.Pulse()


def sources() -> list[dict[str, Any]]:
    """What the sound server can record from, as :func:`devices`; nothing where there is none."""
    try:
        found: list[dict[str, Any]] = sound_server().sources()
    except (OSError, RuntimeError):
        return []
    return found


def choose(sd: Any, device: int, rates: list[int], channels: list[int]) -> tuple[int, int]:
    """The first of the rates, and with it of the numbers of channels, that the device takes."""
    for rate in rates:
        for n in channels:
            try:
                sd.check_input_settings(device, n, "int16", samplerate=rate)
            except sd.PortAudioError as error:
                if "unavailable" in str(error).lower():
                    break  # busy: opening it will say so
            else:
                return rate, n
    return rates[0], 1  # let opening it say what is wrong


def open_device(sd: Any, order: dict[str, Any], blocks: Blocks, on_end: Callable[[], None]) -> Opened:
    """Open a device of PortAudio's; its rate, its channels, and what starts it."""
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
    """Open a source of the sound server's, which converts; its rate, its channels, and what starts it."""
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

    for name in ("SIGINT", "SIGTERM"):  # a terminal or a supervisor sends them to all; the parent decides
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    out, parent = os.dup(1), os.getppid()
    os.dup2(2, 1)  # what native code prints is no message
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
    except Exception as error:  # whatever it is, the parent tells
        answer({"error": " ".join(str(error).split()) or type(error).__name__})
        os._exit(1)


if __name__ == "__main__":
    del sys.path[0]  # this folder, whose modules have the names of others
    import json

    sys.path[:] = json.loads(sys.argv[1])
    main()
