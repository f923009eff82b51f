"""How far TFLite Micro's posteriors are from LiteRT's, and whether the answers are the same.

LiteRT rounds a negative half otherwise than TFLite Micro: a convolution or a fully connected layer without a ReLU may
be a step apart, and what follows may be more. SUM, and RELU6 as an operator of its own, may differ by far more.
"""

from __future__ import annotations

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
"""Steps of 256 by which a label may win, or a keyword pass its threshold, in one of the two alone: so much the board's
self-test allows between features of its own and the host's, too."""
OTHER_WINNERS = 0.05
"""Share of the inferences that another label may win by more. Between two words, one inference is soon another's."""

_ADVICE = "End each convolution in a ReLU, and avoid the operators SUM and RELU6"


@dataclass(frozen=True)
class Parity:
    """TFLite Micro and LiteRT on the golden recording."""

    inferences: int
    identical: int
    """Inferences with the same bits."""
    same_label: int
    """Inferences that the same label wins."""
    most_steps: int
    """Largest difference of a posterior, in 1/256."""
    differences: tuple[str, ...]
    """Answers that differ, in words: detections, but for a near tie with the threshold, and winners, if many do."""

    @classmethod
    def of(cls, vectors: GoldenVectors, model: Model, detector: Detector) -> Parity:
        """Compare `vectors`, which TFLite Micro computed, with what `model` computes and `detector` makes of it."""
        shape, labels = model.input.shape, model.labels
        model.interpreter.reset()
        host = np.array([model.interpreter.invoke(row.reshape(shape)).ravel() for row in vectors.stream_features])
        board, rows = vectors.stream.astype(int), np.arange(len(host))
        steps = np.abs(board - host)
        ours, theirs = host.argmax(axis=1), board.argmax(axis=1)
        leads = np.maximum(host[rows, ours] - host[rows, theirs].astype(int), board[rows, theirs] - board[rows, ours])
        differences, others = [], np.flatnonzero(leads > NEAR_TIE)
        if len(others) > OTHER_WINNERS * len(host):
            i = others[0]
            differences.append(
                f"{len(others)} of {len(host)} inferences have another winner, the first at {vectors.times[i]:.2f} s "
                f"{labels[theirs[i]]} instead of {labels[ours[i]]}"
            )
        heard = _detections(detector, [model.dequantize(row) for row in host], vectors.times)
        differences += _unlike(vectors.detections, heard, detector, "{} s {} is detected, unlike on the host")
        differences += _unlike(heard, vectors.detections, detector, "{} s {} is not detected, unlike on the host")
        return cls(
            inferences=len(host),
            identical=int((steps.max(axis=1) == 0).sum()),
            same_label=int((ours == theirs).sum()),
            most_steps=int(steps.max()),
            differences=tuple(differences),
        )

    def to_dict(self) -> dict[str, int]:
        """What the manifest and the report hold."""
        return {name: getattr(self, name) for name in ("inferences", "identical", "same_label", "most_steps")}

    def check(self, name: str, *, exact: bool) -> None:
        """Refuse a model whose answers differ; if `exact`, one whose posteriors differ at all.

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
    """A sentence on what :meth:`Parity.to_dict` gives."""
    n = parity["inferences"]
    both = "TFLite Micro and LiteRT's builtin kernels"
    if parity["identical"] == n:
        return f"{both} give the same bits at all {n} inferences on the golden recording."
    steps = f"{parity['most_steps']} step{'s' * (parity['most_steps'] > 1)}"
    return (
        f"{both} differ by at most {steps} of 256 on the golden recording: "
        f"{parity['identical']} of {n} inferences have the same bits, and {parity['same_label']} the same winner."
    )


def _detections(
    detector: Detector, posteriors: Sequence[NDArray[np.float32]], times: Sequence[float]
) -> list[tuple[int, Detection]]:
    detector.reset()
    found = ((i, detector.process(row, time)) for i, (row, time) in enumerate(zip(posteriors, times, strict=True)))
    return [(i, detection) for i, detection in found if detection]


def _unlike(
    found: list[tuple[int, Detection]], others: list[tuple[int, Detection]], detector: Detector, text: str
) -> list[str]:
    """Detections of `found` that `others` has not within the smoothing time, but for those just above a threshold."""
    missing = []
    for step, detection in found:
        same = (i for i, other in others if other.keyword == detection.keyword)
        label = detector.labels.index(detection.keyword)
        leads = (256 * (detection.score - t[label]) for t in (detector.thresholds, detector.thresholds_in_speech))
        tie = any(0 <= lead <= NEAR_TIE for lead in leads)
        if not tie and all(abs(step - i) > detector.smoothing_steps for i in same):
            missing.append("at " + text.format(f"{detection.end_s:.2f}", detection.keyword))
    return missing
