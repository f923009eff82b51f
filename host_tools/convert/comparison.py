"""What quantisation changed, on the examples that a run kept for validation."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import keras
import numpy as np

from host_tools.evaluation.sequence_scores import sequence_scores
from host_tools.networks.streaming import SCORE_OFFSET, answer_frames, scores_of
from host_tools.training.run import Run
from kws_edge.model.model import Model
from kws_edge.model.quantization import posterior

__all__ = ["compared_clips", "compared_sequences"]

_THRESHOLD = 0.5


def compared_clips(run: Run, model: keras.Model, content: bytes) -> dict[str, float]:
    """Accuracies of the network and of its model file on the run's validation examples.

    Parameters
    ----------
    run : Run
    model : keras.Model
        The run's network.
    content : bytes
        Of the model file.
    """
    inputs, truth = run.examples("validation")
    floating = model.predict(inputs, batch_size=256, verbose=0).argmax(axis=1)
    int8 = _opened(content)
    quantised = np.array([int8.posteriors(x[..., 0]).argmax() for x in inputs])
    return {
        "clips": len(truth),
        "float_accuracy": round(float((floating == truth).mean()), 5),
        "int8_accuracy": round(float((quantised == truth).mean()), 5),
        "agreement": round(float((floating == quantised).mean()), 5),
    }


def compared_sequences(run: Run, model: keras.Model, content: bytes) -> dict[str, float]:
    """Errors of the network and of its model file on the run's validation sequences, at a threshold of one half.

    ``agreement`` is the share of answers in which both say the same of every label. The parameters are those of
    :func:`compared_clips`.
    """
    levels, words = run.sequences("validation"), run.sequence_words()
    frames, hop_s = answer_frames(model), run.frontend_config.hop_ms / 1000
    posteriors = {"float": posterior(scores_of(model, levels), SCORE_OFFSET), "int8": _heard(_opened(content), levels)}
    found: dict[str, float] = {"sequences": len(levels), "threshold": _THRESHOLD}
    for form, values in posteriors.items():
        score = sequence_scores(values, words, run.labels, threshold=_THRESHOLD, answer_s=frames * hop_s, hop_s=hop_s)
        found |= {
            f"{form}_missed": round(score.false_reject_rate or 0.0, 5),
            f"{form}_false_accepts_per_hour": round(score.false_accepts_per_hour or 0.0, 2),
        }
    said = [values >= _THRESHOLD for values in posteriors.values()]
    return {**found, "agreement": round(float((said[0] == said[1]).all(axis=2).mean()), 5)}


def _heard(file: Model, levels: np.ndarray) -> np.ndarray:
    """Posteriors of sequences by a model file, shape (n, answers, labels)."""
    interpreter, answers = file.stepping(levels.shape[1]), []
    for one in levels[:, :, 0]:
        interpreter.reset()
        q = np.empty(one.shape, file.input.dtype)
        file.quantize_levels(one, out=q)
        answers.append(file.dequantize(interpreter.invoke(q[np.newaxis, :, np.newaxis])))
    return np.stack(answers)


def _opened(content: bytes) -> Model:
    with tempfile.TemporaryDirectory() as folder:
        draft = os.path.join(folder, "draft.tflite")
        Path(draft).write_bytes(content)
        return Model(draft, kernels="builtin")
