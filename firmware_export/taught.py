"""Taught words for the firmware: the network that hears them, their table, and what they compete with."""

from __future__ import annotations

import copy
import dataclasses
import json
import struct
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_export.c_source import array
from firmware_export.joined import joined
from firmware_export.vectors import GoldenVectors
from kws_edge.errors import ConfigError, ModelError
from kws_edge.model.model import Model
from kws_edge.model.quantization import dequantize
from kws_edge.teach.encoder import normalised
from kws_edge.teach.listener import BUDGET, EVERY_S, HYSTERESIS, least_score
from kws_edge.teach.words import TaughtWords

__all__ = ["NO_TAUGHT", "Taught", "taught_table"]

_MAGIC, _VERSION = b"KWTW", 1
_HEAD, _WORD = struct.Struct("<IHHIff"), struct.Struct("<IIIfff")
"""What follows magic and checksum, and what precedes the prototype of a word; see ``kws_taught.c``."""
_MOST_LABELS = 255
_EMBEDDINGS = "KWS_EMBEDDING_SIZE"


def _encoder_id(words: TaughtWords) -> int:
    """A number of 31 bits that differs for another encoder."""
    return int(words.encoder.sha256[:8], 16) >> 1


def taught_table(words: TaughtWords) -> bytes:
    """The table of `words` that ``kws_taught.c`` reads: little-endian, with a checksum.

    Examples
    --------
    >>> from kws_edge import Model, TaughtWords
    >>> from firmware_export.taught import taught_table
    >>> len(taught_table(TaughtWords(Model("commands12"), "none.json")))
    28
    """
    encoder, found = words.encoder, list(words.values())
    start = 8 + _HEAD.size
    at = start + len(found) * (_WORD.size + 4 * encoder.dimensions)
    records, rest, threshold = b"", b"", encoder.threshold(BUDGET)
    for word in found:
        same = encoder.rivals.same(word.name, word.prototype).astype("<u2").tobytes()
        name = word.name.encode() + b"\0"
        name += bytes(len(name) % 2)
        heard = least_score(word.threshold, threshold)
        values = (at + len(rest) + len(same), at + len(rest), len(same) // 2, *word.others, heard)
        records += _WORD.pack(*values) + word.prototype.astype("<f4").tobytes()
        rest += same + name
    head = _HEAD.pack(at + len(rest), _VERSION, len(found), _encoder_id(words), threshold, HYSTERESIS)
    body = head + records + rest
    return _MAGIC + struct.pack("<I", zlib.crc32(body)) + body


@dataclass(frozen=True)
class Taught:
    """Taught words of a model, and the model with an encoder that hears them.

    Parameters
    ----------
    words : TaughtWords, optional
        By default, the firmware hears no taught words.
    """

    words: TaughtWords | None = None

    @cached_property
    def _content(self) -> dict[str, NDArray[Any]]:
        """What the encoder's file holds. The encoder has verified it."""
        assert self.words is not None
        with np.load(self.words.encoder.path) as content:
            return {name: content[name] for name in ("about", "head", "mean", "words")}

    @property
    def names(self) -> list[str]:
        """The words."""
        return list(self.words or ())

    def model(self, model: Model) -> Model:
        """`model` with the encoder's embedding as its second output, if there are taught words.

        Raises
        ------
        ConfigError
            If the words were taught to another model, or the firmware cannot number them.
        """
        if self.words is None:
            return model
        if model.flat.data != self.words.model.flat.data:
            raise ConfigError(f"{self.words.path}: its words were taught to {self.words.model.stem}, not {model.stem}")
        if len(model.labels) + len(self.words) > _MOST_LABELS:
            raise ConfigError(f"the firmware has up to {_MOST_LABELS} labels and taught words")
        other = copy.copy(model)
        tap = int(json.loads(str(self._content["about"]))["tap"])
        other.flat = joined(model.flat, tap, self._content["head"].tobytes())
        output = other.flat.outputs[1]
        if output.dtype != "int8" or output.elements != self.words.encoder.dimensions:
            raise ModelError(f"{self.words.encoder.path}: its embedding is no {self.words.encoder.dimensions} of int8")
        return other

    def macros(self, model: Model, step_s: float) -> dict[str, float]:
        """Constants for ``kws_config.h``, by name; `model` is of :meth:`model`."""
        if self.words is None:
            return {"KWS_TAUGHT": 0}
        output = model.flat.outputs[1]
        return {
            "KWS_TAUGHT": 1,
            "KWS_TAUGHT_EVERY": max(1, round(EVERY_S / step_s)),
            "KWS_TAUGHT_TABLE_SIZE": len(taught_table(self.words)),
            "KWS_ENCODER_ID": _encoder_id(self.words),
            _EMBEDDINGS: output.elements,
            "KWS_EMBEDDING_SCALE": float(output.scale),
            "KWS_EMBEDDING_ZERO_POINT": output.zero_point,
            "KWS_RIVALS": len(self._content["words"]),
        }

    def embedding(self, codes: NDArray[np.int8], model: Model) -> NDArray[np.float32]:
        """Embeddings, shape (..., dimensions), float32, of length 1, of the second output of `model`."""
        output = model.flat.outputs[1]
        return normalised(dequantize(codes, output.scale, output.zero_point) - self._content["mean"].astype(np.float32))

    def heard_in(self, vectors: GoldenVectors) -> GoldenVectors:
        """`vectors` with the scores of the first word, if there are taught words."""
        if not self.words:
            return vectors
        assert vectors.embeddings is not None  # the model has a second output
        word, rivals = next(iter(self.words.values())), self.words.encoder.rivals
        found = self.embedding(vectors.embeddings, vectors.model)
        mean, deviation = word.others
        penalty = rivals.penalty(found, rivals.same(word.name, word.prototype))
        scores = (found @ word.prototype - penalty - mean) / deviation
        return dataclasses.replace(vectors, scores=scores.astype(np.float32))

    def bytes(self) -> int:
        """Size of the constants in bytes, without the model."""
        if self.words is None:
            return 0
        rivals = self._content["words"]
        return rivals.nbytes + 4 * len(rivals) + 4 * rivals.shape[1] + len(taught_table(self.words))

    def source(self) -> str:
        """The text of ``kws_taught_data.c`` without its heading."""
        assert self.words is not None
        rivals = self._content["words"]
        scales = 1 / np.maximum(np.linalg.norm(rivals.astype(np.float32), axis=1), 1e-9)
        table = np.frombuffer(taught_table(self.words), np.uint8)
        return "\n".join(
            [
                '#include "kws_taught.h"\n',
                array("const uint8_t kws_taught_table[KWS_TAUGHT_TABLE_SIZE]", table),
                array(f"const float kws_embedding_mean[{_EMBEDDINGS}]", self._content["mean"].astype(np.float32)),
                array("const float kws_rival_scales[KWS_RIVALS]", scales.astype(np.float32)),
                array(f"const int8_t kws_rivals[KWS_RIVALS][{_EMBEDDINGS}]", rivals),
            ]
        )


NO_TAUGHT = Taught()
"""No taught words."""
