"""Tells which stages of a recipe are done: each stage's key, its results, and why they no longer count."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import machinery, metadata
from pathlib import Path
from typing import Any

import kws_edge
from host_tools.data.manifest import Manifest, manifest
from host_tools.errors import DatasetError, RecipeError
from host_tools.recipe.command import Command
from host_tools.recipe.file import Recipe, Stage, shipped_files
from kws_edge.text import printable

__all__ = ["DONE", "MISSING", "STALE", "UNFINISHED", "Result", "State", "Workshop"]

DONE, STALE, MISSING, UNFINISHED = "done", "stale", "missing", "unfinished"
RECORD = "stage.json"
FILES = "data.json"
_LIBRARIES = ("numpy", "scipy", "keras", "tensorflow", "tensorflow-cpu", "ai-edge-litert", "tflite-micro")
_BACKENDS = ("torch", "jax")
"""Libraries that count only where Keras computes by them."""
_SHOWN = 3


@dataclass(frozen=True)
class Result:
    """The result of doing a stage once."""

    folder: Path
    record: Mapping[str, Any]
    """The content of its ``stage.json``: key, inputs, and checksum of the output."""


@dataclass(frozen=True)
class State:
    """Where a stage stands."""

    stage: Stage
    name: str
    """``done``, ``stale``, ``missing`` or ``unfinished``."""
    key: str = ""
    """Key of the current inputs; empty while a stage before this one is not done."""
    result: Result | None = None
    """The result that counts, if the stage is done."""
    reasons: tuple[str, ...] = ()
    """Why an earlier result does not count."""

    @property
    def done(self) -> Result:
        """The result of a stage that is done."""
        assert self.result is not None, self.stage.id
        return self.result


@dataclass
class Workshop:
    """A recipe with the folder of its results and the folder of its data.

    The folder of a result is named after its stage and its key. So results of other options stay beside it. The key is
    the checksum of all that a stage depends on. These are its options, the results of stages before it, each file of
    its data, and the versions of this package and of the libraries.
    """

    recipe: Recipe
    folder: Path
    data: Path | None
    _seen: dict[Path, Manifest] = field(default_factory=dict)

    @cached_property
    def versions(self) -> dict[str, str]:
        """Versions of this package and of the libraries."""
        found = {"kws-edge": kws_edge.__version__, "python": ".".join(platform.python_version_tuple()[:2])}
        backend = _backend()
        for name in (*_LIBRARIES, *(one for one in _BACKENDS if one == backend)):
            with contextlib.suppress(metadata.PackageNotFoundError):
                found[name] = metadata.version(name)
        return found

    def path_of_data(self, name: str) -> Path:
        """The path of some data of the recipe.

        Raises
        ------
        RecipeError
            If no folder of all data is known.
        """
        place = self.recipe.data[name]
        if place.startswith("./"):
            return self.recipe.homes[name] / place
        if self.data is None:
            raise RecipeError(
                f"{self.recipe.path}: where are the data? Give --data DIR, the folder that holds"
                f" {place}, or set KWS_TEST_DATA to it"
            )
        return self.data / place

    def look_again(self) -> None:
        """Take the data as they are now: they may have changed since they were last looked at."""
        self._seen.clear()

    def manifest_of_data(self, name: str) -> Manifest:
        path = self.path_of_data(name)
        if path not in self._seen:
            self._seen[path] = manifest(path)
        return self._seen[path]

    def results(self, stage: Stage) -> list[Result]:
        """All results of a stage, the latest last."""
        found = []
        for path in self.folder.glob(f"{stage.id}-*/{RECORD}"):
            with contextlib.suppress(OSError, ValueError, RecursionError):
                record = json.loads(path.read_bytes())
                if _is_record(record) and record["id"] == stage.id and self.key(record["inputs"]) == record["key"]:
                    found.append(Result(path.parent, record))
        return sorted(found, key=lambda result: str(result.record.get("finished")))

    def output(self, stage: Stage, folder: Path) -> Path:
        """The file or folder that references to a stage lead to."""
        return folder / stage.kind.output.replace("ID", stage.id).replace("NAME", self.recipe.name)

    def checksum(self, stage: Stage, folder: Path) -> str:
        """Checksum of a stage's output, as far as later stages take it."""
        if not stage.kind.counts:
            return manifest(folder, without=(RECORD, FILES)).sha256
        output = self.output(stage, folder)
        return hashlib.sha256(" ".join(manifest(output / one).sha256 for one in stage.kind.counts).encode()).hexdigest()

    def inputs(self, stage: Stage, done: Mapping[str, State]) -> dict[str, Any]:
        """All that a stage depends on, as a JSON-ready dict. `done` holds the states of the stages before it."""
        return {
            "do": stage.do,
            "revision": stage.kind.revision,
            "options": {**stage.resolved, **_network(stage)},
            "stages": {one: done[one].done.record["sha256"] for one in stage.parents},
            "data": {one: self.manifest_of_data(one).to_dict() for one in stage.data},
            "shipped": {one: manifest(shipped_files()[one]).sha256 for one in stage.shipped},
            "versions": self.versions,
        }

    def key(self, inputs: Mapping[str, Any]) -> str:
        return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()

    def folder_of(self, stage: Stage, key: str) -> Path:
        return self.folder / f"{stage.id}-{key[:12]}"

    def state(self, stage: Stage, states: Mapping[str, State]) -> State:
        """The state of a stage, given the states of the stages before it."""
        earlier = self.results(stage)
        if waiting := [one for one in stage.parents if states[one].name != DONE]:
            if not earlier:
                return State(stage, MISSING)
            return State(stage, STALE, reasons=tuple(f"{one} before it is {states[one].name}" for one in waiting))
        inputs = self.inputs(stage, states)
        key = self.key(inputs)
        folder = self.folder_of(stage, key)
        for result in earlier:
            if result.folder == folder and result.record.get("key") == key:
                with contextlib.suppress(DatasetError):
                    if self.checksum(stage, folder) == result.record["sha256"]:
                        return State(stage, DONE, key, result)
                return State(stage, STALE, key, reasons=(f"what came out of it, in {folder}, was changed or removed",))
        if folder.is_dir():
            return State(stage, UNFINISHED, key, reasons=("it was interrupted, and goes on",))
        if not earlier:
            return State(stage, MISSING, key)
        return State(stage, STALE, key, reasons=tuple(self._differences(stage, earlier[-1], inputs)))

    def states(self, stages: Sequence[Stage] | None = None) -> dict[str, State]:
        """The state of every stage, by id; or of `stages`, which include those that they take."""
        found: dict[str, State] = {}
        for stage in self.recipe.stages if stages is None else stages:
            found[stage.id] = self.state(stage, found)
        return found

    def _differences(self, stage: Stage, result: Result, inputs: Mapping[str, Any]) -> list[str]:
        """Lines on how a result's inputs differ from `inputs`."""
        before, lines = result.record.get("inputs", {}), []
        for part in ("options", "versions", "stages", "shipped"):
            old, new = before.get(part, {}), inputs[part]
            for name in sorted({*old, *new}):
                if old.get(name) == new.get(name):
                    continue
                if part in ("options", "versions"):
                    lines.append(f"{part[:-1]} {name}: was {_value(old, name)}, is {_value(new, name)}")
                else:
                    lines.append(f"{name}: is something else than before")
        for name in stage.data:
            if before.get("data", {}).get(name) != inputs["data"][name]:
                lines += self._data_differences(name, result)
        if (before.get("do"), before.get("revision")) != (inputs["do"], inputs["revision"]):
            lines.append(f"this version's {stage.do!r} gives something else than the one that did it")
        return lines or ["its record is of another form"]

    def _data_differences(self, name: str, result: Result) -> list[str]:
        try:
            old = {path: sha256 for path, _, sha256 in json.loads((result.folder / FILES).read_bytes())[name]}
        except (OSError, ValueError, KeyError, TypeError):
            return [f"data {name}: changed"]
        new = {entry.path: entry.sha256 for entry in self.manifest_of_data(name).entries}
        groups = {
            "new": sorted(new.keys() - old.keys()),
            "gone": sorted(old.keys() - new.keys()),
            "changed": sorted(path for path in new.keys() & old.keys() if new[path] != old[path]),
        }
        lines = []
        for kind, paths in groups.items():
            if paths:
                more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
                lines.append(printable(f"data {name}: {kind}: {', '.join(paths[:_SHOWN])}{more}"))
        return lines or [f"data {name}: changed"]

    def arguments(self, stage: Stage, states: Mapping[str, State], folder: Path) -> list[str]:
        """The command line of a stage, with the places of its data and of the results that it takes."""
        command = Command(stage.kind)

        def locate(value: Any) -> Any:
            if not isinstance(value, str):
                return value
            return ",".join(self._located(one, states) for one in value.split(","))

        options = command.located(stage.options, locate)
        output = ["--json"] if stage.kind.program == "kws-firmware" else ["-o", str(self.output(stage, folder))]
        return [stage.kind.command, *command.arguments(options), *output]

    def _located(self, value: str, states: Mapping[str, State]) -> str:
        first, slash, rest = value.partition("/")
        if first in states:
            state = states[first]
            folder = state.result.folder if state.result else self.folder / f"{first}-..."
            return f"{self.output(state.stage, folder)}{slash}{rest}"
        return f"{self.path_of_data(first)}{slash}{rest}" if first in self.recipe.data else value


