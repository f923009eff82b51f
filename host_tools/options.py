"""Sections of options. Each option is defined once, for the command line, recipes, records and pages alike."""

from __future__ import annotations

import dataclasses
import os
from argparse import ArgumentParser
from collections.abc import Collection, Mapping
from dataclasses import field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from kws_edge.errors import ConfigError
from kws_edge.ranges import Range
from kws_edge.settings import Choice, Settings
from kws_edge.text import shown

__all__ = [
    "Pair",
    "Place",
    "Places",
    "Section",
    "Wholes",
    "add_option",
    "add_options",
    "flag",
    "markdown_table",
    "section",
]

S = TypeVar("S", bound="Section")


class Pair:
    """A range of two numbers, the lower one first."""

    def __init__(self, numbers: Range) -> None:
        self.numbers = numbers

    def __str__(self) -> str:
        return f"two numbers from {self.numbers.low:.15g} to {self.numbers.high:.15g}"

    def check(self, name: str, value: object) -> tuple[float, float]:
        """`value` as a tuple, if it is a list or tuple of two such numbers."""
        if not (isinstance(value, (list, tuple)) and len(value) == 2):
            raise ConfigError(f"{name} must be {self}, got {shown(value)}")
        low, high = (self.numbers.check(name, one) for one in value)
        if low > high:
            raise ConfigError(f"{name} takes the lower bound first, got {low:g} and {high:g}")
        return low, high


class Wholes:
    """Whole numbers, each larger than the one before it."""

    def check(self, name: str, value: object) -> tuple[int, ...]:
        """`value` as a tuple, if it consists of such numbers."""
        given = list(value) if isinstance(value, (list, tuple)) else [None]
        found = [one for one in given if type(one) is int]
        if found != given or found != sorted({*found}):
            raise ConfigError(f"{name} must be whole numbers, each larger than the one before it, got {shown(value)}")
        return tuple(found)


class Place:
    """Path of a file or folder."""

    def check(self, name: str, value: object) -> Path:
        """`value` as a path, if it is one or a text."""
        if not isinstance(value, (str, Path)):
            raise ConfigError(f"{name} must be a path, got {shown(value)}")
        return Path(value)


class Places:
    """Paths of files or folders."""

    def check(self, name: str, value: object) -> tuple[Path, ...]:
        """`value` as a tuple of paths, if it is a list or tuple of paths or texts."""
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{name} must be a list of paths, got {shown(value)}")
        return tuple(Place().check(name, one) for one in value)


def section(kind: type[Section], *, required: bool = False) -> Any:
    """A field of a :class:`Section` that is a section itself.

    Parameters
    ----------
    kind : type of Section
    required : bool
        Whether the section has options without a default.
    """
    metadata = {"section": kind}
    return field(metadata=metadata) if required else field(default_factory=kind, metadata=metadata)


class Section(Settings):
    """Base of frozen dataclasses of options. They may hold other sections. Every option has a unique name."""

    title: ClassVar[str] = ""
    """Title of the options' group in ``--help``."""

    def __post_init__(self) -> None:
        self._check()

    @classmethod
    def sections(cls) -> dict[str, type[Section]]:
        """The sections in this section, by the name of their field."""
        fields = dataclasses.fields(cls)  # type: ignore[arg-type]
        return {one.name: one.metadata["section"] for one in fields if "section" in one.metadata}

    @classmethod
    def options(cls) -> dict[str, dataclasses.Field]:
        """Every option of this section and of the sections in it, by name."""
        found: dict[str, dataclasses.Field] = {}
        for one in dataclasses.fields(cls):  # type: ignore[arg-type]
            found |= one.metadata["section"].options() if "section" in one.metadata else {one.name: one}
        return found

    @classmethod
    def from_options(cls: type[S], values: Mapping[str, Any]) -> S:
        """The section with these values of options. Other names are ignored.

        Raises
        ------
        ConfigError
            If a value is out of range, contradicts another one, or is missing.
        """
        made = {name: kind.from_options(values) for name, kind in cls.sections().items()}
        own = (one.name for one in dataclasses.fields(cls))  # type: ignore[arg-type]
        return cls.from_dict(made | {name: values[name] for name in own if name in values and name not in made})

    def values(self) -> dict[str, Any]:
        """The value of every option, by name."""
        found: dict[str, Any] = {}
        for one in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, one.name)
            found |= value.values() if isinstance(value, Section) else {one.name: value}
        return found

    def changed(self: S, **values: Any) -> S:
        """A copy with other values of options. The options may be in any section."""
        return type(self).from_options({**self.values(), **values})

    def to_dict(self) -> dict[str, Any]:
        """The section as a JSON-ready dict with full paths."""
        found = {}
        for one in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, one.name)
            found[one.name] = value.to_dict() if isinstance(value, Section) else plain(value)
        return found

    @classmethod
    def from_dict(cls: type[S], values: dict[str, Any]) -> S:
        """The section from a dict, as :meth:`Settings.from_dict`, with the sections in it."""
        sections = cls.sections() if isinstance(values, dict) else {}
        made = {
            name: kind.from_dict(values[name])
            for name, kind in sections.items()
            if name in values and not isinstance(values[name], kind)
        }
        return super().from_dict({**values, **made} if made else values)


