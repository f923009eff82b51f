"""Reads recipes from TOML and checks them against the options of the commands that they name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from host_tools.data.source_tables import shipped_tables
from host_tools.errors import RecipeError
from host_tools.recipe.command import Command
from host_tools.recipe.extends import Written, written
from host_tools.recipe.kinds import KINDS, Kind
from kws_edge.model.model import shipped_models
from kws_edge.text import printable, shown
from kws_edge.toml_files import near, parse_toml

__all__ = ["Recipe", "Stage", "load_recipe", "shipped_files"]

_ID = re.compile(r"[a-z][a-z0-9_]{0,59}")
_NAME = re.compile(r"\w([\w. -]{0,58}\w)?")


@dataclass(frozen=True)
class Stage:
    """One step of a recipe."""

    id: str
    do: str
    """The stage's kind, a key of :data:`host_tools.recipe.kinds.KINDS`."""
    why: str
    """A sentence that says what the stage is for."""
    options: Mapping[str, Any]
    """The written options, with those of the stage's mix and of the defaults."""
    resolved: Mapping[str, Any]
    """Every option of the command with its value, except where results are written to."""
    parents: tuple[str, ...]
    """Stages whose results the stage takes."""
    data: tuple[str, ...]
    """Data of the recipe that the stage takes."""
    shipped: tuple[str, ...]
    """Shipped models and tables that the stage takes."""

    @property
    def kind(self) -> Kind:
        return KINDS[self.do]


@dataclass(frozen=True)
class Recipe:
    """A recipe, as read from its file."""

    files: tuple[Path, ...]
    """The recipe's file, then those of the recipes that it extends."""
    name: str
    about: str
    data: Mapping[str, str]
    """The path of each kind of data below the folder of all data, or with ``./`` beside the recipe that names it."""
    homes: Mapping[str, Path]
    """Folder of the recipe that names each kind of data."""
    stages: tuple[Stage, ...]
    """The stages, in an order in which they can be done."""

    @property
    def path(self) -> Path:
        """The recipe's file."""
        return self.files[0]

    @cached_property
    def by_id(self) -> Mapping[str, Stage]:
        return {stage.id: stage for stage in self.stages}

    def up_to(self, *wanted: str) -> tuple[Stage, ...]:
        """The stages `wanted`, and all that they need. Without any, all stages of the recipe.

        Raises
        ------
        RecipeError
            If there is no such stage.
        """
        for stage in wanted:
            if stage not in self.by_id:
                raise RecipeError(f"{self.path}: no stage {shown(stage)}{near(stage, self.by_id)}")
        needed, todo = set(), list(wanted or self.by_id)
        while todo:
            needed.add(one := todo.pop())
            todo += self.by_id[one].parents
        return tuple(one for one in self.stages if one.id in needed)


def shipped_files() -> dict[str, Path]:
    """Files that come with this program and that stages may take: models and tables of sources."""
    return {name: Path(path) for name, path in shipped_models().items()} | shipped_tables()


def load_recipe(path: str | Path, *, changes: Mapping[str, str] = MappingProxyType({}), scale: float = 1.0) -> Recipe:
    """Read a recipe and check every option of every stage.

    Parameters
    ----------
    path : path
    changes : mapping of str to str
        Values for ``stage.option``, in TOML or as plain text.
    scale : float
        Factor on the amount of training, synthetic speech and words in streams. A small factor such as 0.02 tries out a
        recipe.

    Raises
    ------
    RecipeError
        If the file or a change is wrong. The message names file, stage, option and value.
    """
    path = Path(path)
    return _Reader(written(path), _parsed(path, changes), scale).recipe()


