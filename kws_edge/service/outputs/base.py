"""The base of all outputs: a bounded queue, and a thread that connects, sends and connects again."""

from __future__ import annotations

import math
import random
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from kws_edge.errors import ConfigError, KwsError
from kws_edge.service.events import Detected, Event, Misheard, Reloaded, Scores, Telemetry

if TYPE_CHECKING:
    from kws_edge.service.clips import ClipFolder
    from kws_edge.service.commands import Commands

__all__ = ["FOR_EVER", "Limit", "Output", "OutputError", "RejectedError"]

FOR_EVER = float("inf")
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 60.0
_LASTING_S = 30.0  # age of a connection at which the first wait is the short one again
_GRACE_S = 1.0
_JITTER = 0.5  # share of a wait that is random, so that many devices do not return to a broker at once


class OutputError(KwsError):
    """The receiver of an output cannot be reached, or failed. The output connects again and tries again."""


_FAILURES = (OutputError, ConfigError, OSError)
"""What may pass. A ConfigError is here, too: a file that was right at the start may be written anew just now."""


class RejectedError(KwsError):
    """The receiver refused one event for good. The output goes on with the next one."""


class Limit(NamedTuple):
    """How many events of a kind may wait, and how old they may be when they are sent."""

    most: int
    """Most events of a room that wait. The oldest gives way to a new one.

    It is counted as dropped, unless this is 1: the new one then says all that matters.
    """
    age_s: float
    """Age in seconds at which an event is dropped. It is counted, unless `most` is 1."""


