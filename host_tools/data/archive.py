"""Reads archives from anywhere within bounds. They write nothing outside the folder, and no links."""

from __future__ import annotations

import errno
import gzip
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, Protocol, cast

from host_tools.errors import DatasetError

__all__ = ["Unpacked", "open_zip", "plain_files", "unpack_tar", "unpack_zip"]

_CHUNK = 2**16
_LARGEST_HEADER = 2**18  # bytes between the contents of two members: headers, long names, maps of sparse files
_MOST_FILES, _MOST_FOLDERS, _MOST_LINKS, _DEEPEST = 1_000_000, 20_000, 20_000, 32
_LARGEST_DIRECTORY = 2**26  # bytes of a ZIP archive's directory
_LARGEST_MEMBER = 2**28
_ZIP_END = 2**16 + 22  # bytes at the end of a ZIP archive in which the record of its directory lies
_TAR_DAMAGE = (  # what gzip and tarfile raise for a broken archive; the last four mean impossible contents
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    FileExistsError,
    NotADirectoryError,
    ValueError,
    OverflowError,
    MemoryError,
    RecursionError,
)
_ZIP_DAMAGE = (  # what zipfile raises; the last means that it cannot unpack, as with a password or another method
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    struct.error,
    IndexError,
    ValueError,
    OverflowError,
    MemoryError,
    RuntimeError,
)


def _short(name: str) -> str:
    """`name`, shortened for a message."""
    return repr(name if len(name) <= 100 else f"{name[:100]}...")


class Readable(Protocol):
    """A source of bytes."""

    def read(self, size: int, /) -> bytes: ...


class _Bounded:
    """A stream for tarfile that only goes forward and stops at a limit."""

    def __init__(self, stream: Readable, limit: int) -> None:
        self._stream, self._limit, self._at = stream, limit, 0
        self.left = _LARGEST_HEADER
        """Bytes that may still be read. The reader sets it anew for each member."""

    def tell(self) -> int:
        return self._at

    def read(self, n: int) -> bytes:
        self.left -= n
        if self.left < 0:
            raise tarfile.ReadError(f"a header of more than {_LARGEST_HEADER:,} bytes")
        data = self._stream.read(n)
        self._at += len(data)
        if self._at > self._limit:
            raise DatasetError(f"unpacks to more than {self._limit:,} bytes")
        return data

    def seek(self, position: int) -> None:
        """Skip forward to `position`."""
        while self._at < position:
            self.left = _LARGEST_HEADER
            if not self.read(min(_CHUNK, position - self._at)):
                break
        self.left = _LARGEST_HEADER


class Unpacked:
    """A new folder that archives are unpacked to, and how much it holds so far.

    Parameters
    ----------
    folder : path
        Made by :func:`unpack_tar`.
    limit : int
        Most bytes that the folder may hold.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self.files = self._size = 0
        self.links: set[PurePosixPath] = set()
        """Links and devices that were left out. No member's path may lead through one."""
        self._folders: set[PurePosixPath] = {PurePosixPath(".")}

    def place(self, name: str, size: int = 0) -> PurePosixPath:
        """Where a member with this name and size goes, relative to the folder.

        Raises
        ------
        DatasetError
            If it would lie outside the folder, or is too large.
        """
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or re.search(r"[\\\0]", name):
            raise DatasetError(f"the member {_short(name)} leads out of the folder")
        if len(path.parts) > _DEEPEST:
            raise DatasetError(f"the member {_short(name)} lies below {len(path.parts) - 1} folders")
        if through := self.links.intersection((path, *path.parents)):
            raise DatasetError(f"the member {_short(name)} goes through the link {_short(str(through.pop()))}")
        self._size += size
        if self._size > self.limit:
            raise DatasetError(f"unpacks to more than {self.limit:,} bytes")
        return path

    def leave_out(self, name: str) -> None:
        """Record a link that is not made."""
        self.links.add(PurePosixPath(name))
        if len(self.links) > _MOST_LINKS:
            raise DatasetError(f"holds more than {_MOST_LINKS:,} links")

    def make_folder(self, path: PurePosixPath) -> None:
        new = [p for p in (path, *path.parents) if p not in self._folders]
        self._folders.update(new)
        if len(self._folders) > _MOST_FOLDERS:
            raise DatasetError(f"holds more than {_MOST_FOLDERS:,} folders")
        for part in reversed(new):
            (self.folder / part).mkdir(exist_ok=True)

    def create(self, path: PurePosixPath) -> BinaryIO:
        """Open a new file."""
        self.files += 1
        if self.files > _MOST_FILES:
            raise DatasetError(f"holds more than {_MOST_FILES:,} files")
        self.make_folder(path.parent)
        return open(self.folder / path, "xb")

    def write(self, name: str, data: bytes) -> None:
        """Write a file, or replace it."""
        path = self.place(name, len(data))
        (self.folder / path).unlink(missing_ok=True)
        with self.create(path) as file:
            file.write(data)


