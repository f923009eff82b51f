"""Keeps recordings of detections, of near misses, and of what a user calls wrong."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from kws_edge.errors import ConfigError, KwsError, WriteError
from kws_edge.files import check_writable
from kws_edge.ranges import number, whole
from kws_edge.service.clips import HIT, NEAR_MISS, WRONG, ClipFolder
from kws_edge.service.events import Detected, Event, Misheard, Reloaded, Scores
from kws_edge.service.outputs.base import Limit, Output, OutputError
from kws_edge.service.section import FileName, OutputSection
from kws_edge.settings import Flag, option

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kws_edge.service.commands import Commands

__all__ = ["SECTION", "Clips"]

BEFORE_S, AFTER_S = 1.4, 0.1
"""A clip is from so long before a decision to so long after it. The middle second of it has the word, and trains."""
_SETTLED_S = 1.0
"""Time after which a near miss can no longer be the beginning of a detection."""
_PAST, _PAST_UNWRITTEN = 100, 16
"""Latest detections that may still be called wrong: if clips are written, and if their audio waits in memory."""
_WAITING = 16
_MEGABYTE = 1_000_000


@dataclass(frozen=True, kw_only=True)
class ClipsSection(OutputSection):
    """Recordings of hits, near misses and errors, to hear and to train on. Without this section there are none."""

    section: ClassVar[str] = "clips"
    needs_network: ClassVar[bool] = False

    folder: str = option(FileName(), help="folder of the recordings")
    max_mb: int = option(whole(1, 1_000_000), 200, unit="MB", help="room for all recordings; the oldest go first")
    hits: bool = option(Flag(), True, help="keep detections")
    near_misses: bool = option(Flag(), True, help="keep what almost was a detection")
    near: float = option(number(0.1, 1), 0.7, help="share of its threshold that a near miss reaches")
    near_misses_per_hour: int = option(whole(1, 3600), 60, help="most near misses that are kept in an hour")

    def check(self) -> None:
        check_writable(os.path.join(self.folder, "clip"), option=f"{self.label()}: folder")

    def open(self, name: str, service: Commands, notice: Callable[[str], None]) -> Clips:
        return Clips(self, name, service=service, notice=notice)


SECTION = ClipsSection


@dataclass(eq=False)
class _Moment:
    """A clip that is not written yet."""

    room: str
    word: str
    score: float
    end_s: float
    """Time of the decision in the room's stream."""
    kind: str
    time: str
    samples: NDArray[np.int16] | None = None
    """The audio, as soon as all of it was heard."""
    name: str | None = None
    """Name of the clip when it is written."""


