"""Measure the time of each stage of an inference live. This is cheap enough to run always."""

from __future__ import annotations

import sys
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "AUDIO",
    "DETECTOR",
    "FRONTEND",
    "INVOKE",
    "OFF",
    "QUANTISE",
    "RESAMPLE",
    "STAGES",
    "Helper",
    "Stopwatch",
    "percentiles",
    "wall_clock",
]

STAGES = ("audio", "resample", "front_end", "quantise", "invoke", "detector")
"""The stages between the arrival of an inference's last sample and its decision, in order."""
AUDIO, RESAMPLE, FRONTEND, QUANTISE, INVOKE, DETECTOR = range(len(STAGES))
_KEPT = 36_000


def wall_clock(precision: str = "seconds") -> str:
    """The local time with its UTC offset, ISO 8601; `precision` is ``seconds`` or ``milliseconds``."""
    import datetime

    return datetime.datetime.now().astimezone().isoformat(timespec=precision)


def percentiles(seconds: NDArray[np.floating[Any]]) -> dict[str, float]:
    """Mean, p50, p95, p99 and max of durations. Each percentile is one of the durations (nearest rank).

    Parameters
    ----------
    seconds : numpy.ndarray, shape (n,), n > 0
    """
    ordered = np.sort(seconds)
    ranks = {f"p{p}_s": float(ordered[max(0, -(-p * len(ordered) // 100) - 1)]) for p in (50, 95, 99)}
    return {"mean_s": float(ordered.mean(dtype=np.float64)), **ranks, "max_s": float(ordered[-1])}


class Helper(Protocol):
    """An object that lets another process do a part of the work."""

    @property
    def cpu_s(self) -> float:
        """CPU time of that process so far, in seconds."""

    @property
    def peak_bytes(self) -> int:
        """Peak resident memory of that process, in bytes."""


class Stopwatch:
    """Measures the time of each stage for each inference.

    The audio source calls :meth:`start` when a block is there. Source and spotter call :meth:`lap` at the end of each
    stage, and the spotter calls :meth:`stop` at the decision. If a block completes no inference, its times are dropped
    at the next start. So these times are latencies; `cpu_share` tells the load.

    Parameters
    ----------
    deadline_s : float
        Latency in seconds beyond which an inference counts as late: the time from one inference to the next.
    kept : int
        Number of latest inferences to keep; by default those of an hour at ten per second.
    helper : Helper, optional
        Does a part of the work in another process, whose cost counts, too.
    """

    def __init__(self, deadline_s: float, *, kept: int = _KEPT, helper: Helper | None = None) -> None:
        self.deadline_s = deadline_s
        self._helper = helper
        self.inferences = 0
        self.deadline_misses = 0
        self._rows = np.empty((kept, len(STAGES) + 1), np.float32)  # the system gives memory when rows are written
        self._spent = [0.0] * (len(STAGES) + 1)
        self._began = self._last = self._due = 0.0
        self._first: tuple[float, float] | None = None
        self._end: tuple[float, float] = (0.0, 0.0)

    def start(self, arrived: float | None = None) -> None:
        """Say that a block arrived at the time `arrived` (:func:`time.perf_counter`; None: now)."""
        self._last = self._began = now = perf_counter() if arrived is None else arrived
        self._due = now + self.deadline_s
        self._spent = [0.0] * (len(STAGES) + 1)
        if self._first is None:
            self._first = self._now()

    def _now(self) -> tuple[float, float]:
        return perf_counter(), process_time() + (self._helper.cpu_s if self._helper else 0.0)

    def lap(self, stage: int) -> None:
        """Say that a stage ends now. It began when the stage before it ended."""
        now = perf_counter()
        self._spent[stage] += now - self._last
        self._last = now

    def stop(self) -> None:
        """Say that the decision is made.

        If the block completes another inference, that one begins now. Its deadline is one step later.
        """
        now = perf_counter()
        spent = self._spent
        spent[-1] = now - self._began
        self._rows[self.inferences % len(self._rows)] = spent
        self.inferences += 1
        self.deadline_misses += now > self._due
        self._due += self.deadline_s
        self._last = self._began = now
        self._spent = [0.0] * (len(STAGES) + 1)

    def close(self) -> None:
        """Say that no more audio comes. You may call this again."""
        self._end = self._end if any(self._end) else self._now()

    def samples(self) -> dict[str, NDArray[np.float32]]:
        """Seconds of each stage for the kept inferences; ``end_to_end`` is the time from arrival to decision."""
        rows = self._rows[: self.inferences]
        return dict(zip((*STAGES, "end_to_end"), rows.T, strict=True))

    def summary(self) -> dict[str, Any]:
        """The counts since the first block, JSON-ready: the part ``live`` of the results of ``kws-edge bench``."""
        self.close()
        wall, cpu = (b - a for a, b in zip(self._first or self._end, self._end, strict=True))
        stages = {name: percentiles(seconds) for name, seconds in self.samples().items()} if self.inferences else None
        return {
            "seconds": wall,
            "inferences": self.inferences,
            "deadline_s": self.deadline_s,
            "deadline_misses": self.deadline_misses,
            "cpu_share": cpu / wall if wall > 0 else 0.0,
            "peak_bytes": (own := peak_bytes()) and own + (self._helper.peak_bytes if self._helper else 0),
            "stages": stages,
        }


class _Off(Stopwatch):
    """Measures nothing."""

    def __init__(self) -> None:
        super().__init__(0.0, kept=0)

    def start(self, arrived: float | None = None) -> None:
        pass

    def lap(self, stage: int) -> None:
        pass

    def stop(self) -> None:
        pass


OFF = _Off()
"""The stopwatch to use when nothing is measured."""


def peak_bytes(pid: int | None = None) -> int | None:
    """Peak resident memory of a process (by default this one), in bytes; None if the system does not report it."""
    try:
        with open(f"/proc/{pid or 'self'}/status") as status:  # getrusage would include the parent's peak before exec
            for line in status:
                if line.startswith("VmHWM:"):
                    return 1024 * int(line.split()[1])
    except OSError:
        pass
    if pid:
        return None
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
