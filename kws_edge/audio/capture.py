"""Capture in a process of its own, which can be thrown away."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kws_edge.audio import capture_process
from kws_edge.audio.capture_process import HEADER
from kws_edge.audio.source import BLOCK_MS
from kws_edge.diagnostics.latency import peak_bytes
from kws_edge.errors import AudioError

__all__ = ["ANSWER_S", "Capture", "InputDevice"]

ANSWER_S = 20.0
"""How long an answer may take, seconds: a slow board loads PortAudio for some."""
_END_S = 3.0
# One that takes this much of a core for this long, seconds, has a thread in its audio system that spins.
_MOST_CPU, _WATCHED_S = 0.5, 30.0
# What the audio system may keep back: with its least, 10 to 40 ms, it wakes up so often that it costs twice the CPU.
_LATENCY_S = 0.08


@dataclass(frozen=True)
class InputDevice:
    """A microphone as PortAudio lists it, or a source of the sound server."""

    index: int | None
    """Number; None for a source, which is opened by its name."""
    name: str
    host_api: str
    channels: int
    rate: int
    """Its own sample rate, Hz."""
    default: bool
    description: str = ""
    """What the sound server calls a source for people."""
    monitor: bool = False
    """Whether a source is what an output plays."""


def _ignore(*nothing: Any) -> None:
    pass


class Capture:
    """A process that lists the input devices at once, and then opens one and records.

    No call waits longer than it is told to, whatever the audio system does.

    Raises
    ------
    AudioError
        By each method but :meth:`kill`: if PortAudio is missing or fails, does not answer in time, or has died.
    """

    def __init__(self) -> None:
        if not sys.executable or getattr(sys, "frozen", False):  # a bundled program would start itself again
            raise AudioError(f"the microphone needs a Python interpreter; sys.executable is {sys.executable!r}")
        # -S: what it imports is where this process finds it, whoever made its path.
        path = json.dumps([folder for folder in sys.path if isinstance(folder, str)])
        command = [sys.executable, "-S", capture_process.__file__, path]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # PortAudio and ALSA complain there of all that they try
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            raise AudioError(f"the microphone needs a process of its own: {sys.executable}: {error.strerror}") from None
        assert self._process.stdin and self._process.stdout
        self._orders, self._messages = self._process.stdin, self._process.stdout
        self.pid = self._process.pid
        self.cpu_s = 0.0
        """CPU time that it had taken when the last samples came, seconds."""
        self.ready_s = 0.0
        """Seconds from its start to its first answer."""
        self.peak_bytes = 0
        """The most memory that it had resident; known once it has ended, where the system tells."""
        self._devices: list[InputDevice] | None = None
        self._wanted = 1
        self._answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._on_block, self._on_end = _ignore, _ignore
        self._reader = threading.Thread(target=self._read, name="capture", daemon=True)
        try:
            self._reader.start()
        except RuntimeError as error:  # no memory for it, or too many
            self._process.kill()
            self._process.wait()
            raise AudioError(f"the microphone needs a thread of its own: {error}") from None

    def _read(self) -> None:
        out, started = self._messages, time.monotonic()
        since, spent = started, 0.0  # of recording: the last answer comes before it
        with out:
            while len(head := out.read(HEADER.size)) == HEADER.size:
                size, is_block, overrun, arrived, age, self.cpu_s = HEADER.unpack(head)
                if len(body := out.read(size)) < size:
                    break
                if is_block:
                    self._on_block(body, overrun, arrived, age)
                    if (seconds := time.monotonic() - since) > _WATCHED_S:
                        if self.cpu_s - spent > _MOST_CPU * seconds:
                            break
                        since, spent = since + seconds, self.cpu_s
                else:
                    self.ready_s = self.ready_s or time.monotonic() - started
                    since, spent = time.monotonic(), self.cpu_s
                    self._answers.put(json.loads(body))
        self._answers.put({"error": "the process that records has died"})  # or will: nobody reads what it writes
        self._on_end()

    def _answer(self, what: str, timeout: float) -> dict[str, Any]:
        try:
            answer = self._answers.get(timeout=timeout)
        except queue.Empty:
            self.kill()
            raise AudioError(
                f"{what}: the audio system does not answer in {timeout:.0f} s; restart the sound server"
            ) from None
        if text := answer.get("error"):
            self.kill()
            if "unavailable" in text.lower():
                remedy = "close the program that records from it, or choose another: kws-edge devices"
                text = f"busy or gone ({text}); {remedy}"
            raise AudioError(text if text.startswith("the microphone needs") else f"{what}: {text}")
        return answer

    def _send(self, order: Any) -> None:
        with suppress(OSError, ValueError):  # it has died, or was ended, and the thread that reads will say so
            self._orders.write(json.dumps(order).encode() + b"\n")
            self._orders.flush()

    def devices(self, *, timeout: float = ANSWER_S) -> list[InputDevice]:
        """Every device of PortAudio's that can record."""
        if self._devices is None:
            self._devices = self._listed(timeout)
        return self._devices

    def sources(self, *, timeout: float = ANSWER_S) -> list[InputDevice]:
        """Every source of PulseAudio, or of PipeWire in its place, monitors last; none where there is no server."""
        self.devices(timeout=timeout)
        self._send("sources")
        return self._listed(timeout)

    def _listed(self, timeout: float) -> list[InputDevice]:
        return [InputDevice(**device) for device in self._answer("audio devices", timeout)["devices"]]

    def open(
        self, device: InputDevice, rates: Sequence[int], channels: Sequence[int], *, timeout: float = ANSWER_S
    ) -> tuple[int, int]:
        """Open a device at the first of the rates, with the first number of channels, that it takes; returns both."""
        self.devices(timeout=timeout)  # it answers in order
        self._what = f"microphone {device.name!r}"
        self._send(
            {
                "device": device.index,
                "source": device.name if device.index is None else None,
                "rates": rates,
                "channels": channels,
                "block_ms": BLOCK_MS,
                "latency_s": _LATENCY_S,
            }
        )
        got = self._answer(self._what, timeout)
        return got["rate"], got["channels"]

    def start(
        self,
        on_block: Callable[[bytes, bool, float, float], None],
        on_end: Callable[[], None],
        *,
        timeout: float = ANSWER_S,
    ) -> None:
        """Record from the device that is open.

        Parameters
        ----------
        on_block : callable
            Called by a thread, with samples as interleaved int16, whether the audio system lost some before, when they
            arrived (of :func:`time.perf_counter`), and their age at that time in seconds.
        on_end : callable
            Called by that thread once no more will come.
        """
        self._on_block, self._on_end = on_block, on_end
        self._send({})
        self._answer(self._what, timeout)

    def want(self, blocks: int) -> None:
        """Hand blocks on so many at a time: each time costs more than a block does."""
        if blocks != self._wanted:
            self._wanted = blocks
            self._send(blocks)

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def kill(self) -> None:
        """End it, whatever it is at; may be called again."""
        self._on_block, self._on_end = _ignore, _ignore
        if self._process.returncode is None:
            self.peak_bytes = peak_bytes(self.pid) or 0
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):  # a driver may keep it; it ends when that does
            self._process.wait(_END_S)
        self._reader.join(_END_S)
        with suppress(OSError):
            self._orders.close()
