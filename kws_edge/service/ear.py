"""A model for all rooms, and what one room listens for with it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kws_edge.config import DetectorConfig
from kws_edge.detection.room_profile import RoomProfile, is_there, profile_path
from kws_edge.errors import ConfigError
from kws_edge.features.log_mel import LANES
from kws_edge.labels import is_keyword
from kws_edge.model.model import Model
from kws_edge.service.config import ModelSection, SourceSection
from kws_edge.service.events import Reloaded
from kws_edge.service.history import History
from kws_edge.service.tuning import Tuning
from kws_edge.spotter import Spotter

if TYPE_CHECKING:
    from kws_edge.service.taught import Taught

__all__ = ["Ear", "SharedModel"]


class SharedModel:
    """A model that several rooms hear with, in turns.

    Parameters
    ----------
    section : ModelSection

    Raises
    ------
    ModelError, RuntimeUnavailableError
        As :class:`kws_edge.Model`.
    ConfigError
        If the file of taught words cannot be used.
    """

    def __init__(self, section: ModelSection) -> None:
        self.model = Model(section.file, runtime=section.runtime, threads=section.threads, kernels=section.kernels)
        self.lock = threading.Lock()
        """Held during an inference."""
        self.own = tuple(label for label in self.model.labels if is_keyword(label))
        """The model's own keywords."""
        self.taught = self._taught(section)
        """The taught words; None if the section does not ask for them."""

    def _taught(self, section: ModelSection) -> Taught | None:
        if section.taught is False:
            return None
        from kws_edge.service.taught import Taught  # most services need none

        return Taught(self.model, None if section.taught is True else section.taught, self.lock)

    @property
    def taught_names(self) -> tuple[str, ...]:
        """The taught words, active or not."""
        return tuple(self.taught.words) if self.taught else ()

    @property
    def keywords(self) -> tuple[str, ...]:
        """Every keyword that can be active: the model's own, then the taught ones."""
        return (*self.own, *self.taught_names)

    def base(self, section: SourceSection) -> DetectorConfig:
        """The settings for a source before any tuning: the model's, with the room profile and the wake word.

        Raises
        ------
        ConfigError
            If the room profile or the wake word does not go with the model.
        """
        config = self.model.detector_config
        path = section.room or profile_path(self.model)
        if section.room or is_there(path):
            config = RoomProfile.load(path, self.model).applied(config)
        if section.wake_word is not None:
            config = DetectorConfig.from_dict({**config.to_dict(), "wake_word": section.wake_word or None})
        return config


@dataclass(frozen=True)
class Ear:
    """A spotter on a room's stream, and what it was made of.

    Its spotter is used with :meth:`turn` held.
    """

    shared: SharedModel
    base: DetectorConfig
    tuning: Tuning
    spotter: Spotter

    @classmethod
    def made(cls, shared: SharedModel, base: DetectorConfig, tuning: Tuning) -> Ear:
        """Make a spotter for a new stream.

        Raises
        ------
        ConfigError
            If the settings do not go with the model.
        """
        try:
            config = tuning.applied(shared.model, base)
            taught = shared.taught.words.without(tuning.unheard) if shared.taught else None
            with shared.lock:
                return cls(shared, base, tuning, Spotter(shared.model, detector_config=config, taught=taught))
        except ConfigError as error:
            raise ConfigError(str(error).removeprefix("DetectorConfig: ")) from None

    @contextmanager
    def turn(self) -> Iterator[Spotter]:
        """The spotter, while no other room uses the model."""
        with self.shared.lock:
            yield self.spotter

    def catch_up(self, history: History) -> None:
        """Hear the latest audio of a stream, so that the spotter goes on where another one ends.

        The frames and inferences fall where they would have fallen for the other one. What is detected here is old.
        """
        spotter = self.spotter
        unit = spotter.step_frames * LANES * spotter.model.frontend_config.hop_length
        start = history.origin + -(-(history.start - history.origin) // unit) * unit
        with self.shared.lock:
            spotter.skip(start)
            spotter.process(history.between(start, history.end))

    def state(self, room: str) -> Reloaded:
        """What the room listens for."""
        spotter, model, taught = self.spotter, self.shared.model, self.shared.taught
        thresholds = {word: spotter.detector_config.threshold_of(word) for word in self.shared.own}
        if taught:
            thresholds |= {word.name: word.threshold for word in taught.words.values()}
        return Reloaded(
            room=room,
            model=model.path,
            labels=(*model.labels, *(spotter.taught.names if spotter.taught else ())),
            keywords=spotter.keywords,
            possible=tuple(thresholds),
            taught=tuple(word for word in thresholds if word not in self.shared.own),
            taught_file=taught.words.path if taught else None,
            thresholds=thresholds,
            sensitivity=self.tuning.sensitivity,
            has_sensitivity=model.metadata.operating_points is not None,
            wake_word=spotter.detector_config.wake_word,
            step_s=spotter.step_s,
            level_range=model.frontend_config.level_range,
        )
