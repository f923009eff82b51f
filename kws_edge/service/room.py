"""A room: a source that is heard in a thread of its own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kws_edge.audio.level import FLOOR_DB, Mute, level_db
from kws_edge.audio.source import LiveSource, Source
from kws_edge.diagnostics.latency import Stopwatch, percentiles
from kws_edge.errors import AudioError
from kws_edge.service.ear import Ear
from kws_edge.service.events import Detected, Event, Scores, Telemetry
from kws_edge.service.history import History
from kws_edge.spotter import Spotter, Step

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kws_edge.service.outputs.base import Output

__all__ = ["HISTORY_S", "Room"]

HISTORY_S = 10.0
"""Seconds of audio that a room keeps."""
_REMEMBERED = 600  # inferences that latency and noise floor are of: a minute of them
_RETRY_S, _LONGEST_RETRY_S = 1.0, 30.0
_END_S = 3.0
_PATIENCE_S = 1.0  # longest wait of a recording for an output


class Room:
    """Hears a source until it ends, and tells the outputs.

    Parameters
    ----------
    name : str
    ear : Ear
    open_source : callable
        Opens the source, or raises AudioError. It is called again while the source cannot be opened.
    outputs : callable
        Returns the present outputs.
    notice : callable
        Called with a text for people.
    wake : callable
        Called when something happened that the service should look at.
    """

    def __init__(
        self,
        name: str,
        ear: Ear,
        open_source: Callable[[Callable[[str], None]], Source],
        *,
        outputs: Callable[[], Sequence[Output]],
        notice: Callable[[str], None],
        wake: Callable[[], None],
    ) -> None:
        self.name, self.ear = name, ear
        self.fault: BaseException | None = None
        """What ended the room before its source's end, if something did."""
        self.failure: AudioError | None = None
        """Why the source cannot be opened at present."""
        self.ended = False
        """Whether the source has ended, or the room was closed."""
        self.opened = threading.Event()
        """Set when the source was opened, or could not be opened at once."""
        self.inferences = self.detections = 0
        self._open_source, self._outputs, self._notice, self._wake = open_source, outputs, notice, wake
        self.sample_rate = ear.spotter.model.frontend_config.sample_rate
        self.history = History(round(HISTORY_S * self.sample_rate))
        self._source: Source | None = None
        self._watch = Stopwatch(ear.spotter.step_s, kept=_REMEMBERED)
        self._levels: deque[float] = deque(maxlen=_REMEMBERED)
        self._untold = 0  # levels since the last telemetry
        self._attempts = 0
        self._next: deque[Ear] = deque(maxlen=1)
        self._closing, self._may_hear = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def open(self) -> None:
        """Open the source, in the room's thread."""
        self._thread.start()

    def hear(self) -> None:
        """Begin to hear as soon as the source is open."""
        self._may_hear.set()

    def change(self, ear: Ear) -> None:
        """Hear with another ear from the next block on. It hears the latest audio first, so that nothing is lost.

        Outputs are told then, and at once if no block may come for long.
        """
        self._next.append(ear)
        if not self.present:
            self._tell(ear.state(self.name))

    def end(self) -> None:
        """End the room soon. Detections of what was heard are still made."""
        self._closing.set()
        self._may_hear.set()
        if isinstance(self._source, LiveSource):
            self._source.close()

    def join(self) -> None:
        """Wait for the end of the room, but not for long."""
        self._thread.join(_END_S)  # a pipe that nobody writes to keeps the thread; it ends with the process

    @property
    def progress(self) -> int:
        """A number that grows with each inference, and while the source is gone with each try to bring it back."""
        tries = self._source.attempts if isinstance(self._source, LiveSource) and self._source.gone else 0
        return self.inferences + self._attempts + tries

    @property
    def missing(self) -> bool:
        """Whether the source cannot be opened, or is gone; it is tried again and again."""
        return self.failure is not None or (isinstance(self._source, LiveSource) and self._source.gone)

    @property
    def present(self) -> bool:
        """Whether audio arrives."""
        return bool(self.inferences) and not self.missing and not self.ended

    def telemetry(self, temperature_c: float | None) -> Telemetry:
        """How the room fares. This begins a new span of time."""
        levels = list(self._levels)
        latest, self._untold = levels[len(levels) - min(self._untold, len(levels)) :], 0
        source = self._source
        latency = self._watch.samples()["end_to_end"].copy()
        return Telemetry(
            room=self.name,
            present=self.present,
            level_db=_mean_db(latest) if latest else None,
            noise_db=sorted(levels)[len(levels) // 10] if levels else None,
            lost_s=source.lost_samples / source.sample_rate if source else 0.0,
            outages=source.outages if isinstance(source, LiveSource) else 0,
            detections=self.detections,
            latency_s=percentiles(latency)["p95_s"] if len(latency) else None,
            heard_s=self.history.end / self.sample_rate,
            temperature_c=temperature_c,
        )

    def _work(self) -> None:
        try:
            source = self._opened()
            self.opened.set()
            self._may_hear.wait()
            if source:
                with source:
                    self._tell(self.ear.state(self.name))
                    self._hear(source)
        except BaseException as error:  # the service sees it, and ends
            self.fault = error
        finally:
            self.ended = True
            self._wake()

    def _opened(self) -> Source | None:
        """Open the source, as soon as that is possible; None if the room was closed before."""
        wait_s = _RETRY_S
        while not self._closing.is_set():
            self._attempts += 1
            try:
                self._source = self._open_source(self._said)
            except AudioError as error:
                if str(error) != str(self.failure):
                    self._said(str(error))
                self.failure = error
                self.opened.set()
                self._wake()
            else:
                self.failure = None
                return self._source
            self._closing.wait(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_RETRY_S)
        return None

    def _said(self, text: str) -> None:
        self._notice(f"{self.name}: {text}")
        self._wake()

    def _hear(self, source: Source) -> None:
        """Hear the source to its end."""
        mute = Mute(self.sample_rate, self._said)
        live = source if isinstance(source, LiveSource) else None
        while True:
            spotter = self.ear.spotter
            source.stopwatch = spotter.stopwatch = self._watch
            for block in spotter.follow(source):
                self._take(block)
                mute.hear(block, live.outages if live else 0)
                source.want(spotter.samples_to_step / self.sample_rate)
                if self._next:
                    self._swap()
                    break
                if self._closing.is_set():
                    self._flush()
                    return
            else:
                self._flush()
                return

    def _take(self, block: NDArray[np.int16]) -> None:
        """Hear the next samples."""
        with self.ear.turn() as spotter:
            if spotter.n_samples != self.history.end:
                self.history.restart(spotter.n_samples)
            self.history.add(block)
            for step in spotter.process_steps(block):
                self._step(spotter, step)

    def _flush(self) -> None:
        with self.ear.turn() as spotter:
            for step in spotter.flush_steps():
                self._step(spotter, step)

    def _swap(self) -> None:
        ear = self._next.pop()
        ear.catch_up(self.history)
        self.ear = ear
        self._tell(ear.state(self.name))

    def _step(self, spotter: Spotter, step: Step) -> None:
        """Tell the outputs of a step, and of the inference that it ends."""
        if found := step.detection:
            self.detections += 1
            self._tell(Detected(room=self.name, detection=found, threshold=spotter.threshold_of(found.keyword)))
        if step.time_s < step.known_s:  # a network with state answers several times in an inference
            return
        end = round(step.time_s * self.sample_rate)
        samples = self.history.between(end - round(spotter.step_s * self.sample_rate), end)
        level = level_db(samples) if len(samples) else FLOOR_DB
        self._levels.append(level)
        self._untold += 1
        self.inferences += 1
        if self.inferences == 1:
            self._wake()
        wanted = [output for output in self._outputs() if Scores in output.wants]
        if wanted and not self._next:  # their labels would be those of the next ear
            scores = self._scores(spotter, step, level)
            for output in wanted:
                output.put(scores)

    def _scores(self, spotter: Spotter, step: Step, level_db: float) -> Scores:
        detector, taught = spotter.detector, spotter.taught
        thresholds = detector.thresholds_in_speech if detector.in_speech else detector.thresholds
        posteriors, smoothed = step.posteriors, detector.smoothed.copy()
        if taught:
            posteriors = np.append(posteriors, taught.shares)
            smoothed = np.append(smoothed, taught.shares * np.float32(not taught.rests))
            thresholds = np.append(thresholds, np.array([*taught.thresholds.values()], np.float32))
        return Scores(
            room=self.name,
            time_s=step.time_s,
            level_db=level_db,
            posteriors=posteriors,
            smoothed=smoothed,
            thresholds=thresholds,
            frames=spotter.frames,
            armed=detector.armed,
        )

    def _tell(self, event: Event) -> None:
        live = isinstance(self._source, LiveSource)
        for output in self._outputs():
            if not live:
                output.wait(_PATIENCE_S)
            output.put(event)


def _mean_db(levels: Sequence[float]) -> float:
    """Level of the mean power."""
    return float(10 * np.log10(np.mean(10 ** (np.array(levels) / 10))))
