"""Locks record how a model file was made, from its data on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from host_tools.data.manifest import manifest
from host_tools.errors import RecipeError
from host_tools.recipe.file import Recipe, Stage
from host_tools.recipe.graph import State, Workshop

__all__ = ["lock"]


def lock(workshop: Workshop, stage: Stage, states: Mapping[str, State]) -> str:
    """The lock of the file that `stage` takes as its model.

    It holds every stage that led to the file, with options, versions, and checksums of data and results.

    Returns
    -------
    str
        JSON. The same inputs give the same text.
    """
    recipe = workshop.recipe
    (model,) = stage.parents
    made = recipe.up_to(model)
    shipped = workshop.output(recipe.by_id[model], states[model].done.folder)
    values = {
        "recipe": {"name": recipe.name, **_file(recipe.path), "extends": [_file(one) for one in recipe.files[1:]]},
        "model": {"file": shipped.name, "sha256": manifest(shipped).entries[0].sha256},
        "data": _data(recipe, [states[one.id] for one in made]),
        "versions": workshop.versions,
        "stages": [
            {
                "id": one.id,
                "do": one.do,
                "why": one.why,
                "options": dict(one.options),
                "stages": list(one.parents),
                "shipped": states[one.id].done.record["inputs"]["shipped"],
                "data": list(one.data),
                "key": states[one.id].key,
                "sha256": states[one.id].done.record["sha256"],
            }
            for one in made
        ],
    }
    return json.dumps(values, indent=1) + "\n"


def _file(path: Path) -> dict[str, str]:
    return {"file": path.name, "sha256": manifest(path).entries[0].sha256}


def _data(recipe: Recipe, made: Sequence[State]) -> dict[str, dict[str, Any]]:
    """What the stages took, by name, each as all of them found it."""
    found: dict[str, dict[str, Any]] = {}
    for state in made:
        for name in state.stage.data:
            taken = {"folder": recipe.data[name], **state.done.record["inputs"]["data"][name]}
            if found.setdefault(name, taken) != taken:
                raise RecipeError(
                    f"{recipe.path}: data {name} changed while the recipe was followed, before stage {state.stage.id};"
                    " the same command does anew what took it"
                )
    return found
