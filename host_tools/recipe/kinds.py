"""The kinds of stages: which command each runs, and what of its output later stages take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["KINDS", "Kind"]

_RUN = ("best.keras", "examples.npz")


@dataclass(frozen=True)
class Kind:
    """A kind of stage."""

    command: str
    """Of `program`."""
    output: str
    """What ``-o`` names, in the stage's folder; ``ID`` stands for the stage's, ``NAME`` for the recipe's name.
    References lead to it."""
    counts: tuple[str, ...] = ()
    """Files of an output folder that later stages depend on; none: all of them."""
    amounts: tuple[str, ...] = ()
    """Options that ``--scale`` makes smaller."""
    shares: tuple[str, ...] = ()
    """Options that it makes larger: what is allowed an hour, where the hours are fewer."""
    fixed: Mapping[str, object] = field(default_factory=dict)
    """Options that the kind itself sets."""
    program: str = "kws-host"
    """The program whose command it is; of ``kws-firmware`` the standard output is kept. Empty: done by the recipe's
    own process."""
    revision: int = 1
    """Goes up when the same options and data give something else than before."""


KINDS = {
    "synthesize": Kind("synthesize", "ID", amounts=("minutes", "per_word")),
    "collect": Kind("collect", "ID"),
    "make-stream": Kind("make-stream", "ID.flac", amounts=("clips", "seconds")),
    "train": Kind("train", "ID", _RUN, ("epochs", "steps")),
    "average": Kind("train", "ID", _RUN, fixed={"epochs": 0}),
    "prior": Kind("train", "ID", _RUN, fixed={"epochs": 0}),
    "qat": Kind("qat", "ID", _RUN, ("epochs", "steps")),
    "quantize": Kind("quantize", "NAME.tflite"),
    "calibrate": Kind("calibrate", "NAME.tflite", shares=("budget",)),
    "evaluate": Kind("evaluate", "ID.json"),
    "stream-eval": Kind("stream-eval", "ID", ("report.json",)),
    "report": Kind("report", "ID", ("report.json",)),
    "arena": Kind("arena", "ID.json", program="kws-firmware"),
    "lock": Kind("lock", "NAME.lock.json", program=""),
    "card": Kind("card", "NAME.md"),
}
"""What ``do`` may say in a recipe."""
