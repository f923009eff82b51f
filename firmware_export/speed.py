"""Estimate whether a board keeps up with a model, from instructions counted in QEMU."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from kws_edge.config import FrontendConfig
from kws_edge.model.tflite import FlatModel
from kws_edge.model.tflite.flat_model import operator_macs

__all__ = [
    "CYCLES",
    "FRONT_END",
    "Costs",
    "describe_board",
    "describe_need",
    "estimate",
    "front_end_cycles",
    "inference_cycles",
    "kernel_costs",
    "least_step_ms",
    "longest_step_ms",
    "on_board",
]


class Costs(NamedTuple):
    """Instructions of kernels per multiply-accumulate."""

    other: float
    """Of all operators but depthwise convolutions."""
    depthwise: float

    def times(self, factors: Costs) -> Costs:
        """These costs, each multiplied by its factor."""
        return Costs(self.other * factors.other, self.depthwise * factors.depthwise)


_COSTS = {"reference": Costs(6.62, 74.3), "cmsis-nn": Costs(1.97, 22.3), "cmsis-nn-mve": Costs(0.26, 6.72)}
"""Costs of each kind of kernels. They were counted with commands12 and micro12 on a Cortex-M4F, and with vectors
(``mve``) on an M55. TFLite Micro was built with ``-DNDEBUG``."""
_COSTS_OF_STEPS = {"cmsis-nn": Costs(1.61, 26.6)}
"""The same for networks with state. With the two below they fit 14 counts on a Cortex-M4F within a tenth: networks of
0.2 to 10 million multiply-accumulates a second, and hops of 20 to 240 ms. Nothing was counted with vectors."""
_PER_BYTE, _PER_OPERATOR = 58.0, 400.0
"""Instructions for each byte that STRIDED_SLICE copies, and for each operator, whatever the kernels."""
FRONT_END = 44_500
"""Instructions of a frame of ``logmel40`` (transform of 512 points) in fixed point, the slower form, on a Cortex-M3."""
CYCLES = 2.0
"""Cycles to count for each instruction. This allows for slow memories and for the rest of the program."""

_MEASURE = "the self-test prints what an inference takes on your board"
_BASIS = f"instructions counted in QEMU, {CYCLES:g} cycles for each"


def estimate(frontend_config: FrontendConfig, flat: FlatModel, *, step_ms: float) -> dict[str, Any]:
    """Estimate, for each kind of TFLite Micro's kernels, a model's cycles and the clock in MHz that keeps up.

    Parameters
    ----------
    frontend_config : FrontendConfig
    flat : FlatModel
    step_ms : float
        Time between inferences, in milliseconds.
    """
    hop_ms = 1000 * frontend_config.hop_length / frontend_config.sample_rate
    listening, stateful = front_end_cycles(frontend_config), len(flat.inputs) > 1
    kernels: dict[str, dict[str, int]] = {}
    for name in _COSTS:
        fixed, growing = inference_cycles(flat, kernel_costs(flat, name))
        mhz = math.ceil((listening + (fixed + growing) * 1000 / step_ms) / 1e6)
        kernels[name] = {"inference_cycles": round(fixed + growing), "mhz": mhz}
        if stateful:
            kernels[name]["growing_cycles"] = round(growing)
    return {
        "estimated_from": _BASIS,
        "front_end_cycles": round(listening),
        "hop_ms": hop_ms * (flat.inputs[0].shape[1] // flat.outputs[0].shape[1] if stateful else 1),
        "longest_step_ms": None if stateful else longest_step_ms(frontend_config),
        "kernels": kernels,
    }


def _depthwise(flat: FlatModel) -> int:
    """Multiply-accumulates of depthwise convolutions."""
    operators = flat.graphs[0].operators
    return sum(operator_macs(op, flat.tensors) for op in operators if op.name == "DEPTHWISE_CONV_2D")


def kernel_costs(flat: FlatModel, kernels: str) -> Costs:
    """Costs of a kind of kernels in the network `flat`."""
    return (_COSTS | _COSTS_OF_STEPS if len(flat.inputs) > 1 else _COSTS)[kernels]


def front_end_cycles(frontend_config: FrontendConfig, per_frame: float = FRONT_END) -> float:
    """Cycles of the front end for a second of audio.

    Parameters
    ----------
    frontend_config : FrontendConfig
    per_frame : float
        Instructions of a frame with a transform of 512 points.
    """
    points = frontend_config.n_fft * math.log2(frontend_config.n_fft) / (512 * 9)
    return CYCLES * per_frame * points * frontend_config.sample_rate / frontend_config.hop_length


def inference_cycles(flat: FlatModel, costs: Costs) -> tuple[float, float]:
    """Cycles of an inference: those that each takes, and those that grow with the hop of a network with state."""
    operators, depthwise = flat.graphs[0].operators, _depthwise(flat)
    computed = costs.other * (flat.macs - depthwise) + costs.depthwise * depthwise
    if len(flat.inputs) == 1:
        return CYCLES * computed, 0.0
    sliced = sum(flat.tensors[op.outputs[0]].size for op in operators if op.name == "STRIDED_SLICE")
    states = sum(state.size for state in flat.inputs[1:])
    fixed = _PER_OPERATOR * len(operators) + _PER_BYTE * states
    return CYCLES * fixed, CYCLES * (computed + _PER_BYTE * (sliced - states))


def longest_step_ms(frontend_config: FrontendConfig) -> float:
    """Half of the window, in milliseconds. With a longer step, words fall between two windows."""
    return 500 * frontend_config.clip_samples / frontend_config.sample_rate


def least_step_ms(inference: float, left: float, hop_ms: float) -> float | None:
    """The least step at which a core keeps up; None, if there is none.

    Parameters
    ----------
    inference : float
        Cycles of an inference, besides those that grow with its hop.
    left : float
        Cycles of a second that are left for these.
    hop_ms : float
        The step is a multiple of this.
    """
    return max(1, math.ceil(1000 * inference / left / hop_ms)) * hop_ms if left > 0 else None


def on_board(speed: dict[str, Any], *, mhz: float, step_ms: float) -> dict[str, Any]:
    """Whether a core of `mhz` keeps up by :func:`estimate`, and the least `step_ms` at which it does, or None.

    Parameters
    ----------
    speed : dict
        Result of :func:`estimate` for this `step_ms`.
    mhz : float
        Clock of the core.
    step_ms : float
        Time between inferences, in milliseconds.
    """
    kernels, longest = {}, speed["longest_step_ms"]
    for name, need in speed["kernels"].items():
        growing = need.get("growing_cycles", 0)
        left = 1e6 * mhz - speed["front_end_cycles"] - 1000 * growing / step_ms
        least = least_step_ms(need["inference_cycles"] - growing, left, speed["hop_ms"])
        kernels[name] = {
            "inference_ms": need["inference_cycles"] / mhz / 1000,
            "keeps_up": least is not None and least <= step_ms,
            "least_step_ms": least if least is not None and (longest is None or least <= longest) else None,
        }
    return {"mhz": mhz, "kernels": kernels}


def describe_need(speed: dict[str, Any], step_ms: float) -> str:
    """A line on the result of :func:`estimate`."""
    if not speed["kernels"]:
        return f"not estimated for these kernels: {_MEASURE}"
    needs = ", ".join(f"{need['mhz']:,} MHz with {name} kernels" for name, need in speed["kernels"].items())
    return f"a step of {step_ms:g} ms takes about {needs} (an estimate: {speed['estimated_from']})"


def describe_board(board: dict[str, Any], step_ms: float) -> list[str]:
    """Lines on the result of :func:`on_board`, one for each kind of kernels."""
    if not board["kernels"]:
        return [f"{board['mhz']:g} MHz: not estimated for these kernels; {_MEASURE}"]
    lines = []
    for name, found in board["kernels"].items():
        least = found["least_step_ms"]
        if found["keeps_up"]:
            answer = f"keeps up at a step of {step_ms:g} ms"
        elif least is not None:
            answer = f"loses samples at a step of {step_ms:g} ms; export with --step-ms {least:g}"
        else:
            answer = "loses samples at any step that hears every word; take a smaller model or a faster core"
        holds = ", which the driver must hold" if found["keeps_up"] or least is not None else ""
        answer += f" (an inference takes about {found['inference_ms']:,.0f} ms{holds})"
        lines.append(f"{board['mhz']:g} MHz with {name} kernels: {answer}")
    return lines
