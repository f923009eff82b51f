"""Finds recordings in folders of any layout, and lists what is left out with the reason."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from host_tools.errors import DatasetError
from kws_edge.audio.formats import is_audio, recognise
from kws_edge.text import printable

__all__ = [
    "AUDIO_ENDINGS",
    "Found",
    "LeftOut",
    "all_left_out",
    "existing_folder",
    "find_audio",
    "first_left_out",
    "group_of",
    "loose_recordings",
    "recordings",
    "unreadable",
    "visible_entries",
]

AUDIO_ENDINGS = (
    ".3gp", ".aac", ".aif", ".aifc", ".aiff", ".amr", ".au", ".caf", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus",
    ".rf64", ".snd", ".w64", ".wav", ".wave", ".webm", ".wma",
)  # fmt: skip
"""Endings of names of audio files. The first bytes of other files tell whether they are audio."""
_TEXTS = (".csv", ".json", ".lab", ".md", ".tsv", ".txt")
_FIRST_BYTES = 1 << 14
_SYSTEM_FILES = ("$recycle.bin", "@eadir", "__macosx", "desktop.ini", "icon\r", "thumbs.db")


@dataclass(frozen=True)
class LeftOut:
    """Files of one folder that are not used, for one reason."""

    path: Path
    """The first of them, or the folder."""
    why: str
    files: int = 1

    def __str__(self) -> str:
        return printable(f"{self.path}: {self.why}" + (f" ({self.files} files)" if self.files > 1 else ""))


class Found(NamedTuple):
    """The recordings in a folder, and what is left out."""

    paths: list[Path]
    left_out: list[LeftOut]


def existing_folder(path: str | Path) -> Path:
    """The folder as a path. It must exist."""
    folder = Path(path)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder")
    return folder


def find_audio(folder: str | Path) -> Found:
    """Recordings in a folder, at any depth, sorted, and what is left out. Texts and files of systems do not count.

    If a file's name does not end as names of audio do, its first bytes tell whether it is a recording.

    Raises
    ------
    DatasetError
        If the folder does not exist or cannot be read.
    """
    paths: list[Path] = []
    unused: dict[tuple[Path, str], list[Path]] = {}
    folders = [existing_folder(folder)]
    while folders:
        here = folders.pop()
        for path in visible_entries(here):
            if not path.is_dir():
                why = _why_not(path)
            elif path.is_symlink():
                why = "a link to a folder, which is not followed"
            else:
                why = ""
                folders.append(path)
            if why is None:
                paths.append(path)
            elif why:
                unused.setdefault((here, why), []).append(path)
    left_out = [LeftOut(which[0], why, len(which)) for (_, why), which in unused.items()]
    return Found(sorted(paths), sorted(left_out, key=lambda one: one.path))


def all_left_out(folder: Path, why: str) -> list[LeftOut]:
    """The recordings in a folder as left out, if there are any."""
    n = len(find_audio(folder).paths)
    return [LeftOut(folder, why, n)] if n else []


def visible_entries(folder: Path) -> Iterator[Path]:
    """Entries of a folder, sorted, except hidden ones and those of the system."""
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read ({error.strerror})") from None
    return (p for p in paths if not p.name.startswith(".") and p.name.lower() not in _SYSTEM_FILES)


def _why_not(path: Path) -> str | None:
    """Why a file is no recording. None if it is one; an empty text if it needs no reason."""
    if not path.is_file():
        return "a broken link" if path.is_symlink() and not path.exists() else "no regular file"
    ending = path.suffix.lower()
    if ending in AUDIO_ENDINGS or ending in _TEXTS:
        return None if ending in AUDIO_ENDINGS else ""
    try:
        with open(path, "rb", buffering=0) as file:
            begin = file.read(_FIRST_BYTES)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    kind = recognise(lambda at, n: begin[at : at + n])
    if is_audio(kind):
        return None
    return "" if kind == "a text" or not begin else f"{kind or 'of no format'}, not audio"


def loose_recordings(entries: Iterable[Path]) -> list[LeftOut]:
    """The recordings beside the folders as left out, if there are any."""
    loose = [path for path in entries if not path.is_dir() and _why_not(path) is None]
    return [LeftOut(loose[0], "a recording in no word's folder", len(loose))] if loose else []


def _half(group: str) -> str:
    return "training" if hashlib.sha1(os.fsencode(group)).digest()[0] % 2 == 0 else "reporting"


def recordings(folder: str | Path, half: str | None = None) -> Found:
    """Recordings without keywords anywhere under `folder`, or one half of them: ``training`` or ``reporting``.

    A group goes into one half as a whole. It is the LibriSpeech speaker (``<speaker>-<chapter>-<utterance>``), or else
    the recording that a clip was cut from (ESC-50's ``<fold>-<recording>-<take>...``), or else the file.

    Raises
    ------
    DatasetError
        If there are none.
    """
    found = find_audio(folder)
    paths = [path for path in found.paths if not half or _half(group_of(path)) == half]
    if not paths:
        raise DatasetError(f"{folder}: no recordings in it" + (f" of the {half} half" if half else ""))
    return Found(paths, found.left_out)


def group_of(path: Path) -> str:
    """The group of a recording; see :func:`recordings`."""
    parts = path.stem.split("-")
    if len(parts) == 3 and all(p.isdigit() for p in parts):
        return parts[0]
    return "-".join(parts[:2]) if len(parts) > 2 else path.stem


def unreadable(path: Path, why: str) -> LeftOut:
    """A file that cannot be read, as left out with the message `why`."""
    return LeftOut(path, why.removeprefix(printable(f"{path}: ")))


def first_left_out(left_out: Sequence[LeftOut]) -> str:
    """The number of files that were left out and the first of them, for the end of a message; else an empty text."""
    return f" ({sum(one.files for one in left_out)} files left out, the first: {left_out[0]})" if left_out else ""
