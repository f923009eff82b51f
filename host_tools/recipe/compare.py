"""What was made here beside what a lock says of the same recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from host_tools.errors import DatasetError, RecipeError
from host_tools.recipe.file import Stage
from host_tools.recipe.graph import State, Workshop
from kws_edge.text import parse_json, printable, read_text

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


def read_lock(path: str | Path) -> dict[str, Any]:
    """Read the lock of a model that a recipe made.

    Raises
    ------
    RecipeError
        If the file cannot be read, or is no lock of a recipe.
    """
    try:
        told = parse_json(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise RecipeError(printable(f"{path}: {getattr(error, 'strerror', None) or error}")) from None
    forms = {"recipe": dict, "data": dict, "versions": dict, "stages": list}
    fits = isinstance(told, dict) and all(isinstance(told.get(name), form) for name, form in forms.items())
    if not fits or not all(isinstance(one, dict) and isinstance(one.get("id"), str) for one in told["stages"]):
        raise RecipeError(printable(f"{path}: is no lock of a model that a recipe made"))
    return dict(told)


def compared(workshop: Workshop, told: Mapping[str, Any], states: Mapping[str, State]) -> list[Likeness]:
    """Compare data, libraries and results with those of a lock.

    Another processor adds in another order. So networks that train there differ in the last bits, and so does what is
    made of them, though data and options are the same.

    Parameters
    ----------
    workshop : Workshop
    told : mapping
        From :func:`read_lock`.
    states : mapping of str to State
        Of every stage of the recipe.
    """
    recipe = workshop.recipe
    found = [Likeness("data", name, _data(workshop, name, one)) for name, one in told["data"].items()]
    for name, there in told["versions"].items():
        here = workshop.versions.get(name, "not there")
        found.append(Likeness("library", name, SAME if there == here else f"{here}; the lock has {there}"))
    for one in told["stages"]:
        found.append(Likeness("stage", one["id"], _result(recipe.by_id.get(one["id"]), one, states)))
    return found


def _data(workshop: Workshop, name: str, told: Any) -> str:
    if name not in workshop.recipe.data:
        return "not in the recipe"
    try:
        here = workshop.manifest_of_data(name).to_dict()
    except (DatasetError, OSError) as error:
        return str(error)
    if not isinstance(told, dict) or here["sha256"] != told.get("sha256"):
        files = told.get("files") if isinstance(told, dict) else None
        return f"other content: {here['files']:,} files; the lock has {files}"
    return SAME


def _result(stage: Stage | None, told: Mapping[str, Any], states: Mapping[str, State]) -> str:
    if stage is None:
        return "not in the recipe"
    options, here = told.get("options"), {name: _plain(value) for name, value in stage.options.items()}
    if not isinstance(options, dict):
        return "the lock has no options"
    if other := sorted(name for name in {*options, *here} if options.get(name) != here.get(name)):
        return f"other options: {', '.join(other)}"
    state = states[stage.id]
    if state.result is None:
        return f"{state.name} here"
    return SAME if state.result.record["sha256"] == told.get("sha256") else "another result"


def _plain(value: Any) -> Any:
    """A value as JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value