class Output(ABC):
    """An output of the service. It has a thread of its own, so that a slow or dead receiver never delays audio.

    To write one, define :meth:`send`, and :meth:`connect` and :meth:`disconnect` if there is a connection. Only the
    output's own thread calls these three. An OutputError, ConfigError or OSError of theirs is told once. Then the
    output disconnects, waits, connects again, and sends the event again if it is not too old. Any other exception is a
    defect, and ends the service.

    Parameters
    ----------
    name : str
        Name in messages and counts: that of the section.
    service : Commands
        What the output may ask of the service.
    notice : callable
        Called with a text for people, from any thread.

    Examples
    --------
    >>> from kws_edge.detection.detector import Detection
    >>> from kws_edge.service.events import Detected
    >>> from kws_edge.service.outputs.base import Output
    >>> class Lamp(Output):
    ...     wants = frozenset({Detected})
    ...     def send(self, event):
    ...         print("lamp", event.detection.keyword)
    >>> lamp = Lamp("lamp", service=None, notice=print)
    >>> lamp.start()
    >>> lamp.put(Detected(room="kitchen", detection=Detection("on", 0.9, 1.0, 2.0), threshold=0.8))
    >>> lamp.close(5)
    lamp on
    True
    >>> lamp.counts()
    {'sent': 1, 'dropped': 0, 'failed': 0, 'waiting': 0}
    """

    wants: ClassVar[frozenset[type[Event]]] = frozenset({Detected})
    """The kinds of events that the output gets."""
    limits: ClassVar[Mapping[type[Event], Limit]] = {
        Detected: Limit(32, 5.0),  # a late command is worse than none
        Telemetry: Limit(1, 30.0),
        Scores: Limit(20, 2.0),
        Reloaded: Limit(1, FOR_EVER),
        Misheard: Limit(32, 600.0),
    }
    """How many events of each kind wait, and for how long."""

    clips: ClipFolder | None = None
    """Recordings that the output keeps, if it does."""

    def __init__(self, name: str, *, service: Commands, notice: Callable[[str], None]) -> None:
        self.name, self.service = name, service
        self.fault: BaseException | None = None
        """The defect that ended the thread, if one did."""
        self._notice = notice
        self._waiting: deque[Event] = deque()
        self._changed = threading.Condition()
        self._until: float | None = None  # time of close()
        self._urgent = False  # whether a detection came since the last try
        self._lost: str | None = None
        self._told: str | None = None
        self._sent = self._dropped = self._failed = 0
        self._since = math.inf  # time of the connection
        self._wait_s = _FIRST_WAIT_S
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def connect(self) -> None:  # noqa: B027 - most need none
        """Reach the receiver. This may take a while, but must end by itself."""

    @abstractmethod
    def send(self, event: Event) -> None:
        """Send an event. This may take a while, but must end by itself.

        Raises
        ------
        OutputError or OSError
            If the receiver cannot be reached.
        RejectedError
            If the receiver refused this event for good.
        """

    def disconnect(self) -> None:  # noqa: B027 - most need none
        """End the connection, whatever its state. This is called after a failure, too, and may be called twice."""

    def was_wrong(self, room: str, end_s: float | None) -> None:  # noqa: B027 - only clips need it
        """Take a user's word that the detection of `room` that ended at `end_s`, or the last one, was wrong.

        Any thread may call this. It returns at once.
        """

    def lost(self, reason: str) -> None:
        """Say that the connection is lost, from any thread. The output connects again, even if no event waits."""
        with self._changed:
            self._lost = reason
            self._changed.notify_all()

    def start(self) -> None:
        """Start the thread.

        Raises
        ------
        OutputError
            If the system has no thread for it.
        """
        try:
            self._thread.start()
        except RuntimeError as error:
            raise OutputError(f"{self.name} needs a thread of its own: {error}") from None

    def put(self, event: Event) -> None:
        """Let an event wait for its turn. This never blocks. If too many wait, the oldest of its kind is dropped."""
        kind = type(event)
        if kind not in self.wants:
            return
        with self._changed:
            alike = [one for one in self._waiting if type(one) is kind and one.room == event.room]
            if len(alike) >= self.limits[kind].most:
                self._waiting.remove(alike[0])
                self._dropped += self.limits[kind].most > 1
            self._waiting.append(event)
            self._urgent |= kind is Detected
            self._changed.notify_all()

    def wait(self, timeout: float) -> None:
        """Wait until a detection may wait, for `timeout` seconds at most. Recordings do so, and live sources never."""

        def has_room() -> bool:
            return sum(type(event) is Detected for event in self._waiting) <= self.limits[Detected].most // 2

        if Detected in self.wants:
            with self._changed:
                self._changed.wait_for(has_room, timeout)

    def end(self, timeout: float) -> None:
        """Let the output send what waits, for `timeout` seconds at most, and disconnect. This returns at once."""
        with self._changed:
            if self._until is None:
                self._until = time.monotonic() + timeout
            self._changed.notify_all()

    def close(self, timeout: float) -> bool:
        """End the output, and wait for it. Return whether it ended in time."""
        self.end(timeout)
        self._thread.join(timeout + _GRACE_S)
        return not self._thread.is_alive()

    def counts(self) -> dict[str, int]:
        """Events that were sent, dropped because they waited too long or were too many, failed, and that wait now."""
        return {"sent": self._sent, "dropped": self._dropped, "failed": self._failed, "waiting": len(self._waiting)}

    def _work(self) -> None:
        try:
            while not self._over():
                self._since = math.inf
                try:
                    self._serve()
                except _FAILURES as error:
                    self._failed += 1
                    self._tell(str(getattr(error, "strerror", None) or error))
                    self.disconnect()
                    self._pause()
            self.disconnect()
        except BaseException as error:  # a defect: the service sees it, and ends
            self.fault = error

    def _serve(self) -> None:
        """Connect, and send events until the end."""
        self._lost = None
        self.connect()
        self._since = time.monotonic()
        while (event := self._next()) is not None:
            try:
                self.send(event)
            except RejectedError as error:
                self._failed += 1
                self._tell(str(error))
            except _FAILURES:
                with self._changed:
                    self._waiting.appendleft(event)
                raise
            else:
                self._sent += 1
                if self._told:
                    self._notice(f"{self.name}: works again")
                    self._told = None

    def _next(self) -> Event | None:
        """Wait for the next event that is not too old. Return None at the end."""
        with self._changed:
            while True:
                if self._lost is not None:
                    raise OutputError(self._lost)
                while self._waiting:
                    event = self._waiting.popleft()
                    self._changed.notify_all()
                    limit = self.limits[type(event)]
                    if event.age_s <= limit.age_s:
                        return event
                    self._dropped += limit.most > 1
                if self._until is not None:
                    return None
                self._changed.wait()

    def _over(self) -> bool:
        with self._changed:
            lasting = any(self.limits[type(event)].most > 1 for event in self._waiting)  # more than the last state
            return self._until is not None and (not lasting or time.monotonic() > self._until)

    def _pause(self) -> None:
        """Wait before the next try, longer each time, but not if a detection comes: later it would be too old.

        The waits begin anew for each detection, and after a connection that lasted. A connection that is accepted and
        lost at once, as by two clients of one name, is a failure like others.
        """
        with self._changed:
            if self._urgent or time.monotonic() - self._since > _LASTING_S:
                self._wait_s = _FIRST_WAIT_S
            wait_s = self._wait_s * (1 - _JITTER * random.random())
            self._urgent = False
            if until := self._until:
                self._changed.wait_for(lambda: self._urgent, min(wait_s, max(0.0, until - time.monotonic())))
            else:
                self._changed.wait_for(lambda: self._until is not None or self._urgent, wait_s)
        self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S)

    def _tell(self, text: str) -> None:
        """Tell a failure, unless it was the last thing that was told."""
        if text != self._told:
            self._told = text
            self._notice(f"{self.name}: {text}")