def _is_record(record: Any) -> bool:
    """Whether `record` has the form of a ``stage.json``. The file may have been damaged."""
    if not (isinstance(record, dict) and isinstance(record.get("inputs"), dict)):
        return False
    texts = (record.get(name) for name in ("id", "key", "sha256"))
    parts = (record["inputs"].get(name) for name in ("options", "versions", "stages", "shipped", "data"))
    return all(isinstance(one, str) for one in texts) and all(isinstance(one, dict) for one in parts)


def _backend() -> str:
    """The library by which Keras computes, as it finds it itself."""
    if name := os.environ.get("KERAS_BACKEND"):
        return name
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    try:
        return str(json.loads((home / "keras.json").read_bytes())["backend"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return "tensorflow"


def _network(stage: Stage) -> dict[str, str]:
    """Checksum of the module of the user's own network, ``module:function``. It is found as training finds it."""
    module, own, _ = str(stage.resolved.get("model")).partition(":")
    if stage.kind.command != "train" or not own:
        return {}
    importlib.invalidate_caches()
    places, file = [os.getcwd(), *sys.path], ""
    for part in module.split("."):
        spec = machinery.PathFinder.find_spec(part, places)
        if spec is None:
            raise RecipeError(f"stage {stage.id}: there is no module {module} in {os.getcwd()}")
        places, file = spec.submodule_search_locations or [], spec.origin or ""
    return {"network": manifest(file).sha256} if os.path.isfile(file) else {}


def _value(values: Mapping[str, Any], name: str) -> str:
    return printable(json.dumps(values[name]) if name in values else "not there", most=60)
