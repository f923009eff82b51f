"""The command of a stage. Converts options between a recipe and the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from host_tools.cli import make_parser
from host_tools.config import DevicesConfig
from host_tools.recipe.kinds import Kind
from kws_edge.text import shown
from kws_edge.toml_files import near

__all__ = ["Command"]

_UNSEEN = ("output", "errors", "cache", "workers", "json", "config", "preset", *DevicesConfig.options())
"""Options that do not change the result, that the runner sets, or that stand for options which a recipe writes out."""
_NAMES = ("start", "blend", "teacher", "from", "second")
"""Options that name runs, files or tables, besides ``MODEL`` and options whose values are paths."""


class Command:
    """The command of a kind of stage. Its options are those of the command line."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.parser = _parser_of(kind)
        vars(self.parser)["error"] = _refuse
        self.actions: dict[str, argparse.Action] = {}
        for action in self.parser._actions:  # argparse has no public access to the options of a parser
            if action.dest != "help" and action.dest not in _UNSEEN:
                self.actions[_name(action)] = action

    def arguments(self, options: Mapping[str, Any]) -> list[str]:
        """`options` as words of a command line.

        Raises
        ------
        ValueError
            If there is no such option, or a command line cannot hold a value.
        """
        first, rest = [], []
        for name in options:
            if name not in self.actions:
                raise ValueError(f"there is no option {shown(name)}{near(name, self.actions)}")
        for name, action in self.actions.items():  # their order counts for options without a flag
            if name not in options:
                continue
            value = options[name]
            if not action.option_strings:
                first += _words(name, value)
            elif action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
                rest += _switch(name, action, value)
            elif isinstance(action, argparse._AppendAction):
                flag = action.option_strings[-1]
                rest += [f"{flag}={word}" for word in _words(name, value)]
            elif action.nargs is None and not isinstance(value, list):
                rest.append(f"{action.option_strings[-1]}={_words(name, value)[0]}")
            elif action.nargs is None:
                rest.append(f"{action.option_strings[-1]}={','.join(_words(name, value))}")
            else:
                rest += [action.option_strings[-1], *_words(name, value)]
        return first + rest

    def resolve(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Every option's value, given or default, in JSON's types.

        Raises
        ------
        ValueError
            If the command does not take them.
        """
        values = self.parser.parse_args([*self.arguments(options), "-o", "output"])
        if "check" in values:
            values.check(values)  # refuses options that contradict each other
        return {name: _plain(getattr(values, action.dest)) for name, action in self.actions.items()}

    def references(self, resolved: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Names and values of the options that may name stages or data."""
        for name, value in resolved.items():
            if self._refers(name):
                for one in value if isinstance(value, list) else str(value or "").split(","):
                    if one:
                        yield name, str(one)

    def _refers(self, name: str) -> bool:
        action = self.actions[name]
        return action.type is Path or name in _NAMES or (name == "model" and not action.option_strings)

    def located(self, options: Mapping[str, Any], locate: Callable[[Any], Any]) -> dict[str, Any]:
        """`options` with what `locate` gives for each reference."""
        out = {}
        for name, value in options.items():
            if self._refers(name):
                plain = (lambda one: str(Path(one))) if self.actions[name].type is Path else (lambda one: one)
                value = [locate(plain(one)) for one in value] if isinstance(value, list) else locate(plain(value))
            out[name] = value
        return out


def _parser_of(kind: Kind) -> argparse.ArgumentParser:
    if kind.program != "kws-host":  # the command takes only a model
        parser = argparse.ArgumentParser(prog=kind.command)
        parser.add_argument("model")
        parser.add_argument("-o", "--output")
        return parser
    commands = next(one for one in make_parser([kind.command])._actions if isinstance(one, argparse._SubParsersAction))
    return commands.choices[kind.command]


def _refuse(message: str) -> NoReturn:
    """Raise an error where a parser would end the process."""
    raise ValueError(message.replace("argument ", "", 1))


def _name(action: argparse.Action) -> str:
    long = [flag for flag in action.option_strings if flag.startswith("--")]
    return long[0][2:].replace("-", "_") if long else action.dest


def _words(name: str, value: Any) -> list[str]:
    out = []
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, bool) or not isinstance(one, (str, int, float)):
            raise ValueError(f"{name}: {shown(one)} is neither text nor number")
        if isinstance(one, str) and "\0" in one:
            raise ValueError(f"{name}: {shown(one)} holds a zero character")
        try:
            out.append(repr(one) if isinstance(one, float) else str(one))
        except ValueError:
            raise ValueError(f"{name}: {shown(one)} is too large") from None
    return out


def _switch(name: str, action: argparse.Action, value: Any) -> list[str]:
    if not isinstance(value, bool):
        raise ValueError(f"{name}: true or false, not {shown(value)}")
    if value:
        return [action.option_strings[0]]
    off = [flag for flag in action.option_strings if flag.startswith("--no-")]
    return off[:1]


def _plain(value: Any) -> Any:
    """`value` in JSON's types."""
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
