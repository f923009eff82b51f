"""Configurations whose fields declare their allowed values, unit and purpose in one place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import MISSING, field
from typing import Any, ClassVar, TypeVar

from kws_edge.errors import ConfigError
from kws_edge.ranges import Range
from kws_edge.text import shown

__all__ = ["Choice", "Flag", "Numbers", "Settings", "Text", "Texts", "option"]

_Self = TypeVar("_Self", bound="Settings")


class Choice:
    """One of several texts.

    Parameters
    ----------
    *names : str
    """

    def __init__(self, *names: str) -> None:
        self.names = names

    def __str__(self) -> str:
        return f"one of {', '.join(self.names)}"

    def check(self, name: str, value: object) -> str:
        """Return `value` if it is one of `names`.

        Raises
        ------
        ConfigError
            If it is not. The message names `name`.
        """
        if not (isinstance(value, str) and value in self.names):
            raise ConfigError(f"{name} must be {self}, got {shown(value)}")
        return value


class Text:
    """Any text.

    Parameters
    ----------
    read : callable
        A ``type`` of argparse. It raises ArgumentTypeError for a text that it cannot read.
    """

    def __init__(self, read: Callable[[str], object] = str) -> None:
        self._read = read

    def __str__(self) -> str:
        return "a text"

    def check(self, name: str, value: object) -> str:
        """Return `value` if it is a text that can be read.

        Raises
        ------
        ConfigError
            If it is not. The message names `name`.
        """
        from argparse import ArgumentTypeError

        if not isinstance(value, str):
            raise ConfigError(f"{name} must be a text, got {shown(value)}")
        try:
            return self(value)
        except ArgumentTypeError as error:
            raise ConfigError(f"{name} {error}") from None

    def __call__(self, text: str) -> str:
        """Read `text` as a ``type`` of argparse. argparse names the option in errors."""
        self._read(text)
        return text


class Texts:
    """A list of texts, none of which is empty."""

    def __str__(self) -> str:
        return "a list of texts"

    def check(self, name: str, value: object) -> tuple[str, ...]:
        """Return `value` as a tuple if it is a list or tuple of such texts.

        Raises
        ------
        ConfigError
            If it is not. The message names `name`.
        """
        if not (isinstance(value, (list, tuple)) and all(isinstance(one, str) and one for one in value)):
            raise ConfigError(f"{name} must be {self}, got {shown(value)}")
        return tuple(value)


class Numbers:
    """A table of numbers by name.

    Parameters
    ----------
    values : Range
    """

    def __init__(self, values: Range) -> None:
        self.values = values

    def __str__(self) -> str:
        return f"a table of names, each with {self.values}"

    def check(self, name: str, value: object) -> dict[str, float]:
        """Return `value` as a dict if it is such a table.

        Raises
        ------
        ConfigError
            If it is not. The message names `name`.
        """
        if not isinstance(value, dict):
            raise ConfigError(f"{name} must be {self}, got {shown(value)}")
        return {key: self.values.check(f"{name}: {shown(key)}", one) for key, one in value.items()}


class Flag:
    """Yes or no."""

    def __str__(self) -> str:
        return "true or false"

    def check(self, name: str, value: object) -> bool:
        """Return `value` if it is true or false.

        Raises
        ------
        ConfigError
            If it is not. The message names `name`.
        """
        if not isinstance(value, bool):
            raise ConfigError(f"{name} must be {self}, got {shown(value)}")
        return value


def option(values: Any, default: Any = MISSING, *, unit: str = "", help: str = "", **more: Any) -> Any:
    """A field of a configuration.

    Parameters
    ----------
    values : Range, Choice, Text, Texts, Numbers or Flag, or another object with ``check(name, value)``
        Allowed values. None is allowed, too, if it is the default.
    default : optional
        If there is no default, a value is required.
    unit : str
    help : str
        Purpose of the field.
    **more
        Further metadata. For ``later``, see :meth:`Settings.to_dict`.
    """
    return field(default=default, metadata={"values": values, "unit": unit, "help": help, **more})


class Settings:
    """Base of frozen configurations. It checks their fields, and builds them from dictionaries."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    @classmethod
    def label(cls) -> str:
        """What messages call the configuration."""
        return cls.__name__

    @classmethod
    def about(cls, name: str) -> Mapping[str, Any]:
        """The metadata that :func:`option` gave the field `name`."""
        return cls.__dataclass_fields__[name].metadata

    @classmethod
    def range_of(cls, name: str) -> Range:
        """The range of the setting `name`."""
        values: Range = cls.about(name)["values"]
        return values

    def _check(self) -> None:
        """Check every field. Convert numbers to int or float, so that 20 and 20.0 give equal hashes."""
        for one in dataclasses.fields(self):
            value = getattr(self, one.name)
            if "values" in one.metadata and not (value is None and one.default is None):
                value = one.metadata["values"].check(f"{self.label()}: {one.name}", value)
                object.__setattr__(self, one.name, value)

    def to_dict(self) -> dict[str, Any]:
        """The configuration as a JSON-ready dict, one entry per field.

        Older versions do not know fields with ``later`` in their metadata. They have entries only if they differ from
        the defaults.
        """
        values = dataclasses.asdict(self)
        for one in dataclasses.fields(self):
            if one.metadata.get("later") and values[one.name] == one.default:
                del values[one.name]
        return values

    @classmethod
    def from_dict(cls: type[_Self], values: Any) -> _Self:
        """Build a configuration from :meth:`to_dict`'s output.

        Raises
        ------
        ConfigError
            If `values` is not a dict, or has an unknown or missing field.
        """
        if not isinstance(values, dict):
            raise ConfigError(f"{cls.label()}: expected a dict of settings, got {shown(values)}")
        fields = {one.name: one for one in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - set(fields)):
            raise ConfigError(f"{cls.label()}: unknown setting {shown(unknown[0])}; known are {', '.join(fields)}")
        required = {name for name, one in fields.items() if one.default is MISSING and one.default_factory is MISSING}
        if missing := sorted(required - set(values)):
            raise ConfigError(f"{cls.label()}: setting {missing[0]!r} is missing")
        return cls(**values)
