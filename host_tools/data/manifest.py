"""One checksum of everything in a folder or a file. It tells whether the data of a result are still the same."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from host_tools.data.features import default_cache
from host_tools.errors import DatasetError
from kws_edge.errors import WriteError
from kws_edge.files import write_atomically

__all__ = ["Entry", "Manifest", "file_sha256", "fingerprint", "manifest"]

_CHUNK = 2**20
_WEIGHTS = "model.weights.h5"
_LAYOUT = 1  # version of the remembered checksums


@dataclass(frozen=True, order=True)
class Entry:
    """A file of a manifest."""

    path: str
    """Path relative to the folder, with slashes. A single file has its name."""
    size: int
    """In bytes."""
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Files with sizes and checksums."""

    entries: tuple[Entry, ...]
    """In the order of their paths."""

    @cached_property
    def sha256(self) -> str:
        """Checksum over path, size and checksum of each file."""
        lines = (f"{e.sha256} {e.size} {e.path}\n" for e in self.entries)
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.entries)

    def to_dict(self) -> dict[str, Any]:
        """Checksum, number of files and bytes, as a JSON-ready dict."""
        return {"sha256": self.sha256, "files": len(self.entries), "bytes": self.size}


def fingerprint(folders: Mapping[str, Sequence[Path]]) -> dict[str, list[dict]]:
    """Path, checksum, number of files and bytes of each of these folders or files, JSON-ready, by name.

    Raises
    ------
    DatasetError
        If a folder or file is missing, or a file in a folder cannot be read.
    """
    return {
        name: [{"path": os.path.abspath(path), **manifest(path).to_dict()} for path in paths]
        for name, paths in folders.items()
    }


def manifest(path: str | Path, *, without: Collection[str] = ()) -> Manifest:
    """The files below `path`, or `path` itself.

    Hidden files are left out, as are locks, scratch files and those of other systems. Only the weights of a Keras file
    count, because the rest of the file holds the time. If something cannot be read, such as a pipe or a broken link,
    its name counts. If links lead to the same folder again, its first name counts. The user's cache remembers
    checksums. A file with the same size, times and inode is not read again.

    Parameters
    ----------
    path : path
    without : collection of str
        Files that do not count.

    Raises
    ------
    DatasetError
        If there is no such file or folder, or `path` is a file that cannot be read.
    """
    path = Path(path)
    is_folder = _is_folder(path)
    remembered = _Remembered(path)
    found = {name: first for name, first in _names(path) if name not in without} if is_folder else {"": None}
    entries = []
    for name in tqdm(sorted(found), desc=f"checksums of {path.name}", unit="file", leave=False, delay=2, disable=None):
        file = path / name
        size, sha256 = 0, f"as {found[name]}"
        if found[name] is None:
            try:
                state = os.stat(file)
                if not stat.S_ISREG(state.st_mode):
                    raise OSError(None, "no regular file")
                sha256 = remembered.get(name, state) or remembered.put(name, state, file_sha256(file))
                size = 0 if _is_keras(file) else state.st_size
            except OSError as error:
                if not is_folder:
                    raise DatasetError(f"{file}: cannot be read ({error.strerror})") from None
                sha256 = "unreadable"
        entries.append(Entry(name or path.name, size, sha256))
    remembered.keep()
    return Manifest(tuple(entries))


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file or folder") from None
    except (OSError, ValueError) as error:  # ValueError: the path has a zero character
        raise DatasetError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def _names(folder: Path) -> Iterator[tuple[str, str | None]]:
    """Names below a folder. Links may lead to a folder again: then the pair holds its first name, or else None."""
    met: dict[tuple[int, int], str] = {}
    for base, folders, files in os.walk(folder, followlinks=True):
        here = os.path.relpath(base, folder).replace(os.sep, "/")
        state = os.stat(base)
        if (first := met.setdefault((state.st_dev, state.st_ino), here)) != here:
            folders.clear()
            yield here, first
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if not name.startswith("."):
                yield name if here == "." else f"{here}/{name}", None


def _is_keras(path: Path) -> bool:
    return path.suffix == ".keras"


def file_sha256(path: Path) -> str:
    """Checksum of a file, as :func:`manifest` takes it."""
    total = hashlib.sha256()
    with contextlib.ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(open(path, "rb"))
        if _is_keras(path):
            with contextlib.suppress(zipfile.BadZipFile, KeyError):
                file = stack.enter_context(stack.enter_context(zipfile.ZipFile(path)).open(_WEIGHTS))
        while chunk := file.read(_CHUNK):
            total.update(chunk)
    return total.hexdigest()


class _Remembered:
    """Remembered checksums of a folder's files, by name, size, times and inode."""

    def __init__(self, path: Path) -> None:
        name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]
        self._file = default_cache().parent / "manifests" / f"{name}.json"
        self._old: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError, RecursionError):
            values = json.loads(self._file.read_bytes())
            if isinstance(values, dict) and values.get("layout") == _LAYOUT and isinstance(values.get("files"), dict):
                self._old = values["files"]
        self._new: dict[str, Any] = {}

    @staticmethod
    def _key(state: os.stat_result) -> list[int]:
        return [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]

    def get(self, name: str, state: os.stat_result) -> str | None:
        known = self._old.get(name)
        if not (isinstance(known, list) and known[:1] == [self._key(state)] and isinstance(known[-1], str)):
            return None
        self._new[name] = known
        return known[-1]

    def put(self, name: str, state: os.stat_result, sha256: str) -> str:
        self._new[name] = [self._key(state), sha256]
        return sha256

    def keep(self) -> None:
        if self._new != self._old:
            with contextlib.suppress(WriteError):  # then the next manifest reads the files again
                write_atomically(self._file, json.dumps({"layout": _LAYOUT, "files": self._new}))
