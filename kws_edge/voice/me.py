"""The user's voice, its file, and the check of detections by it."""

from __future__ import annotations

import base64
import json
import os
import stat
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kws_edge.errors import ConfigError
from kws_edge.files import explained, write_atomically
from kws_edge.teach.encoder import normalised
from kws_edge.teach.takes import TakeError
from kws_edge.text import counted, parse_json, read_text
from kws_edge.voice.voices import Voices

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kws_edge.config import DetectorConfig
    from kws_edge.detection.detector import Detection, Detector
    from kws_edge.model.model import Model

__all__ = ["OTHERS", "UTTERANCES", "Me", "MeListener", "me_path"]

_FORMAT = 1
UTTERANCES = 10
"""Utterances that make a user's voice known."""
OTHERS = 0.05
"""Share of other people's words that may pass for the user's."""
_COMPARED = 3
"""Utterances from which on further ones are compared with them."""
_UNUSABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


def me_path(model: Model) -> str:
    """Default path of the user's voice: ``me.json`` beside the room profiles. It serves all models."""
    from kws_edge.detection.room_profile import profile_path

    return os.path.join(os.path.dirname(profile_path(model)), "me.json")


@dataclass(frozen=True)
class _Voice:
    direction: NDArray[np.float32]
    """Mean embedding, of length 1."""
    date: str


