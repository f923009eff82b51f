"""Reads sweeps from TOML, and checks every trial against the recipe before anything runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from host_tools.errors import RecipeError, SweepError
from host_tools.recipe.extends import find_recipe
from host_tools.recipe.file import Recipe, Stage, load_recipe
from host_tools.sweep.axes import Axis, Search, points, text_of
from host_tools.sweep.figures import Figure, figure_of
from kws_edge.errors import ConfigError
from kws_edge.ranges import number
from kws_edge.text import printable, shown
from kws_edge.toml_files import near, read_toml

__all__ = ["Limit", "Sweep", "Trial", "load_sweep"]

_NAME = re.compile(r"\w([\w.-]{0,58}\w)?")
_KEYS = (
    *("name", "about", "recipe", "scale", "set", "vary", "search"),
    *("maximize", "minimize", "at_most", "at_least", "show"),
)
_SCALE = number(1e-4, 1)
_ANY = number(-1e300, 1e300)


@dataclass(frozen=True)
class Limit:
    """A bound that a trial must keep to."""

    figure: Figure
    bound: float
    upper: bool

    def __str__(self) -> str:
        return f"{self.figure} {'at most' if self.upper else 'at least'} {self.bound:g}"

    def kept(self, value: float | None) -> bool:
        """Whether `value` keeps to it. What could not be measured does not."""
        return value is not None and (value <= self.bound if self.upper else value >= self.bound)


@dataclass(frozen=True)
class Trial:
    """One point of a sweep."""

    number: int
    """Its place in the order of trials, from 1 on."""
    values: Mapping[str, Any]
    """A value for each axis, by the axis's name."""


