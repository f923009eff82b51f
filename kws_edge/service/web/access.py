"""Who may use the page: addresses of the page itself, other sites, log-ins and sessions."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import os
import secrets
import socket
import stat
import time
from collections import OrderedDict, deque
from collections.abc import Collection
from urllib.parse import urlsplit

from kws_edge.errors import ConfigError
from kws_edge.files import write_atomically
from kws_edge.service.web.http import HttpError, Request, client_of
from kws_edge.text import parse_json, read_text

__all__ = ["Access", "Token"]

COOKIE = "kws-edge"
_TOKEN_BYTES = 20
_ITERATIONS = 200_000  # of PBKDF2-HMAC-SHA256: 0.1 s on a workstation, about a second on a small board
_SALT_BYTES = 16
_MOST_TOKEN = 200
_SESSION_S = 30 * 86_400.0
_MOST_SESSIONS = 100
_TRIES, _TRIES_S = 5, 60.0
"""Log-ins that may fail in this many seconds, from one address."""
_ALL_TRIES = 30
"""Log-ins that may fail in this time, from all addresses together."""
_MOST_ADDRESSES = 1000
_LOCAL = ("localhost", "127.0.0.1", "::1")


class Token:
    """The secret of the page. A file keeps its PBKDF2 hash, so that nobody can read it there.

    Parameters
    ----------
    path : str
        The file. Only its owner may read it.

    Raises
    ------
    ConfigError
        If the file is there, but cannot be used.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._salt, self._hash, self._iterations = b"", b"", 0
        if os.path.lexists(path):
            self._read()

    def _read(self) -> None:
        try:
            if not stat.S_ISREG(os.stat(self.path).st_mode):
                raise ValueError("it is no regular file")
            values = parse_json(read_text(self.path))
            self._salt, self._hash = bytes.fromhex(values["salt"]), bytes.fromhex(values["pbkdf2_sha256"])
            self._iterations = int(values["iterations"])
            if len(self._hash) != hashlib.sha256().digest_size or not 1 <= self._iterations <= 10**7:
                raise ValueError("it holds no hash of a token")
        except (OSError, ValueError, TypeError, KeyError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigError(f"{self.path}: cannot be used ({why}); remove it, and a new token is made") from None

    @property
    def is_there(self) -> bool:
        """Whether there is a token."""
        return bool(self._hash)

    def make(self) -> str:
        """Make a token and keep its hash. Return the token, which nothing else keeps.

        Raises
        ------
        WriteError
            If the file cannot be written.
        """
        token = secrets.token_hex(_TOKEN_BYTES)
        self._salt, self._iterations = secrets.token_bytes(_SALT_BYTES), _ITERATIONS
        self._hash = self._hashed(token)
        values = {"salt": self._salt.hex(), "pbkdf2_sha256": self._hash.hex(), "iterations": self._iterations}

        def write(temporary: str) -> None:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="ascii") as file:
                file.write(json.dumps(values) + "\n")

        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        write_atomically(self.path, write, durable=True)
        os.chmod(self.path, 0o600)
        return token

    def fits(self, token: str) -> bool:
        """Whether `token` is the secret. This takes long on purpose."""
        return hmac.compare_digest(self._hashed(token), self._hash)

    def _hashed(self, token: str) -> bytes:
        return hashlib.pbkdf2_hmac("sha256", token.encode(errors="replace"), self._salt, self._iterations)


