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
"""The file in a folder that is locked; it names the process."""
_POLL_S = 0.2


@contextlib.contextmanager
def locked(folder: str | os.PathLike[str], *, wait: bool = False) -> Iterator[None]:
    """Have a folder, which is made if it is missing, for this process alone.

    The kernel frees it when the process ends, however it does. Where files cannot be locked, the one that made the
    lock's file has it, and a message says which file a killed process left.

    Parameters
    ----------
    folder : path
    wait : bool
        Say on standard error whom it waits for, and wait.

    Raises
    ------
    BusyError
        If another process has it, and not `wait`.
    WriteError
        If the folder cannot be written.
    """
    path = Path(folder) / LOCK
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
        yield


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
    """Descriptor of the lock's file once it is locked; None if another process has it."""
    while True:
        made = True
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            made = False
            try:
                descriptor = os.open(path, os.O_RDWR)
            except FileNotFoundError:
                continue  # it has just been given back
        free = try_lock(descriptor)
        if free is None:  # no locks here: who made the file has it
            free = made
        with contextlib.suppress(FileNotFoundError):
            if not free or os.path.samestat(os.fstat(descriptor), os.stat(path)):
                break
        os.close(descriptor)  # it was given back, and removed, before it was locked
    if not free:
        os.close(descriptor)
        return None
    return descriptor


def _advice(path: Path) -> str:
    """What to do where files cannot be locked, and a process that was killed has left its own."""
    return f"(if there is no such process, remove {path})"


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        return f"process {int(path.read_text())}"
    return "another process"
