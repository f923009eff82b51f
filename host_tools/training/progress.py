"""The progress of a training, and its learning rate at each batch."""

from __future__ import annotations

import math
import time

from host_tools.config import OptimConfig

__all__ = ["Progress"]


class Progress:
    """The share of the training that is done, counted in batches or in time.

    Parameters
    ----------
    optim : OptimConfig
    first : int
        Epochs that an earlier call did.
    used_s : float
        Seconds that these epochs took, with everything around them, and seconds of this call so far.
    """

    def __init__(self, optim: OptimConfig, first: int, used_s: float) -> None:
        self._limit_s = 60 * optim.minutes
        self._steps, self._peak = optim.steps, optim.learning_rate
        self._ends = [epochs * optim.steps for epochs in (*optim.lengthened, optim.epochs)]
        self._batches = first * optim.steps
        self._started, self._began_s = time.monotonic(), used_s
        self._before = self._share()

    def _share(self) -> float:
        return self.used_s / self._limit_s if self._limit_s else self._batches / max(1, self._ends[-1])

    @property
    def used_s(self) -> float:
        """Seconds since the run began, without pauses between calls."""
        return self._began_s + time.monotonic() - self._started

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self._share() >= 1

    @property
    def left_s(self) -> float:
        """Seconds that are left, estimated from this call's pace."""
        if self._limit_s:
            return max(0.0, self._limit_s - self.used_s)
        done = self._share()
        return (1 - done) * (time.monotonic() - self._started) / max(1e-9, done - self._before)

    def learning_rate(self) -> float:
        """Learning rate of the next batch: a linear warm-up to the peak, then half a cosine to zero.

        If a run was lengthened, the rate rises within an epoch to that of a run which had this length from the
        beginning. Then it follows that run's rate.
        """
        if self._limit_s:
            return self._peak * _rate(min(1.0, self._share()), 0.05)
        begin, end = 0, self._ends[0]
        for later in self._ends[1:]:
            if self._batches >= end:
                begin, end = end, later
        end = max(1, end)
        warm_up = min(self._steps, max(1, end // 5)) / end
        rate = self._peak * _rate(min(1.0, self._batches / end + 0.5 / end), warm_up)
        return rate * min(1.0, (self._batches - begin + 0.5) / min(self._steps, end - begin)) if begin else rate

    def step(self) -> None:
        """Count a batch as done."""
        self._batches += 1


def _rate(done: float, warm_up: float) -> float:
    """Share of the peak when the share `done` of the training is done. `warm_up` is the share of the warm-up."""
    cosine = 0.5 * (1 + math.cos(math.pi * max(0.0, done - warm_up) / max(1e-9, 1 - warm_up)))
    return min(done / warm_up, cosine)
