"""What was made here beside what a lock says of the same recipe."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from host_tools.errors import DatasetError, RecipeError
from host_tools.recipe.file import Recipe, Stage
from host_tools.recipe.graph import State, Workshop
from kws_edge.text import counted, parse_json, printable, read_text, shown

__all__ = ["Likeness", "compared", "read_lock"]

SAME = "same"


class Likeness(NamedTuple):
    """How a kind of data, the libraries or a stage's result here is like that of a lock."""

    kind: str
    """``data``, ``library`` or ``stage``."""
    name: str
    found: str
    """``same``, or what differs."""

    @property
    def same(self) -> bool:
        return self.found == SAME


def read_lock(path: str | Path, recipe: Recipe) -> dict[str, Any]:
    """Read the lock of a model that a recipe made.

    Raises
    ------
    RecipeError
        If the file cannot be read, or is no lock of this recipe.
    """
    try:
        told = parse_json(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise RecipeError(printable(f"{path}: {getattr(error, 'strerror', None) or error}")) from None
    forms = {"recipe": dict, "data": dict, "versions": dict, "stages": list}
    fits = isinstance(told, dict) and all(isinstance(told.get(name), form) for name, form in forms.items())
    fits = fits and all(isinstance(one, dict) for one in told["data"].values())
    if not fits or not all(isinstance(one, dict) and isinstance(one.get("id"), str) for one in told["stages"]):
        raise RecipeError(printable(f"{path}: is no lock of a model that a recipe made"))
    if (name := told["recipe"].get("name")) != recipe.name:
        raise RecipeError(printable(f"{path}: is a lock of the recipe {shown(name)}, not of {shown(recipe.name)}"))
    return dict(told)


def compared(workshop: Workshop, told: Mapping[str, Any]) -> list[Likeness]:
    """Compare data, libraries and results with those of a lock.

    Another processor adds in another order. So networks that train there differ in the last bits, and so does what is
    made of them, though data and options are the same.

    Parameters
    ----------
    workshop : Workshop
    told : mapping
        From :func:`read_lock`.
    """
    recipe, states = workshop.recipe, _states(workshop)
    found = [Likeness("data", name, _data(workshop, name, one)) for name, one in told["data"].items()]
    for name, there in told["versions"].items():
        here = workshop.versions.get(name, "not used here")
        found.append(Likeness("library", name, SAME if there == here else f"{here}; the lock has {there}"))
    for one in told["stages"]:
        found.append(Likeness("stage", one["id"], _result(recipe.by_id.get(one["id"]), one, states)))
    return found


def _states(workshop: Workshop) -> dict[str, State]:
    """The states of the stages whose data, and those of all stages before them, are there."""
    states: dict[str, State] = {}
    for stage in workshop.recipe.stages:
        if all(one in states for one in stage.parents):
            with contextlib.suppress(DatasetError):
                states[stage.id] = workshop.state(stage, states)
    return states


def _data(workshop: Workshop, name: str, told: Mapping[str, Any]) -> str:
    if name not in workshop.recipe.data:
        return "not in the recipe"
    try:
        here = workshop.manifest_of_data(name).to_dict()
    except DatasetError as error:
        return str(error)
    if here["sha256"] == told.get("sha256"):
        return SAME
    return f"other content: {counted(here['files'], 'file')}; the lock has {told.get('files', 'no number')}"


def _result(stage: Stage | None, told: Mapping[str, Any], states: Mapping[str, State]) -> str:
    if stage is None:
        return "not in the recipe"
    options, here = told.get("options"), stage.options
    if not isinstance(options, dict):
        return "the lock has no options"
    if other := sorted(name for name in {*options, *here} if options.get(name) != here.get(name)):
        return f"other options: {', '.join(other)}"
    state = states.get(stage.id)
    if state is None:
        return "data are missing"
    if state.result is None:
        return f"{state.name} here"
    return SAME if state.result.record["sha256"] == told.get("sha256") else "another result"