class Access:
    """Decides on each request. Log-ins that fail are counted, and sessions are kept in memory only.

    Parameters
    ----------
    token : Token or None
        None: everybody who reaches the page may use it, which is for this machine alone.
    hosts : collection of str
        Names by which the page may be called, besides this machine's own names and addresses.
    local : bool
        Whether only this machine reaches the page.
    """

    def __init__(self, token: Token | None, hosts: Collection[str], *, local: bool) -> None:
        self._token = token
        own = socket.gethostname().lower()
        self._hosts = {*map(str.lower, hosts), *_LOCAL, *(() if local else (own, f"{own}.local"))}
        self._local = local
        self._sessions: OrderedDict[bytes, float] = OrderedDict()
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()
        self._one_at_a_time = asyncio.Lock()

    @property
    def needs_login(self) -> bool:
        return self._token is not None

    def check(self, request: Request) -> None:
        """Refuse requests that were sent on behalf of another site.

        A browser names the host that it was told. A foreign name that leads to this machine (DNS rebinding) is refused.
        It also names the site of the page that sends a request, and other sites may only link to the page.

        Raises
        ------
        HttpError
        """
        host = request.headers.get("host", "")
        if not self._is_own(host):
            raise HttpError(421, "this page has another name; see hosts in the section [web]")
        site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
        follows = request.method != "POST" and request.headers.get("sec-fetch-mode") == "navigate"
        if site not in (None, "same-origin", "none") and not (follows and request.path == "/"):
            raise HttpError(403, "another site asks for this")
        if origin not in (None, f"http://{host}", f"https://{host}"):
            raise HttpError(403, "another site asks for this")
        if request.method == "POST":
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":  # which a form of another site cannot send
                raise HttpError(415, "send application/json")

    def _is_own(self, host: str) -> bool:
        try:
            parts = urlsplit(f"//{host}")
            name, _ = (parts.hostname or "").lower(), parts.port
        except ValueError:
            return False
        if parts.netloc != host or "@" in host:
            return False
        if name in self._hosts:
            return True
        try:  # a name server cannot make an address lead elsewhere
            return ipaddress.ip_address(name).is_loopback or not self._local
        except ValueError:
            return False

    def is_known(self, request: Request) -> bool:
        """Whether the request may use the page."""
        if self._token is None:
            return True
        return self._sessions.get(_session_of(request), 0.0) > time.monotonic()

    async def log_in(self, request: Request, token: object) -> str:
        """Begin a session; return the header that gives the browser its cookie.

        Raises
        ------
        HttpError
            If the token is wrong, or too many were.
        """
        if self._token is None:
            raise HttpError(404, "there is no log-in")
        failed = self._failures(request.address)
        # One at a time: hashing takes a core, and what failed meanwhile counts.
        async with self._one_at_a_time:
            self._check_rate(failed)
            if not (
                isinstance(token, str)
                and 0 < len(token) <= _MOST_TOKEN
                and await asyncio.get_running_loop().run_in_executor(None, self._token.fits, token.strip())
            ):
                failed.append(time.monotonic())
                raise HttpError(403, "the token is wrong")
            failed.clear()
        session = secrets.token_urlsafe(32)
        self._sessions[_key(session)] = time.monotonic() + _SESSION_S
        while len(self._sessions) > _MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return f"{COOKIE}={session}; Path=/; HttpOnly; SameSite=Strict; Max-Age={_SESSION_S:.0f}"

    def log_out(self, request: Request) -> str:
        """End the session; return the header that removes the cookie."""
        self._sessions.pop(_session_of(request), None)
        return f"{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"

    def _failures(self, address: str) -> deque[float]:
        """Times of the failed log-ins of a client."""
        client = client_of(address)
        failed = self._failed.setdefault(client, deque(maxlen=_TRIES))
        self._failed.move_to_end(client)
        while len(self._failed) > _MOST_ADDRESSES:
            self._failed.popitem(last=False)
        return failed

    def _check_rate(self, own: deque[float]) -> None:
        now = time.monotonic()
        everyone = sum(now - at < _TRIES_S for failed in self._failed.values() for at in failed)
        if (len(own) == _TRIES and now - own[0] < _TRIES_S) or everyone >= _ALL_TRIES:
            raise HttpError(429, "too many wrong tokens; wait a minute", {"Retry-After": f"{_TRIES_S:.0f}"})


def _key(session: str) -> bytes:
    return hashlib.sha256(session.encode(errors="replace")).digest()


def _session_of(request: Request) -> bytes:
    """Key of the session that the request's cookie names."""
    parts = (part.strip().partition("=") for part in request.headers.get("cookie", "").split(";"))
    return _key(next((value for name, _, value in parts if name == COOKIE), ""))
