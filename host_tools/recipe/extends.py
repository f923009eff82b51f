"""A recipe that extends another: what it says comes on top of what the other says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host_tools.errors import RecipeError
from host_tools.toml_files import find_toml, shipped_toml
from kws_edge.text import printable, shown
from kws_edge.toml_files import near, read_toml

__all__ = ["Written", "find_recipe", "written"]

_DEEP = 10
"""Recipes that may extend each other."""


@dataclass(frozen=True)
class Written:
    """What a recipe's file says, together with the recipes that it extends."""

    files: tuple[Path, ...]
    """The recipe's file, then those that it extends."""
    table: dict[str, Any]
    homes: dict[str, Path]
    """Folder of the recipe that names each kind of data."""


def find_recipe(name: str) -> Path:
    """The file of a recipe: a path that ends in ``.toml``, or the name of a recipe that comes with this program.

    Raises
    ------
    RecipeError
        If there is no such recipe.
    """
    return find_toml(name, shipped_toml(), what="recipe", error=RecipeError)


def written(path: Path) -> Written:
    """Read a recipe and those that it extends. What they say is not checked yet.

    Tables add to the other recipe's tables. A stage with the id of one of its stages changes that one's options. Other
    stages come before the next stage that is changed, or at the end. Stages that ``without`` names are left out.

    Raises
    ------
    RecipeError
        If a file cannot be read, or ``extends`` or ``without`` names nothing.
    """
    files: list[Path] = []
    tables: list[dict[str, Any]] = []
    homes: dict[str, Path] = {}
    following: Path | None = path
    while following:
        if len(files) == _DEEP:
            raise RecipeError(printable(f"{path}: extends: leads to more than {_DEEP} recipes, or back to itself"))
        files.append(following)
        tables.append(read_toml(following, what="recipe", error=RecipeError))
        data = tables[-1].get("data", {})
        for name in data if isinstance(data, dict) else ():
            homes.setdefault(name, following.parent)
        following = _extended(following, tables[-1])
    table = tables.pop()
    for base, file, own in zip(files[::-1], files[-2::-1], reversed(tables), strict=False):
        _check_form(base, table)
        table = _joined(file, table, own)
    return Written(tuple(files), table, homes)


def _extended(path: Path, table: dict[str, Any]) -> Path | None:
    """The file of the recipe that the recipe of a file extends."""
    if "extends" not in table:
        if "without" in table:
            raise RecipeError(printable(f"{path}: without: leaves stages out of the recipe that 'extends' names"))
        return None
    name = table.pop("extends")
    if not (isinstance(name, str) and name and "\0" not in name):
        raise RecipeError(printable(f"{path}: extends: names a recipe, or a file that ends in .toml"))
    try:
        return path.parent / find_recipe(name)
    except RecipeError as error:
        raise RecipeError(printable(f"{path}: extends: {error}")) from None


def _check_form(path: Path, table: dict[str, Any]) -> None:
    """Raise an error unless what others add to consists of tables."""
    for key in ("data", "mix", "defaults"):
        if not isinstance(table.get(key, {}), dict):
            raise RecipeError(printable(f"{path}: {key}: is no table"))
    for key in ("mix", "defaults"):
        for name, value in table.get(key, {}).items():
            if not isinstance(value, dict):
                raise RecipeError(printable(f"{path}: {key}.{name}: is no table"))
    if not _are_stages(table.get("stage", [])):
        raise RecipeError(printable(f"{path}: stage: is written in tables, [[stage]]"))


def _are_stages(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _joined(path: Path, base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """What `own`, of the file `path`, says on top of `base`. What has another form than it should is kept as it is."""
    stages = _left(path, base.get("stage", []), own.pop("without", []))
    joined = {**base, **own}
    for key in ("data", "mix", "defaults"):
        if isinstance(own.get(key, {}), dict):
            joined[key] = _merged(base.get(key, {}), own.get(key, {}), deep=key != "data")
    changes = own.get("stage", [])
    if _are_stages(changes):
        joined["stage"] = _changed(path, stages, changes)
    return joined


def _merged(base: dict[str, Any], own: dict[str, Any], *, deep: bool) -> dict[str, Any]:
    """Both tables, and if `deep` the tables in them, too."""
    merged = {
        key: {**base.get(key, {}), **value} if deep and isinstance(value, dict) else value for key, value in own.items()
    }
    return {**base, **merged}


def _left(path: Path, stages: list[dict[str, Any]], without: Any) -> list[dict[str, Any]]:
    """The stages without those of some ids."""
    if not (isinstance(without, list) and all(isinstance(one, str) for one in without)):
        raise RecipeError(printable(f"{path}: without: is a list of stages, such as ['softer']"))
    known = [one.get("id") for one in stages]
    for identity in without:
        if identity not in known:
            guess = near(identity, map(str, known))
            raise RecipeError(printable(f"{path}: without: no stage {shown(identity)} in what it extends{guess}"))
    return [one for one in stages if one.get("id") not in without]


def _changed(path: Path, stages: list[dict[str, Any]], own: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The stages with those of `own`: the same ids are changed, new ones come before the next that is changed."""
    found, new, seen = list(stages), [], []
    for stage in own:
        identity = stage.get("id")
        if identity is not None and identity in seen:
            raise RecipeError(printable(f"{path}: stage {identity}: is there twice"))
        seen.append(identity)
        at = next((i for i, one in enumerate(found) if one.get("id") == identity), None)
        if at is None:
            new.append(stage)
        else:
            if stage.get("do", found[at].get("do")) != found[at].get("do"):
                raise RecipeError(
                    printable(f"{path}: stage {identity}: does something else; name it in 'without', and write it anew")
                )
            found[at : at + 1] = [*new, {**found[at], **stage}]
            new = []
    return found + new
