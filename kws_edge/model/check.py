"""Whether a model's tensors are what its metadata and its front end say: one that contradicts them would be deaf."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kws_edge.errors import ModelError
from kws_edge.features.frontend import Frontend
from kws_edge.labels import is_keyword
from kws_edge.model.file import Metadata
from kws_edge.model.quantization import posterior
from kws_edge.model.step_graph import check_states
from kws_edge.model.tflite import FlatModel, Tensor
from kws_edge.text import counted, printable

__all__ = ["check_confirming", "check_levels", "check_tensors", "ends_of_no_clip", "fits"]

_SHARED, _STEPS = 0.05, 8
"""What of the front end's range an input takes at least, and in how many steps."""
_LEAST, _MOST = 0.1, 1.5
"""What an output of posteriors reaches at its most."""


def fits(shape: Sequence[int], features: tuple[int, int]) -> bool:
    """Whether an input of `shape` takes features of that shape, side by side or in a row."""
    sides = tuple(n for n in shape if n != 1)
    return sides in (tuple(n for n in features if n != 1), (math.prod(features),))


def ends_of_no_clip(flat: FlatModel) -> list[str]:
    """What the file has in place of the one input and the one output of a model of clips, if it is something else."""
    if len(flat.inputs) == len(flat.outputs) > 1:
        return [
            f"{len(flat.inputs)} inputs and outputs, as the bare graph of a network with state; its labels and its "
            "steps are in the model file that kws-host quantize writes"
        ]
    ends = (("input", flat.inputs), ("output", flat.outputs))
    return [f"{counted(len(found), what)}, where a keyword model has one" for what, found in ends if len(found) != 1]


def check_tensors(flat: FlatModel, metadata: Metadata, *, allow_float: bool) -> None:
    """Raise an error unless inputs and outputs are those of a keyword model with these labels and this front end.

    Raises
    ------
    ModelError
        If a tensor is of another type or shape, an output has no label, or the detector's settings name no label.
    """
    if metadata.step is None and (wrong := ends_of_no_clip(flat)):
        raise ModelError(f"{flat.name}: has {wrong[0]}")
    for what, tensors in (("input", flat.inputs), ("output", flat.outputs)):
        for tensor in tensors:
            _check_type(flat.name, what, tensor, allow_float)
    if metadata.step is not None:
        _check_step_shapes(flat, metadata, metadata.step.frames)
    else:
        _check_clip_shapes(flat, metadata)
    detector = metadata.detector_config
    unknown = {*(detector.keywords or ()), *detector.thresholds, *filter(None, [detector.wake_word])}
    unknown -= set(metadata.labels)
    if unknown:
        raise ModelError(f"{flat.name}: its detector settings name {', '.join(sorted(unknown))}, which is no label")


def _check_type(name: str, what: str, tensor: Tensor, allow_float: bool) -> None:
    if tensor.dtype not in ("int8", "uint8") and not (tensor.dtype == "float32" and allow_float):
        raise ModelError(
            f"{name}: {what} is {tensor.dtype} where INT8 is expected; quantise a run of yours with "
            "`kws-host quantize`, a model from elsewhere with `kws-host import`"
        )
    if tensor.dtype != "float32" and not tensor.scale:
        raise ModelError(f"{name}: {what} is {tensor.dtype} without a quantisation scale")


def _check_labels(flat: FlatModel, labels: Sequence[str]) -> None:
    n = flat.outputs[0].shape[-1]
    if n != len(labels):
        outputs, said = counted(n, "output"), counted(len(labels), "label")
        raise ModelError(f"{flat.name}: {outputs}, but {said}: {printable(', '.join(labels), most=60)}")


