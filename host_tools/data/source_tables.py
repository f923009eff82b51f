"""Tables of packages or repositories that hold sounds and voices: reads and checks their TOML files."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_origin, get_type_hints

from host_tools.errors import DatasetError
from host_tools.toml_files import find_toml, shipped_toml
from kws_edge.text import printable, shown
from kws_edge.toml_files import near, read_toml

__all__ = ["KINDS", "Package", "Repository", "Source", "SourceTable", "Subtitles", "load_table", "shipped_tables"]

KINDS = ("noise", "speech")
_WHAT = "table of sources"

_Check = Callable[[Any], Any]
"""Converts a value of TOML to that of a table. Raises ValueError, which says what the key takes."""


def _text(pattern: str = r".*\S.*", takes: str = "a text") -> _Check:
    def check(value: Any) -> str:
        if not (isinstance(value, str) and re.fullmatch(pattern, value, re.DOTALL)):
            raise ValueError(takes)
        return value

    return check


def _number(low: float, high: float, unit: str) -> _Check:
    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise ValueError(f"{low:g} to {high:g} {unit}")
        return value

    return check


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _list(check: _Check) -> _Check:
    def check_all(value: Any) -> tuple[Any, ...]:
        try:
            return tuple(map(check, value if isinstance(value, list) else [None]))
        except ValueError as error:
            raise ValueError(f"a list, of which each is {error}") from None

    return check_all


def _pattern(value: Any) -> str:
    with contextlib.suppress(re.error):  # some versions of Python raise it for a range such as [z-a]
        if isinstance(value, str) and value and value == value.lower() and re.compile(translate(value)):
            return value
    raise ValueError("a pattern of paths in small letters")


def _expression(value: Any) -> str:
    with warnings.catch_warnings(), contextlib.suppress(re.error, OverflowError, RecursionError, Warning):
        warnings.simplefilter("error")
        if isinstance(value, str) and re.compile(value).groups:
            return value
    raise ValueError("a regular expression with a group")


def _subtitles(value: Any) -> Subtitles:
    if not isinstance(value, dict):
        raise ValueError("a table with package, file and words")
    return _made(Subtitles, value)


Text = Annotated[str, _text()]
Kind = Annotated[str, _text("|".join(KINDS), " or ".join(KINDS))]
PackageName = Annotated[str, _text(r"[a-z0-9][a-z0-9+.-]{1,99}", "the name of a Debian package")]
RepositoryName = Annotated[
    str, _text(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}/(?!\.)[A-Za-z0-9_.-]{1,100}", "owner/name of a repository on GitHub")
]
FileName = Annotated[str, _text(r"[^/\0]+", "the name of a file")]
FolderName = Annotated[str, _text(r"[a-z][a-z0-9_]{0,59}", "a name of small letters, digits and underscores")]
Commit = Annotated[str, _text(r"[0-9a-f]{40}", "40 hexadecimal digits")]
Sha256 = Annotated[str, _text(r"[0-9a-f]{64}", "64 hexadecimal digits")]
Patterns = Annotated[tuple[str, ...], _list(_pattern)]
Expression = Annotated[str, _expression]
Keywords = Annotated[tuple[str, ...], _list(_text("[a-z]+", "a word in small letters"))]
Minutes = Annotated[float, _number(0.1, 1440, "minutes")]
Seconds = Annotated[float, _number(0.1, 3600, "seconds")]
Flag = Annotated[bool, _flag]


@dataclass(frozen=True, kw_only=True)
class Source:
    """What to take of a package or of a repository."""

    name: Text
    kind: Kind
    licence: Text
    """Short name of the licence. The source's own text of it is written beside the sounds."""
    attribution: Text = ""
    """Who made the sounds, and their licence if it is another one."""
    take: Patterns = ("*",)
    """Patterns of paths to take; ``/`` at the beginning is the root."""
    leave: Patterns = ()
    """Patterns of paths to leave out of these."""
    why: Text = ""
    """Why these are left out."""
    speaker: Expression = ""
    """Regular expression on the path. Its group 1 names the speaker. Empty: there is one speaker."""
    minutes: Minutes = 60.0
    """Most minutes to take of the source, evenly over its files."""
    file_s: Seconds = 60.0
    """Most seconds to take of a file."""

    @property
    def folder(self) -> str:
        """The folder of the source's sounds, below the folder of the kind."""
        return self.name


@dataclass(frozen=True, kw_only=True)
class Subtitles:
    """Where another package says what the sounds of a package say."""

    package: PackageName
    file: FileName
    """Name of a file of dialogues in Lua, anywhere in that package."""
    words: Annotated[tuple[str, ...], _list(_text(r"[^\W\dA-Z]+", "a word in small letters"))]
    """A sound that says one of these is left out."""


@dataclass(frozen=True, kw_only=True)
class Package(Source):
    """What to take of a Debian package."""

    name: PackageName
    """In Debian's section main."""
    sha256: Sha256 = ""
    """Checksum of the package's file; empty for any version."""
    subtitles: Annotated[Subtitles | None, _subtitles] = None


