"""``[wyoming]``: keywords as speech-to-text and as wake words for Home Assistant, on audio that it sends."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

from kws_edge.errors import ConfigError, KwsError, extra
from kws_edge.ranges import number, whole
from kws_edge.service.events import Event, Reloaded
from kws_edge.service.notices import seldom
from kws_edge.service.outputs.base import Output, OutputError
from kws_edge.service.section import OutputSection, read_host
from kws_edge.settings import Flag, Text, option
from kws_edge.text import printable, shown

if TYPE_CHECKING:
    from kws_edge.service.commands import Commands
    from kws_edge.service.wyoming.announce import Announcer
    from kws_edge.service.wyoming.server import Server

__all__ = ["SECTION", "Sentences", "Wyoming", "WyomingSection"]

_MOST_SENTENCE = 200


class Sentences:
    """A table of sentences by keyword."""

    def __str__(self) -> str:
        return f"a table of sentences of 1 to {_MOST_SENTENCE} characters"

    def check(self, name: str, value: object) -> dict[str, str]:
        """Return `value` as a dict if it is such a table.

        Raises
        ------
        ConfigError
            If it is not. The message names `name`.
        """
        if not isinstance(value, dict):
            raise ConfigError(f"{name} must be {self}, got {shown(value)}")
        for keyword, text in value.items():
            if not (isinstance(text, str) and 0 < len(text) <= _MOST_SENTENCE and printable(text) == text):
                raise ConfigError(f"{name}: {shown(keyword)} must be one of {self}, got {shown(text)}")
        return dict(value)


def _language(text: str) -> None:
    if not (text.replace("-", "").isalnum() and text.isascii() and 2 <= len(text) <= 20):
        raise ArgumentTypeError(f"must be a language such as en or de-CH, got {shown(text)}")


@dataclass(frozen=True, kw_only=True)
class WyomingSection(OutputSection):
    """A Wyoming server: Home Assistant sends audio, and gets sentences and wake words."""

    section: ClassVar[str] = "wyoming"

    host: str = option(
        Text(read_host), "127.0.0.1", help="address to listen on; 0.0.0.0: reachable from other machines"
    )
    port: int = option(whole(1, 65_535), 10_400, help="port to listen on")
    name: str = option(Text(), "kws-edge", help="name of the service in Home Assistant")
    language: str = option(Text(_language), "en", help="language of the words")
    sentences: dict[str, str] = field(
        default_factory=dict, metadata={"values": Sentences(), "unit": "", "help": "what a keyword stands for"}
    )
    room: str | None = option(Text(), None, help="source whose keywords and thresholds hold; default: the first")
    clients: int = option(whole(1, 100), 10, help="most clients at a time")
    patience_s: float = option(
        number(1, 60), 6.0, unit="s", help="audio without a keyword after which nothing was said"
    )
    announce: bool = option(Flag(), True, help="tell the network of the server, unless it is for this machine alone")

    def check(self) -> None:
        if self.announce and find_spec("zeroconf") is None:
            raise KwsError(f"{self.label()} needs zeroconf: {extra('wyoming')}; or set announce = false")

    def words(self) -> tuple[str, ...]:
        return tuple(self.sentences)

    def open(self, name: str, service: Commands, notice: Callable[[str], None]) -> Wyoming:
        self.check()
        return Wyoming(name, self, service=service, notice=notice)


SECTION = WyomingSection


class Wyoming(Output):
    """Keeps a :class:`kws_edge.service.wyoming.server.Server` running. Detections of rooms do not concern it."""

    wants: ClassVar[frozenset[type[Event]]] = frozenset({Reloaded})

    def __init__(self, name: str, section: WyomingSection, *, service: Commands, notice: Callable[[str], None]) -> None:
        super().__init__(name, service=service, notice=notice)
        self._section = section
        self._server: Server | None = None

    @property
    def port(self) -> int | None:
        """The port that is listened on, if any is."""
        return self._server.port if self._server else None

    def connect(self) -> None:
        from kws_edge.service.wyoming.hearing import Hearing
        from kws_edge.service.wyoming.server import Server

        section = self._section
        room = self._room()
        server = Server(
            Hearing(room, name=section.name, language=section.language, sentences=section.sentences),
            host=section.host,
            port=section.port,
            clients=section.clients,
            patience_s=section.patience_s,
            announcer=self._announcer(),
            notice=seldom(lambda text: self._notice(f"{self.name}: {text}")),
            on_fault=self._failed_for_good,
        )
        server.start()
        self._server = server

    def disconnect(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.stop()

    def send(self, event: Event) -> None:
        if isinstance(event, Reloaded) and self._server is not None:
            self._server.change(self._room())

    def _room(self) -> Reloaded:
        """The room whose keywords and thresholds hold."""
        rooms = self.service.rooms()
        if (name := self._section.room) is None:
            return next(iter(rooms.values()))
        if name not in rooms:
            raise OutputError(f"no source is called {shown(name)}; there are {', '.join(rooms)}")
        return rooms[name]

    def _announcer(self) -> Announcer | None:
        if not self._section.announce:
            return None
        from kws_edge.service.wyoming.announce import Announcer, own_addresses

        host = self._section.host
        if not own_addresses(host) and host not in ("0.0.0.0", "::"):
            return None
        return Announcer(
            self._section.name, lambda: own_addresses(host), notice=lambda text: self._notice(f"{self.name}: {text}")
        )

    def _failed_for_good(self, error: BaseException) -> None:
        self.fault = error
