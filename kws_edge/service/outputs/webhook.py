"""Detections by HTTP, as a POST of JSON to an address."""

from __future__ import annotations

import http.client
import ssl
import threading
from argparse import ArgumentTypeError
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import SplitResult, urlsplit

from kws_edge import __version__
from kws_edge.detection.records import as_json
from kws_edge.errors import ConfigError
from kws_edge.ranges import number
from kws_edge.service.events import Detected, Event
from kws_edge.service.outputs.base import Output, OutputError, RejectedError
from kws_edge.service.section import FileName, OutputSection, secret
from kws_edge.settings import Text, Texts, option
from kws_edge.text import printable, shown

if TYPE_CHECKING:
    from kws_edge.service.commands import Commands

__all__ = ["SECTION", "Webhook", "WebhookSection"]

_AGAIN = (408, 425, 429)  # statuses below 500 that may pass
_MOST_ANSWER = 1 << 16


def _address(text: str) -> SplitResult:
    """Read an address of http or https."""
    try:
        parts = urlsplit(text)
        ok = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        ok = False
    if not ok or not text.isascii() or any(c.isspace() or not c.isprintable() for c in text):
        raise ArgumentTypeError(f"must be an address such as http://192.168.1.2:8123/api/webhook/ID, got {shown(text)}")
    if parts.username or parts.password:
        raise ArgumentTypeError("must hold no password; put it into a file, and name the file with secret_file")
    return parts


def _header(text: str) -> str:
    """Read the name of a header."""
    if not text.replace("-", "").isalnum() or not text.isascii():
        raise ArgumentTypeError(f"must be the name of an HTTP header, got {shown(text)}")
    return text


@dataclass(frozen=True, kw_only=True)
class WebhookSection(OutputSection):
    """An address that gets each detection as a POST of JSON, as ``kws-edge listen --json`` prints it."""

    section: ClassVar[str] = "webhook"

    url: str = option(Text(_address), help="address: http or https. Redirections are not followed")
    keywords: tuple[str, ...] | None = option(Texts(), None, help="keywords to send; default: every keyword")
    secret_file: str | None = option(FileName(), None, secret=True, help="file whose first line goes into the header")
    secret_header: str = option(Text(_header), "Authorization", help="header that gets the secret")
    ca_file: str | None = option(FileName(), None, help="certificates to trust; default: the system's")
    timeout_s: float = option(number(0.1, 60), 5.0, unit="s", help="longest time for a request, all in all")

    def check(self) -> None:
        self.secret_headers()
        if self.ca_file:
            self.tls()

    def words(self) -> tuple[str, ...]:
        return self.keywords or ()

    def secret_headers(self) -> dict[str, str]:
        """The header with the secret, if there is one. The file may change while the service runs."""
        if not self.secret_file:
            return {}
        text = secret(self.secret_file)
        if not (text.isascii() and text.isprintable()):
            raise ConfigError(f"{self.secret_file}: its first line must be printable ASCII, as HTTP headers are")
        return {self.secret_header: text}

    def tls(self) -> ssl.SSLContext:
        """How to encrypt."""
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:  # an SSLError is an OSError
            raise ConfigError(f"{self.ca_file}: holds no certificates ({error.strerror or error})") from None

    def open(self, name: str, service: Commands, notice: Callable[[str], None]) -> Webhook:
        return Webhook(self, name, service=service, notice=notice)


class Webhook(Output):
    """Posts the detections, each on a connection of its own."""

    def __init__(self, section: WebhookSection, name: str, *, service: Commands, notice: Callable[[str], None]) -> None:
        super().__init__(name, service=service, notice=notice)
        self._section = section

    def send(self, event: Event) -> None:
        assert isinstance(event, Detected)
        if self._section.keywords is not None and event.detection.keyword not in self._section.keywords:
            return
        headers = {"Content-Type": "application/json", "User-Agent": f"kws-edge/{__version__}"}
        body = as_json(event.room, event.detection, time=event.time).encode()
        parts = urlsplit(self._section.url)
        self._post(parts, body, headers | self._section.secret_headers())

    def _post(self, parts: SplitResult, body: bytes, headers: dict[str, str]) -> None:
        """Post `body` in the time that there is.

        Raises
        ------
        OutputError
            If the server cannot be reached, or fails for now.
        RejectedError
            If it refuses.
        """
        where, limit = f"{parts.scheme}://{parts.netloc}", self._section.timeout_s
        assert parts.hostname
        if parts.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=limit, context=self._section.tls()
            )
        else:
            connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=limit)
        late = threading.Event()

        def give_up() -> None:  # a server that sends a byte now and then would hold the connection for ever
            late.set()
            with suppress(OSError):
                if connection.sock:
                    connection.sock.shutdown(2)

        timer = threading.Timer(limit, give_up)
        timer.daemon = True
        timer.start()
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            answer.read(_MOST_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            why = f"no answer in {limit:g} s" if late.is_set() or isinstance(error, TimeoutError) else _reason(error)
            raise OutputError(f"{where}: {why}") from None
        finally:
            timer.cancel()
            connection.close()
        self._judge(where, answer)

    def _judge(self, where: str, answer: http.client.HTTPResponse) -> None:
        status = f"{where}: answered {answer.status} {printable(answer.reason, most=60)}"
        if answer.status >= 500 or answer.status in _AGAIN:
            raise OutputError(status)
        if 300 <= answer.status < 400:
            raise RejectedError(f"{status}: it leads to {shown(answer.headers.get('Location'))}; write that as url")
        if answer.status >= 400:
            raise RejectedError(status)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


SECTION = WebhookSection
