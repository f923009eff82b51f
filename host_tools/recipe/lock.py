"""Locks record how a model file was made, from its data on."""

from __future__ import annotations

import json
from collections.abc import Mapping

from host_tools.data.manifest import manifest
from host_tools.recipe.file import Stage
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
    data = dict.fromkeys(name for one in made for name in one.data)
    shipped = workshop.output(recipe.by_id[model], states[model].done.folder)
    values = {
        "recipe": {"name": recipe.name, "file": recipe.path.name, "sha256": manifest(recipe.path).sha256},
        "model": {"file": shipped.name, "sha256": manifest(shipped).entries[0].sha256},
        "data": {name: {"folder": recipe.data[name], **workshop.manifest_of_data(name).to_dict()} for name in data},
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
