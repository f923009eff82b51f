"""Fetches Speech Commands to a folder: the transfer resumes, and the checksum is verified before the folder appears.

Until the folder is complete, everything lies beside it, in ``<folder>.kws-download``.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from host_tools.data.archive import unpack_tar
from host_tools.data.transfer import UNPACKED, Progress, Transfer, need_room, write_json
from host_tools.errors import DatasetError
from kws_edge.files import try_lock

__all__ = ["MARKER", "SHA256", "URL", "download"]

URL = "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
SHA256 = "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"
MARKER = ".kws-download.json"
"""File in a complete folder that names the archive's checksum and the number of files."""
_CHUNK = 2**16


def download(
    folder: str | Path,
    transfer: Transfer,
    *,
    sha256: str = SHA256,
    keep_archive: bool = False,
    limit: int = 2**33,
) -> Path:
    """Fetch an archive of recordings and unpack it as `folder`.

    The same call goes on where an interrupted one stopped. If an archive of the same name already lies beside `folder`,
    that archive is used and kept.

    Parameters
    ----------
    folder : path
        New or empty. The files at the archive's root come directly into it.
    transfer : Transfer
        The transfer of a ``.tar.gz``.
    sha256 : str
        Digest of the archive.
    keep_archive : bool
        Leave the archive beside `folder`.
    limit : int
        Most bytes that the archive may unpack to.

    Returns
    -------
    Path
        `folder`, resolved.

    Raises
    ------
    DatasetError
        If the transfer fails, the checksum differs, the archive is broken or unsafe, space is short, or `folder`
        holds anything else.
    """
    folder, sha256 = Path(folder).resolve(), sha256.lower()
    archive = folder.with_name(transfer.name)
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise DatasetError(f"{sha256!r} is no SHA-256: it takes 64 hexadecimal digits")
    try:
        if files := _files_there(folder, sha256):
            transfer.say(f"{folder}: complete, {files:,} files")
            return folder
        with _working_folder(folder) as work:
            files = _install(folder, archive, work, transfer, sha256, keep_archive, limit)
    except OSError as error:
        raise DatasetError(f"{error.filename or folder}: {error.strerror or error}") from None
    transfer.say(f"{folder}: {files:,} files")
    return folder


def _install(
    folder: Path, archive: Path, work: Path, transfer: Transfer, sha256: str, keep_archive: bool, limit: int
) -> int:
    """Unpack `archive`, or what the transfer brings, and move it to `folder`. Returns the number of files."""
    part, unpacked = work / f"{archive.name}.part", work / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    if archive.exists():
        source, remedy = archive, "remove it or move it away, and run the same command again"
    else:
        source, remedy = part, "it is removed; the same command fetches it anew"
        transfer.fetch(part)
    need_room(folder, int(UNPACKED * source.stat().st_size), transfer.free(work))
    try:
        if (digest := _digest(source, transfer.progress)) != sha256:
            raise DatasetError(f"{source}: its SHA-256 is {digest}, not {sha256}; {remedy}")
        files = _unpack(source, unpacked, limit=limit, progress=transfer.progress)
    except DatasetError:
        if source == part:
            part.unlink()
        raise
    write_json(unpacked / MARKER, {"url": transfer.url, "sha256": sha256, "files": files})
    if keep_archive and source == part:
        os.replace(part, archive)
    if folder.exists():
        folder.rmdir()
    os.replace(unpacked, folder)
    part.unlink(missing_ok=True)
    return files


def _files_there(folder: Path, sha256: str) -> int:
    """Number of files if `folder` is complete already. 0 if it is absent or empty, so that it can be made."""
    if not folder.exists():
        return 0
    if (folder / MARKER).exists():
        try:
            made = json.loads((folder / MARKER).read_text())
            expected, source = int(made["files"]), made["sha256"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DatasetError(f"{folder / MARKER} is broken: remove {folder} and run the same command again") from None
        if source != sha256:
            raise DatasetError(f"{folder} holds the archive with SHA-256 {source}, not {sha256}; name another folder")
        there = sum(len(files) for _, _, files in os.walk(folder)) - 1
        if there < expected:
            raise DatasetError(
                f"{folder} holds {there:,} of {expected:,} files: remove it and run the same command again"
            )
        shutil.rmtree(_work_path(folder), ignore_errors=True)
        return expected
    if not folder.is_dir() or any(folder.iterdir()):
        raise DatasetError(
            f"{folder} exists and was not made by this command: name a new or empty folder; add recordings later"
        )
    if os.path.ismount(folder):
        raise DatasetError(f"{folder} is a mount point: name a folder in it")
    return 0


def _work_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.kws-download")


@contextmanager
def _working_folder(folder: Path) -> Iterator[Path]:
    """The folder beside `folder` for this run alone. It is removed at the end unless it holds a part of an archive."""
    work = _work_path(folder)
    work.mkdir(parents=True, exist_ok=True)
    with open(work / "lock", "w") as lock:
        if try_lock(lock.fileno()) is False:
            raise DatasetError(f"{work}: another download into {folder} is running")
        try:
            yield work
        finally:
            if not any(work.glob("*.part")):
                shutil.rmtree(work, ignore_errors=True)


def _digest(path: Path, progress: Progress) -> str:
    digest = hashlib.sha256()
    bar = progress(total=path.stat().st_size, desc="checksum", unit="B", unit_scale=True)
    with open(path, "rb") as file, bar:
        while block := file.read(_CHUNK):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()


def _unpack(archive: Path, target: Path, *, limit: int, progress: Progress) -> int:
    """Unpack the archive into the new folder `target`. Returns the number of files."""
    bar = progress(total=archive.stat().st_size, desc="unpack", unit="B", unit_scale=True)
    with bar, open(archive, "rb") as raw, gzip.open(raw) as stream:
        try:
            return unpack_tar(stream, target, limit=limit, tick=lambda: bar.update(raw.tell() - bar.n)).files
        except DatasetError as error:
            raise DatasetError(f"{archive}: {error}; nothing of it is unpacked") from None
