"""Selects files of a package or a repository: sounds that are wanted, and the texts of licences."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path

from host_tools.data.archive import plain_files
from host_tools.data.sound_containers import AUDIO
from host_tools.data.source_tables import Package, Source, Subtitles
from host_tools.errors import DatasetError

__all__ = ["is_licence", "is_wanted", "said_with"]

_LICENCE_OF_PACKAGE = re.compile(r"^usr/share/doc/[^/]+/copyright$")
_LICENCE_OF_REPOSITORY = re.compile(
    r"(?i)(licen[cs]|copying|credits|authors|sources|readme)[^/.]*(\.(txt|md|adoc|markdown|assets))?$"
)


def is_wanted(path: str, source: Source, keywords: Collection[str] = (), spoken: Collection[str] = ()) -> bool:
    """Whether the file at `path`, relative to the root of `source`, is a sound to take.

    A recording of speech is not taken if its name contains one of `keywords` or is one of `spoken`.
    """
    stem, suffix = os.path.splitext(os.path.basename(path))
    below = f"/{path}".lower()
    if suffix.lower() not in AUDIO or not any(fnmatchcase(below, pattern) for pattern in source.take):
        return False
    if any(fnmatchcase(below, pattern) for pattern in source.leave):
        return False
    if source.kind == "speech":
        words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", stem).lower())
        return stem not in spoken and not any(word in keywords for word in words)
    return True


def is_licence(path: str, source: Source) -> bool:
    """Whether the file at `path` states the licence of the sounds."""
    licences = _LICENCE_OF_PACKAGE if isinstance(source, Package) else _LICENCE_OF_REPOSITORY
    return licences.search(path) is not None


def said_with(subtitles: Subtitles, root: Path) -> frozenset[str]:
    """Names of the sounds that say one of the words, according to the subtitles in the package unpacked at `root`.

    Raises
    ------
    DatasetError
        If no sound says one of the words, so that nothing would be left out.
    """
    names = set()
    for path in plain_files(root):
        if path.name == subtitles.file:
            for line in path.read_text(encoding="utf-8", errors="replace").split('dialogId("')[1:]:
                said = re.search(r'dialogStr\("((?:[^"\\]|\\.)*)"', line)
                if said and any(word in subtitles.words for word in re.findall(r"\w+", said[1].lower())):
                    names.add(line.partition('"')[0])
    if not names:
        raise DatasetError(f"{subtitles.file} of {subtitles.package} says none of {', '.join(subtitles.words)}")
    return frozenset(names)
