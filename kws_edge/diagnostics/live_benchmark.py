"""Measure the cost of ``kws-edge listen`` at live pace, in a process of its own."""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from time import perf_counter
from typing import IO, Any

from kws_edge.audio.source import BLOCK_MS
from kws_edge.errors import AudioError, KwsError

__all__ = ["measure_live"]

_STARTS = 3
_PATIENCE_S = 180.0
_HEAD_BLOCKS, _HEAD_BYTES = 5, 4096


def measure_live(
    arguments: Sequence[str], *, seconds: float, pcm: bytes | None, bytes_per_s: int = 0
) -> dict[str, Any]:
    """Run ``kws-edge listen`` in a process of its own, and return what it counts.

    Parameters
    ----------
    arguments : sequence of str
        Arguments of ``listen``.
    seconds : float
        Audio to hear.
    pcm : bytes or None
        Audio for its standard input, written at the pace of a microphone; None if `listen` opens a microphone.
    bytes_per_s : int
        Pace at which `pcm` is written.

    Returns
    -------
    dict
        The values of :meth:`kws_edge.diagnostics.latency.Stopwatch.summary`, and the seconds of several starts, each
        from the start of the process to its first audio.

    Raises
    ------
    KwsError
        If `listen` fails. The message has its reason.
    """
    starts: list[float] = []
    stats: dict[str, Any] = {}
    for heard in [*[0.3] * (_STARTS - 1), seconds]:
        start, stats = _listen(arguments, heard, pcm, bytes_per_s)
        starts.append(start)
    return {"source": "microphone" if pcm is None else "standard input", "startup_s": starts, **stats}


def _listen(
    arguments: Sequence[str], seconds: float, pcm: bytes | None, bytes_per_s: int
) -> tuple[float, dict[str, Any]]:
    """Return the seconds until `listen` hears audio, and its counts at the end."""
    command = [sys.executable, "-m", "kws_edge", "listen", *arguments, "--no-room", "--json", "--stats"]
    started = perf_counter()
    process = subprocess.Popen(
        [*command, "--seconds", str(seconds)],
        stdin=subprocess.DEVNULL if pcm is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    watchdog = threading.Timer(_PATIENCE_S, process.kill)
    watchdog.start()
    try:
        feeder = _Feeder(process.stdin, pcm, bytes_per_s, seconds) if process.stdin and pcm is not None else None
        _wait_until_it_listens(process, watchdog)
        startup_s = perf_counter() - started
        watchdog.cancel()
        if feeder:
            feeder.go()
            process.stdin = None  # the feeder closes it
        out, err = process.communicate(timeout=seconds + _PATIENCE_S)
    except subprocess.TimeoutExpired:
        raise AudioError(f"listen did not end within {seconds + _PATIENCE_S:.0f} s: audio stands still") from None
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()
    if process.returncode:
        reason = err.decode(errors="replace").strip().splitlines() or ["it did not say why"]
        raise KwsError(f"listen ended early: {reason[-1].removeprefix('kws-edge: ')}")
    return startup_s, json.loads(out.splitlines()[-1])["stats"]


def _wait_until_it_listens(process: subprocess.Popen[bytes], watchdog: threading.Timer) -> None:
    said = ""
    for line in process.stderr or ():
        said = line.decode(errors="replace").strip()
        if said.startswith("kws-edge: listening to"):
            return
    if watchdog.finished.is_set():
        raise AudioError(f"listen heard nothing for {_PATIENCE_S:.0f} s after its start")
    raise KwsError(f"listen did not start: {said.removeprefix('kws-edge: ') or 'it said nothing'}")


class _Feeder:
    """Writes audio into a pipe at a microphone's pace.

    The first part is written at once. It covers what a resampler holds back, and the bytes that tell the format.
    """

    def __init__(self, pipe: IO[bytes], pcm: bytes, bytes_per_s: int, seconds: float) -> None:
        self._pipe, self._pcm, self._bytes_per_s = pipe, pcm, bytes_per_s
        self._block = bytes_per_s * BLOCK_MS // 1000
        self._end = min(len(pcm), math.ceil((seconds + 1) * bytes_per_s))
        self._head = max(_HEAD_BLOCKS, math.ceil(_HEAD_BYTES / self._block)) * self._block
        with contextlib.suppress(BrokenPipeError):  # the process ended at once, and says why
            for at in range(0, self._head, self._block):
                self._write(at)

    def _write(self, at: int) -> None:
        self._pipe.write(self._pcm[at : min(at + self._block, self._end)])
        self._pipe.flush()

    def go(self) -> None:
        threading.Thread(target=self._feed, name="feeder", daemon=True).start()

    def _feed(self) -> None:
        started = perf_counter()
        with contextlib.suppress(BrokenPipeError), self._pipe:  # a broken pipe: the process has heard enough
            for at in range(self._head, self._end, self._block):
                due = started + (at - self._head) / self._bytes_per_s
                time.sleep(max(0.0, due - perf_counter()))
                self._write(at)
