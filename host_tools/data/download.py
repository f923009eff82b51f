"""Speech Commands from its server to a folder: a transfer that resumes, a checksum, unpacking that is whole or absent.

Until the folder is whole, everything lies beside it, in ``<folder>.kws-download``.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import os
import queue
import re
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from tqdm import tqdm

from host_tools.data.archive import unpack_tar
from host_tools.errors import DatasetError
from kws_edge import __version__
from kws_edge.files import write_atomically

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = ["MARKER", "SHA256", "URL", "download"]

URL = "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
SHA256 = "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"
MARKER = ".kws-download.json"
"""File in a folder that is whole: what it was unpacked from, and how many files."""

_SLOWEST = 1000  # bytes a second; a slower connection counts as broken, as for git
_FURTHER = 2**15  # bytes by which a transfer must have got on before failures are counted anew
_UNPACKED = 1.6  # bytes on disk, in whole blocks, that a byte of the archive becomes
_CHUNK = 2**16


class _Redirections(urllib.request.HTTPRedirectHandler):
    """Follows redirections without reading what comes with them, which has no end where the server wants it so."""

    def redirect_request(self, request, response, *args):
        response.close()
        return super().redirect_request(request, response, *args)


_OPENER = urllib.request.OpenerDirector()  # not build_opener(): that one follows redirections to FTP
for _handler in (
    urllib.request.ProxyHandler,
    urllib.request.HTTPHandler,
    urllib.request.HTTPSHandler,
    _Redirections,
    urllib.request.HTTPDefaultErrorHandler,
    urllib.request.HTTPErrorProcessor,
    urllib.request.UnknownHandler,
):
    _OPENER.add_handler(_handler())


class _BrokenTransferError(Exception):
    """A transfer that may succeed at the next try."""


def free_bytes(path: Path) -> int:
    """Free bytes of the file system that holds `path`."""
    return shutil.disk_usage(path).free


def download(
    folder: str | Path,
    *,
    url: str = URL,
    sha256: str = SHA256,
    keep_archive: bool = False,
    limit: int = 2**33,
    tries: int = 5,
    backoff: float = 1.0,
    timeout: float = 30.0,
    free: Callable[[Path], int] = free_bytes,
    say: Callable[[str], object] = print,
    progress: Callable = tqdm,
) -> Path:
    """Fetch an archive of recordings and unpack it as `folder`; the same call goes on where an interrupted one stopped.

    An archive of the same name that already lies beside `folder` is used, and stays.

    Parameters
    ----------
    folder : path
        New or empty; what the archive has at its root comes directly into it.
    url : str
        HTTP or HTTPS address of a ``.tar.gz``.
    sha256 : str
        Digest of the archive.
    keep_archive : bool
        Leave the archive beside `folder`.
    limit : int
        Most bytes that the archive may unpack to.
    tries : int
        Broken connections in a row, from one that got further on, after which the transfer is given up.
    backoff : float
        Seconds before the second of them; twice as many before each further one, up to a minute.
    timeout : float
        Seconds without an answer, or with less than 1,000 bytes for each of them, after which a connection counts as
        broken.
    free : callable
        Gives the free bytes at a path.
    say, progress : callable
        Take lines for the user, and make progress bars as tqdm does.

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
    folder, name, sha256 = Path(folder).resolve(), _archive_name(url), sha256.lower()
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise DatasetError(f"{sha256!r} is no SHA-256: it takes 64 hexadecimal digits")
    try:
        if files := _files_there(folder, sha256):
            say(f"{folder}: complete, {files:,} files")
            return folder
        with _working_folder(folder) as work:
            part, unpacked, archive = work / f"{name}.part", work / "unpacked", folder.with_name(name)
            shutil.rmtree(unpacked, ignore_errors=True)
            if archive.exists():
                source, remedy = archive, "remove it or move it away, and run the same command again"
            else:
                source, remedy = part, "it is removed; the same command fetches it anew"
                _fetch(url, part, tries=tries, backoff=backoff, timeout=timeout, free=free, say=say, progress=progress)
            _need_room(folder, int(_UNPACKED * source.stat().st_size), free(work))
            try:
                if (digest := _digest(source, progress)) != sha256:
                    raise DatasetError(f"{source}: its SHA-256 is {digest}, not {sha256}; {remedy}")
                files = _unpack(source, unpacked, limit=limit, progress=progress)
            except DatasetError:
                if source == part:
                    part.unlink()
                raise
            _write_json(unpacked / MARKER, {"url": url, "sha256": sha256, "files": files})
            if keep_archive and source == part:
                os.replace(part, archive)
            if folder.exists():
                folder.rmdir()
            os.replace(unpacked, folder)
            part.unlink(missing_ok=True)
    except OSError as error:
        raise DatasetError(f"{error.filename or folder}: {error.strerror or error}") from None
    say(f"{folder}: {files:,} files")
    return folder


