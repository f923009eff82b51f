"""Where the trials of a sweep stand, and which is the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from host_tools.sweep.file import Sweep

__all__ = ["DONE", "FAILED", "STOPPED", "WAITING", "Outcome", "best_of", "ranked", "within"]

WAITING, DONE, STOPPED, FAILED = "waiting", "done", "stopped", "failed"


@dataclass(frozen=True)
class Outcome:
    """Where a trial stands."""

    number: int
    values: Mapping[str, Any]
    state: str = WAITING
    """``waiting``, ``done``, ``stopped`` (by ASHA) or ``failed``."""
    figures: Mapping[str, float | None] = field(default_factory=dict)
    """Of a trial that was stopped, the figure that it was judged by."""
    epoch: int | None = None
    """Of a trial that ASHA judges: the last epoch that it trained."""
    problem: str = ""
    """Why it failed."""


def within(sweep: Sweep, outcome: Outcome) -> bool:
    """Whether a trial is done, has measured the objective, and keeps to every limit."""
    value = outcome.figures.get(str(sweep.objective))
    kept = all(limit.kept(outcome.figures.get(str(limit.figure))) for limit in sweep.limits)
    return outcome.state == DONE and value is not None and kept


def ranked(sweep: Sweep, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes, the best first. What keeps to the limits comes before what does not, then what was stopped."""
    order = (DONE, STOPPED, WAITING, FAILED)

    def rank(one: Outcome) -> tuple[Any, ...]:
        value = one.figures.get(str(sweep.objective))
        worse = 0.0 if value is None else -value if sweep.maximize else value
        return not within(sweep, one), order.index(one.state), value is None, worse, -(one.epoch or 0), one.number

    return sorted(outcomes, key=rank)


def best_of(sweep: Sweep, outcomes: Sequence[Outcome]) -> Outcome | None:
    """The best trial that keeps to the limits, if there is one."""
    first = ranked(sweep, outcomes)[0]
    return first if within(sweep, first) else None
