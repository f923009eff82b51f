"""Comparisons that do not depend on the machine's drift: the sides take turns, and ratios are of neighbours in time."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["Worker", "instructions", "ratio", "regressions", "spread", "take_turns"]

REGRESSION = 1.10
"""A ratio counts as a regression if it is more than this many times the recorded one."""

_WORKER = Path(__file__).with_name("worker.py")
_LEAST_S = 0.04
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
ENVIRONMENT = {**os.environ, **_ONE_THREAD, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}


class Worker:
    """A workload in a process of its own; see ``worker.py``.

    Parameters
    ----------
    python : path
        Python of the environment that the workload runs in.
    name : str
        The workload.
    recording : path
        Mono int16 samples.
    **arguments
        Arguments of the workload.
    """

    def __init__(self, python: Path, name: str, recording: Path, *, prefix: Sequence[str] = (), **arguments) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [*prefix, str(python), str(_WORKER), name, str(recording), json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if prefix else subprocess.DEVNULL,
            text=True,
            env=ENVIRONMENT,
        )

    def ask(self, **question) -> dict:
        """The answer to a question, as ``worker.py`` says."""
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError):
            raise RuntimeError(f"the workload {self.name} ended early") from None

    def timer(self, call: str = "", *, clock: str = "cpu_s") -> Callable[[], float]:
        """Warm up, and return a function that measures seconds a block. Each call runs as many blocks as take 40 ms."""
        n = 2
        while self.ask(blocks=n, call=call)["wall_s"] < _LEAST_S:
            n *= 2
        return lambda: self.ask(blocks=n, call=call)[clock] / n

    def close(self) -> str:
        """End the process. Returns its standard error, if that was kept."""
        return self._process.communicate()[1] or ""

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def take_turns(sides: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measure each side once a round. The order is reversed from round to round."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    order = list(sides)
    for _ in range(rounds):
        for name in order:
            found[name].append(sides[name]())
        order.reverse()
    return found


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else 3 * [values[0]]
    return {"median": middle, "low": low, "high": high}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Median and quartiles of the ratios of the rounds."""
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])


def regressions(ratios: dict[str, float], recorded: dict[str, float]) -> dict[str, float]:
    """For each ratio that is more than a tenth above the recorded one, how many times the recorded one it is."""
    grown = {name: value / recorded[name] for name, value in ratios.items() if name in recorded}
    return {name: times for name, times in grown.items() if times > REGRESSION}


def instructions(python: Path, name: str, recording: Path, *, call: str, blocks: int, **arguments) -> float | None:
    """Instructions a block, by callgrind: the difference of many blocks and few. None if callgrind does not run."""
    counts = []
    for n in (blocks, 2 * blocks):
        try:
            prefix = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
            worker = Worker(python, name, recording, prefix=prefix, **arguments)
            worker.ask(blocks=n, call=call)
            found = re.search(r"Collected : (\d+)", worker.close())
        except (FileNotFoundError, RuntimeError):
            return None
        if not found:
            return None
        counts.append(int(found[1]))
    return (counts[1] - counts[0]) / blocks