def _parsed(path: Path, changes: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    by_stage: dict[str, dict[str, Any]] = {}
    for name, text in changes.items():
        stage, dot, option = name.partition(".")
        if not (stage and dot and option):
            raise RecipeError(f"{path}: {shown(name)} is no stage.option")
        try:
            table = parse_toml(f"value = {text}")
        except ValueError:
            table = {}
        by_stage.setdefault(stage, {})[option] = table["value"] if len(table) == 1 else text
    return by_stage


class _Reader:
    """Makes a recipe from what its files say."""

    def __init__(self, source: Written, changes: dict[str, dict[str, Any]], scale: float) -> None:
        self.source, self.changes, self.scale = source, changes, scale
        self.path, self.table = source.files[0], source.table
        self.data = self._texts("data")
        self.mixes = self._tables("mix")
        self.defaults = self._tables("defaults")
        self.ids: dict[str, Kind] = {}

    def _fail(self, where: str, message: str) -> RecipeError:
        others = ", ".join(file.name for file in self.source.files[1:])
        extends = f" (it extends {others})" if others else ""
        return RecipeError(printable(f"{self.path}{extends}: {where}: {message}"))

    def _tables(self, name: str) -> dict[str, dict]:
        found = self.table.get(name, {})
        if not (isinstance(found, dict) and all(isinstance(one, dict) for one in found.values())):
            raise self._fail(name, f"is written in tables, such as [{name}.x]")
        return found

    def _texts(self, name: str) -> dict[str, str]:
        found = self.table.get(name, {})
        if not (isinstance(found, dict) and all(isinstance(one, str) for one in found.values())):
            raise self._fail(name, "holds names of folders")
        for key, place in found.items():
            if not _ID.fullmatch(key):
                raise self._fail(name, f"{shown(key)} is no name: give small letters, digits and underscores")
            if key in shipped_files():
                raise self._fail(name, f"{shown(key)} comes with this program: give another name")
            parts = PurePosixPath(place).parts
            if not parts or ".." in parts or parts[0] == "/" or "\0" in place:
                raise self._fail(
                    f"{name} {key}", f"{shown(place)} is no place below the data, or with ./ beside the recipe"
                )
        return found

    def _text(self, table: dict, key: str, where: str) -> str:
        value = table.get(key)
        if not (isinstance(value, str) and value.strip()):
            raise self._fail(where, f"{key!r} is missing, or no text")
        return value

    def recipe(self) -> Recipe:
        known = ("name", "about", "extends", "without", "data", "mix", "defaults", "stage")
        for key in self.table:
            if key not in known:
                raise self._fail("recipe", f"there is no {shown(key)}{near(key, known)}; it takes {', '.join(known)}")
        name = self._text(self.table, "name", "recipe")
        if not _NAME.fullmatch(name):
            raise self._fail(
                "recipe", f"the name {shown(name)} names files: give up to 60 letters, digits, spaces, dots, - and _"
            )
        written = self.table.get("stage")
        if not (isinstance(written, list) and written and all(isinstance(one, dict) for one in written)):
            raise self._fail("recipe", "has no [[stage]]")
        for key in self.defaults:
            if key not in KINDS:
                raise self._fail("defaults", f"there is no kind of stage {shown(key)}{near(key, KINDS)}")
        stages = tuple(self._stage(one, i) for i, one in enumerate(written))
        for stage in self.changes:
            if stage not in self.ids:
                raise self._fail("changes", f"there is no stage {shown(stage)}{near(stage, self.ids)}")
        about = self._text(self.table, "about", "recipe")
        return Recipe(self.source.files, name, about, self.data, self.source.homes, stages)

    def _stage(self, written: dict, position: int) -> Stage:
        identity = self._text(written, "id", f"stage {position + 1}")
        where = f"stage {identity}"
        if not _ID.fullmatch(identity) or identity in {*self.ids, *self.data, *shipped_files()}:
            raise self._fail(where, "an id is new, in up to 60 small letters, digits and underscores")
        do = self._text(written, "do", where)
        if do not in KINDS:
            raise self._fail(where, f"there is no kind {shown(do)}{near(do, KINDS)}; there are {', '.join(KINDS)}")
        why = self._text(written, "why", where)
        own = {key: value for key, value in written.items() if key not in ("id", "do", "why", "mix")}
        options = {**self.defaults.get(do, {}), **self._mix(written, where), **own, **self.changes.get(identity, {})}
        for name in KINDS[do].fixed:
            if name in options:
                raise self._fail(where, f"{do} sets {name!r} itself")
        options |= KINDS[do].fixed
        command = Command(KINDS[do])
        resolved = self._resolved(command, options, where)
        options, resolved = self._scaled(command, options, resolved, where)
        parents, data, shipped = [], [], []
        for name, value in command.references(resolved):
            first = value.partition("/")[0]
            if ".." in value.split("/"):
                raise self._fail(where, f"{name}: {shown(value)} leads out of {shown(first)}")
            if do == "lock" and not (value in self.ids and self.ids[value].output.endswith(".tflite")):
                raise self._fail(where, f"{name}: {shown(value)} is no stage before it that makes a model file")
            if first in self.ids:
                parents.append(first)
            elif first in self.data:
                data.append(first)
            elif value in shipped_files():
                shipped.append(value)
            else:
                guess = near(first, [*self.ids, *self.data, *shipped_files()])
                raise self._fail(where, f"{name}: {shown(value)} is no stage before it, and no data{guess}")
        self.ids[identity] = KINDS[do]
        takes = [tuple(dict.fromkeys(one)) for one in (parents, data, shipped)]
        return Stage(identity, do, why, options, resolved, *takes)

    def _mix(self, written: dict, where: str) -> dict:
        if "mix" not in written:
            return {}
        mix = self._text(written, "mix", where)
        if mix not in self.mixes:
            raise self._fail(where, f"there is no mix {shown(mix)}{near(mix, self.mixes)}")
        self._text(self.mixes[mix], "why", f"mix {mix}")
        return {key: value for key, value in self.mixes[mix].items() if key != "why"}

    def _scaled(self, command: Command, options: dict, resolved: dict, where: str) -> tuple[dict, dict]:
        """Options with smaller amounts. Training scales its total number of batches, and epochs before batches."""
        amounts = {name: resolved[name] for name in command.kind.amounts if resolved.get(name)}
        shares = {name: resolved[name] / self.scale for name in command.kind.shares if resolved.get(name)}
        if self.scale == 1 or not (amounts or shares):
            return options, resolved
        smaller = {name: max(1, round(value * self.scale)) for name, value in amounts.items()}
        if "epochs" in amounts:
            total = amounts["epochs"] * amounts["steps"] * self.scale
            smaller["steps"] = max(1, round(total / smaller["epochs"]))
        options = options | smaller | shares
        return options, self._resolved(command, options, where)

    def _resolved(self, command: Command, options: dict, where: str) -> dict[str, Any]:
        try:
            return command.resolve(options)
        except ValueError as problem:
            raise self._fail(where, str(problem)) from None
