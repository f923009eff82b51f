"""How the three programs read their command lines, and how ``--help`` describes them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import kws_edge

if TYPE_CHECKING:
    from pathlib import Path

    Commands = argparse._SubParsersAction["Parser"]
    """The object to which a program's commands are added."""

__all__ = ["STATUSES", "Parser", "output_path"]

STATUSES = (
    "Exit status: 0 success, 1 an error that is explained in one line, 2 wrong usage, 74 output that cannot be "
    "written, 130 interrupted"
)


class _Help(argparse.HelpFormatter):
    """Shows each option's default, unless its help mentions one. Wraps paragraphs, except indented ones.

    If an action has the attribute `own`, it is a default from outside the code, such as from a model file.
    """

    def add_usage(self, usage: Any, actions: Any, groups: Any, prefix: Any = None) -> None:
        """Show only the required arguments. The help below shows the others."""
        given = [action for action in actions if action.required or not action.option_strings]
        if len(given) < len(actions):
            given.insert(0, argparse.Action([], "options", nargs="?", metavar="options"))
        super().add_usage(usage, given, [], prefix)

    def add_argument(self, action: argparse.Action) -> None:
        """Count the indent of indented actions, which argparse forgets."""
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            self._action_max_length += self._indent_increment

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        paragraphs = text.strip("\n").split("\n\n")
        return "\n\n".join(one if one.startswith(" ") else fill(one, width, indent) for one in paragraphs)

    def _get_help_string(self, action: argparse.Action) -> str:
        text, value = action.help or "", getattr(action, "own", action.default)
        if "default" in text or value is False or value in (None, "", [], (), argparse.SUPPRESS):
            return text
        return f"{text} (default: {_written(value).replace('%', '%%')})"

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        whole = getattr(action.type, "whole", None)  # an attribute of ranges of numbers
        return super()._get_default_metavar_for_optional(action) if whole is None else "N" if whole else "X"


def _written(value: Any) -> str:
    """A value as a user would type it."""
    if isinstance(value, (list, tuple)):
        return " ".join(map(_written, value))
    return "yes" if value is True else f"{value:g}" if isinstance(value, float) else str(value)


class _Store(argparse._StoreAction):
    """Stores a value. An option that takes several values adds them to those of its earlier mentions."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        earlier = getattr(namespace, self.dest, self.default)
        if option_string and self.nargs == "+" and earlier is not self.default:
            values = [*(earlier or ()), *values]
        setattr(namespace, self.dest, values)


class Parser(argparse.ArgumentParser):
    """Reads the command line of a program, or of one of its commands."""

    before_help: Callable[[Sequence[str]], None] | None = None
    """Called with the words of the command line before help is shown, to complete the help with slow details."""
    _words: Sequence[str] = ()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"formatter_class": _Help, **options})
        for name in (None, "store"):
            self.register("action", name, _Store)

    def add_commands(self) -> Any:
        """Make this a program's parser, with ``--version``. Return the object that takes the commands."""
        version = f"{self.prog} {kws_edge.__version__}"
        self.add_argument("--version", action="version", version=version, help="print the version and exit")
        return self.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in argparse."""
        self._words = args or ()
        return super().parse_known_args(args, namespace)

    def format_help(self) -> str:
        """As argparse has it."""
        if self.before_help:
            self.before_help(self._words)
        return super().format_help()


def output_path(text: str) -> Path:
    """An argparse ``type`` for output files. It refuses ``-``: standard output is for what a command prints."""
    if text in ("", "-"):
        raise argparse.ArgumentTypeError(f"{text!r} names no file or folder; give another name (./- is a file named -)")
    from pathlib import Path

    return Path(text)
