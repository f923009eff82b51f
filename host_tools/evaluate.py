"""Accuracy on labelled clips, of a model file through kws_edge or of a run's float network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from host_tools.dataset import index_labelled, label_of
from host_tools.examples import model_input
from host_tools.features import clip_features, raw_to_levels, read_clip
from host_tools.train import Run
from kws_edge.model import Model

__all__ = ["Evaluation", "evaluate_model", "evaluate_run", "wilson"]


def wilson(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a proportion, at 95 % by default (Wilson, 1927)."""
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


@dataclass(frozen=True)
class Evaluation:
    """Results on a set of labelled clips."""

    labels: tuple[str, ...]
    truth: np.ndarray
    predicted: np.ndarray
    paths: tuple[str, ...]

    @property
    def accuracy(self) -> float:
        return float((self.truth == self.predicted).mean())

    @property
    def confusion(self) -> np.ndarray:
        """Clips by label (rows) and prediction (columns), shape (n_labels, n_labels)."""
        matrix = np.zeros((len(self.labels),) * 2, int)
        np.add.at(matrix, (self.truth, self.predicted), 1)
        return matrix

    def to_dict(self) -> dict:
        """The results as a JSON-ready dict."""
        confusion = self.confusion
        n, right = len(self.truth), int(np.trace(confusion))
        return {
            "clips": n,
            "accuracy": round(self.accuracy, 5),
            "interval_95": [round(x, 5) for x in wilson(right, n)],
            "recall": {
                label: round(confusion[i, i] / total, 4)
                for i, label in enumerate(self.labels)
                if (total := confusion[i].sum())
            },
            "confusion": confusion.tolist(),
            "labels": list(self.labels),
        }

    def table(self) -> str:
        """The results for people: accuracy, and for each label its recall and what it is mistaken for."""
        values, confusion = self.to_dict(), self.confusion
        low, high = values["interval_95"]
        lines = [f"accuracy {self.accuracy:.2%} of {len(self.truth)} clips (95 % interval {low:.2%} to {high:.2%})"]
        for i, label in enumerate(self.labels):
            row = confusion[i].copy()
            if not (total := row.sum()):
                continue
            right, row[i] = row[i], 0
            wrong = ", ".join(f"{self.labels[j]} {row[j]}" for j in np.argsort(-row, kind="stable")[:3] if row[j])
            lines.append(f"  {label:<12} {right / total:7.2%} of {total:4}  {wrong}")
        return "\n".join(lines)


def _collect(folder: str | Path, labels: Sequence[str]) -> tuple[list[Path], np.ndarray]:
    pairs = index_labelled(folder)
    return [path for path, _ in pairs], np.array([label_of(label, labels) for _, label in pairs])


def evaluate_model(model: Model, folder: str | Path, *, progress: Callable = tqdm) -> Evaluation:
    """Classify every clip under ``folder/<label>/`` as ``kws-edge classify`` does."""
    paths, truth = _collect(folder, model.labels)
    predicted = [
        int(model.classify(read_clip(path, model.front_end)).argmax())
        for path in progress(paths, desc=model.metadata.name or "model", unit="clip", mininterval=0.5)
    ]
    return Evaluation(model.labels, truth, np.array(predicted), tuple(map(str, paths)))


def evaluate_run(run: Run, folder: str | Path) -> Evaluation:
    """The same for a run's float network."""
    paths, truth = _collect(folder, run.labels)
    config = run.front_end
    levels = raw_to_levels(clip_features(paths, config, what="features").astype(np.float32), config)
    predicted = run.model().predict(model_input(levels, config), batch_size=256, verbose=0).argmax(axis=1)
    return Evaluation(run.labels, truth, predicted, tuple(map(str, paths)))