def plain_files(root: Path) -> list[Path]:
    """Files below `root`, sorted, without links."""
    return [path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink()]


def unpack_tar(
    stream: Readable,
    folder: Path,
    *,
    limit: int,
    skip_links: bool = False,
    tick: Callable[[], object] = lambda: None,
) -> Unpacked:
    """Unpack folders and plain files of a tar archive, and nothing else, into the new folder `folder`.

    If anything fails, the folder is removed. Owners, modes and times are not taken over.

    Parameters
    ----------
    stream : file
        The uncompressed archive, which is read to its end.
    folder : path
    limit : int
        Most bytes that the archive may unpack to. With its headers the archive may have twice as many.
    skip_links : bool
        Leave out links and devices, instead of refusing the archive. A member whose path leads through one is still
        refused.
    tick : callable
        Called after each member.

    Raises
    ------
    DatasetError
        If the archive is broken or unsafe. The message does not name the archive.
    """
    bounded, target = _Bounded(stream, 2 * limit + _LARGEST_HEADER), Unpacked(folder, limit)
    try:
        folder.mkdir()
        with tarfile.open(fileobj=cast("IO[bytes]", bounded), mode="r:") as tar:  # it reads, seeks and tells
            while (member := tar.next()) is not None:
                cast("Any", tar).members.clear()  # otherwise a million members would stay in memory
                _unpack_member(tar, member, bounded, target, skip_links=skip_links)
                tick()
        # tarfile takes a broken header for the end of the archive. After the real end only zeros follow.
        if {bool(block.strip(b"\0")) for block in _rest(bounded)} != {False}:
            raise tarfile.ReadError("its end is missing")
        if not target.files:
            raise tarfile.ReadError("it holds no files")
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, _TAR_DAMAGE):
            raise DatasetError(f"a broken archive ({error})") from None
        raise
    return target


def _unpack_member(
    tar: tarfile.TarFile, member: tarfile.TarInfo, bounded: _Bounded, target: Unpacked, *, skip_links: bool
) -> None:
    if not (member.isfile() or member.isdir()) or member.issparse():
        if not skip_links:
            raise DatasetError(f"the member {_short(member.name)} is a link or device, or has holes")
        target.leave_out(member.name)
        return
    path = target.place(member.name, member.size)
    if hasattr(tarfile, "data_filter"):  # Python's own check, if this version has it
        tarfile.data_filter(member, str(target.folder))
    if content := tar.extractfile(member):
        with content, target.create(path) as file:
            bounded.left = member.size + _LARGEST_HEADER
            shutil.copyfileobj(content, file, _CHUNK)
    else:
        target.make_folder(path)
    bounded.left = _LARGEST_HEADER


def _rest(stream: _Bounded) -> Iterator[bytes]:
    while True:
        stream.left = _LARGEST_HEADER
        if not (block := stream.read(_CHUNK)):
            return
        yield block


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a ZIP archive whose directory fits into memory.

    Raises
    ------
    DatasetError
        If the archive turns out to be broken, here or while you use it. The message does not name the archive.
    """
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _ZIP_END))
            end = file.read()
            at = end.rfind(b"PK\5\6")
            if int.from_bytes(end[at + 12 : at + 16], "little") > _LARGEST_DIRECTORY:
                raise zipfile.BadZipFile("its directory is too large")
            with zipfile.ZipFile(file) as archive:
                yield archive
    except _ZIP_DAMAGE as error:
        raise DatasetError(f"a broken archive ({error})") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # EINVAL: an entry begins before the file
            raise
        raise DatasetError("a broken archive (a place outside of it)") from None


def unpack_zip(path: Path, target: Unpacked, wanted: Callable[[str], bool]) -> None:
    """Write the files of a ZIP archive whose name is `wanted` beside the archive, which lies in `target`.

    Parameters
    ----------
    path : path
        The archive, which lies in `target`.
    target : Unpacked
    wanted : callable
        Whether to write the file of that name.

    Raises
    ------
    DatasetError
        If the archive is broken or unsafe. The message does not name the archive.
    """
    beside = path.parent.relative_to(target.folder)
    with open_zip(path) as archive:
        for member in archive.infolist():
            if member.is_dir() or not wanted(member.filename):
                continue
            name = (beside / member.filename.replace("\\", "/")).as_posix()
            if stat.S_ISLNK(member.external_attr >> 16):
                target.leave_out(name)
                continue
            with archive.open(member) as content:
                data = content.read(_LARGEST_MEMBER + 1)
            if len(data) > _LARGEST_MEMBER:
                raise DatasetError(f"the member {_short(member.filename)} has more than {_LARGEST_MEMBER:,} bytes")
            target.write(name, data)