def _archive_name(url: str) -> str:
    try:
        parts = urlsplit(url)
        name = PurePosixPath(parts.path).name
        valid = parts.scheme in ("http", "https") and parts.hostname and name not in ("", "..")
    except ValueError:
        valid = False
    if not valid or not re.fullmatch("[!-~]+", url):
        raise DatasetError(f"{url!r} is no http:// or https:// address of a file")
    return name


def _files_there(folder: Path, sha256: str) -> int:
    """Number of files if `folder` is whole already; 0 if it is absent or empty, so that it can be made."""
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
        raise DatasetError(f"{folder} exists and was not made by this command: name a new or empty folder")
    if os.path.ismount(folder):
        raise DatasetError(f"{folder} is a mount point: name a folder in it")
    return 0


def _work_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.kws-download")


@contextmanager
def _working_folder(folder: Path) -> Iterator[Path]:
    """The folder beside `folder` for this run alone; removed at the end unless an archive is left to go on with."""
    work = _work_path(folder)
    work.mkdir(parents=True, exist_ok=True)
    with open(work / "lock", "w") as lock:
        if fcntl:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DatasetError(f"{work}: another download into {folder} is running") from None
            except OSError:
                pass  # a file system without locks
        try:
            yield work
        finally:
            if not any(work.glob("*.part")):
                shutil.rmtree(work, ignore_errors=True)


def _need_room(folder: Path, needed: int, free: int) -> None:
    if free < needed:
        raise DatasetError(f"{folder} needs {needed:,} bytes of disk space; {free:,} are free")


def _write_json(path: Path, values: dict) -> None:
    write_atomically(path, json.dumps(values) + "\n")


def _fetch(url: str, part: Path, *, tries: int, backoff: float, say: Callable[[str], object], **options) -> None:
    """Bring `part` to its full size, in as many connections as that takes."""
    most = failures = 0
    while True:
        try:
            return _transfer(url, part, say=say, **options)
        except _BrokenTransferError as error:
            have = part.stat().st_size if part.exists() else 0
            failures = 1 if have >= most + _FURTHER else failures + 1
            most = max(most, have)
            if failures >= tries:
                raise DatasetError(
                    f"{url}: {error}; {have:,} bytes are in {part}, and the same command goes on from there"
                ) from None
            say(f"{url}: {error}; trying again")
            time.sleep(min(backoff * 2 ** (failures - 1), 60))


