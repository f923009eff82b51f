"""Accuracy on labelled clips or features of a model file, through kws_edge, or of a run's network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from host_tools.errors import DatasetError
from host_tools.evaluation.mistakes import MOST, TABLE, check_unused, clip_name, posterior_columns, write_table
from host_tools.evaluation.test_sets import TestSet, answers, has_state
from host_tools.locks import locked
from kws_edge.detection.calibration import wilson
from kws_edge.features.frontend import Frontend
from kws_edge.files import write_atomically
from kws_edge.labels import is_keyword, is_unknown
from kws_edge.model.model import AFTER_MS, Model
from kws_edge.model.quantization import posterior
from kws_edge.text import counted

if TYPE_CHECKING:  # it imports Keras, which model files do not need
    from host_tools.training.run import Run

__all__ = ["Evaluation", "evaluate", "posteriors_of", "write_errors"]


@dataclass(frozen=True)
class Evaluation:
    """Results on a set of labelled clips."""

    labels: tuple[str, ...]
    truth: NDArray[np.int64]
    posteriors: NDArray[np.float32]
    """shape (n, n_labels)"""
    items: tuple[str, ...]

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """Index of the label with the largest posterior, for each clip."""
        return self.posteriors.argmax(axis=1)

    @property
    def accuracy(self) -> float:
        return float((self.truth == self.predicted).mean())

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Clips by label (rows) and prediction (columns), shape (n_labels, n_labels)."""
        matrix = np.zeros((len(self.labels),) * 2, int)
        np.add.at(matrix, (self.truth, self.predicted), 1)
        return matrix

    def to_dict(self) -> dict[str, Any]:
        """The results as a JSON-ready dict."""
        confusion = self.confusion
        n, right = len(self.truth), int(np.trace(confusion))
        return {
            "clips": n,
            "accuracy": round(self.accuracy, 6),
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
        """The results for people: accuracy, and the recall of each label with the labels it is mistaken for."""
        values, confusion = self.to_dict(), self.confusion
        low, high = values["interval_95"]
        clips = counted(len(self.truth), "clip")
        lines = [f"accuracy {self.accuracy:.2%} of {clips} (95 % interval {low:.2%} to {high:.2%})"]
        for i, label in enumerate(self.labels):
            row = confusion[i].copy()
            if not (total := row.sum()):
                continue
            right, row[i] = row[i], 0
            wrong = ", ".join(f"{self.labels[j]} {row[j]}" for j in np.argsort(-row, kind="stable")[:3] if row[j])
            lines.append(f"  {label:<12} {right / total:7.2%} of {total:4}  {wrong}")
        return "\n".join(lines)


def posteriors_of(
    subject: Model | Run, features: NDArray[np.float32], *, progress: Callable[..., Any] = tqdm
) -> NDArray[np.float32]:
    """Posteriors of a model file, as kws_edge computes them, or of a run's network in Keras.

    Returns
    -------
    numpy.ndarray, shape (n, n_answers), float32
        Columns are those of :func:`answers`. A model with a single output p has the columns p and 1 - p.
    """
    if isinstance(subject, Model):
        rows = progress(features, desc=subject.metadata.name or "model", unit="clip", mininterval=0.5)
        posteriors = np.array([subject.posteriors(row) for row in rows])
    elif has_state(subject):
        posteriors = _largest(subject, features)
    else:
        posteriors = subject.model().predict(features[..., np.newaxis], batch_size=256, verbose=0)
    if has_state(subject):
        return _shared(posteriors, subject.labels)
    return posteriors if posteriors.shape[1] > 1 else np.concatenate([posteriors, 1 - posteriors], axis=1)


def _largest(run: Run, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest posteriors of a network with state in each clip and the silence after it, as kws_edge has them."""
    from host_tools.networks.streaming import SCORE_OFFSET, answer_frames, scores_of

    network, config = run.model(), run.frontend_config
    step = answer_frames(network)
    frames = -(-(features.shape[1] + config.frames_of(AFTER_MS)) // step) * step
    levels = np.tile(Frontend(config).silence(), (len(features), frames, 1)).astype(np.float32)
    levels[:, : features.shape[1]] = features
    return posterior(scores_of(network, levels[:, :, np.newaxis]).max(axis=1), SCORE_OFFSET)


def _shared(posteriors: NDArray[np.float32], labels: Sequence[str]) -> NDArray[np.float32]:
    """The columns of :func:`answers`, of which the largest is the answer, from independent posteriors.

    ``unknown``, which tells of any speech, counts as far as no keyword is likely, and ``silence`` as far as nothing is.
    """
    keyword = [is_keyword(label) for label in labels]
    rest = 1 - posteriors[:, keyword].max(axis=1)
    spoken = posteriors[:, [is_unknown(label) for label in labels]].max(axis=1, initial=0.0)
    shared = np.where(keyword, posteriors, (spoken * rest)[:, np.newaxis])
    return np.concatenate([shared, ((1 - spoken) * rest)[:, np.newaxis]], axis=1).astype(np.float32)


def evaluate(subject: Model | Run, test: TestSet, *, progress: Callable[..., Any] = tqdm) -> Evaluation:
    """Accuracy of a model file through kws_edge, or of a run's network in Keras."""
    posteriors = posteriors_of(subject, test.features, progress=progress)
    return Evaluation(answers(subject), test.truth, posteriors, test.items)


def write_errors(folder: str | Path, results: Sequence[tuple[TestSet, Evaluation]], *, most: int = MOST) -> str:
    """Copy misclassified clips to a folder, with a table of all of them and their posteriors.

    The worst come first: the posterior of the true label is furthest below that of the predicted label. The names of
    the files tell rank, truth, prediction and the prediction's posterior.

    Parameters
    ----------
    folder : path
        New, or empty.
    results : sequence of (TestSet, Evaluation)
        Results of one model. Features have no sound, so only the table names them.
    most : int
        Largest number of clips to copy.

    Returns
    -------
    str
        What was written, for people.

    Raises
    ------
    DatasetError
        If the folder holds something, or a clip is gone.
    WriteError
        If the folder cannot be written.
    """
    check_unused(folder)
    folder, labels = Path(folder), results[0][1].labels
    wrong = []
    for test, result in results:
        for i in np.flatnonzero(result.truth != result.predicted):
            posteriors, truth, predicted = result.posteriors[i], result.truth[i], result.predicted[i]
            wrong.append((float(posteriors[truth] - posteriors[predicted]), test, result.items[i], truth, posteriors))
    wrong.sort(key=lambda one: one[0])
    rows: list[list[object]] = [["file", "clip", "truth", "predicted", *posterior_columns(labels)]]
    copied = 0
    with locked(folder):
        for _, test, item, truth, posteriors in wrong:
            best, name = int(posteriors.argmax()), ""
            if test.recorded and copied < most:
                copied += 1
                how = f"{labels[truth]}_as_{labels[best]}_{posteriors[best]:.2f}"
                name = clip_name(f"{copied:04}", how, Path(item).stem, ending=Path(item).suffix)
                _copy(Path(item), folder / name)
            rows.append([name, item, labels[truth], labels[best], *map(float, posteriors)])
        write_table(folder, rows)
    sounds = f"{counted(copied, 'clip')}, worst first" if copied else "no clips"
    return (
        f"wrote {folder}: {sounds}, and {TABLE} with the posteriors of {counted(len(wrong), 'misclassified example')}"
    )


def _copy(source: Path, target: Path) -> None:
    try:
        content = source.read_bytes()
    except OSError as error:
        raise DatasetError(f"{source}: cannot be read ({error.strerror})") from None
    write_atomically(target, content)
