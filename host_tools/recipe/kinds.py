"""The kinds of stages: the command of each, and the part of its output that later stages take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["KINDS", "Kind"]

_RUN = ("best.keras", "examples.npz")


@dataclass(frozen=True)
class Kind:
    """A kind of stage."""

    command: str
    """Command of `program`."""
    output: str
    """The value of ``-o``, in the stage's folder. ``ID`` stands for the stage's id, ``NAME`` for the recipe's name.
    References to the stage lead to this output."""
    counts: tuple[str, ...] = ()
    """Files of an output folder that later stages depend on; empty: all files."""
    amounts: tuple[str, ...] = ()
    """Options that ``--scale`` makes smaller."""
    shares: tuple[str, ...] = ()
    """Options that ``--scale`` makes larger, such as a number allowed per hour, because there are fewer hours."""
    fixed: Mapping[str, object] = field(default_factory=dict)
    """Options that the kind itself sets."""
    program: str = "kws-host"
    """Program of the command. If it is ``kws-firmware``, its standard output is kept. If it is empty, the recipe's own
    process does the stage."""
    revision: int = 1
    """A number that goes up when the same options and data give another result than before."""


KINDS = {
    "synthesize": Kind("synthesize", "ID", amounts=("minutes", "per_word")),
    "collect": Kind("collect", "ID"),
    "make-stream": Kind("make-stream", "ID.flac", amounts=("clips", "seconds"), revision=2),
    "train": Kind("train", "ID", _RUN, ("epochs", "steps", "minutes")),
    "average": Kind("train", "ID", _RUN, fixed={"epochs": 0}),
    "prior": Kind("train", "ID", _RUN, fixed={"epochs": 0}),
    "qat": Kind("qat", "ID", _RUN, ("epochs", "steps")),
    "quantize": Kind("quantize", "NAME.tflite"),
    "confirm": Kind("confirm", "NAME.tflite"),
    "calibrate": Kind("calibrate", "NAME.tflite", shares=("budget",)),
    "evaluate": Kind("evaluate", "ID.json"),
    "stream-eval": Kind("stream-eval", "ID", ("report.json",)),
    "report": Kind("report", "ID", ("report.json",)),
    "arena": Kind("arena", "ID.json", program="kws-firmware"),
    "lock": Kind("lock", "NAME.lock.json", program=""),
    "card": Kind("card", "NAME.md"),
}
"""The values that ``do`` takes in a recipe."""
