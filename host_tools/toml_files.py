"""Find TOML files: those of the package by name, and your own by path."""

from __future__ import annotations

from pathlib import Path

from kws_edge.errors import KwsError
from kws_edge.text import shown
from kws_edge.toml_files import near

__all__ = ["find_toml", "shipped_file", "shipped_toml"]

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
