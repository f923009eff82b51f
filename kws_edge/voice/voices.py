"""What makes two utterances of one person look alike, whatever they say.

The voice is in the levels of the front end: their mean over the frames of speech, how much they vary, and how fast. A
linear projection, learnt from many speakers, keeps of this what tells people apart. No network runs.
"""

from __future__ import annotations

import io
import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from kws_edge.errors import ModelError
from kws_edge.files import sha256_hex
from kws_edge.teach.encoder import normalised
from kws_edge.text import parse_json, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from kws_edge.model.model import Model

__all__ = ["FORMAT", "LEAST_FRAMES", "Voices", "statistics", "voices_path"]

FORMAT = 1
"""Of the file."""
LEAST_FRAMES = 12
"""Frames of speech that tell of a voice."""
_COEFFICIENTS = 20
_SPOKEN = 0.35
"""A frame is of speech if its level lies above this share of the way from the quietest to the loudest."""
_DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, NotImplementedError)
"""What reading a damaged file may raise."""


def voices_path() -> str:
    """Path of the projection that comes with the package."""
    return os.path.join(os.path.dirname(os.path.dirname(__file__)), "models", "logmel40.voices.npz")


@lru_cache
def _cosines(n_mels: int) -> NDArray[np.float32]:
    """The first coefficients of an orthonormal discrete cosine transform, shape (n_mels, coefficients), float32."""
    angles = np.pi / n_mels * np.outer(np.arange(n_mels) + 0.5, np.arange(_COEFFICIENTS))
    cosines: NDArray[np.float32] = (np.cos(angles) * np.sqrt(2 / n_mels)).astype(np.float32)
    return cosines


def statistics(levels: NDArray[np.floating[Any]]) -> NDArray[np.float32] | None:
    """Statistics of the frames of speech in an utterance, from which the loudness is taken off.

    Parameters
    ----------
    levels : numpy.ndarray, shape (n_frames, n_mels)
        Of the front end.

    Returns
    -------
    numpy.ndarray, shape (2 * n_mels + 40,), float32, or None
        None if there are too few frames of speech.
    """
    if len(levels) < LEAST_FRAMES:
        return None
    energy = levels.mean(axis=1)
    quiet, loud = np.quantile(energy, 0.1), energy.max()
    spoken = levels[energy > quiet + _SPOKEN * (loud - quiet)].astype(np.float32)
    if len(spoken) < LEAST_FRAMES:
        return None
    cepstra = spoken @ _cosines(levels.shape[1])
    mean = spoken.mean(axis=0)
    rates = np.diff(cepstra, axis=0).std(axis=0)
    return np.concatenate([mean - mean.mean(), spoken.std(axis=0), cepstra.std(axis=0), rates]).astype(np.float32)


class Voices:
    """Makes embeddings of voices.

    Parameters
    ----------
    model : Model
        Its front end must be that of the projection.
    path : path, optional
        File of the projection; by default the one that comes with the package.

    Attributes
    ----------
    sha256 : str
        Of the file, in hexadecimal.
    match : float
        Cosine below which an utterance is of another person than the others.

    Raises
    ------
    ModelError
        If the model has another front end, or the file is damaged.

    Examples
    --------
    >>> import numpy as np
    >>> from kws_edge import Model
    >>> from kws_edge.voice.voices import Voices
    >>> voices = Voices(Model("commands12"))
    >>> voices.embed(np.zeros((98, 40), np.float32)) is None
    True
    >>> voices.threshold(0.01) > voices.threshold(0.1)
    True
    """

    def __init__(self, model: Model, path: str | os.PathLike[str] | None = None) -> None:
        import zipfile  # NumPy needs it to read the file

        self.path = voices_path() if path is None else os.fspath(path)
        try:
            with open(self.path, "rb") as file:
                data = file.read()
            self.sha256 = sha256_hex(data)
            with np.load(io.BytesIO(data), allow_pickle=False) as content:
                about = parse_json(str(content["about"]))
                self._mean, self._projection = (content[name].astype(np.float32) for name in ("mean", "projection"))
            if about["format"] != FORMAT:
                raise ModelError(f"{self.path}: voices of format {shown(about['format'])}; this version reads {FORMAT}")
            self.match = float(about["match"])
            self._shares, self._scores = np.array(sorted(about["points"]), float).T
            frontend = about["frontend_hash"]
        except ModelError:
            raise
        except (*_DAMAGE, zipfile.BadZipFile) as error:
            raise ModelError(f"{self.path}: damaged ({error}); get a whole copy") from None
        if frontend != model.frontend_config.hash:
            raise ModelError(
                f"{model.path}: has another front end than {os.path.basename(self.path)}, so it cannot tell who speaks"
            )

    @property
    def dimensions(self) -> int:
        """Length of an embedding."""
        return int(self._projection.shape[1])

    def embed(self, levels: NDArray[np.floating[Any]]) -> NDArray[np.float32] | None:
        """The voice in an utterance, shape (dimensions,), float32, of length 1; None if there is too little speech.

        Parameters
        ----------
        levels : numpy.ndarray, shape (n_frames, n_mels)
            Of the front end.
        """
        found = statistics(levels)
        return None if found is None else normalised((found - self._mean) @ self._projection)

    def threshold(self, share: float) -> float:
        """Cosine to a user's voice that `share` of other people's utterances reach."""
        return float(np.interp(np.log(share), np.log(self._shares), self._scores))
