"""Read TOML files. Only what uses them loads this."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

from kws_edge.errors import KwsError, extra
from kws_edge.text import read_text

__all__ = ["near", "parse_toml", "read_toml"]


def read_toml(path: str | os.PathLike[str], *, what: str, error: type[KwsError]) -> dict[str, Any]:
    """The content of a TOML file.

    Raises
    ------
    KwsError
        `error`, if the file cannot be read or is no TOML. `what` says in the message what it should be.
    """
    try:
        return parse_toml(read_text(path))
    except OSError as problem:
        raise error(f"{os.fspath(path)}: {problem.strerror}") from None
    except ValueError as problem:
        raise error(f"{os.fspath(path)}: no {what} in TOML ({' '.join(str(problem).split())})") from None


def parse_toml(text: str) -> dict[str, Any]:
    """The content of `text` as TOML.

    Raises
    ------
    ValueError
        If `text` is no TOML.
    KwsError
        If this Python reads no TOML.
    """
    try:
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            import tomli as tomllib
    except ImportError:
        raise KwsError(f"Python 3.10 reads TOML with tomli: {extra('serve')}") from None
    try:
        values: dict[str, Any] = tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return values


def near(name: str, there: Iterable[str]) -> str:
    """A guess of the name that was meant, for a message."""
    import difflib

    found = difflib.get_close_matches(name, list(there), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""
