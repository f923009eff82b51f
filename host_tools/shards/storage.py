"""Files on this machine, on web servers and in buckets, by path or URL. fsspec reads what is not on this machine."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterator
from typing import IO, Any, NamedTuple, cast

from host_tools.errors import DatasetError
from kws_edge.errors import KwsError, RuntimeUnavailableError, extra

__all__ = ["Stored", "find", "is_url", "opened", "reading"]


class Stored(NamedTuple):
    """A file and what tells whether it has changed."""

    url: str
    """Path or URL."""
    size: int
    """In bytes; -1 if nothing tells."""
    stamp: str
    """Time of the last change, or what a server gives instead; empty if nothing tells."""


def is_url(text: str) -> bool:
    """Whether `text` is a URL, such as ``s3://bucket/folder``, and not a path."""
    return "://" in text


@contextlib.contextmanager
def reading(url: str) -> Iterator[None]:
    """Turn whatever goes wrong while `url` is read into a :class:`DatasetError` that names it."""
    try:
        yield
    except KwsError:
        raise
    except FileNotFoundError:
        raise DatasetError(f"{url}: no such file or folder") from None
    except Exception as error:  # each file system of fsspec has errors of its own
        reason = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0] or type(error).__name__
        raise DatasetError(f"{url}: cannot be read ({reason})") from None


@contextlib.contextmanager
def opened(url: str) -> Iterator[IO[bytes]]:
    """A file, open to be read from its beginning to its end.

    Raises
    ------
    DatasetError
        If it cannot be read.
    """
    with reading(url):
        if is_url(url):
            system, path = _system(url)
            with system.open(path, "rb") as file:
                yield cast(IO[bytes], file)
        else:
            with open(url, "rb") as file:
                yield file


def find(pattern: str) -> list[Stored]:
    """Files below a folder, a single file, or the files that a pattern with ``*`` names, sorted.

    Raises
    ------
    DatasetError
        If there are none.
    """
    with reading(pattern):
        if is_url(pattern):
            system, path = _system(pattern)
            entries = system.glob(path, detail=True) if "*" in path else system.find(path, detail=True)
            found = [_stored(system.unstrip_protocol(name), entry) for name, entry in entries.items()]
        else:
            found = [_on_disk(name) for name in _names(pattern)]
    if not found:
        raise DatasetError(f"{pattern}: no such file or folder, or an empty one")
    return sorted(found)


def _names(pattern: str) -> Iterator[str]:
    if not os.path.isdir(pattern):
        yield from glob.glob(pattern) if "*" in pattern else [pattern]
        return
    for base, folders, files in os.walk(pattern):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (os.path.join(base, name) for name in files if not name.startswith("."))


def _on_disk(name: str) -> Stored:
    status = os.stat(name)
    return Stored(os.path.abspath(name), status.st_size, str(status.st_mtime_ns))


def _stored(url: str, entry: dict[str, Any]) -> Stored:
    stamp = next(
        (str(entry[key]) for key in ("ETag", "etag", "LastModified", "updated", "mtime") if entry.get(key)), ""
    )
    size = entry.get("size")
    return Stored(url, -1 if size is None else size, stamp)


def _system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path there."""
    try:
        import fsspec.core
    except ImportError as error:
        raise RuntimeUnavailableError(f"{url}: {error}; URLs need fsspec: {extra('cluster')}") from None
    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:  # it says which package reads such URLs
        how = f": {extra('cluster')}" if url.startswith("s3:") else ""
        raise RuntimeUnavailableError(f"{url}: {error}{how}") from None
