"""Fetches a file from a server. If a connection breaks, the next one goes on from there."""

from __future__ import annotations

import http.client
import json
import queue
import re
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from host_tools.errors import DatasetError
from kws_edge import __version__
from kws_edge.files import write_atomically

__all__ = ["UNPACKED", "Progress", "Transfer", "need_room", "write_json"]

Progress = Callable[..., Any]
"""Makes progress bars as tqdm does."""
Response = http.client.HTTPResponse | urllib.error.HTTPError

UNPACKED = 1.6
"""Bytes on disk for each byte of an archive. Files fill whole blocks."""
_SLOWEST = 1000  # bytes a second; a slower connection counts as broken, as for git
_FURTHER = 2**15  # bytes that a transfer must get further before failures are counted anew
_CHUNK = 2**16


class _Redirections(urllib.request.HTTPRedirectHandler):
    """Follows redirections without reading their bodies, which a server could make endless."""

    def redirect_request(self, request, response, *args):
        response.close()
        return super().redirect_request(request, response, *args)


_OPENER = urllib.request.OpenerDirector()  # build_opener() would follow redirections to FTP
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


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """The source of a file, and how long to try to fetch it."""

    url: str
    """HTTP or HTTPS address."""
    tries: int = 5
    """Broken connections in a row after which the transfer ends. Progress starts the count anew."""
    backoff: float = 1.0
    """Seconds before the second connection. The wait doubles before each further one, up to a minute."""
    timeout: float = 30.0
    """Seconds after which a connection counts as broken: without an answer, or with less than 1,000 bytes a second."""
    free: Callable[[Path], int] = free_bytes
    """Gives the free bytes at a path."""
    say: Callable[[str], object] = print
    """Takes lines for the user."""
    progress: Progress = tqdm

    @property
    def name(self) -> str:
        """Name of the file.

        Raises
        ------
        DatasetError
            If `url` is no address of a file.
        """
        try:
            parts = urlsplit(self.url)
            name = PurePosixPath(parts.path).name
            valid = parts.scheme in ("http", "https") and bool(parts.hostname) and name not in ("", "..")
        except ValueError:
            valid = False
        if not valid or not re.fullmatch("[!-~]+", self.url):
            raise DatasetError(f"{self.url!r} is no http:// or https:// address of a file")
        return name

    def fetch(self, part: Path) -> None:
        """Bring `part` to its full size, in as many connections as needed. A file beside it says what it is part of.

        Raises
        ------
        DatasetError
            If the server refuses, too many connections break, or the file and its contents do not fit on the disk.
        """
        most = failures = 0
        while True:
            try:
                return self._connect(part)
            except _BrokenTransferError as error:
                have = part.stat().st_size if part.exists() else 0
                failures = 1 if have >= most + _FURTHER else failures + 1
                most = max(most, have)
                if failures >= self.tries:
                    raise DatasetError(
                        f"{self.url}: {error}; {have:,} bytes are in {part}, and the same command goes on from there"
                    ) from None
                self.say(f"{self.url}: {error}; trying again")
                time.sleep(min(self.backoff * 2 ** (failures - 1), 60))

    def _connect(self, part: Path) -> None:
        """Continue `part` by one connection. If the server's file has changed, start `part` anew."""
        state_path = part.with_suffix(".json")
        have, state = _resumable(self.url, part, state_path)
        if have and have == state["total"]:
            return
        with _open(self._request(have, state), self.timeout) as response:
            sent = {name: response.headers[name] for name in ("ETag", "Last-Modified")}
            if response.status in (206, 416):
                given = re.fullmatch(rf"bytes {have}-\d+/{state.get('total')}", response.headers["Content-Range"] or "")
                same = all(value in (None, state.get(name)) for name, value in sent.items())
                if not (same and given):
                    part.unlink(missing_ok=True)
                    raise _BrokenTransferError("the file on the server is not the one that the transfer began with")
            else:
                state = {"url": self.url, "total": self._length(response), **sent}
                if have:
                    self.say(f"{self.url}: the server's file has changed, or it cannot continue: starting again")
                # The part is removed first, so that its bytes never lie beside the state of another file.
                part.unlink(missing_ok=True)
                have = 0
                write_json(state_path, state)
            self._receive(response, part, have, state["total"])

    def _request(self, have: int, state: dict[str, Any]) -> urllib.request.Request:
        headers = {"User-Agent": f"kws-edge/{__version__}", "Accept-Encoding": "identity"}
        if have:
            self.say(f"{self.url}: continuing from byte {have:,}")
            headers["Range"] = f"bytes={have}-"
            # A weak tag does not promise equal bytes: RFC 9110, 13.1.5.
            tag = state["ETag"] if not str(state["ETag"]).startswith("W/") else None
            if validator := tag or state["Last-Modified"]:
                headers["If-Range"] = validator
        return urllib.request.Request(self.url, headers=headers)

    def _length(self, response: Response) -> int:
        length = response.headers["Content-Length"] or ""
        if not re.fullmatch("[0-9]{1,15}", length):
            raise DatasetError(f"{self.url}: the server does not say how large the file is")
        return int(length)

    def _receive(self, response: Response, part: Path, have: int, total: int) -> None:
        """Append what arrives to `part`, which has `have` bytes, until it has `total`."""
        need_room(part.parent, total - have + int(UNPACKED * total), self.free(part.parent))
        bar = self.progress(total=total, initial=have, desc="download", unit="B", unit_scale=True)
        began, at = time.monotonic(), have
        with open(part, "ab") as file, bar:
            while have < total and (block := _read(response, min(_CHUNK, total - have))):
                file.write(block)
                bar.update(len(block))
                have += len(block)
                if (spent := time.monotonic() - began) > self.timeout:
                    if have - at < _SLOWEST * spent:
                        raise _BrokenTransferError(f"only {(have - at) / spent:,.0f} bytes a second arrive")
                    began, at = time.monotonic(), have
        if have < total:
            raise _BrokenTransferError(f"the connection ended {total - have:,} bytes early")


