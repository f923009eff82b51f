"""A network with state in a firmware: its graph, written for one hop, and its states."""

from __future__ import annotations

import copy
import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws_edge.model.model import Model
from kws_edge.model.quantization import dequantize, posterior
from kws_edge.model.step_graph import StepInterpreter
from kws_edge.model.tflite import FlatModel
from kws_edge.model.tflite.flatbuffer import Reader

__all__ = ["States", "at_hop", "with_hop"]


@dataclass(frozen=True)
class States:
    """What the firmware of a network with state has beyond that of a network that hears clips.

    Parameters
    ----------
    model : Model
        A model as :func:`at_hop` gives it, or one that hears clips, which has none of this.
    """

    model: Model

    @property
    def answers(self) -> int:
        """Rows of posteriors that an inference gives."""
        step = self.model.step
        return 1 if step is None else self.model.input.shape[1] // step.frames

    @property
    def values(self) -> NDArray[np.float32] | None:
        """The posterior of each score, from -128 on, shape (256,); None where outputs are posteriors."""
        step, output = self.model.step, self.model.output
        if step is None:
            return None
        scores = dequantize(np.arange(-128, 128).astype(np.int8), output.scale, output.zero_point)
        return posterior(scores, step.score_offset)

    @property
    def bytes(self) -> int:
        """Size of all states."""
        return sum(state.size for state in self.model.flat.inputs[1:])

    def macros(self) -> dict[str, float]:
        """Constants for ``kws_config.h``, by name."""
        if self.model.step is None:
            return {}
        count = len(self.model.flat.inputs) - 1
        return {"KWS_ANSWERS": self.answers, "KWS_STATES": count, "KWS_STATE_BYTES": self.bytes}

    def summary(self) -> dict[str, Any]:
        """The values for the manifest and the report; empty for a network that hears clips."""
        if self.model.step is None:
            return {}
        c, hop = self.model.frontend_config, self.model.input.shape[1]
        return {
            "answers": self.answers,
            "states": len(self.model.flat.inputs) - 1,
            "state_bytes": self.bytes,
            "macs_a_second": round(self.model.flat.macs * c.sample_rate / (hop * c.hop_length)),
        }


def at_hop(model: Model, hop_frames: int) -> Model:
    """`model` with a graph of another hop, which LiteRT's builtin kernels run.

    Parameters
    ----------
    model : Model
        A network with state.
    hop_frames : int
        Frames that the graph takes at a time: a multiple of the model's step.
    """
    other = copy.copy(model)
    other.flat = with_hop(model.flat, hop_frames)
    other.input, other.output = other.flat.inputs[0], other.flat.outputs[0]
    other.interpreter = StepInterpreter(other.flat, kernels="builtin")
    return other


def with_hop(flat: FlatModel, hop_frames: int) -> FlatModel:
    """The same step graph for another hop, because TFLite Micro takes shapes as they are in the file.

    New shapes follow the flatbuffer, and its tensors point to them.

    Raises
    ------
    ModelError
        If the graph cannot take so many frames.
    """
    if flat.inputs[0].shape[1] == hop_frames:
        return flat
    resized = StepInterpreter(flat, kernels="reference").another(hop_frames).native
    shapes = {detail["index"]: tuple(map(int, detail["shape"])) for detail in resized.get_tensor_details()}
    data, places = bytearray(flat.data), {}
    tables = next(Reader(flat.data).root().tables(2)).tables(0)
    for number, (tensor, table) in enumerate(zip(flat.tensors, tables, strict=True)):
        shape, field = shapes.get(number, tensor.shape), table.at(0)
        if tensor.data is not None or field is None or shape == tensor.shape or not math.prod(shape):
            continue
        if shape not in places:
            data += bytes(-len(data) % 4)
            places[shape] = len(data)
            data += struct.pack(f"<I{len(shape)}i", len(shape), *shape)
        struct.pack_into("<I", data, field, places[shape] - field)
    return FlatModel(bytes(data), flat.name)
