"""TOML files. Those of the package are found by name, and your own by path."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kws_edge.errors import KwsError
from kws_edge.text import read_text, shown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["find_toml", "near", "parse_toml", "read_toml", "shipped_file", "shipped_toml"]

_SHIPPED = Path(__file__).parent / "recipes"


def shipped_toml(folder: str = ".") -> dict[str, Path]:
    """The files of ``recipes``, or of a folder in it, by their names without ``.toml``."""
    return {path.stem: path for path in sorted((_SHIPPED / folder).glob("*.toml"))}


def shipped_file(name: str) -> Path:
    """A file of ``recipes``, by its path below that."""
    return _SHIPPED / name


def find_toml(name: str, shipped: dict[str, Path], *, what: str, error: type[KwsError]) -> Path:
    """The file that `name` stands for: one of `shipped`, or a path that ends in ``.toml``.

    Parameters
    ----------
    name : str
    shipped : dict of str to path
        Files that come with the package, by name.
    what : str
        Kind of file, for the message.
    error : type of KwsError

    Raises
    ------
    KwsError
        `error`, if `name` is neither. `what` names the kind of file in the message.
    """
    if name.endswith(".toml"):
        return Path(name)
    if name in shipped:
        return shipped[name]
    known = f", or one of {', '.join(shipped)}" if shipped else ""
    raise error(f"no {what} {shown(name)}{near(name, shipped)}: give a file that ends in .toml{known}")


def read_toml(path: Path, *, what: str, error: type[KwsError]) -> dict[str, Any]:
    """The content of a TOML file.

    Raises
    ------
    KwsError
        `error`, if the file cannot be read or is no TOML. `what` says in the message what it should be.
    """
    try:
        return parse_toml(read_text(path))
    except OSError as problem:
        raise error(f"{path}: {problem.strerror}") from None
    except ValueError as problem:
        raise error(f"{path}: no {what} in TOML ({' '.join(str(problem).split())})") from None


def parse_toml(text: str) -> dict[str, Any]:
    """The content of `text` as TOML.

    Raises
    ------
    ValueError
        If `text` is no TOML.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def near(name: str, there: Iterable[str]) -> str:
    """A guess of the name that was meant, for a message."""
    found = difflib.get_close_matches(name, list(there), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""
