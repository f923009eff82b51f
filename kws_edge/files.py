"""Files: written whole or not at all, whatever a path leads to; and their checksums."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator

from kws_edge.errors import UsageError, WriteError

try:  # hashlib would load OpenSSL, 3.5 MB that the device has no other use for
    from _sha2 import sha256  # type: ignore[import-not-found]
except ImportError:
    try:
        from _sha256 import sha256  # type: ignore[import-not-found]  # Python 3.11 and earlier
    except ImportError:
        from hashlib import sha256

__all__ = [
    "check_writable",
    "explained",
    "made_folder",
    "move_into_place",
    "scratch_folder",
    "sha256_hex",
    "try_lock",
    "write_atomically",
]

_SCRATCH = ".kws-"
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_STALE_S = 24 * 3600  # where nothing can be locked, a scratch folder of this age is nobody's
_REASONS = {errno.EISDIR: "is a folder", errno.ENOTBLK: "is a disk"}  # others: as the system words them
_REMEDIES = {
    errno.EISDIR: "name a file",
    errno.ENOTBLK: "name a file",
    errno.ENOSPC: "make room there, or name another place",
    errno.EDQUOT: "make room there, or name another place",
}
_READER_S = 5.0  # how long a named pipe is given to find a reader


def sha256_hex(data: bytes) -> str:
    """SHA-256 of `data` in hexadecimal."""
    digest: str = sha256(data).hexdigest()
    return digest


def write_atomically(
    path: str | os.PathLike[str],
    content: str | bytes | Callable[[str], object],
    *,
    durable: bool = False,
    option: str = "",
) -> None:
    """Write a file that is there whole or not at all, or into a device or pipe.

    Of a link the target is written. A file that is replaced passes on its mode, its extended attributes and, where
    that is permitted, its owner; its other hard links keep the old content. What is no regular file stays what it is:
    the content is produced elsewhere, then copied into it.

    Parameters
    ----------
    path : path
    content : str, bytes or callable
        Text is written as UTF-8. A callable writes the file that it is given, which ends as `path` does.
    durable : bool
        Return only when the disk has it, so that a power cut loses neither the old file nor the new one.
    option : str
        The option that named it, such as ``--output``, for the message.

    Raises
    ------
    WriteError
        If it cannot be written; what was there before is untouched.
    """
    path = os.fspath(path)
    with explained(path, option), _workshop(path) as folder:
        move_into_place(_produced(content, folder, path), path, durable=durable)


def _workshop(path: str) -> contextlib.AbstractContextManager[str]:
    """A folder to produce the content of `path` in, from where it can be moved or copied into place."""
    if _is_special(path):
        import tempfile

        return tempfile.TemporaryDirectory()
    return scratch_folder(os.path.dirname(os.path.realpath(path)))


def _produced(content: str | bytes | Callable[[str], object], folder: str, path: str) -> str:
    """Where in `folder` the content lies, with the mode of any new file."""
    probe = os.path.join(folder, "mode")
    os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    mode = stat.S_IMODE(os.stat(probe).st_mode)  # as the umask has it, which cannot be asked without changing it
    os.unlink(probe)
    temporary = os.path.join(folder, os.path.basename(path))
    if callable(content):
        content(temporary)
        if not os.path.exists(temporary):  # Matplotlib and NumPy add an ending where there is none
            (name,) = os.listdir(folder)
            temporary = os.path.join(folder, name)
    else:
        with open(temporary, "wb") as file:
            file.write(content.encode(errors="surrogateescape") if isinstance(content, str) else content)
    os.chmod(temporary, mode)
    return temporary


def check_writable(
    path: str | os.PathLike[str], *, option: str = "", apart: Iterable[str | os.PathLike[str] | None] = ()
) -> None:
    """Find out before the work, as far as that is possible, what would keep `path` from being written after it.

    Parameters
    ----------
    path : path
    option : str
        The option that named it, for the message.
    apart : iterable of path or None
        What the command reads, or writes besides: none of it is to be lost.

    Raises
    ------
    WriteError
        If it cannot be written.
    UsageError
        If it is one of `apart`, by whatever name.
    """
    path = os.fspath(path)
    if any(_is_same(path, one) for one in apart if one is not None):
        raise UsageError(f"{option} {path}: is what this command reads, or writes already; name another file".lstrip())
    with explained(path, option):
        if _is_special(path):
            return
        target = os.path.realpath(path)
        _check_not_protected(target)
        folder = os.path.dirname(target)
        while not os.path.lexists(folder):
            folder = os.path.dirname(folder)
        if not os.path.isdir(folder):
            raise _error(errno.ENOTDIR)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise _error(errno.EACCES)


@contextlib.contextmanager
def explained(path: str | os.PathLike[str], option: str = "") -> Iterator[None]:
    """Whatever the system refuses while `path` is written becomes a :class:`WriteError` that names it."""
    try:
        yield
    except BrokenPipeError:  # the reader has gone: nothing to complain of
        raise
    except OSError as error:
        number = error.errno or 0
        reason = _REASONS.get(number) or f"cannot be written ({error.strerror or error})"
        remedy = _REMEDIES.get(number, "name another place")
        raise WriteError(f"{option} {os.fspath(path) or repr('')}: {reason}; {remedy}".lstrip()) from None


def _is_same(path: str, other: str | os.PathLike[str]) -> bool:
    """Whether two names lead to one file, there or not; devices and pipes are read and written at once."""
    try:
        there = os.stat(path)
        return stat.S_ISREG(there.st_mode) and os.path.samestat(there, os.stat(other))
    except (OSError, ValueError):
        return os.path.realpath(path) == os.path.realpath(other)


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))


def _is_special(path: str) -> bool:
    """Whether `path` leads to a device, a pipe, or where this process's own output goes.

    Those are written into; anything else is replaced, or made.
    """
    try:
        there = os.stat(path)
    except FileNotFoundError:
        if not os.path.basename(path):
            raise _error(errno.EISDIR) from None
        return False
    if stat.S_ISDIR(there.st_mode):
        raise _error(errno.EISDIR)
    if stat.S_ISBLK(there.st_mode):
        raise _error(errno.ENOTBLK)
    return not stat.S_ISREG(there.st_mode) or _own_stream(there) is not None


def _own_stream(there: os.stat_result) -> int | None:
    """Descriptor of our standard output or error, if that is what is `there`, with what was printed so far flushed."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # a process may have none
            if os.path.samestat(there, os.fstat(stream.fileno())):
                stream.flush()
                return stream.fileno()
    return None