class Clips(Output):
    """Writes a clip as soon as its last sample was heard. Its own thread does all the work.

    Parameters
    ----------
    section : ClipsSection
    name, service, notice
        As for :class:`kws_edge.service.outputs.base.Output`.
    """

    wants: ClassVar[frozenset[type[Event]]] = frozenset({Detected, Scores, Reloaded, Misheard})
    limits: ClassVar[Mapping[type[Event], Limit]] = {**Output.limits, Scores: Limit(50, 5.0)}

    def __init__(self, section: ClipsSection, name: str, *, service: Commands, notice: Callable[[str], None]) -> None:
        super().__init__(name, service=service, notice=notice)
        self._section = section
        self.clips: ClipFolder = ClipFolder(section.folder, most_bytes=section.max_mb * _MEGABYTE)
        self._rooms: dict[str, Reloaded] = {}
        self._moments: deque[_Moment] = deque()  # not written yet
        self._near: dict[str, _Moment] = {}
        self._past: deque[_Moment] = deque(maxlen=_PAST if section.hits else _PAST_UNWRITTEN)
        self._near_times: deque[float] = deque(maxlen=section.near_misses_per_hour)

    def was_wrong(self, room: str, end_s: float | None) -> None:
        self.put(Misheard(room=room, end_s=end_s))

    def connect(self) -> None:
        try:
            self.clips.make()
        except WriteError as error:
            raise OutputError(str(error)) from None
        self._write()

    def send(self, event: Event) -> None:
        if isinstance(event, Reloaded):
            self._rooms[event.room] = event
            self._near.pop(event.room, None)
        elif isinstance(event, Detected):
            self._detected(event)
        elif isinstance(event, Scores):
            if self._section.near_misses and event.room in self._rooms:
                self._watch(event, self._rooms[event.room])
            self._cut(event.room, event.time_s)
        elif isinstance(event, Misheard):
            self._misheard(event)
        self._write()

    def _detected(self, event: Detected) -> None:
        found = event.detection
        self._near.pop(event.room, None)
        for moment in [m for m in self._moments if m.room == event.room and m.kind == NEAR_MISS]:
            if found.end_s - moment.end_s < _SETTLED_S:  # it was the beginning of this detection
                self._moments.remove(moment)
        moment = _Moment(event.room, found.keyword, found.score, found.end_s, HIT, event.time)
        if not any(m.end_s == moment.end_s and m.room == moment.room for m in (*self._moments, *self._past)):
            self._moments.append(moment)

    def _watch(self, event: Scores, room: Reloaded) -> None:
        """Follow the best label; when it falls without a detection, what it was at its highest is a near miss."""
        best = self._best(event, room)
        word, score = room.labels[best], float(event.smoothed[best])
        counts = word in room.keywords and (room.wake_word in (None, word) or event.armed)
        near = self._near.get(event.room)
        if counts and score >= self._section.near * event.thresholds[best]:
            if near is None or score > near.score:
                self._near[event.room] = _Moment(event.room, word, score, event.time_s, NEAR_MISS, event.time)
        elif near is not None:
            del self._near[event.room]
            now = time.monotonic()
            if len(self._near_times) < self._section.near_misses_per_hour or now - self._near_times[0] > 3600:
                self._near_times.append(now)
                self._moments.append(near)

    def _best(self, event: Scores, room: Reloaded) -> int:
        """Number of the likeliest label, or of a taught word that is near its threshold: it is unknown to the model."""
        own = sum(label not in room.taught for label in room.labels)
        if own < len(room.labels):
            best = own + int((event.smoothed[own:] - event.thresholds[own:]).argmax())
            if event.smoothed[best] >= self._section.near * event.thresholds[best]:
                return best
        return int(event.smoothed[:own].argmax())

    def _cut(self, room: str, heard_s: float) -> None:
        """Take the audio of the clips that were heard to their end. The service keeps it for some seconds only."""
        for moment in list(self._moments):
            after_s = _SETTLED_S if moment.kind == NEAR_MISS else AFTER_S
            if moment.samples is None and moment.room == room and heard_s >= moment.end_s + after_s:
                moment.samples = self.service.audio(room, max(0.0, moment.end_s - BEFORE_S), moment.end_s + AFTER_S)
                if len(moment.samples) < self.service.sample_rate(room):  # the microphone was gone
                    self._moments.remove(moment)
                    self._dropped += 1
        while len(self._moments) > _WAITING:
            self._moments.popleft()
            self._dropped += 1

    def _write(self) -> None:
        for moment in list(self._moments):
            if moment.samples is None:
                continue
            if moment.kind != HIT or self._section.hits:
                self._add(moment)
                moment.samples = None
            self._moments.remove(moment)
            self._past.append(moment)

    def _add(self, moment: _Moment) -> None:
        values: dict[str, Any] = {name: getattr(moment, name) for name in ("room", "word", "score", "kind", "time")}
        assert moment.samples is not None
        try:
            moment.name = self.clips.add(moment.samples, self.service.sample_rate(moment.room), **values)
        except WriteError as error:
            raise OutputError(str(error)) from None
        except ConfigError as error:
            self._failed += 1
            self._tell(str(error))
        else:
            if moment.kind == WRONG:
                self._teach(moment.name)

    def _teach(self, name: str) -> None:
        """Let taught words learn from a clip in which nobody said them."""
        if taught := self.service.taught():
            try:
                for word in taught.was_wrong(self.clips.find(name).path):
                    self._notice(f"{self.name}: {word} has learnt from what was wrong")
            except KwsError as error:
                self._notice(f"{self.name}: {error}")

    def _misheard(self, event: Misheard) -> None:
        for moment in reversed((*self._past, *self._moments)):
            right_time = event.end_s is None or abs(moment.end_s - event.end_s) < 1e-3
            if moment.kind != NEAR_MISS and moment.room == event.room and right_time:
                break
        else:
            self._notice(f"{self.name}: the detection that was wrong is too long ago, and not kept")
            return
        moment.kind = WRONG
        if moment.name is not None:
            try:
                moment.name = self.clips.call_wrong(moment.name)
                self._teach(moment.name)
            except WriteError as error:
                raise OutputError(str(error)) from None
            except ConfigError:  # somebody has labelled or deleted it meanwhile
                moment.name = None
        elif moment in self._past and moment.samples is not None:
            self._past.remove(moment)
            self._moments.append(moment)
