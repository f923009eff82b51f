"""Write files whole or not at all, whatever a path leads to. Compute checksums."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator

from kws_edge.errors import UsageError, WriteError

try:  # hashlib would load OpenSSL: 3.5 MB that the device needs for nothing else
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
_STALE_S = 24 * 3600  # on file systems without locks, a scratch folder of this age belongs to nobody
_REASONS = {errno.EISDIR: "is a folder", errno.ENOTBLK: "is a disk"}  # others keep the system's words
_REMEDIES = {
    errno.EISDIR: "name a file",
    errno.ENOTBLK: "name a file",
    errno.ENOSPC: "make room there, or name another place",
    errno.EDQUOT: "make room there, or name another place",
}
_READER_S = 5.0  # longest wait for a reader of a named pipe


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
    """Write a file whole or not at all, or write into a device or pipe.

    If the path is a link, its target is written. A new file takes over the mode and the extended attributes of the file
    that it replaces, and also the owner if that is permitted. Other hard links keep the old content. A device or pipe
    is not replaced: the content is produced elsewhere, then copied into it.

    Parameters
    ----------
    path : path
    content : str, bytes or callable
        Text is written as UTF-8. A callable gets the path of a temporary file to write, with the ending of `path`.
    durable : bool
        Return only when the file is on the disk, so that a power cut loses neither the old file nor the new one.
    option : str
        The option that named the file, such as ``--output``, for the message.

    Raises
    ------
    WriteError
        If the file cannot be written. An earlier file stays unchanged.
    """
    path = os.fspath(path)
    with explained(path, option), _workshop(path) as folder:
        move_into_place(_produced(content, folder, path), path, durable=durable)


def _workshop(path: str) -> contextlib.AbstractContextManager[str]:
    """A folder in which to produce the content of `path`, before it is moved or copied into place."""
    if _is_special(path):
        import tempfile

        return tempfile.TemporaryDirectory()
    return scratch_folder(os.path.dirname(os.path.realpath(path)))


def _produced(content: str | bytes | Callable[[str], object], folder: str, path: str) -> str:
    """Produce the content in `folder` with the mode of a new file, and return its path."""
    probe = os.path.join(folder, "mode")
    os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    mode = stat.S_IMODE(os.stat(probe).st_mode)  # the umask gives this mode, and cannot be read without being changed
    os.unlink(probe)
    temporary = os.path.join(folder, os.path.basename(path))
    if callable(content):
        content(temporary)
        if not os.path.exists(temporary):  # Matplotlib and NumPy add an ending if there is none
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
    """Check before the work, as far as possible, that `path` can be written after it.

    Parameters
    ----------
    path : path
    option : str
        The option that named the file, for the message.
    apart : iterable of path or None
        Other files that the command reads or writes, which must not be lost.

    Raises
    ------
    WriteError
        If it cannot be written.
    UsageError
        If the file is one of `apart`, by whatever name.
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
    """Turn the system's errors while `path` is written into a :class:`WriteError` that names `path`."""
    try:
        yield
    except BrokenPipeError:  # the reader has gone: this is no error
        raise
    except OSError as error:
        number = error.errno or 0
        reason = _REASONS.get(number) or f"cannot be written ({error.strerror or error})"
        remedy = _REMEDIES.get(number, "name another place")
        raise WriteError(f"{option} {os.fspath(path) or repr('')}: {reason}; {remedy}".lstrip()) from None


def _is_same(path: str, other: str | os.PathLike[str]) -> bool:
    """Whether two names lead to one file, existing or not. Devices and pipes never do: they may be read and written."""
    try:
        there = os.stat(path)
        return stat.S_ISREG(there.st_mode) and os.path.samestat(there, os.stat(other))
    except (OSError, ValueError):
        return os.path.realpath(path) == os.path.realpath(other)


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))


def _is_special(path: str) -> bool:
    """Whether `path` leads to a device, a pipe, or the file of this process's own output.

    Such files are written into. Other files are created or replaced.
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
    """The descriptor of our standard output or error, if it is the file `there`. Earlier output is flushed."""
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
    """Open a named pipe. Without a reader, a plain open would wait for ever."""
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
    """Move a finished file to where `path` leads. See :func:`write_atomically`.

    Parameters
    ----------
    temporary : path
        The finished file.
    path : path
    durable : bool
        Return only when the file is on the disk.

    Raises
    ------
    OSError
        If that is impossible. An earlier file stays unchanged.
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
        _copy_into(temporary, path)  # a single mounted file, as in containers, cannot be replaced
    if durable:
        _sync(path)
        _sync(os.path.dirname(path))


def _check_not_protected(path: str) -> None:
    if os.path.exists(path) and not os.access(path, os.W_OK):  # replacing the file would ignore this
        raise _error(errno.EACCES)


def _take_after(temporary: str, path: str) -> None:
    """Give a file the owner, the mode and the extended attributes (with access lists) of another file."""
    old, new = os.stat(path), os.stat(temporary)
    if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        for owner in (old.st_uid, -1):
            with contextlib.suppress(PermissionError):
                os.chown(temporary, owner, old.st_gid)
                break
    if hasattr(os, "listxattr"):
        with contextlib.suppress(OSError):  # the file system may have none
            for name in os.listxattr(path):
                if name.startswith(("user.", "system.")):
                    os.setxattr(temporary, name, os.getxattr(path, name))
    os.chmod(temporary, old.st_mode & 0o777)


def _sync(path: str) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    with contextlib.suppress(PermissionError):  # Windows opens no folders
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def made_folder(folder: str) -> Iterator[None]:
    """Make a folder and its missing parents. At the end, those that stayed empty are removed."""
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
    """A folder in `parent` for unfinished files of this process. It is removed with its contents at the end.

    Its name begins with ``.kws-``, and it is locked as long as this process lives. Unlocked folders of such a name in
    `parent` are leftovers of killed processes, and are removed first.

    Raises
    ------
    OSError
        If the folder cannot be made.
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
    """Make a scratch folder; return its path and the descriptor that locks it."""
    while True:
        folder = os.path.join(parent, f"{_SCRATCH}{os.urandom(4).hex()}")
        os.mkdir(folder, 0o700)
        try:
            lock = os.open(folder, _FOLDER)
        except PermissionError:  # Windows opens no folders
            return folder, None
        except FileNotFoundError:
            continue  # before the lock, another process took the folder for a leftover
        if try_lock(lock) is not False and os.path.exists(folder):
            return folder, lock
        os.close(lock)  # as above


def _remove_leftovers(parent: str) -> None:
    import shutil

    with contextlib.suppress(OSError):  # the folder may be unreadable
        for name in os.listdir(parent):
            if not name.startswith(_SCRATCH):
                continue
            path = os.path.join(parent, name)
            with contextlib.suppress(OSError):  # it may be gone, or not be a folder
                lock = os.open(path, _FOLDER)
                try:
                    locked = try_lock(lock)
                    if locked or (locked is None and time.time() - os.fstat(lock).st_mtime > _STALE_S):
                        shutil.rmtree(path, ignore_errors=True)
                finally:
                    os.close(lock)


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file or folder until it is closed or this process ends, in whatever way.

    Returns
    -------
    bool or None
        False if another process has locked it. None if locks are not available here.
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
