"""The best trial of a sweep as a recipe file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from host_tools.sweep.file import Sweep
from kws_edge.text import printable, read_text
from kws_edge.toml_files import parse_toml

__all__ = ["best_recipe"]


def best_recipe(
    sweep: Sweep, number: int, values: Mapping[str, Any], figures: Mapping[str, float | None], folder: Path
) -> str:
    """The recipe with the values of a trial, in TOML. Comments and order are those of the recipe.

    Data that the recipe has beside itself (``./``) are linked to beside the new file.

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
    import tomlkit

    recipe = tomlkit.parse(read_text(sweep.recipe))
    stages: dict[str, Any] = {str(stage["id"]): stage for stage in recipe["stage"]}  # type: ignore[union-attr]
    for name, text in sweep.changes(values).items():
        stage, _, option = name.partition(".")
        stages[stage][option] = parse_toml(f"value = {text}")["value"]
    measured = ", ".join(f"{name} {value:g}" for name, value in figures.items() if value is not None)
    scale = f" at scale {sweep.scale:g}" if sweep.scale != 1 else ""
    for place in dict(recipe.get("data", {})).values():
        if str(place).startswith("./"):
            _link(folder / str(place), sweep.recipe.parent / str(place))
    return f"# Best of the sweep {sweep.name}: trial {number}{scale}, {printable(measured)}\n" + tomlkit.dumps(recipe)


def _link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.symlink(target, path)
