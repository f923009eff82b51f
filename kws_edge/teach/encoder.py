"""The encoder: what makes two recordings of one word look alike, also of words that trained no network.

It rides on a model of clips. The model's own inference gives its inner activations at one layer, too, and a small head
makes an embedding of them. So a taught word costs no second pass of the network.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kws_edge.errors import ModelError
from kws_edge.files import sha256_hex
from kws_edge.model.interpreter import Interpreter
from kws_edge.model.model import Model, shipped_models
from kws_edge.model.quantization import dequantize, quantize
from kws_edge.model.tflite import FlatModel, Tensor
from kws_edge.model.tflite.outputs import with_outputs
from kws_edge.ranges import number
from kws_edge.text import parse_json, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "ENDING",
    "FORMAT",
    "LEAST_PENALTY",
    "Encoder",
    "Head",
    "Rivals",
    "TappedInterpreter",
    "encoder_path",
    "normalised",
]

ENDING = ".encoder.npz"
"""Ending of an encoder's file, which lies beside its model's."""
FORMAT = 1
"""Of the file."""
_COHORT = 0.05
"""Share of running speech, the part most like a word, that tells which scores speech reaches."""
_NEAREST, _SHARE, _LEAST_RIVALRY = 5, 0.7, 0.3
"""How many rivals count, the share of their mean cosine that is taken off, and the least mean."""
_SAME = 0.6
"""Cosine of a rival word to a taught one, from which on it is the same word."""
LEAST_PENALTY = _SHARE * _LEAST_RIVALRY
"""The least that is taken from a cosine."""
_DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, NotImplementedError, zlib.error)
"""What reading a damaged file may raise."""
_HOUR = number(1e-6, 1e6)


def encoder_path(model: Model) -> str:
    """Path of `model`'s encoder, whether or not there is one."""
    return os.path.splitext(model.path)[0] + ENDING


def normalised(embeddings: NDArray[Any]) -> NDArray[np.float32]:
    """Vectors of length 1 in the same directions, shape (..., n), float32."""
    lengths = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    unit: NDArray[np.float32] = (embeddings / np.maximum(lengths, 1e-9)).astype(np.float32)
    return unit


