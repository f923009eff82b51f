"""``[mqtt]``: commands and telemetry to an MQTT broker, in the form that Home Assistant discovers by itself."""

from __future__ import annotations

import math
import os
import re
import socket
from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from kws_edge.errors import ConfigError, KwsError, extra
from kws_edge.files import sha256_hex
from kws_edge.ranges import number, whole
from kws_edge.service.config import SourceSection
from kws_edge.service.events import Detected, Event, Reloaded, Telemetry
from kws_edge.service.mqtt import discovery
from kws_edge.service.mqtt.discovery import OFFLINE, ONLINE, Topics, dump
from kws_edge.service.notices import seldom
from kws_edge.service.outputs.base import Output, OutputError, RejectedError
from kws_edge.service.section import FileName, OutputSection, read_host, secret
from kws_edge.settings import Flag, Text, option
from kws_edge.text import shown

if TYPE_CHECKING:
    import ssl

    from kws_edge.service.commands import Commands
    from kws_edge.service.mqtt.link import Broker, Link

__all__ = ["SECTION", "Mqtt", "MqttSection"]

_MACHINE = ("/etc/machine-id", "/var/lib/dbus/machine-id")


def _identifier(text: str) -> None:
    if not re.fullmatch(r"[a-z0-9_]{1,40}", text):
        raise ArgumentTypeError(f"must be 1 to 40 small letters, digits and underscores, got {shown(text)}")


def _prefix(text: str) -> None:
    if not re.fullmatch(r"[^\s#+\0]{1,100}", text) or "/" in (text[0], text[-1]):
        raise ArgumentTypeError(f"must be a topic without wildcards, got {shown(text)}")


@dataclass(frozen=True, kw_only=True)
class MqttSection(OutputSection):
    """Commands and telemetry to an MQTT broker, for Home Assistant."""

    section: ClassVar[str] = "mqtt"

    host: str = option(Text(read_host), help="name or address of the broker")
    port: int | None = option(whole(1, 65_535), None, help="default: 8883 with tls, 1883 without")
    user: str | None = option(Text(), None, help="name of the broker's user")
    password_file: str | None = option(
        FileName(), None, secret=True, help="file with the password in its first line; systemd may hand it over"
    )
    tls: bool = option(Flag(), False, help="encrypt the connection; the broker's certificate is always checked")
    ca_file: str | None = option(FileName(), None, help="certificates to trust; default: the system's")
    certificate_file: str | None = option(FileName(), None, secret=True, help="certificate that this client shows")
    key_file: str | None = option(FileName(), None, secret=True, help="its key; default: in certificate_file")
    id: str | None = option(Text(_identifier), None, help="name of this device in topics; default: made from its own")
    name: str = option(Text(), "kws-edge", help="name of the devices in Home Assistant, before that of the room")
    prefix: str = option(Text(_prefix), "homeassistant", help="topic of Home Assistant's discovery")
    telemetry_s: float = option(
        number(1, 86_400), 60.0, unit="s", help="time from one message of a room's state to the next"
    )

    @property
    def device_id(self) -> str:
        """The identifier of this device, which stays the same for ever."""
        return self.id or f"kws_{_machine()[:8]}"

    def check(self) -> None:
        self.broker()

    def open(self, name: str, service: Commands, notice: Callable[[str], None]) -> Mqtt:
        broker = self.broker()
        if broker.password is not None and not self.tls and not _is_here(self.host):
            notice(f"{name}: the password goes to {self.host} in clear text; set tls = true")
        return Mqtt(name, self, broker, service=service, notice=notice)

    def broker(self) -> Broker:
        """How to reach the broker.

        Raises
        ------
        KwsError
            If paho-mqtt is not installed, or a file is missing or unusable.
        """
        try:
            from kws_edge.service.mqtt.link import Broker
        except ImportError as error:
            if (error.name or "").partition(".")[0] != "paho":
                raise
            raise KwsError(f"{self.label()} needs paho-mqtt: {extra('mqtt')}") from None
        for given in ("ca_file", "certificate_file", "key_file"):
            if getattr(self, given) is not None and not self.tls:
                raise self._wrong(given, "is of no use without tls = true")
        if self.password_file is not None and self.user is None:
            raise self._wrong("password_file", "needs user, too")
        if self.key_file is not None and self.certificate_file is None:
            raise self._wrong("key_file", "needs certificate_file, too")
        return Broker(
            host=self.host,
            port=self.port or (8883 if self.tls else 1883),
            client_id=self.device_id,
            user=self.user,
            password=None if self.password_file is None else secret(self.password_file),
            tls=self._context() if self.tls else None,
        )

    def _context(self) -> ssl.SSLContext:
        import ssl

        for path in (self.ca_file, self.certificate_file, self.key_file):
            if path is not None and not os.path.isfile(path):
                raise ConfigError(f"{self.label()}: {path}: no such file")
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ValueError) as error:
            raise self._wrong("ca_file", f"{self.ca_file} holds no certificates ({_why(error)})") from None
        if self.certificate_file is not None:
            try:
                context.load_cert_chain(self.certificate_file, self.key_file, password=lambda: b"")
            except (OSError, ValueError) as error:
                raise self._wrong(
                    "certificate_file", f"{self.certificate_file} and its key do not work ({_why(error)})"
                ) from None
        return context


