"""One connection to an MQTT broker."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from paho.mqtt.client import Client, DisconnectFlags, MQTTErrorCode, MQTTMessage, MQTTv5, MQTTv311, error_string
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from kws_edge.service.outputs.base import OutputError, RejectedError

if TYPE_CHECKING:
    import ssl

__all__ = ["Broker", "Link", "VersionError"]

_KEEP_ALIVE_S = 30
_ANSWER_S = 10.0
"""Longest time that the broker may take to answer a connection, a subscription or its end."""
_ACKNOWLEDGE_S = 5.0
"""Longest time that the broker may take to acknowledge a message."""
_GOODBYE_S = 1.0
_SHORT_S = 5.0
"""A connection that breaks sooner may be one of two clients of one name, which push each other out."""
_MOST_BYTES = 2**20
"""Largest message that the broker may send, if it speaks MQTT 5."""
_UNSUPPORTED = "Unsupported protocol version"


class Broker(NamedTuple):
    """How to reach a broker, and who asks."""

    host: str
    port: int
    client_id: str
    user: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None


class VersionError(OutputError):
    """The broker does not speak this version of MQTT."""


class Link:
    """A connection to a broker. It is opened once, and closed for good.

    A thread of paho-mqtt reads what the broker sends. The methods are for another thread, and wait for the broker.

    Parameters
    ----------
    broker : Broker
    will : tuple of str
        Topic and text that the broker publishes, retained, if this connection breaks.
    on_message : callable
        Called by the thread of paho-mqtt with topic, payload, and whether the message was retained.
    on_lost : callable
        Called by that thread with the reason if the connection breaks.
    new : bool
        Speak MQTT 5, not 3.1.1.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        will: tuple[str, str],
        on_message: Callable[[str, bytes, bool], None],
        on_lost: Callable[[str], None],
        new: bool = True,
    ) -> None:
        self._broker, self._new = broker, new
        self._hear, self._on_lost = on_message, on_lost
        self._changed = threading.Condition()
        self._welcome: ReasonCode | None = None
        self._since = -math.inf
        self._end: str | None = None  # why the connection is over
        self._closing = False
        self._answers: dict[int, Sequence[ReasonCode]] = {}  # by the number of a message or a subscription
        self._client = client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=broker.client_id,
            protocol=MQTTv5 if new else MQTTv311,
            reconnect_on_failure=False,
        )
        if broker.user is not None:
            client.username_pw_set(broker.user, broker.password)
        if broker.tls is not None:
            client.tls_set_context(broker.tls)
        client.will_set(will[0], will[1], qos=1, retain=True)
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_publish = self._published
        client.on_subscribe = self._subscribed
        client.on_message = self._received

    @property
    def is_open(self) -> bool:
        """Whether the broker accepted the connection, and answers."""
        return self._welcome is not None and not self._welcome.is_failure and self._end is None

    def open(self) -> None:
        """Connect.

        Raises
        ------
        VersionError
            If the broker seems not to speak this version of MQTT.
        OutputError
            If the broker cannot be reached, or refuses the connection.
        """
        properties = None
        if self._new:
            properties = _properties(PacketTypes.CONNECT, MaximumPacketSize=_MOST_BYTES)
        where = f"{self._broker.host}:{self._broker.port}"
        try:
            self._client.connect(self._broker.host, self._broker.port, _KEEP_ALIVE_S, properties=properties)
        except (OSError, ValueError) as error:
            raise OutputError(f"{where}: {_reason(error)}") from None
        try:
            self._client.loop_start()
        except RuntimeError as error:  # the system has no more threads
            raise OutputError(f"{where}: {error}") from None
        with self._changed:
            answered = self._changed.wait_for(lambda: self._welcome is not None or self._end is not None, _ANSWER_S)
            welcome, end = self._welcome, self._end
        if self.is_open:
            return
        if welcome is not None and str(welcome) == _UNSUPPORTED:
            raise VersionError(f"{where}: speaks no MQTT {'5, but perhaps 3.1.1' if self._new else '3.1.1'}")
        if welcome is not None:
            raise OutputError(f"{where}: {str(welcome).lower()}")
        if answered:
            raise VersionError(f"{where}: closed the connection without an answer ({end})")
        raise OutputError(f"{where}: no answer in {_ANSWER_S:g} s")

    def publish(self, topic: str, payload: str, *, retain: bool = False, expiry_s: float | None = None) -> None:
        """Publish a message, and wait until the broker has it.

        Parameters
        ----------
        topic, payload : str
        retain : bool
            Whether the broker keeps it for those who subscribe later.
        expiry_s : float, optional
            Seconds after which the broker no longer delivers the message, if it speaks MQTT 5.

        Raises
        ------
        RejectedError
            If the broker refuses the message.
        OutputError
            If the connection is lost, or no answer comes.
        """
        properties = None
        if self._new and expiry_s is not None:
            properties = _properties(PacketTypes.PUBLISH, MessageExpiryInterval=max(1, math.ceil(expiry_s)))
        message = self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)
        for code in self._answer(message.rc, message.mid, f"{topic} was not acknowledged", _ACKNOWLEDGE_S):
            if code.is_failure:
                raise RejectedError(f"the broker refuses {topic}: {str(code).lower()}")

    def subscribe(self, topics: Sequence[str]) -> list[str]:
        """Subscribe to topics. Return those that the broker refuses.

        Raises
        ------
        OutputError
            If the connection is lost, or no answer comes.
        """
        status, number = self._client.subscribe([(topic, 1) for topic in topics])
        codes = self._answer(status, number, "the subscription was not acknowledged", _ANSWER_S)
        return [topic for topic, code in zip(topics, codes, strict=False) if code.is_failure]

    def close(self) -> None:
        """Say goodbye, and end the connection and its thread, in whatever state they are."""
        self._closing = True
        stream = self._client.socket()
        self._client.disconnect()
        with self._changed:
            self._changed.wait_for(lambda: self._end is not None, _GOODBYE_S if self._welcome else 0)
        if isinstance(stream, socket.socket):  # its thread may wait for a broker that is silent
            with suppress(OSError):
                socket.socket.shutdown(stream, socket.SHUT_RDWR)
        self._client.loop_stop()

    def _answer(self, status: MQTTErrorCode, number: int | None, missing: str, limit_s: float) -> Sequence[ReasonCode]:
        """Wait for the answer to a packet."""
        if status != MQTTErrorCode.MQTT_ERR_SUCCESS or number is None:
            raise OutputError(self._end or error_string(status).lower().rstrip("."))
        with self._changed:
            self._changed.wait_for(lambda: number in self._answers or self._end is not None, limit_s)
            if number in self._answers:
                return self._answers.pop(number)
            self._end = self._end or f"{missing} in {limit_s:g} s"
            raise OutputError(self._end)

    # The thread of paho-mqtt calls these.

    def _connected(self, client: Client, data: Any, flags: Any, code: ReasonCode, properties: Any) -> None:
        with self._changed:
            self._welcome, self._since = code, time.monotonic()
            self._changed.notify_all()

    def _disconnected(
        self, client: Client, data: Any, flags: DisconnectFlags, code: ReasonCode, properties: Any
    ) -> None:
        said = str(code).lower() if flags.is_disconnect_packet_from_server else ""
        text = f"the broker ended the connection: {said}" if said else "the connection broke"
        if "taken over" in said or (not said and time.monotonic() - self._since < _SHORT_S):
            text += f"; if another client calls itself {self._broker.client_id}, too, give one of them another id"
        with self._changed:
            self._end = text
            self._changed.notify_all()
        if not self._closing and self._welcome is not None and not self._welcome.is_failure:
            self._on_lost(text)  # the output's own thread waits for events, and cannot see it

    def _published(self, client: Client, data: Any, number: int, code: ReasonCode, properties: Any) -> None:
        self._note(number, [code])

    def _subscribed(self, client: Client, data: Any, number: int, codes: list[ReasonCode], properties: Any) -> None:
        self._note(number, codes)

    def _note(self, number: int, codes: Sequence[ReasonCode]) -> None:
        with self._changed:
            self._answers[number] = codes
            self._changed.notify_all()

    def _received(self, client: Client, data: Any, message: MQTTMessage) -> None:
        self._hear(message.topic, bytes(message.payload), message.retain)


def _properties(packet: int, **values: int) -> Properties:
    """What MQTT 5 adds to a packet."""
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def _reason(error: Exception) -> str:
    """What went wrong, in a few words."""
    verify = getattr(error, "verify_message", None)  # of TLS
    if verify:
        return f"its certificate is not trusted ({verify})"
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)