class Rivals:
    """Other speech, which a taught word competes with.

    A recording that is like a word is often still more like another word. So the score of a word is its cosine less a
    share of the cosines of what is most alike among the rivals.

    Parameters
    ----------
    words : numpy.ndarray, shape (n, dimensions), float32
        Embeddings of single words.
    labels : sequence of str
        The word of each.
    speech : numpy.ndarray, shape (m, dimensions), float32
        Embeddings of running speech, with which scores are compared.
    """

    def __init__(self, words: NDArray[np.float32], labels: Sequence[str], speech: NDArray[np.float32]) -> None:
        self._words, self._speech = words, speech
        self._names, self._groups = np.unique(labels, return_inverse=True)
        sums = np.zeros((len(self._names), words.shape[1]), np.float32)
        np.add.at(sums, self._groups, words)
        self._centres = normalised(sums)

    def same(self, name: str, prototype: NDArray[np.float32]) -> NDArray[np.intp]:
        """Numbers of the rivals that are the word itself: they have its name, or are very like it.

        Parameters
        ----------
        name : str
        prototype : numpy.ndarray, shape (dimensions,), float32
        """
        same = (self._centres @ prototype > _SAME) | (self._names == name.casefold())
        return np.flatnonzero(same[self._groups])

    def penalty(self, embeddings: NDArray[np.float32], same: NDArray[np.intp]) -> NDArray[np.float32]:
        """What is taken from the cosines of `embeddings`, shape (..., dimensions), float32, shape (...)."""
        return self.penalty_at(self.cosines(embeddings), same)

    def cosines(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosines of `embeddings` to the rivals, shape (..., n), float32, for :meth:`penalty_at`."""
        cosines: NDArray[np.float32] = embeddings @ self._words.T
        return cosines

    def penalty_at(self, cosines: NDArray[np.float32], same: NDArray[np.intp]) -> NDArray[np.float32]:
        """The :meth:`penalty` of a word, by cosines that serve every word."""
        kept = cosines[..., same]
        cosines[..., same] = -1
        nearest = np.partition(cosines, -_NEAREST, axis=-1)[..., -_NEAREST:].mean(axis=-1)
        cosines[..., same] = kept
        penalty: NDArray[np.float32] = np.maximum(nearest, np.float32(_LEAST_RIVALRY)) * np.float32(_SHARE)
        return penalty

    def spoken(self, same: NDArray[np.intp]) -> NDArray[np.float32]:
        """The :meth:`penalty` of running speech, for :meth:`compared`."""
        return self.penalty(self._speech, same)

    def compared(self, prototype: NDArray[np.float32], spoken: NDArray[np.float32]) -> tuple[float, float]:
        """Mean and standard deviation of the scores that speech reaches, of what is most like `prototype`.

        Parameters
        ----------
        prototype : numpy.ndarray, shape (dimensions,), float32
        spoken : numpy.ndarray
            From :meth:`spoken`.
        """
        scores = np.sort(self._speech @ prototype - spoken)
        most = scores[-max(10, round(_COHORT * len(scores))) :]
        return float(most.mean()), float(most.std()) + 1e-3


class TappedInterpreter(Interpreter):
    """A model of clips in a runtime, which keeps the values of one of its inner layers.

    Parameters
    ----------
    flat : FlatModel
    tap : int
        Number of the layer's tensor.
    runtime, threads, kernels
        As for :class:`kws_edge.model.interpreter.Interpreter`.
    """

    def __init__(self, flat: FlatModel, tap: int, **how: Any) -> None:
        data = with_outputs(flat.data, [flat.graphs[0].outputs[0], tap])
        super().__init__(FlatModel(data, flat.name), **how)

    def _load(self) -> None:
        super()._load()
        self._tap = self._interpreter.get_output_details()[1]["index"]

    @property
    def tapped(self) -> NDArray[Any]:
        """A copy of the layer's values in the latest inference."""
        values: NDArray[Any] = self._interpreter.get_tensor(self._tap)
        return values


class Head:
    """The small network from a model's inner layer to an embedding.

    Parameters
    ----------
    data : bytes
        A TFLite flatbuffer.
    source : kws_edge.model.tflite.Tensor
        The model's layer.
    name : str
        Of the file, for messages.
    runtime, threads, kernels
        As for :class:`kws_edge.model.interpreter.Interpreter`.
    """

    def __init__(self, data: bytes, source: Tensor, name: str, **how: Any) -> None:
        flat = FlatModel(data, name)
        self._interpreter = Interpreter(flat, **how)
        target, self._output = flat.inputs[0], flat.outputs[0]
        if target.elements != source.elements or source.dtype != "int8" or not target.scale or not self._output.scale:
            raise ModelError(f"{name}: does not fit the model's layer {source.name}")
        self._shape = target.shape
        codes = np.arange(256, dtype=np.uint8).view(np.int8)
        self._codes = quantize(dequantize(codes, source.scale, source.zero_point), target.scale, target.zero_point)

    def __call__(self, codes: NDArray[np.int8]) -> NDArray[np.float32]:
        """The embedding, shape (dimensions,), float32, of the layer's values."""
        q = self._interpreter.invoke(self._codes.take(codes.view(np.uint8)).reshape(self._shape))
        return dequantize(q, self._output.scale, self._output.zero_point).ravel()


class Encoder:
    """Makes an embedding of what a model just heard.

    Parameters
    ----------
    model : Model
        A model of clips with an encoder beside it.
    path : path, optional
        File of the encoder, if it is elsewhere.

    Attributes
    ----------
    interpreter : TappedInterpreter
        Use it for the model's inferences, then call :meth:`embedding`.
    rivals : Rivals
    dimensions : int
    own : dict
        Embedding of each of the model's own keywords, by label.
    sha256 : str
        Of the encoder's file, in hexadecimal.

    Raises
    ------
    ModelError
        If the model has no encoder, or one of another model, or the file is damaged.

    Examples
    --------
    >>> import numpy as np
    >>> from kws_edge import Model
    >>> from kws_edge.teach.encoder import Encoder
    >>> encoder = Encoder(Model("commands12"))
    >>> encoder.embed(np.zeros(16000, np.int16)).shape
    (64,)
    """

    def __init__(self, model: Model, path: str | os.PathLike[str] | None = None) -> None:
        self.model, self.path = model, encoder_path(model) if path is None else os.fspath(path)
        if model.step is not None or not os.path.isfile(self.path):
            able = [name for name, path in shipped_models().items() if os.path.exists(path[: -len(".tflite")] + ENDING)]
            raise ModelError(
                f"{model.path}: has no encoder, so it cannot be taught words; --model {' or '.join(able)} can"
            )
        import zipfile  # NumPy needs it to read the file

        try:
            with open(self.path, "rb") as file:
                data = file.read()
            self.sha256 = sha256_hex(data)
            with np.load(io.BytesIO(data), allow_pickle=False) as content:
                parts = {name: content[name] for name in ("about", "head", "mean", "words", "speech", "own")}
            about = parse_json(str(parts["about"]))
            self._read(about, parts)
        except ModelError:
            raise
        except (*_DAMAGE, zipfile.BadZipFile) as error:
            raise ModelError(f"{self.path}: damaged encoder ({error}); get a whole copy") from None

    def _read(self, about: Any, parts: dict[str, NDArray[Any]]) -> None:
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            found = about.get("format") if isinstance(about, dict) else about
            raise ModelError(f"{self.path}: encoder of format {shown(found)}; this version reads {FORMAT}")
        if about["tflite_sha256"] != sha256_hex(self.model.flat.data):
            raise ModelError(f"{self.path}: belongs to another version of {self.model.stem}; make it anew")
        how = self.model.interpreter.how
        tap = int(about["tap"])
        if not 0 <= tap < len(self.model.flat.tensors):
            raise ModelError(f"{self.path}: taps tensor {tap}, which the model does not have")
        self.interpreter = TappedInterpreter(self.model.flat, tap, **how)
        self._head = Head(parts["head"].tobytes(), self.model.flat.tensors[tap], self.path, **how)
        self._mean = parts["mean"].astype(np.float32)
        self.dimensions = len(self._mean)
        self.rivals = Rivals(normalised(parts["words"]), about["words"], normalised(parts["speech"]))
        self.own = dict(zip(about["own"], normalised(parts["own"]), strict=True))
        points = [(_HOUR.check("false accepts", rate), float(score)) for rate, score in about["points"]]
        self._rates, self._scores = np.array(sorted(points)).T

    def embedding(self) -> NDArray[np.float32]:
        """The embedding of the latest inference of `interpreter`, shape (dimensions,), float32, of length 1."""
        found = self._head(self.interpreter.tapped) - self._mean
        found /= np.sqrt(found @ found) + np.float32(1e-9)
        return found

    def embed(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        """The embedding of one clip. It takes samples as :meth:`Model.classify` does.

        Returns
        -------
        numpy.ndarray, shape (dimensions,), float32
        """
        self.interpreter.invoke(self.model.quantize(self.model.features(samples)))
        return self.embedding()

    def threshold(self, per_hour: float) -> float:
        """Score at which a word has `per_hour` false accepts, in deviations of :meth:`Rivals.compared`."""
        return float(np.interp(np.log(per_hour), np.log(self._rates), self._scores))
