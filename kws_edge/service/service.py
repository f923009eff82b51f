"""The service: it starts rooms and outputs, watches them, and changes them while audio goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from kws_edge.config import DetectorConfig
from kws_edge.diagnostics.temperature import temperature_c
from kws_edge.errors import ConfigError, KwsError
from kws_edge.service.commands import Commands
from kws_edge.service.config import Config, SourceSection, read_config
from kws_edge.service.ear import Ear, SharedModel
from kws_edge.service.events import Reloaded, Telemetry
from kws_edge.service.memory import settle, tidy
from kws_edge.service.notify import Notifier
from kws_edge.service.outputs.base import Output
from kws_edge.service.prepared import prepared
from kws_edge.service.room import Room
from kws_edge.service.saved import changes_path, save_changes
from kws_edge.service.sources import open_source
from kws_edge.service.tuning import Tuning
from kws_edge.text import counted, shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kws_edge.service.clips import ClipFolder
    from kws_edge.service.taught import Taught

__all__ = ["Service"]

_OPEN_S = 30.0
"""Longest wait for sources to open before the service goes on without them."""
_LOOK_S = 0.1
"""Time from one look for the end to the next while sources open."""
_CLOSE_S = 5.0
"""Seconds that outputs have at the end to send what waits."""


class Service(Commands):
    """What ``kws-edge serve`` runs.

    Parameters
    ----------
    path : str, optional
        The configuration file; None: the system's microphone.
    notice : callable
        Called with a text for people, from any thread.
    add : sequence of str
        Outputs to add with their defaults, if the file does not have their sections.

    Raises
    ------
    KwsError
        If the configuration is wrong, the model cannot be used, or no source can be opened.
    """

    def __init__(self, path: str | None, *, notice: Callable[[str], None], add: Sequence[str] = ()) -> None:
        self._notice, self._notifier = notice, Notifier()
        self._wakes: SimpleQueue[None] = SimpleQueue()  # an Event would deadlock with its own signal handler
        self._to_reload = self._to_end = False
        self._lock = threading.RLock()  # held while rooms, outputs and ears change
        self._read = partial(read_config, path, add=add)
        self._config = self._read()
        self._shared, self._ears = prepared(self._config, notice)
        self._attend_to(self._shared)
        self._rooms: dict[str, Room] = {}
        self._outputs: dict[str, Output] = {}
        self._telemetry: dict[str, Telemetry] = {}
        self._present: dict[str, bool] = {}
        self._ready = False

    # What the command does

    def run(self) -> None:
        """Serve until every source has ended, or until :meth:`end`.

        Raises
        ------
        KwsError
            If a source fails, or no source can be opened.
        """
        try:
            self._open()
            self._watch()
        finally:
            self._close()

    def reload(self) -> None:
        """Read the configuration and the model anew, soon. Signal handlers may call this."""
        self._to_reload = True
        self._wake()

    def end(self) -> None:
        """End :meth:`run` soon, in good order. Signal handlers may call this."""
        self._to_end = True
        self._wake()

    # What outputs ask

    def set_sensitivity(self, value: float, *, room: str | None = None) -> None:
        self._change(room, lambda tuning: tuning.with_sensitivity(value))

    def set_thresholds(self, values: Mapping[str, float], *, room: str | None = None) -> None:
        taught = {word: value for word, value in values.items() if word in self._shared.taught_names}
        own = {word: value for word, value in values.items() if word not in taught}
        self._change(room, lambda tuning: tuning.with_thresholds(own))
        if taught and self._shared.taught:
            self._shared.taught.set_thresholds(taught)

    def set_keywords(self, words: Sequence[str], *, room: str | None = None) -> None:
        taught = self._shared.taught_names
        self._change(room, lambda tuning: tuning.with_keywords(words, taught))

    def save(self) -> None:
        with self._lock:
            own = {source.name: Tuning.of(source) for source in self._config.sources}
            changed = {name: ear.tuning for name, ear in self._ears.items() if ear.tuning != own[name]}
            save_changes(self._changes_path(self._config), changed)

    def was_wrong(self, *, room: str | None = None, end_s: float | None = None) -> None:
        for name in self._named(room):
            for output in self._all_outputs():
                output.was_wrong(name, end_s)

    def audio(self, room: str, start_s: float, end_s: float) -> NDArray[np.int16]:
        (name,) = self._named(room)
        one = self._rooms[name]
        return one.history.between(round(start_s * one.sample_rate), round(end_s * one.sample_rate))

    def sample_rate(self, room: str) -> int:
        (name,) = self._named(room)
        return self._rooms[name].sample_rate

    def rooms(self) -> Mapping[str, Reloaded]:
        with self._lock:
            return {name: ear.state(name) for name, ear in self._ears.items()}

    def telemetry(self) -> Mapping[str, Telemetry]:
        return dict(self._telemetry)

    def outputs(self) -> Mapping[str, Mapping[str, int]]:
        with self._lock:
            return {name: output.counts() for name, output in self._outputs.items()}

    def clips(self) -> ClipFolder | None:
        return next((output.clips for output in self._all_outputs() if output.clips), None)

    def taught(self) -> Taught | None:
        return self._shared.taught

    def state_folder(self) -> str:
        return os.path.dirname(self._changes_path(self._config))

    def detector_config(self, room: str) -> DetectorConfig:
        (name,) = self._named(room)
        ear = self._ears[name]
        return dataclasses.replace(ear.tuning, sensitivity=None, thresholds={}).applied(ear.shared.model, ear.base)

    def _named(self, room: str | None) -> tuple[str, ...]:
        names = tuple(self._ears)
        if room is not None and room not in names:
            raise ConfigError(f"no room {shown(room)}; there are {', '.join(names)}")
        return names if room is None else (room,)

    def _change(self, room: str | None, change: Callable[[Tuning], Tuning]) -> None:
        """Change what a room, or every room, listens for: all or none."""
        with self._lock:
            old = {name: self._ears[name] for name in self._named(room)}
            ears = {name: Ear.made(ear.shared, ear.base, change(ear.tuning)) for name, ear in old.items()}
            self._ears |= ears
            for name, ear in ears.items():
                self._rooms[name].change(ear)

    def _attend_to(self, shared: SharedModel) -> None:
        """Let rooms hear changes of the taught words, and outputs keep the words that they name."""
        if shared.taught:
            shared.taught.changed = partial(self._change, None, lambda tuning: tuning)
            shared.taught.allow = lambda words: self._config.check_outputs((*shared.own, *words))

    # Opening, reloading, closing

    @staticmethod
    def _changes_path(config: Config) -> str:
        return changes_path(config.service.state)

    def _room(self, source: SourceSection, ear: Ear) -> Room:
        rate = ear.shared.model.frontend_config.sample_rate
        room = Room(
            source.name,
            ear,
            lambda notice: open_source(source, rate, notice),
            outputs=self._all_outputs,
            notice=self._notice,
            wake=self._wake,
        )
        if source.is_pipe:
            room.opened.set()  # nothing waits for its writer
        return room

    def _all_outputs(self) -> tuple[Output, ...]:
        return tuple(self._outputs.values())

    def _opened(self, rooms: Collection[Room]) -> None:
        """Open rooms, all at the same time. They do not hear yet."""
        for room in rooms:
            room.open()
        until = time.monotonic() + _OPEN_S
        for room in rooms:
            while not (self._to_end or room.opened.wait(_LOOK_S) or time.monotonic() > until):
                pass

    def _open(self) -> None:
        self._rooms = {source.name: self._room(source, self._ears[source.name]) for source in self._config.sources}
        self._opened(self._rooms.values())
        failures = [room.failure for room in self._rooms.values() if room.failure]
        if len(failures) == len(self._rooms):
            raise failures[0]
        with self._lock:
            self._outputs = self._opened_outputs(self._config, {})
        for output in self._outputs.values():
            output.start()
        for room in self._rooms.values():
            room.hear()

    def _opened_outputs(self, config: Config, kept: Mapping[str, Output]) -> dict[str, Output]:
        """The outputs of a configuration: those that are kept, and new ones."""
        return {
            name: kept.get(name) or section.open(name, self, self._notice) for name, section in config.outputs.items()
        }

    def _replace(self, config: Config) -> None:
        """Go on with another configuration. What it leaves as it was is not touched.

        Raises
        ------
        KwsError
            If something in it cannot work. Nothing has changed then.
        """
        shared, ears = prepared(config, self._notice)
        same = shared.model.frontend_config.sample_rate == self._shared.model.frontend_config.sample_rate
        heard = {source.name: source.heard for source in self._config.sources if same}
        rooms = {
            source.name: self._room(source, ears[source.name])
            for source in config.sources
            if heard.get(source.name) != source.heard
        }
        kept = {
            name: output
            for name, output in self._outputs.items()
            if config.outputs.get(name) == self._config.outputs[name]
        }
        try:
            self._opened(rooms.values())
            for room in rooms.values():
                if room.failure:
                    raise room.failure
            outputs = self._opened_outputs(config, kept)
        except KwsError:
            _end(rooms.values())
            raise
        with self._lock:
            ended = [room for name, room in self._rooms.items() if name in rooms or name not in ears]
            closed = [output for name, output in self._outputs.items() if name not in kept]
            self._rooms = {name: rooms.get(name) or self._rooms[name] for name in ears}
            self._config, self._shared, self._ears, self._outputs = config, shared, ears, outputs
            self._attend_to(shared)
        _end(ended)
        for name, room in self._rooms.items():
            if name in rooms:
                room.hear()
            else:
                room.change(ears[name])
        _close(closed)  # before the new ones, which may need the same port
        for name, output in outputs.items():
            if name not in kept:
                output.start()

    def _close(self) -> None:
        self._notifier.send(STOPPING=1)
        _end(self._rooms.values())
        _close(self._outputs.values())
        for name, room in self._rooms.items():
            told = room.telemetry(None)
            found, outages = counted(told.detections, "detection"), counted(told.outages, "outage")
            self._notice(
                f"{name}: heard {told.heard_s - told.lost_s:.1f} s, {found}; {told.lost_s:.1f} s lost, {outages}"
            )
        for name, output in self._outputs.items():
            counts = output.counts()
            self._notice(f"{name}: " + ", ".join(f"{n} {what}" for what, n in counts.items()))

    # Watching

    def _wake(self) -> None:
        """End the sleep of the thread that watches. Any thread and any signal handler may call this."""
        self._wakes.put(None)

    def _sleep(self, seconds: float) -> None:
        """Wait until something wakes this thread, for `seconds` at most."""
        with contextlib.suppress(Empty):
            self._wakes.get(timeout=seconds)
            while True:
                self._wakes.get_nowait()

    def _watch(self) -> None:
        """Look after rooms and outputs until every source has ended."""
        due = time.monotonic()
        fed: dict[str, int] = {}
        while not (self._to_end or all(room.ended for room in self._rooms.values())):
            self._sleep(min(max(0.0, due - time.monotonic()), (self._notifier.watchdog_s or 60) / 4))
            self._check_faults()
            if self._to_reload:
                self._to_reload = False
                self._reload_now()
            present = {name: room.present for name, room in self._rooms.items()}
            if time.monotonic() >= due or present != self._present:
                self._present = present
                due = time.monotonic() + self._config.service.telemetry_s
                if self._shared.taught:
                    self._shared.taught.look(self._notice)
                self._tell_telemetry()
            progress = {name: room.progress for name, room in self._rooms.items() if not room.ended}
            if all(fed.get(name) != n for name, n in progress.items()):
                fed = progress
                self._notifier.send(WATCHDOG=1)
        self._check_faults()

    def _check_faults(self) -> None:
        parts: list[Room | Output] = [*self._rooms.values(), *self._outputs.values()]
        for part in parts:
            if part.fault:
                raise part.fault

    def _reload_now(self) -> None:
        self._notifier.reloading()
        try:
            self._replace(self._read())
        except KwsError as error:
            self._notice(f"not reloaded, all goes on as it was: {error}")
        else:
            settle()
            self._notice(f"reloaded {self._config.path or 'the model'}")
        self._notifier.send(READY=1)

    def _tell_telemetry(self) -> None:
        """Send the telemetry of every room, and what the service does in a line."""
        tidy()
        hot = temperature_c()
        for name, room in self._rooms.items():
            self._telemetry[name] = told = room.telemetry(hot)
            for output in self._all_outputs():
                output.put(told)
        ready = self._all_settled()  # before the status, which shall tell of what made it so
        status = "; ".join(self._line(name, room) for name, room in self._rooms.items())
        self._notifier.send(STATUS=status)
        if ready and not self._ready:
            self._ready = True
            settle()
            self._notifier.send(READY=1)
            self._notice(f"ready: {status}")

    def _all_settled(self) -> bool:
        """Whether one room hears at least, and every other one does, too, or is missing."""
        rooms = self._rooms.values()
        hear = [bool(room.inferences) or room.ended for room in rooms]
        return any(hear) and all(one or room.missing for one, room in zip(hear, rooms, strict=True))

    def _line(self, name: str, room: Room) -> str:
        words = ", ".join(self._ears[name].spotter.keywords)
        return f"{name} {'listens for ' + words if room.present else 'hears nothing'}"


def _end(rooms: Collection[Room]) -> None:
    """End rooms, and wait for them."""
    for room in rooms:
        room.end()
    for room in rooms:
        room.join()


def _close(outputs: Collection[Output]) -> None:
    """Close outputs, all at the same time."""
    for output in outputs:
        output.end(_CLOSE_S)
    for output in outputs:
        output.close(_CLOSE_S)