def _check_clip_shapes(flat: FlatModel, metadata: Metadata) -> None:
    taken, given = flat.inputs[0].shape, flat.outputs[0].shape
    if given[:-1] != (1,) * (len(given) - 1) or not given:
        raise ModelError(f"{flat.name}: output of shape {list(given)}; one vector of posteriors is expected")
    _check_labels(flat, metadata.labels)
    expected = metadata.frontend_config.feature_shape
    if not fits(taken, expected):
        raise ModelError(
            f"{flat.name}: input of shape {list(taken)}, but its front end gives {expected[0]} frames of "
            f"{metadata.frontend_config.frame_text}"
        )


def _check_step_shapes(flat: FlatModel, metadata: Metadata, frames: int) -> None:
    check_states(flat)
    c = metadata.frontend_config
    taken, given = flat.inputs[0].shape, flat.outputs[0].shape
    mels = c.feature_shape[1]
    if not (len(taken) == len(given) == 4 and taken == (1, given[1] * frames, 1, mels) and given[::2] == (1, 1)):
        raise ModelError(
            f"{flat.name}: takes {list(taken)} and gives {list(given)}; a network that answers every {frames} frames "
            f"of {mels} mels takes [1, n, 1, {mels}] and gives [1, n / {frames}, 1, labels]"
        )
    _check_labels(flat, metadata.labels)
    if c.resize_frames is not None or c.normalise:
        does = "normalises" if c.normalise else "resizes"
        raise ModelError(f"{flat.name}: its front end {does} clips, but it is a network with state, which hears none")


def _range(tensor: Tensor) -> tuple[float, float]:
    """The least and the largest value of a quantised tensor."""
    limits = np.iinfo(tensor.dtype)
    return (int(limits.min) - tensor.zero_point) * tensor.scale, (int(limits.max) - tensor.zero_point) * tensor.scale


def check_levels(flat: FlatModel, metadata: Metadata) -> None:
    """Raise an error unless the input takes what the front end gives, and what the output gives can be posteriors.

    Raises
    ------
    ModelError
        If scales and zero points say otherwise.
    """
    taken, given, step = flat.inputs[0], flat.outputs[0], metadata.step
    if taken.dtype != "float32":
        low, high = _range(taken)
        quiet, loud = metadata.frontend_config.level_range
        shared = min(high, loud) - max(low, quiet)
        if not (shared >= _SHARED * (loud - quiet) and shared >= _STEPS * taken.scale):
            raise ModelError(
                f"{flat.name}: its input takes levels from {low:.4g} to {high:.4g} in steps of {taken.scale:.4g}, "
                f"but its front end gives {quiet:.4g} to {loud:.4g}; it would hear nothing"
            )
    if given.dtype == "float32":
        return
    low, high = _range(given)
    if step is not None and not posterior(high, step.score_offset) >= _LEAST:
        raise ModelError(
            f"{flat.name}: its scores go up to {high:.4g}, far below {step.score_offset:g}, which is a posterior of "
            "one half; nothing would ever be detected"
        )
    if step is None and not _LEAST <= high <= _MOST:
        raise ModelError(
            f"{flat.name}: its output goes from {low:.4g} to {high:.4g} in steps of {given.scale:.4g}; "
            "posteriors from 0 to 1 are expected, as a softmax or a sigmoid makes them"
        )


def check_confirming(first: Metadata, second: Metadata, name: str) -> None:
    """Raise an error unless a network can confirm the answers of another.

    Parameters
    ----------
    first, second : Metadata
    name : str
        Name of the second network in error messages.

    Raises
    ------
    ModelError
        If the second has state, hears by another front end, or lacks a keyword.
    """
    if second.step is not None:
        raise ModelError(f"{name}: has state; a network of clips confirms")
    if second.frontend_config != first.frontend_config:
        raise ModelError(f"{name}: has another front end than the network that it confirms")
    if not Frontend(second.frontend_config).by_frame:
        raise ModelError(f"{name}: its front end makes each clip's features anew, so it cannot confirm")
    if lacking := [word for word in first.labels if is_keyword(word) and word not in second.labels]:
        raise ModelError(f"{name}: does not know {printable(', '.join(lacking), most=60)}")