def _copy_into(temporary: str, path: str) -> None:
    import shutil

    there = os.stat(path)
    own = _own_stream(there)
    if own is not None:
        descriptor = os.dup(own)
    elif stat.S_ISFIFO(there.st_mode):
        descriptor = _open_pipe(path)
    else:
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | getattr(os, "O_NOCTTY", 0))
    with open(temporary, "rb") as source, open(descriptor, "wb") as sink:
        shutil.copyfileobj(source, sink)


def _open_pipe(path: str) -> int:
    """Open a named pipe, which without a reader would wait for ever."""
    deadline = time.monotonic() + _READER_S
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() > deadline:
                raise WriteError(f"{path}: nobody reads from this pipe; start its reader first") from None
            time.sleep(0.02)
        else:
            os.set_blocking(descriptor, True)
            return descriptor


def move_into_place(temporary: str | os.PathLike[str], path: str | os.PathLike[str], *, durable: bool = False) -> None:
    """Put a finished file where `path` leads; see :func:`write_atomically`.

    Raises
    ------
    OSError
        If that is impossible; what was there is untouched.
    """
    temporary, path = os.fspath(temporary), os.fspath(path)
    if _is_special(path):
        _copy_into(temporary, path)
        return
    path = os.path.realpath(path)
    _check_not_protected(path)
    with contextlib.suppress(FileNotFoundError):
        _take_after(temporary, path)
    if durable:
        _sync(temporary)
    try:
        os.replace(temporary, path)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        _copy_into(temporary, path)  # a file that is mounted by itself, as in containers, cannot be replaced
    if durable:
        _sync(path)
        _sync(os.path.dirname(path))


def _check_not_protected(path: str) -> None:
    if os.path.exists(path) and not os.access(path, os.W_OK):  # which replacing it would ignore
        raise _error(errno.EACCES)


def _take_after(temporary: str, path: str) -> None:
    """Give a file the owner, the extended attributes, access lists among them, and the mode of another."""
    old, new = os.stat(path), os.stat(temporary)
    if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        for owner in (old.st_uid, -1):
            with contextlib.suppress(PermissionError):
                os.chown(temporary, owner, old.st_gid)
                break
    if hasattr(os, "listxattr"):
        with contextlib.suppress(OSError):  # a file system without any
            for name in os.listxattr(path):
                if name.startswith(("user.", "system.")):
                    os.setxattr(temporary, name, os.getxattr(path, name))
    os.chmod(temporary, old.st_mode & 0o777)


def _sync(path: str) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    with contextlib.suppress(PermissionError):  # a folder, on Windows
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def made_folder(folder: str) -> Iterator[None]:
    """Make a folder and those above it, as far as they are missing; those that stayed empty go at the end."""
    made, above = [], os.path.abspath(folder)
    while not os.path.lexists(above):
        made.append(above)
        above = os.path.dirname(above)
    try:
        os.makedirs(folder, exist_ok=True)
        yield
    finally:
        for path in made:
            with contextlib.suppress(OSError):
                os.rmdir(path)


@contextlib.contextmanager
def scratch_folder(parent: str | os.PathLike[str]) -> Iterator[str]:
    """A folder in `parent` for what is not finished yet, of this process alone; removed at the end, with what is in it.

    Its name begins with ``.kws-``, and it is locked as long as this process lives. What a killed process left in
    `parent`, folders of such a name that are not locked, is removed first.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    import shutil

    parent = os.fspath(parent)
    with made_folder(parent):
        _remove_leftovers(parent)
        folder, lock = _claimed(parent)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if lock is not None:
                os.close(lock)


def _claimed(parent: str) -> tuple[str, int | None]:
    """A new scratch folder and the descriptor that locks it."""
    while True:
        folder = os.path.join(parent, f"{_SCRATCH}{os.urandom(4).hex()}")
        os.mkdir(folder, 0o700)
        try:
            lock = os.open(folder, _FOLDER)
        except PermissionError:  # Windows opens no folders
            return folder, None
        except FileNotFoundError:
            continue  # another process took it for a leftover before it was locked
        if try_lock(lock) is not False and os.path.exists(folder):
            return folder, lock
        os.close(lock)  # likewise


def _remove_leftovers(parent: str) -> None:
    import shutil

    with contextlib.suppress(OSError):  # a folder that cannot be listed
        for name in os.listdir(parent):
            if not name.startswith(_SCRATCH):
                continue
            path = os.path.join(parent, name)
            with contextlib.suppress(OSError):  # gone meanwhile, or no folder
                lock = os.open(path, _FOLDER)
                try:
                    locked = try_lock(lock)
                    if locked or (locked is None and time.time() - os.fstat(lock).st_mtime > _STALE_S):
                        shutil.rmtree(path, ignore_errors=True)
                finally:
                    os.close(lock)


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file or folder until it is closed, or this process ends, however it does.

    Returns
    -------
    bool or None
        False if another process has locked it; None if nothing can be locked here.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True
