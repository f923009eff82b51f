"""The best trial of a sweep as a recipe file."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from host_tools.sweep.axes import text_of
from host_tools.sweep.file import Sweep
from host_tools.toml_files import shipped_toml
from kws_edge.text import printable

__all__ = ["best_recipe"]


def best_recipe(
    sweep: Sweep, number: int, values: Mapping[str, Any], figures: Mapping[str, float | None], folder: Path
) -> str:
    """A recipe that extends that of the sweep by the values of a trial, in TOML.

    Parameters
    ----------
    sweep : Sweep
    number : int
        Number of the trial.
    values, figures : mapping
        The trial's values by axis, and what it measured.
    folder : path
        Where the new file will be.
    """
    stages: dict[str, list[str]] = defaultdict(list)
    for name, text in sweep.changes(values).items():
        stage, _, option = name.partition(".")
        stages[stage].append(f"{option} = {text}")
    measured = ", ".join(f"{name} {value:g}" for name, value in figures.items() if value is not None)
    scale = f" at scale {sweep.scale:g}" if sweep.scale != 1 else ""
    lines = [
        f"# Best of the sweep {sweep.name}: trial {number}{scale}, {printable(measured)}",
        f"extends = {text_of(_name(sweep.recipe, folder))}",
    ]
    for stage, options in stages.items():
        lines += ["", "[[stage]]", f"id = {text_of(stage)}", *options]
    return "\n".join(lines) + "\n"


def _name(recipe: Path, folder: Path) -> str:
    """What a recipe in `folder` calls another one."""
    if recipe in (path.absolute() for path in shipped_toml().values()):
        return recipe.stem
    return os.path.relpath(recipe.parent.resolve() / recipe.name, folder.resolve())
