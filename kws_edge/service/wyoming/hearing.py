"""What Wyoming's clients are heard with: a model that loads when the first client sends audio."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from kws_edge import __version__
from kws_edge.errors import ConfigError
from kws_edge.model.model import Model
from kws_edge.service.wyoming.frames import Frame
from kws_edge.spotter import Spotter

if TYPE_CHECKING:
    from kws_edge.service.events import Reloaded

__all__ = ["Hearing"]


class Hearing:
    """The words, thresholds and sentences that hold for clients.

    Parameters
    ----------
    room : Reloaded
        The room whose model, keywords and thresholds are used.
    name : str
        Name of the service in Home Assistant.
    language : str
        Language of the words, such as en.
    sentences : mapping
        The sentence that stands for a keyword. A keyword without one is its own sentence.
    """

    def __init__(self, room: Reloaded, *, name: str, language: str, sentences: Mapping[str, str]) -> None:
        self._name, self._language, self._sentences = name, language, sentences
        self._model: Model | None = None
        self._version: tuple[str, int, int] | None = None
        self.change(room)

    def change(self, room: Reloaded) -> None:
        """Hear as this room does from the next stream on."""
        self._room = room

    @property
    def keywords(self) -> tuple[str, ...]:
        return self._room.keywords

    def sentence(self, keyword: str) -> str:
        """What somebody who says `keyword` wants."""
        return self._sentences.get(keyword, keyword)

    def spotter(self, keywords: Collection[str] | None = None) -> Spotter:
        """A spotter for a new stream, which hears only `keywords`. The model loads if it has changed.

        Raises
        ------
        KwsError
            If the model cannot be used.
        """
        room = self._room
        model = self._loaded(room.model)
        config = dataclasses.replace(
            model.detector_config,
            keywords=tuple(keywords or room.keywords),
            thresholds=dict(room.thresholds),
            wake_word=None,  # who streams has heard a wake word, or waits for one
        )
        return Spotter(model, detector_config=config)

    def _loaded(self, path: str) -> Model:
        try:
            status = os.stat(path)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from None
        version = (path, status.st_mtime_ns, status.st_size)
        if self._model is None or version != self._version:
            self._model, self._version = Model(path), version
        return self._model

    def info(self) -> Frame:
        """What clients are told of the service.

        It has no satellite: Home Assistant would load nothing else of it.
        """
        languages = [self._language]
        model = os.path.splitext(os.path.basename(self._room.model))[0]
        asr = {
            **_artifact(self._name, "Spoken commands as sentences"),
            "models": [{**_artifact(model, f"{len(self.keywords)} commands"), "languages": languages}],
            "requires_external_vad": False,
            "prefers_auto_gain_enabled": False,
            "prefers_noise_reduction_enabled": False,
        }
        words = [{**_artifact(word, word), "phrase": word, "languages": languages} for word in self.keywords]
        wake = {**_artifact(self._name, "Keywords as wake words"), "models": words}
        return Frame("info", {"asr": [asr], "wake": [wake]})


def _artifact(name: str, description: str) -> dict[str, Any]:
    """What the protocol wants to know of a program and of a model."""
    return {
        "name": name,
        "description": description,
        "attribution": {"name": "kws-edge", "url": ""},
        "installed": True,
        "version": __version__,
    }