@dataclass(frozen=True, kw_only=True)
class Repository(Source):
    """What to take of a git repository, as it was at a commit."""

    name: RepositoryName
    commit: Commit
    group: FolderName
    """Folder of what is alike."""
    file_s: Seconds = 30.0

    @property
    def folder(self) -> str:
        return f"{self.group}/{self.name.replace('/', '+')}"


@dataclass(frozen=True, kw_only=True)
class SourceTable:
    """Packages or repositories, and settings for all of them."""

    about: Text
    keywords: Keywords
    """A recording of speech is left out if one of these words is in its name."""
    join: Flag = False
    """Whether to join noises of less than a second, because noise is drawn in windows of a second."""
    without_s: Annotated[float | None, _number(0.1, 3600, "seconds")] = None
    """Length of noise to leave out, because recordings to test on have this length."""
    path: Path
    """Of the file."""
    sources: tuple[Source, ...]
    """Of one class."""


_ENTRIES: dict[str, type[Source]] = {"package": Package, "repository": Repository}


def shipped_tables() -> dict[str, Path]:
    """The tables that come with this program, by name."""
    return shipped_toml("sources")


def load_table(name: str) -> SourceTable:
    """Read a table: a shipped one by its name, or a file whose name ends in ``.toml``.

    Raises
    ------
    DatasetError
        If there is no such table, or it is wrong. The message names file, entry, key and value.
    """
    path = find_toml(name, shipped_tables(), what=_WHAT, error=DatasetError)
    written = read_toml(path, what=_WHAT, error=DatasetError)
    kinds = [kind for kind in _ENTRIES if kind in written]
    if len(kinds) != 1:
        raise DatasetError(f"{path}: it has either [[package]] or [[repository]]")
    (kind,) = kinds
    entries, lists = written.pop(kind), written.pop("leave", {})
    if not (_is_of_tables(lists, dict) and _is_of_tables(entries, list) and entries):
        raise DatasetError(f"{path}: entries are written as [[{kind}]], and lists of patterns as [leave.NAME]")
    where, sources, folders = "table", [], set()
    try:
        known = {}
        for title, one in lists.items():
            where = f"leave {title}"
            known[title] = _made(_LeaveList, one)
        for number, entry in enumerate(entries, 1):
            title = entry.get("name")
            where = f"{kind} {title if isinstance(title, str) else number}"
            sources.append(source := _made(_ENTRIES[kind], _with_list(entry, known)))
            if source.leave and not source.why:
                raise _RefusedError("why: it takes a text, and is missing: say why something is left out")
            if (source.kind, source.folder) in folders:
                raise _RefusedError(f"name: it is there twice as {source.kind}")
            folders.add((source.kind, source.folder))
        where = "table"
        return _made(SourceTable, written, path=path, sources=tuple(sources))
    except _RefusedError as error:
        raise DatasetError(printable(f"{path}: {printable(where, most=80)}: {error}")) from None


class _RefusedError(ValueError):
    """What is wrong with an entry."""


@dataclass(frozen=True, kw_only=True)
class _LeaveList:
    """Patterns that several entries leave out, and why."""

    why: Text
    patterns: Patterns


def _is_of_tables(value: Any, container: type) -> bool:
    values = value.values() if isinstance(value, dict) else value
    return isinstance(value, container) and all(isinstance(one, dict) for one in values)


def _with_list(entry: Mapping[str, Any], lists: Mapping[str, _LeaveList]) -> Mapping[str, Any]:
    """The entry. If its ``leave`` is the name of a list, that list's patterns take its place."""
    name = entry.get("leave")
    if not isinstance(name, str):
        return entry
    if name not in lists:
        raise _RefusedError(f"leave: there is no list {shown(name)}{near(name, lists)}")
    return {"why": lists[name].why, **entry, "leave": list(lists[name].patterns)}


_T = TypeVar("_T")


def _made(cls: Callable[..., _T], written: Mapping[str, Any], **more: Any) -> _T:
    """An instance of `cls` with the written values, each of them checked."""
    hints = get_type_hints(cls, include_extras=True)
    checks = {name: hint.__metadata__[0] for name, hint in hints.items() if get_origin(hint) is Annotated}
    for key in written:
        if key not in checks:
            raise _RefusedError(f"there is no {shown(key)}{near(key, checks)}; it takes {', '.join(checks)}")
    values = {}
    for key, check in checks.items():
        try:
            if key in written or not hasattr(cls, key):  # not hasattr: the field has no default
                values[key] = check(written.get(key))
        except _RefusedError as error:
            raise _RefusedError(f"{key}: {error}") from None
        except ValueError as error:
            said = f"not {shown(written[key])}" if key in written else "and is missing"
            raise _RefusedError(f"{key}: it takes {error}, {said}") from None
    return cls(**values, **more)
