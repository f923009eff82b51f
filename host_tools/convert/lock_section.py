"""The section of a model's card that says what its lock records."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from host_tools.markdown import table
from kws_edge.text import listed, printable

__all__ = ["lock_section"]

_SHORT = 12
"""Digits of a checksum that tell results apart."""


def lock_section(lock: Mapping[str, Any]) -> list[str]:
    """The lines of the section.

    Parameters
    ----------
    lock : mapping
        What the stage ``lock`` of a recipe wrote. If a file was made without a recipe, its commands.
    """
    return ["## What made it", "", *(_by_recipe(lock) if lock["recipe"] else _by_hand(lock))]


def _by_recipe(lock: Mapping[str, Any]) -> list[str]:
    recipe = lock["recipe"]
    stages = [
        (
            one["id"],
            one["do"],
            ", ".join([*one["stages"], *one["shipped"]]),
            ", ".join(one["data"]),
            _code(one["sha256"][:_SHORT]),
        )
        for one in lock["stages"]
    ]
    data = [
        (name, _code(one["folder"]), f"{one['files']:,}", f"{one['bytes']:,}", _code(one["sha256"]))
        for name, one in lock["data"].items()
    ]
    files = [f"{_code(one['file'])}, SHA-256 {_code(one['sha256'])}" for one in (recipe, *recipe.get("extends", ()))]
    lines = [
        f"The recipe {printable(recipe['name'])} made it ({'; it extends '.join(files)}),"
        f" with {listed(lock['versions'])}. Its stages:",
        "",
        *table(["stage", "does", "takes", "data", "SHA-256 of its result"], stages),
    ]
    return [*lines, "", *table(["data", "folder", "files", "bytes", "SHA-256"], data)] if data else lines


def _by_hand(lock: Mapping[str, Any]) -> list[str]:
    made: list[str] = []
    rows, data = [], {}
    for command in lock["commands"]:
        words = shlex.split(command)
        output = _output(words)
        taken = {}
        for word in _named(words, output):
            earlier = next((one for one in made if word == one or word.startswith(f"{one}/")), None)
            if earlier:
                taken[earlier] = True
            else:
                data[word] = True
        made.append(output)
        rows.append((output, " ".join(words[:2]), ", ".join(taken)))
    return [
        printable(lock["note"], most=1000),
        "",
        *table(["made", "by", "from"], rows),
        "",
        f"Data, of which the lock has no checksums: {', '.join(map(_code, data))}. The lock has the commands in full.",
    ]


def _output(words: Sequence[str]) -> str:
    """Where a command writes to: the value of ``-o``, or else its last word."""
    return words[words.index("-o") + 1] if "-o" in words else words[-1]


def _named(words: Sequence[str], output: str) -> Iterator[str]:
    """The paths and addresses that a command takes, except its cache of what it fetches."""
    for before, word in itertools.pairwise(words):
        for one in word.split(","):
            if "/" in one and one != output and before != "--cache":
                yield one


def _code(text: str) -> str:
    return f"`{printable(text)}`"
