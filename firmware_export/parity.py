"""Compare TFLite Micro's posteriors with LiteRT's, and compare their answers.

LiteRT and TFLite Micro round a negative half differently. So a convolution or a fully connected layer without a ReLU
may differ by one step, and later layers by more. SUM, and RELU6 as an operator of its own, may differ by far more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firmware_export.vectors import GoldenVectors
from kws_edge.detection.detector import Detection, Detector
from kws_edge.errors import ModelError
from kws_edge.model.model import Model

__all__ = ["NEAR_TIE", "Parity", "describe"]

NEAR_TIE = 16
"""Allowed difference of a near tie, in steps of 1/256. Within it, a label may win, or a keyword may pass its threshold,
in only one of the two. The board's self-test allows the same difference between its own features and the host's."""
OTHER_WINNERS = 0.05
"""Share of inferences that another label may win by more. Near the boundary of two words, a winner changes easily."""

_UNIT = 256
"""Steps of a posterior from 0 to 1."""
_ADVICE = "End each convolution in a ReLU, and avoid the operators SUM and RELU6"


@dataclass(frozen=True)
class Parity:
    """The comparison of TFLite Micro and LiteRT on the golden recording."""

    inferences: int
    """Rows of posteriors: one an inference, or one for each answer of a network with state."""
    identical: int
    """Number of inferences with the same bits."""
    same_label: int
    """Number of inferences that the same label wins."""
    most_steps: int
    """Largest difference of a posterior, in 1/256."""
    differences: tuple[str, ...]
    """Different answers in words: detections (except near ties with the threshold), and winners if many differ."""

    @classmethod
    def of(cls, vectors: GoldenVectors, model: Model, detector: Detector) -> Parity:
        """Compare `vectors` from TFLite Micro with the posteriors of `model` and the detections of `detector`."""
        shape, labels = model.input.shape, model.labels
        model.interpreter.reset()
        outputs = np.array([model.interpreter.invoke(row.reshape(shape)) for row in vectors.stream_features])
        outputs = outputs.reshape(vectors.stream.shape)
        host, board = (_steps(model, q) for q in (outputs, vectors.stream))
        rows, steps = np.arange(len(host)), np.abs(board - host)
        ours, theirs = host.argmax(axis=1), board.argmax(axis=1)
        leads = np.maximum(host[rows, ours] - host[rows, theirs], board[rows, theirs] - board[rows, ours])
        differences, others = [], np.flatnonzero(leads > NEAR_TIE)
        if len(others) > OTHER_WINNERS * len(host):
            i = others[0]
            differences.append(
                f"{len(others)} of {len(host)} inferences have another winner, the first at {vectors.times[i]:.2f} s "
                f"{labels[theirs[i]]} instead of {labels[ours[i]]}"
            )
        heard = _detections(detector, host / np.float32(_UNIT), vectors.times)
        differences += _unlike(vectors.detections, heard, detector, "{} s {} is detected, unlike on the host")
        differences += _unlike(heard, vectors.detections, detector, "{} s {} is not detected, unlike on the host")
        return cls(
            inferences=len(host),
            identical=int((outputs == vectors.stream).all(axis=1).sum()),
            same_label=int((ours == theirs).sum()),
            most_steps=math.ceil(steps.max()),
            differences=tuple(differences),
        )

    def to_dict(self) -> dict[str, int]:
        """The values for the manifest and the report."""
        return {name: getattr(self, name) for name in ("inferences", "identical", "same_label", "most_steps")}

    def check(self, name: str, *, exact: bool) -> None:
        """Refuse a model if answers differ, or, with `exact`, if any posterior differs.

        Raises
        ------
        ModelError
        """
        if self.differences:
            more = f" and {len(self.differences) - 1} more" if len(self.differences) > 1 else ""
            raise ModelError(
                f"{name}: TFLite Micro gives other answers than LiteRT, so what the host measures does not hold on the "
                f"board: {self.differences[0]}{more}; posteriors are up to {self.most_steps} steps of 256 apart. "
                f"{_ADVICE}"
            )
        if exact and self.most_steps:
            raise ModelError(
                f"{name}: TFLite Micro's posteriors are up to {self.most_steps} steps of 256 from LiteRT's; --exact "
                f"allows none. {_ADVICE}"
            )


def describe(parity: dict[str, int]) -> str:
    """A sentence on the values of :meth:`Parity.to_dict`."""
    n = parity["inferences"]
    both = "TFLite Micro and LiteRT's builtin kernels"
    if parity["identical"] == n:
        return f"{both} give the same bits at all {n} inferences on the golden recording."
    steps = f"{parity['most_steps']} step{'s' * (parity['most_steps'] > 1)}"
    return (
        f"{both} differ by at most {steps} of 256 on the golden recording: "
        f"{parity['identical']} of {n} inferences have the same bits, and {parity['same_label']} the same winner."
    )


def _steps(model: Model, outputs: NDArray[np.int8]) -> NDArray[np.float32]:
    """Posteriors of rows of outputs, in steps of 1/256; same shape."""
    return np.array([model.dequantize(row).ravel() for row in outputs]) * np.float32(_UNIT)


def _detections(
    detector: Detector, posteriors: NDArray[np.float32], times: Sequence[float]
) -> list[tuple[int, Detection]]:
    detector.reset()
    found = ((i, detector.process(row, time)) for i, (row, time) in enumerate(zip(posteriors, times, strict=True)))
    return [(i, detection) for i, detection in found if detection]


def _unlike(
    found: list[tuple[int, Detection]], others: list[tuple[int, Detection]], detector: Detector, text: str
) -> list[str]:
    """Detections of `found` that `others` lacks within the smoothing time, except those just above a threshold."""
    missing = []
    for step, detection in found:
        same = (i for i, other in others if other.keyword == detection.keyword)
        label = detector.labels.index(detection.keyword)
        leads = (256 * (detection.score - t[label]) for t in (detector.thresholds, detector.thresholds_in_speech))
        tie = any(0 <= lead <= NEAR_TIE for lead in leads)
        if not tie and all(abs(step - i) > detector.smoothing_steps for i in same):
            missing.append("at " + text.format(f"{detection.end_s:.2f}", detection.keyword))
    return missing
