"""Capture in a process of its own, which can be killed when it hangs."""

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
"""Longest wait for an answer, in seconds. A slow board needs several seconds to load PortAudio."""
_END_S = 3.0
# A process that uses this share of a core for this many seconds has a busy-looping thread in its audio system.
_MOST_CPU, _WATCHED_S = 0.5, 30.0
# Latency to request, in seconds. At its minimum of 10 to 40 ms the audio system wakes up more often and costs twice the
# CPU.
_LATENCY_S = 0.08


@dataclass(frozen=True)
class InputDevice:
    """A microphone as PortAudio lists it, or a source of the sound server."""

    index: int | None
    """PortAudio's number. It is None for a source of the sound server, which is opened by its name."""
    name: str
    host_api: str
    channels: int
    rate: int
    """The device's own sample rate, in Hz."""
    default: bool
    description: str = ""
    """The sound server's readable name of a source."""
    monitor: bool = False
    """Whether the source is a monitor: it records what an output plays."""


def _ignore(*nothing: Any) -> None:
    pass


class Capture:
    """A process that first lists the input devices, then opens one of them and records.

    Every call keeps to its `timeout`, even if the audio system hangs.

    Raises
    ------
    AudioError
        By every method except :meth:`kill`: if PortAudio is missing or fails, or if the process dies or answers too
        late.
    """

    def __init__(self) -> None:
        if not sys.executable or getattr(sys, "frozen", False):  # a bundled program would start a copy of itself
            raise AudioError(f"the microphone needs a Python interpreter; sys.executable is {sys.executable!r}")
        # -S: the new process imports from this process's path, however that path was made.
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
        """CPU time of the process when the last samples came, in seconds."""
        self.ready_s = 0.0
        """Seconds from the start of the process to its first answer."""
        self.peak_bytes = 0
        """Peak resident memory of the process. It is known after the process has ended, if the system reports it."""
        self._devices: list[InputDevice] | None = None
        self._wanted = 1
        self._answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._on_block, self._on_end = _ignore, _ignore
        self._reader = threading.Thread(target=self._read, name="capture", daemon=True)
        try:
            self._reader.start()
        except RuntimeError as error:  # no memory for the thread, or too many threads
            self._process.kill()
            self._process.wait()
            raise AudioError(f"the microphone needs a thread of its own: {error}") from None

    def _read(self) -> None:
        out, started = self._messages, time.monotonic()
        since, spent = started, 0.0  # recording begins after the last answer
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
        self._answers.put({"error": "the process that records has died"})  # or will die: its output is not read
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
        with suppress(OSError, ValueError):  # the process has died or was killed; the reading thread reports that
            self._orders.write(json.dumps(order).encode() + b"\n")
            self._orders.flush()

    def devices(self, *, timeout: float = ANSWER_S) -> list[InputDevice]:
        """List every PortAudio device that can record."""
        if self._devices is None:
            self._devices = self._listed(timeout)
        return self._devices

    def sources(self, *, timeout: float = ANSWER_S) -> list[InputDevice]:
        """List the sources of PulseAudio or PipeWire, monitors last. The list is empty if there is no sound server."""
        self.devices(timeout=timeout)
        self._send("sources")
        return self._listed(timeout)

    def _listed(self, timeout: float) -> list[InputDevice]:
        return [InputDevice(**device) for device in self._answer("audio devices", timeout)["devices"]]

    def open(
        self, device: InputDevice, rates: Sequence[int], channels: Sequence[int], *, timeout: float = ANSWER_S
    ) -> tuple[int, int]:
        """Open a device at the first of `rates`, with the first number of `channels`, that it accepts; return both.

        Parameters
        ----------
        device : InputDevice
            One of the listed devices or sources.
        rates, channels : sequence of int
            Rates in Hz and numbers of channels to try, in order of preference.
        timeout : float
            Seconds to wait.
        """
        self.devices(timeout=timeout)  # the process answers orders in turn
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
            Called by a thread with four values: the samples (interleaved int16), whether the audio system lost samples
            before them, their arrival time (:func:`time.perf_counter`), and their age on arrival in seconds.
        on_end : callable
            Called by that thread when no more samples will come.
        """
        self._on_block, self._on_end = on_block, on_end
        self._send({})
        self._answer(self._what, timeout)

    def want(self, blocks: int) -> None:
        """Hand on this many `blocks` at a time. Handing on costs more than recording a block does."""
        if blocks != self._wanted:
            self._wanted = blocks
            self._send(blocks)

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def kill(self) -> None:
        """Kill the process, whatever it is doing. You may call this again."""
        self._on_block, self._on_end = _ignore, _ignore
        if self._process.returncode is None:
            self.peak_bytes = peak_bytes(self.pid) or 0
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):  # a driver may hold the process; it ends when released
            self._process.wait(_END_S)
        self._reader.join(_END_S)
        with suppress(OSError):
            self._orders.close()