def need_room(folder: Path, needed: int, free: int) -> None:
    """Refuse to begin if the space is too small.

    Raises
    ------
    DatasetError
        If `needed` bytes are more than are `free`.
    """
    if free < needed:
        raise DatasetError(f"{folder} needs {needed:,} bytes of disk space; {free:,} are free")


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a small JSON file, whole or not at all."""
    write_atomically(path, json.dumps(values) + "\n")


def _resumable(url: str, part: Path, state_path: Path) -> tuple[int, dict[str, Any]]:
    """Bytes of `part` and the state of their source. 0 bytes if the source is another one, or `part` is too large."""
    try:
        state, have = json.loads(state_path.read_text()), part.stat().st_size
        return (have, state) if state["url"] == url and have <= state["total"] else (0, {})
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 0, {}


def _open(request: urllib.request.Request, timeout: float) -> Response:
    """The server's answer, up to its content. The whole answer must arrive in time, even if it trickles in."""
    answers: queue.SimpleQueue = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_OPENER.open(request, timeout=timeout))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()  # a thread that never ends is left behind
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
    if isinstance(answer, (OSError, http.client.HTTPException, ValueError)):  # ValueError: redirected to no address
        raise _BrokenTransferError(_printable(getattr(answer, "reason", answer)) or type(answer).__name__)
    if isinstance(answer, Exception):
        raise answer
    return answer


def _read(response: Response, n: int) -> bytes:
    """The bytes of the content that have arrived, at most `n`."""
    try:
        return response.read1(n)
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenTransferError(_printable(error) or type(error).__name__) from None


def _printable(text: object) -> str:
    """A server's text, made safe for a terminal."""
    return "".join(filter(str.isprintable, str(text)))[:100]