def _transfer(url: str, part: Path, *, timeout: float, free: Callable, say: Callable, progress: Callable) -> None:
    """One connection that continues `part`, or starts it anew where the server's file is another one by now."""
    state_path = part.with_suffix(".json")
    have, state = _resumable(url, part, state_path)
    if have and have == state["total"]:
        return
    headers = {"User-Agent": f"kws-edge/{__version__}", "Accept-Encoding": "identity"}
    if have:
        say(f"{url}: continuing from byte {have:,}")
        headers["Range"] = f"bytes={have}-"
        # A weak tag does not promise equal bytes: RFC 9110, 13.1.5.
        tag = state["ETag"] if not str(state["ETag"]).startswith("W/") else None
        if validator := tag or state["Last-Modified"]:
            headers["If-Range"] = validator
    with _open(urllib.request.Request(url, headers=headers), timeout) as response:
        sent = {name: response.headers[name] for name in ("ETag", "Last-Modified")}
        if response.status in (206, 416):
            given = re.fullmatch(rf"bytes {have}-\d+/{state.get('total')}", response.headers["Content-Range"] or "")
            same = all(value in (None, state.get(name)) for name, value in sent.items())
            if not (same and given):
                part.unlink(missing_ok=True)
                raise _BrokenTransferError("the file on the server is not the one that the transfer began with")
        else:
            length = response.headers["Content-Length"] or ""
            if not re.fullmatch("[0-9]{1,15}", length):
                raise DatasetError(f"{url}: the server does not say how large the file is")
            state = {"url": url, "total": int(length), **sent}
            if have:
                say(f"{url}: the server's file has changed, or it cannot continue: starting again")
            # The part first, so that its bytes never lie beside the state of another file.
            part.unlink(missing_ok=True)
            have = 0
            _write_json(state_path, state)
        total = state["total"]
        _need_room(part.parent, total - have + int(_UNPACKED * total), free(part.parent))
        bar = progress(total=total, initial=have, desc="download", unit="B", unit_scale=True)
        began, at = time.monotonic(), have
        with open(part, "ab") as file, bar:
            while have < total and (block := _read(response, min(_CHUNK, total - have))):
                file.write(block)
                bar.update(len(block))
                have += len(block)
                if (spent := time.monotonic() - began) > timeout:
                    if have - at < _SLOWEST * spent:
                        raise _BrokenTransferError(f"only {(have - at) / spent:,.0f} bytes a second arrive")
                    began, at = time.monotonic(), have
    if have < total:
        raise _BrokenTransferError(f"the connection ended {total - have:,} bytes early")


def _resumable(url: str, part: Path, state_path: Path) -> tuple[int, dict]:
    """Bytes of `part` and what they came from; 0 if they came from elsewhere, or are more than there should be."""
    try:
        state, have = json.loads(state_path.read_text()), part.stat().st_size
        return (have, state) if state["url"] == url and have <= state["total"] else (0, {})
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 0, {}


def _open(request: urllib.request.Request, timeout: float) -> http.client.HTTPResponse:
    """The server's answer, up to its content; it must be there in time, however it trickles in."""
    answers: queue.SimpleQueue = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_OPENER.open(request, timeout=timeout))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()  # one that never ends is left behind
    try:
        answer = answers.get(timeout=2 * timeout)
    except queue.Empty:
        raise _BrokenTransferError(f"no answer in {2 * timeout:g} s") from None
    if isinstance(answer, urllib.error.HTTPError):
        if answer.code == 416:
            return answer
        answer.close()
        message = f"the server answers {answer.code} {_printable(answer.reason)}"
        if answer.code in (408, 429) or answer.code >= 500:
            raise _BrokenTransferError(message)
        raise DatasetError(f"{request.full_url}: {message}")
    if isinstance(answer, (OSError, http.client.HTTPException, ValueError)):  # the last for a redirection to no address
        raise _BrokenTransferError(_printable(getattr(answer, "reason", answer)) or type(answer).__name__)
    if isinstance(answer, Exception):
        raise answer
    return answer


def _read(response: http.client.HTTPResponse, n: int) -> bytes:
    """What has arrived of the content, at most `n` bytes."""
    try:
        return response.read1(n)
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenTransferError(_printable(error) or type(error).__name__) from None


def _printable(text: object) -> str:
    """What a server says, for a terminal."""
    return "".join(filter(str.isprintable, str(text)))[:100]


def _digest(path: Path, progress: Callable) -> str:
    digest = hashlib.sha256()
    bar = progress(total=path.stat().st_size, desc="checksum", unit="B", unit_scale=True)
    with open(path, "rb") as file, bar:
        while block := file.read(_CHUNK):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()


def _unpack(archive: Path, target: Path, *, limit: int, progress: Callable) -> int:
    """Unpack the archive into the new folder `target`; returns the number of files."""
    bar = progress(total=archive.stat().st_size, desc="unpack", unit="B", unit_scale=True)
    with bar, open(archive, "rb") as raw, gzip.open(raw) as stream:
        try:
            return unpack_tar(stream, target, limit=limit, tick=lambda: bar.update(raw.tell() - bar.n)).files
        except DatasetError as error:
            raise DatasetError(f"{archive}: {error}; nothing of it is unpacked") from None