def plain(value: Any) -> Any:
    """`value` in JSON's types."""
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    return os.path.abspath(value) if isinstance(value, Path) else value


def add_options(
    parser: ArgumentParser,
    kind: type[Section],
    *,
    only: Collection[str] = (),
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Add a section's options to a command's parser. The sections in it get groups of their own.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    kind : type of Section
    only : collection of str
        Names of the options to add; empty: all.
    defaults : mapping
        Other defaults.
    """
    wanted = [
        one
        for one in dataclasses.fields(kind)  # type: ignore[arg-type]
        if "values" in one.metadata and one.metadata.get("flag", True) and (not only or one.name in only)
    ]
    group = parser.add_argument_group(kind.title) if kind.title and wanted else parser
    for one in wanted:
        add_option(parser if _is_positional(one) else group, one, defaults.get(one.name, one.default))
    for inner in kind.sections().values():
        add_options(parser, inner, only=only, defaults=defaults)


def add_option(group: Any, one: dataclasses.Field, default: Any) -> None:
    """Add an option with this default to a parser or a group of it."""
    options = {"help": one.metadata["help"], "metavar": metavar(one), **_argument(one.metadata["values"])}
    if _is_positional(one):
        group.add_argument(one.name, **{**options, "nargs": "?"})
    else:
        group.add_argument(flag(one.name), default=default, **options)


def _is_positional(one: dataclasses.Field) -> bool:
    return one.default is dataclasses.MISSING or one.metadata.get("positional", False)


def _argument(values: Any) -> dict[str, Any]:
    """Arguments of ``add_argument`` to read such values."""
    if isinstance(values, Choice):
        return {"choices": values.names}
    if isinstance(values, Pair):
        return {"type": values.numbers, "nargs": 2}
    if isinstance(values, (Place, Places)):
        return {"type": Path, "nargs": "+" if isinstance(values, Places) else None}
    return {"type": values}


def flag(name: str) -> str:
    """The flag of an option on the command line."""
    return f"--{name.replace('_', '-')}"


def metavar(one: dataclasses.Field) -> Any:
    """The name of an option's value in help: the option's own, or its unit."""
    values = one.metadata["values"]
    given = one.metadata.get("metavar") or one.metadata["unit"].upper() or None
    if given is None and isinstance(values, Pair):
        return ("LOW", "HIGH")
    return given


def markdown_table(kind: type[Section]) -> str:
    """A table for each section, of its options, for people. The sections in `kind` follow it."""
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    rows = [_row(one) for one in fields if "values" in one.metadata and one.metadata.get("flag", True)]
    tables = []
    if rows:
        title = f"{kind.title[0].upper()}{kind.title[1:]}:\n\n" if kind.title else ""
        tables.append("\n".join([f"{title}| option | values | default | |", "|---|---|---|---|", *rows]))
    return "\n\n".join([*tables, *map(markdown_table, kind.sections().values())])


def _row(one: dataclasses.Field) -> str:
    about, values = one.metadata, one.metadata["values"]
    name = " ".join(("" if _is_positional(one) else flag(one.name), _words(metavar(one), values)))
    numbers = values.numbers if isinstance(values, Pair) else values
    limits = f"{numbers.low:.15g} to {numbers.high:.15g}" if isinstance(numbers, Range) else ""
    unit = about["unit"] if about["unit"] != "share" else ""
    default = "" if one.default in (None, "", (), dataclasses.MISSING) else _written(one.default)
    cells = (f"`{name.strip()}`", f"{limits} {unit}".strip(), default, about["help"].replace("<", "\\<"))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _words(metavar: Any, values: Any) -> str:
    """The values that the command line takes, as one text."""
    if isinstance(values, Choice):
        return "|".join(values.names)
    if metavar is None:
        return "N" if getattr(values, "whole", False) else "X"
    return " ".join(metavar) if isinstance(metavar, tuple) else metavar


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_written, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