@dataclass(frozen=True)
class Sweep:
    """A sweep, as read from its file."""

    path: Path
    name: str
    about: str
    recipe: Path
    scale: float
    fixed: Mapping[str, str]
    """Values of ``stage.option`` that all trials share, in TOML."""
    axes: tuple[Axis, ...]
    search: Search
    objective: Figure
    maximize: bool
    limits: tuple[Limit, ...]
    shown: tuple[Figure, ...]
    """Figures that the results show besides those of the objective and the limits."""
    judge: Figure | None
    """Figure of the training's log by which ASHA stops trials."""
    trials: tuple[Trial, ...]

    @cached_property
    def figures(self) -> tuple[Figure, ...]:
        """All figures of the results, the objective first."""
        judge = [self.judge] if self.judge else []
        return tuple(dict.fromkeys([self.objective, *(one.figure for one in self.limits), *self.shown, *judge]))

    def changes(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Values of ``stage.option``, in TOML, of a trial with these values of axes."""
        changes = dict(self.fixed)
        for axis in self.axes:
            changes |= {option: text_of(values[axis.name]) for option in axis.options}
        return changes

    def load(self, trial: Trial) -> Recipe:
        """The recipe as `trial` runs it."""
        return load_recipe(self.recipe, changes=self.changes(trial.values), scale=self.scale)

    def wanted(self, recipe: Recipe) -> list[str]:
        """Stages that a trial runs up to: those that measure, and the locks of what they measure."""
        measuring = list(dict.fromkeys(one.stage for one in self.figures))
        done = {stage.id for stage in recipe.up_to(*measuring)}
        return measuring + [one.id for one in recipe.stages if one.do == "lock" and done.issuperset(one.parents)]

    def epochs(self, recipe: Recipe) -> int:
        """Epochs of the training that ASHA judges by."""
        return _epochs(recipe.by_id[self.judge.stage]) if self.judge else 0


def load_sweep(path: str | Path) -> Sweep:
    """Read a sweep, and check every trial of it.

    Parameters
    ----------
    path : path

    Raises
    ------
    SweepError
        If the file is wrong, or a value is one that the recipe refuses. The message names key, value and what is
        allowed.
    """
    path = Path(path)
    table = read_toml(path, what="sweep", error=SweepError)
    try:
        sweep = _Reader(path, table).sweep()
        _check_trials(sweep)
        return sweep
    except ConfigError as error:
        raise SweepError(f"{path}: {error}") from None
    except SweepError as error:
        raise SweepError(printable(f"{path}: {error}")) from None


class _Reader:
    """Makes a sweep from a TOML table. Messages do not name the file yet."""

    def __init__(self, path: Path, table: dict[str, Any]) -> None:
        self.path, self.table = path, table

    def sweep(self) -> Sweep:
        for key in self.table:
            if key not in _KEYS:
                raise SweepError(f"there is no {shown(key)}{near(key, _KEYS)}; a sweep takes {', '.join(_KEYS)}")
        name, about = self._text("name"), self._text("about")
        if not _NAME.fullmatch(name):
            raise SweepError(f"name: {shown(name)} names a folder: give up to 60 letters, digits, dots, - and _")
        path = self._recipe()
        scale = _SCALE.check("scale", self.table.get("scale", 1.0))
        _loaded(path, {}, scale, "recipe")
        fixed = {option: text_of(value, f"set.{option}") for option, value in self._table("set").items()}
        recipe = _loaded(path, fixed, scale, "set")
        if name == recipe.name:
            raise SweepError(f"name: {shown(name)} is the recipe's own name, which names the folder of its results")
        axes = self._axes(fixed)
        for axis in axes:
            for value in axis.ends:
                changes = dict.fromkeys(axis.options, text_of(value))
                _loaded(path, {**fixed, **changes}, scale, f"vary.{axis.name}: {shown(value)}")
        search = Search.from_dict(self._table("search"))
        objective, maximize = self._objective(recipe)
        limits = tuple(self._limits(recipe))
        shown_figures = tuple(self._shown(recipe))
        judge = self._judge(search, objective, recipe)
        trials = tuple(Trial(i, values) for i, values in enumerate(points(axes, search), 1))
        return Sweep(
            self.path, name, about, path, scale, fixed, axes, search, objective, maximize, limits, shown_figures, judge,
            trials,
        )  # fmt: skip

    def _text(self, key: str) -> str:
        value = self.table.get(key)
        if not (isinstance(value, str) and value.strip()):
            raise SweepError(f"{key!r} is missing, or no text")
        return value

    def _table(self, key: str) -> dict[str, Any]:
        found = self.table.get(key, {})
        if not isinstance(found, dict):
            raise SweepError(f"{key} is a table, [{key}], not {shown(found)}")
        return found

    def _recipe(self) -> Path:
        """The recipe's file. A path leads from the sweep's own folder."""
        try:
            return (self.path.parent / find_recipe(self._text("recipe"))).absolute()
        except RecipeError as error:
            raise SweepError(f"recipe: {error}") from None

    def _axes(self, fixed: Mapping[str, str]) -> tuple[Axis, ...]:
        axes = tuple(Axis.read(name, values) for name, values in self._table("vary").items())
        if not axes:
            raise SweepError('nothing varies: give a table such as [vary.width] with options = "STAGE.OPTION"')
        taken = dict.fromkeys(fixed, "set")
        for axis in axes:
            for option in axis.options:
                if option in taken:
                    raise SweepError(f"vary.{axis.name}: {taken[option]} has {shown(option)} already")
                taken[option] = f"vary.{axis.name}"
        return axes

    def _objective(self, recipe: Recipe) -> tuple[Figure, bool]:
        given = [key for key in ("maximize", "minimize") if key in self.table]
        if len(given) != 1:
            raise SweepError("give maximize or minimize, with one figure, such as maximize = 'accuracy.accuracy'")
        return self._figure(self._text(given[0]), recipe, given[0]), given[0] == "maximize"

    def _figure(self, text: str, recipe: Recipe, key: str) -> Figure:
        try:
            return figure_of(text, recipe)
        except SweepError as error:
            raise SweepError(f"{key}: {error}") from None

    def _limits(self, recipe: Recipe) -> list[Limit]:
        return [
            Limit(self._figure(text, recipe, key), _ANY.check(f"{key}: {shown(text)}", bound), key == "at_most")
            for key in ("at_most", "at_least")
            for text, bound in self._table(key).items()
        ]

    def _shown(self, recipe: Recipe) -> list[Figure]:
        found = self.table.get("show", [])
        if not (isinstance(found, list) and all(isinstance(one, str) for one in found)):
            raise SweepError(f"show: must be a list of figures, got {shown(found)}")
        return [self._figure(one, recipe, "show") for one in found]

    def _judge(self, search: Search, objective: Figure, recipe: Recipe) -> Figure | None:
        if search.method != "asha":
            return None
        judge = self._figure(search.judge, recipe, "search: judge") if search.judge else objective
        stage = recipe.by_id[judge.stage]
        epochs = _epochs(stage)
        if not epochs:
            raise SweepError(
                f"search: judge: asha stops trials by a figure that training logs, such as STAGE.val_loss, not {judge}"
            )
        if search.grace_period and search.grace_period > epochs:
            raise SweepError(
                f"search: grace_period must be at most the {epochs} epochs of stage {stage.id},"
                f" got {search.grace_period}"
            )
        return judge


def _epochs(stage: Stage) -> int:
    return int(stage.resolved.get("epochs") or 0)


def _loaded(path: Path, changes: Mapping[str, str], scale: float, where: str) -> Recipe:
    """The recipe with `changes`. A message names `where` in the sweep they stand, or the recipe if there are none."""
    try:
        return load_recipe(path, changes=changes, scale=scale)
    except RecipeError as error:
        message = str(error).removeprefix(f"{path}: ").removeprefix("changes: ") if changes else error
        raise SweepError(f"{where}: {message}") from None


def _check_trials(sweep: Sweep) -> None:
    """Raise an error if the recipe refuses a trial, or the results do not depend on what varies."""
    for trial in sweep.trials:
        where = f"trial {trial.number}, {', '.join(f'{k} {shown(v)}' for k, v in trial.values.items())}"
        recipe = _loaded(sweep.recipe, sweep.changes(trial.values), sweep.scale, where)
        for figure in sweep.figures:
            figure_of(str(figure), recipe)
    counted = {stage.id for stage in recipe.up_to(*sweep.wanted(recipe))}
    for axis in sweep.axes:
        for option in axis.options:
            if (stage := option.partition(".")[0]) not in counted:
                raise SweepError(f"vary.{axis.name}: no figure depends on stage {stage}; name one that does in show")
