"""Folders that one process at a time writes to."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from host_tools.errors import BusyError
from kws_edge.files import explained, made_folder, try_lock

__all__ = ["LOCK", "locked"]

LOCK = ".kws-lock"
"""The lock's file in a folder. It names the process."""
_POLL_S = 0.2


@contextlib.contextmanager
def locked(folder: str | os.PathLike[str], *, name: str = LOCK, wait: bool = False) -> Iterator[int]:
    """Lock a folder for this process alone, or what `name` stands for in it. A missing folder is made.

    The kernel frees the lock whenever the process ends. If the file system has no locks, the process that made the
    lock's file has the folder. Then a message says which file a killed process has left.

    Parameters
    ----------
    folder : path
    name : str
        The lock's file in the folder.
    wait : bool
        Wait for another process, and name it on standard error.

    Yields
    ------
    int
        Descriptor of the lock's file. A process that inherits it holds the lock, too, until it ends.

    Raises
    ------
    BusyError
        If another process has the folder and `wait` is false.
    WriteError
        If the folder cannot be written.
    """
    path = Path(folder) / name
    with contextlib.ExitStack() as stack:
        with explained(folder):
            stack.enter_context(made_folder(os.fspath(folder)))
            descriptor = _waited_for(path) if wait else _taken(path)
            if descriptor is None:
                raise BusyError(
                    f"{folder}: {_holder(path)} writes there; wait for its end, or name another folder {_advice(path)}"
                )
            stack.callback(_give_back, path, descriptor)
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        yield descriptor


def _give_back(path: Path, descriptor: int) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
    os.close(descriptor)


def _waited_for(path: Path) -> int:
    told = False
    while (descriptor := _taken(path)) is None:
        if not told:
            text = f"kws-host: {path.parent}: waiting for {_holder(path)}, which writes there"
            print(text, _advice(path), file=sys.stderr, flush=True)
            told = True
        time.sleep(_POLL_S)
    return descriptor


def _taken(path: Path) -> int | None:
    """Descriptor of the locked file; None if another process has the lock."""
    while True:
        made = True
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            made = False
            try:
                descriptor = os.open(path, os.O_RDWR)
            except FileNotFoundError:
                continue  # the lock has just been given back
        free = try_lock(descriptor)
        if free is None:  # the file system has no locks: who made the file has it
            free = made
        with contextlib.suppress(FileNotFoundError):
            if not free or os.path.samestat(os.fstat(descriptor), os.stat(path)):
                break
        os.close(descriptor)  # the file was given back, and removed, before it was locked
    if not free:
        os.close(descriptor)
        return None
    return descriptor


def _advice(path: Path) -> str:
    """Advice for a file system without locks, on which a killed process may have left its file."""
    return f"(if there is no such process, remove {path})"


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        return f"process {int(path.read_text())}"
    return "another process"