SECTION = MqttSection


class Mqtt(Output):
    """Publishes what rooms hear to a broker, and takes the sensitivity from there.

    Each room is a device in Home Assistant, so that it can lie in an area of its own. The broker keeps what was
    announced, so that words and rooms that went while the service did not run are removed, too.
    """

    wants: ClassVar[frozenset[type[Event]]] = frozenset({Detected, Telemetry, Reloaded})

    def __init__(
        self,
        name: str,
        section: MqttSection,
        broker: Broker,
        *,
        service: Commands,
        notice: Callable[[str], None],
    ) -> None:
        super().__init__(name, service=service, notice=notice)
        self._section, self._broker = section, broker
        self._topics = Topics(section.device_id, section.prefix)
        self._link: Link | None = None
        self._new = True
        self._told_once: set[str] = set()
        self._complain = seldom(notice)
        self._reported: dict[str, tuple[float, bool]] = {}  # time and presence in a room's last telemetry
        self._kept: dict[str, str] = {}  # what the broker has of this connection, by topic
        self._announced: dict[str, dict[str, str]] = {}  # platforms of all components, gone ones too, by topic
        self._written = b""  # what the last connection wrote of that
        self._earlier: Mapping[str, Mapping[str, str]] = {}  # what an earlier start wrote of that

    def put(self, event: Event) -> None:
        if not isinstance(event, Telemetry) or self._is_due(event):
            super().put(event)

    def _is_due(self, event: Telemetry) -> bool:
        """Whether it is time for a room's telemetry, or its microphone went or returned."""
        at, present = self._reported.get(event.room, (-math.inf, event.present))
        due = event.made >= at + self._section.telemetry_s or event.present != present
        if due:
            self._reported[event.room] = (event.made, event.present)
        return due

    def connect(self) -> None:
        from kws_edge.service.mqtt.link import Link, VersionError

        topics = self._topics
        self._written = self._kept.get(topics.announced, "").encode()
        self._kept.clear()
        self._link = link = Link(
            self._broker, will=(topics.status, OFFLINE), on_message=self._heard, on_lost=self.lost, new=self._new
        )
        try:
            link.open()
        except VersionError:
            self._new = not self._new
            raise
        for topic in link.subscribe([topics.announced, topics.home_assistant, topics.changes]):
            self._tell_once(f"the broker does not let this user read {topic}; allow it in its access list")
        self._keep(topics.status, ONLINE)
        for room in self.service.rooms().values():
            self._announce(room)
        for telemetry in self.service.telemetry().values():
            self._report(telemetry)

    def disconnect(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            try:
                if link.is_open:
                    link.publish(self._topics.status, OFFLINE, retain=True)
            except (OutputError, RejectedError):
                pass  # the broker says it by itself
            finally:
                link.close()

    def send(self, event: Event) -> None:
        if isinstance(event, Detected):
            self._command(event)
        elif isinstance(event, Telemetry):
            self._report(event)
        elif isinstance(event, Reloaded):
            self._announce(event)

    def _publish(self, topic: str, payload: str, **more: Any) -> None:
        assert self._link is not None
        self._link.publish(topic, payload, **more)

    def _keep(self, topic: str, payload: str) -> None:
        """Let the broker keep this, unless it does already."""
        if self._kept.get(topic) != payload:
            self._offer(topic, payload, retain=True)
            self._kept[topic] = payload

    def _offer(self, topic: str, payload: str, *, retain: bool) -> None:
        """Publish what is of use even if the broker refuses other topics."""
        try:
            self._publish(topic, payload, retain=retain)
        except RejectedError as error:
            self._tell_once(str(error))

    def _tell_once(self, text: str) -> None:
        if text not in self._told_once:
            self._told_once.add(text)
            self._notice(f"{self.name}: {text}")

    def _command(self, event: Detected) -> None:
        found = event.detection
        values = {
            "event_type": found.keyword,
            "score": round(found.score, 4),
            "threshold": round(event.threshold, 4),
            "time": event.time,
            "wake": found.wake,
        }
        self._publish(self._topics.event(event.room), dump(values), expiry_s=self.limits[Detected].age_s - event.age_s)

    def _report(self, event: Telemetry) -> None:
        values = {
            "present": event.present,
            "level_db": event.level_db,
            "noise_db": event.noise_db,
            "lost_s": event.lost_s,
            "temperature_c": event.temperature_c,
        }
        rounded = {key: round(value, 1) if isinstance(value, float) else value for key, value in values.items()}
        self._keep(self._topics.state(event.room), dump(rounded))

    def _announce(self, event: Reloaded) -> None:
        """Announce a room's device, and remove what an earlier announcement had and this one has not."""
        self._remember()
        topics, room = self._topics, event.room
        topic = topics.config(room)
        parts = discovery.components(topics, room, event.keywords, has_sensitivity=event.has_sensitivity)
        known = self._announced.setdefault(topic, {})
        gone = {part: {"p": platform} for part, platform in known.items() if part not in parts}

        def payload(all_parts: Mapping[str, Any]) -> str:
            name = f"{self._section.name} {room}"
            area = None if room == SourceSection.name else room
            model = os.path.splitext(os.path.basename(event.model))[0]
            return dump(discovery.device(topics, room, all_parts, name=name, model=model, area=area))

        if gone and self._kept.get(topic) != payload(parts):
            # This is not retained, because only a Home Assistant that runs now has them.
            self._offer(topic, payload({**parts, **gone}), retain=False)
        self._keep(topic, payload(parts))
        sensitivity = event.sensitivity
        self._keep(topics.sensitivity(room), "None" if sensitivity is None else f"{sensitivity:g}")
        known |= {part: values["p"] for part, values in parts.items()}
        self._keep(topics.announced, dump(self._announced))

    def _remember(self) -> None:
        """Add what an earlier start announced, and remove the rooms that are gone."""
        earlier, self._earlier = self._earlier, {}
        for topic, parts in earlier.items():
            self._announced[topic] = {**parts, **self._announced.get(topic, {})}
        there = {self._topics.config(room) for room in self.service.rooms()}
        for topic in sorted(set(self._announced) - there):
            self._keep(topic, "")
            del self._announced[topic]

    # The thread of paho-mqtt calls these.

    def _heard(self, topic: str, payload: bytes, retained: bool) -> None:
        try:
            self._take(topic, payload, retained)
        except KwsError as error:
            self._complain(f"{self.name}: {error}")
        except BaseException as error:  # a defect: the service sees it, and ends
            self.fault = error

    def _take(self, topic: str, payload: bytes, retained: bool) -> None:
        if topic == self._topics.announced:
            if retained and payload and payload != self._written:
                self._earlier = discovery.parse_announced(payload, self._topics)
                self._announce_again()
        elif topic == self._topics.home_assistant:
            if payload == ONLINE.encode() and not retained:
                self._announce_again()
        elif not retained:  # a retained value is not one that somebody sets now
            for room in self.service.rooms():
                if topic == f"{self._topics.sensitivity(room)}/set":
                    self.service.set_sensitivity(discovery.parse_sensitivity(payload), room=room)

    def _announce_again(self) -> None:
        self._kept.clear()
        for room in self.service.rooms().values():
            self.put(room)


def _machine() -> str:
    """A name of this machine that stays, in hexadecimal, without telling its identifier."""
    for path in _MACHINE:
        try:
            with open(path, encoding="ascii") as file:
                name = file.read(64).strip()
        except (OSError, ValueError):
            continue
        if name:
            return sha256_hex(f"kws-edge {name}".encode())
    return sha256_hex(socket.gethostname().encode())


def _is_here(host: str) -> bool:
    return host == "localhost" or host.startswith("127.") or host == "::1"


def _why(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)