class Me:
    """The voice of the user, by which a :class:`kws_edge.Spotter` leaves out what others say.

    This is convenience, not security. A similar voice passes, and so does a recording.

    Parameters
    ----------
    model : kws_edge.Model
    path : path, optional
        File of the voice; by default ``me.json`` beside the room profiles. It need not exist.

    Attributes
    ----------
    voices : kws_edge.voice.voices.Voices
    path : str

    Raises
    ------
    ModelError
        If the model cannot tell voices apart.
    ConfigError
        If the file cannot be used.

    Examples
    --------
    >>> from kws_edge import Me, Model, Spotter
    >>> model = Model("commands12")
    >>> me = Me(model, "me.json")
    >>> me.known
    False

    Ten utterances make the voice known. Then listen for it alone::

        me.learn([me.embedding(samples) for samples in recordings], date="2026-11-28")
        spotter = Spotter(model, only_me=me)
    """

    def __init__(self, model: Model, path: str | os.PathLike[str] | None = None) -> None:
        self.model, self.voices = model, Voices(model)
        self.path = me_path(model) if path is None else os.fspath(path)
        self._voice = self._load()

    @property
    def known(self) -> bool:
        """Whether the voice is known."""
        return self._voice is not None

    @property
    def threshold(self) -> float:
        """Likeness from which on an utterance counts as the user's."""
        return self.voices.threshold(OTHERS)

    def _load(self) -> _Voice | None:
        try:
            if not stat.S_ISREG(os.stat(self.path).st_mode):
                raise ValueError("it is no regular file")
            values = parse_json(read_text(self.path))
            if values["format"] != _FORMAT:
                raise ValueError(f"it is no voice of format {_FORMAT}")
            if values["voices_sha256"] != self.voices.sha256:
                raise ValueError("made with another version of the voices")
            direction = np.frombuffer(base64.b64decode(values["voice"], validate=True), "<f4").astype(np.float32)
            if len(direction) != self.voices.dimensions or not np.isfinite(direction).all():
                raise ValueError("the voice is damaged")
            return _Voice(normalised(direction), str(values["date"]))
        except FileNotFoundError:
            return None
        except _UNUSABLE as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"{self.path}: your voice cannot be used: {why}; make it known anew with kws-edge teach --me"
            ) from None

    def embedding(self, samples: NDArray[np.int16]) -> NDArray[np.float32]:
        """The voice in a recording, shape (dimensions,), float32, of length 1.

        Parameters
        ----------
        samples : numpy.ndarray, shape (n,), int16
            With a word or a few, at the model's sample rate.

        Raises
        ------
        TakeError
            If there is too little speech.
        """
        found = self.voices.embed(self.model.frontend.frames(samples))
        if found is None:
            raise TakeError("too little speech; say a whole word, or several")
        return found

    def check_match(self, embedding: NDArray[np.float32], others: Sequence[NDArray[np.float32]]) -> None:
        """Refuse an utterance of another person than the others; if these are too few, nothing is checked.

        Raises
        ------
        TakeError
        """
        if len(others) >= _COMPARED:
            likeness = float(embedding @ normalised(np.mean(others, axis=0)))
            if likeness < self.voices.match:
                raise TakeError(
                    f"does not sound like the speaker of the others (likeness {likeness:.2f}, {self.voices.match:.2f} "
                    "is the least); speak alone, as you will later"
                )

    def learn(self, embeddings: Sequence[NDArray[np.float32]], *, date: str) -> float:
        """Make the voice known, and write it to the file.

        Parameters
        ----------
        embeddings : sequence of numpy.ndarray
            Of :meth:`embedding`, ten or more.
        date : str
            ISO 8601.

        Returns
        -------
        float
            The share of the utterances that count as the user's if the others alone are known.

        Raises
        ------
        TakeError
            If one is of another person than the others.
        ConfigError
            If they are too few.
        WriteError
            If the file cannot be written.
        """
        if len(embeddings) < UTTERANCES:
            raise ConfigError(f"{counted(len(embeddings), 'utterance')}; give {UTTERANCES} or more")
        passed = []
        for i, one in enumerate(embeddings):
            others = [*embeddings[:i], *embeddings[i + 1 :]]
            try:
                self.check_match(one, others)
            except TakeError as error:
                raise TakeError(f"utterance {i + 1} {error}") from None
            passed.append(float(one @ normalised(np.mean(others, axis=0))) >= self.threshold)
        voice = _Voice(normalised(np.mean(embeddings, axis=0)), date)
        values = {
            "format": _FORMAT,
            "voices_sha256": self.voices.sha256,
            "utterances": len(embeddings),
            "date": date,
            "voice": base64.b64encode(voice.direction.astype("<f4").tobytes()).decode(),
        }
        write_atomically(self.path, json.dumps(values, indent=1) + "\n", durable=True)
        self._voice = voice
        return float(np.mean(passed))

    def forget(self) -> None:
        """Delete the file.

        Raises
        ------
        ConfigError
            If the voice is not known.
        WriteError
            If the file cannot be deleted.
        """
        self._require()
        with explained(self.path):
            os.unlink(self.path)
        self._voice = None

    def _require(self) -> _Voice:
        if self._voice is None:
            raise ConfigError(f"{self.path}: your voice is not known; kws-edge teach --me makes it known")
        return self._voice

    def likeness(self, levels: NDArray[np.floating]) -> float:
        """Cosine of the voice in levels of the front end, shape (n_frames, n_mels), to the user's; -1 without speech.

        Raises
        ------
        ConfigError
            If the voice is not known.
        """
        voice, found = self._require(), self.voices.embed(levels)
        return -1.0 if found is None else float(found @ voice.direction)

    def listener(self, config: DetectorConfig, step_frames: int) -> MeListener:
        """What checks the detections of a stream with an inference each `step_frames` frames.

        Raises
        ------
        ConfigError
            If the voice is not known.
        """
        self._require()
        c = self.model.frontend_config
        n_frames = c.n_frames + round(config.smoothing_ms / c.hop_ms)
        return MeListener(self, -(-n_frames // step_frames))


class MeListener:
    """Leaves out the detections that another person spoke.

    Parameters
    ----------
    me : Me
    n_steps : int
        Inferences before a detection whose frames hold its word.

    Attributes
    ----------
    on_other : callable
        Called with each detection that is left out, and its likeness to the user's voice.
    """

    def __init__(self, me: Me, n_steps: int) -> None:
        self._me = me
        self._rows: deque[NDArray[np.float32]] = deque(maxlen=n_steps)
        self.on_other: Callable[[Detection, float], None] = lambda found, likeness: None

    def reset(self) -> None:
        """Start a new stream."""
        self._rows.clear()

    def own(
        self, every: Sequence[Detection | None], rows: NDArray[np.float32], detector: Detector
    ) -> list[Detection | None]:
        """Take the levels that an inference added, shape (n, n_mels), and its detections; return the user's own.

        A wake word that is left out arms nothing.
        """
        self._rows.append(rows.copy())
        return [found and self._checked(found, detector) for found in every]

    def _checked(self, found: Detection, detector: Detector) -> Detection | None:
        likeness = self._me.likeness(np.concatenate(self._rows))
        if likeness >= self._me.threshold:
            return found
        if found.wake:
            detector.disarm()
        self.on_other(found, likeness)
        return None
