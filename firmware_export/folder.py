"""Write folders of files that belong together."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from kws_edge.errors import ConfigError
from kws_edge.files import check_writable, explained, move_into_place, scratch_folder, try_lock

__all__ = ["sole_writer", "write_files"]


@contextlib.contextmanager
def sole_writer(folder: str | Path) -> Iterator[bool]:
    """Lock a folder, if it exists, for this process alone. Yield whether the folder is new, for :func:`write_files`.

    Raises
    ------
    ConfigError
        If another process writes to the folder.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except OSError:  # a new folder; write_files reports other errors; Windows opens no folders
        yield not os.path.exists(folder)
        return
    try:
        if try_lock(descriptor) is False:
            raise _busy(folder)
        yield False
    finally:
        os.close(descriptor)


def _busy(folder: str | Path) -> ConfigError:
    return ConfigError(f"{folder}: another process exports there; wait for its end, or name another folder")


def write_files(folder: str | Path, texts: Mapping[str, str], *, new: bool | None = None) -> None:
    """Write texts by their paths in a folder, in this order.

    All texts are on the disk before the first one is moved into place. So a full disk leaves the folder unchanged. A
    new folder appears as a whole.

    Parameters
    ----------
    folder : path
    texts : mapping of str to str
    new : bool, optional
        Whether the folder is new; by default, this is found out.

    Raises
    ------
    WriteError
        If the files cannot be written.
    ConfigError
        If the folder is new, but another process has made it meanwhile.
    """
    place = Path(os.path.realpath(folder))
    with explained(folder):
        new = not place.exists() if new is None else new
        for path in texts:
            check_writable(place / path)
        with scratch_folder(place.parent if new else place) as scratch:
            fresh = Path(scratch, "fresh")
            for path, text in texts.items():
                (fresh / path).parent.mkdir(parents=True, exist_ok=True)
                (fresh / path).write_bytes(text.encode())
            if new:
                try:
                    fresh.rename(place)
                except OSError as error:
                    raise _busy(folder) if error.errno in (errno.ENOTEMPTY, errno.EEXIST) else error from None
                return
            for path in texts:
                (place / path).parent.mkdir(parents=True, exist_ok=True)
                move_into_place(fresh / path, place / path)
