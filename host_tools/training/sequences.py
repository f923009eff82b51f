"""What training on sequences is: a network with state, and a sigmoid for each word at every answer.

Every answer in a time after a word's end shall be the word, and no other answer shall. Answers that shall be no word
count by their posterior, so that the many that are easy do not hide the few that are hard. The weights that are kept
are averages over the last batches.
"""

from __future__ import annotations

import functools
from collections.abc import Generator
from dataclasses import replace

import keras
import numpy as np
from keras import ops

from host_tools.config import VALIDATION_THRESHOLDS
from host_tools.data.features import span_range
from host_tools.data.label_sets import SPOKEN_AS_UNKNOWN
from host_tools.errors import TrainingError
from host_tools.evaluation.sequence_scores import sequence_scores
from host_tools.networks.dequantize import load_int8
from host_tools.networks.heeding import heeding_speech, speech_before
from host_tools.networks.models import build
from host_tools.networks.qat import quantisation_aware
from host_tools.networks.streaming import (
    HEAD,
    SCORE_OFFSET,
    answer_frames,
    get_words,
    scores_of,
    scoring,
    set_by_name,
    set_words,
    states,
    transfer_clip,
)
from host_tools.networks.weight_import import transfer
from host_tools.sampling.examples import Examples, load_examples
from host_tools.sampling.sequences import SequenceBatches, sequence_frames
from host_tools.sampling.tracks import Tracks
from host_tools.training.run import Run, load_run
from host_tools.training.task import Task
from kws_edge.errors import KwsError
from kws_edge.labels import UNKNOWN
from kws_edge.model.model import Model
from kws_edge.model.quantization import posterior

__all__ = ["AnswerLoss", "SequenceTask"]

_OF_CLIPS = "residual"
"""Network of the model files that a training can start from."""
_STEM_CHANNELS = 48
"""Those of the network's first layer at a width of 1."""
_MANY = 50
"""A word with at least this many recordings gets an output in training."""
_VALIDATION, _CALIBRATION = 256, 200
"""Sequences that are kept."""
_LONGEST_AVERAGE = 500
"""Batches over which weights are averaged, at most a tenth of all."""


@keras.saving.register_keras_serializable("kws_edge")
class AnswerLoss(keras.losses.Loss):
    """Sum of the weighted losses of all answers; targets are those of :meth:`SequenceBatches.targets`.

    They may be followed, on the last axis, by what a teacher's answers weigh for each output, and against each.

    Parameters
    ----------
    voice : int or None
        The output of any speech, whose answers all count fully, as speech is not rare.
    cost : float
        How much the network that is kept lowers a score after speech; see
        :func:`host_tools.networks.heeding.heeding_speech`. What it lowers is no mistake to learn from. Words are to
        be heard after speech nevertheless.
    before : tuple of int
        As :func:`host_tools.networks.heeding.speech_before` gives it.
    """

    def __init__(
        self,
        voice: int | None,
        cost: float = 0.0,
        before: tuple[int, int] = (1, 1),
        name: str = "answers",
        reduction: str = "sum",
        **kwargs,
    ) -> None:
        super().__init__(name=name, reduction=reduction, **kwargs)
        self.voice, self.cost, self.before = voice, cost, tuple(before)

    def call(self, y_true, y_pred):
        logits = y_pred[:, :, 0] - SCORE_OFFSET
        y_true, *taught = ops.split(y_true, y_true.shape[-1] // logits.shape[-1], axis=-1)
        wanted, unwanted = ops.relu(y_true), ops.relu(-y_true)
        lowered = logits
        if self.voice is not None:
            voice = ops.one_hot(self.voice, logits.shape[-1], dtype=logits.dtype)
            lowered = logits - self.cost * (1 - voice) * self._speech_before(logits)
        likely = ops.stop_gradient(ops.sigmoid(lowered))
        if self.voice is not None:
            likely = ops.maximum(likely, voice)
        losses = wanted * ops.softplus(-logits) + unwanted * likely * ops.softplus(lowered)
        if taught:
            losses += taught[0] * ops.softplus(-lowered) + taught[1] * ops.softplus(lowered)
        return ops.sum(losses, axis=(1, 2))

    def _speech_before(self, logits):
        """The mean posterior of speech in the time before each answer, shape (n, answers, 1)."""
        earliest, latest = self.before
        speech = ops.stop_gradient(ops.sigmoid(logits[:, :, self.voice]))
        summed = ops.cumsum(ops.pad(speech, ((0, 0), (earliest + 1, 0))), axis=1)
        answers, span = logits.shape[1], earliest - latest + 1
        return ((summed[:, span : span + answers] - summed[:, :answers]) / span)[:, :, None]

    def get_config(self) -> dict:
        return {**super().get_config(), "voice": self.voice, "cost": self.cost, "before": self.before}


class SequenceTask(Task):
    """Trains a network with state."""

    metrics = ("loss",)

    @functools.cache  # noqa: B019  a task lives as long as its process
    def network(self) -> keras.Model:
        built = self._built(len(self.labels))
        if not self._cost:
            return built
        return heeding_speech(built, self.labels.index(UNKNOWN), self._cost, self.frontend_config)

    @property
    def _cost(self) -> float:
        """How much the network that is kept lowers scores after speech, if one of its outputs tells of speech."""
        return self.config.sequences.after_speech if UNKNOWN in self.labels else 0.0

    def to_train(self) -> keras.Model:
        return self._built(len(self.outputs))

    def _built(self, n: int) -> keras.Model:
        return build(self.network_config.model, self.frontend_config, n, width=self.network_config.width)

    def load(self) -> Examples[Tracks]:
        config, sequences = self.config, self.config.sequences
        step = answer_frames(self.network())
        self.examples = examples = load_examples(
            config.data,
            self.frontend_config,
            self.labels,
            audio_copies=config.mix.audio_copies,
            seed=config.seed,
            sequence_frames=sequence_frames(sequences, self.frontend_config.hop_ms, step),
        )
        make = functools.partial(
            SequenceBatches,
            sequences=sequences,
            answer_frames=step,
            batch_size=config.optim.batch_size,
            seed=config.seed,
        )
        many = () if config.weights.qat or not sequences.other_outputs else self._others()
        self.batches = make(examples, config.mix, others=many)
        self._validating = make(_validation_words(examples), replace(config.mix, mined=0.0))
        return examples

    def _others(self) -> tuple[str, ...]:
        """Words that are no labels, with many recordings."""
        words = sorted(word for word in self.examples.by_word if word not in self.labels)
        return tuple(word for word in words if self.examples.count_recorded(word) >= _MANY)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs in training: the labels, and other words."""
        return self.batches.outputs

    def keep(self, run: Run) -> None:
        rng = np.random.default_rng(self.config.seed)
        self._validation = self._validating.draw(_VALIDATION, rng)
        self._calibration = self.batches.draw(_CALIBRATION, rng).levels
        run.keep_examples(
            {
                "calibration": self._calibration,
                "validation": self._validation.levels,
                "validation_words": self._validation.words,
            }
        )

    def load_int8(self, model: keras.Model, path: str, run: Run) -> list[str]:
        file = _file_of_clips(path)
        kernel = next(iter(file.flat.weighted))[1][1]
        width = file.flat.tensors[kernel].shape[0] / _STEM_CHANNELS
        clip = build(_OF_CLIPS, self.frontend_config, len(file.labels), width=width)
        n = self.frontend_config.n_frames
        levels = run.sequences("calibration")[..., 0, :, np.newaxis]
        heard = np.concatenate([levels[:, at : at + n] for at in range(0, levels.shape[1] - n + 1, n)])
        load_int8(clip, path, self.frontend_config, heard, file.labels)
        return transfer_clip(clip, file.labels, model, self.outputs)

    def load_run(self, model: keras.Model, parent: Run) -> list[str]:
        source = parent.model()
        if not parent.config.network.streams:
            return transfer_clip(source, parent.labels, model, self.outputs)
        left = transfer(source, model)
        new = set_words(model, get_words(source, parent.labels), self.outputs)
        return [*(name for name in left if name != HEAD), *new]

    def quantisation_aware(self, run: Run) -> keras.Model:
        form = self._form()
        copy = keras.models.clone_model(form)
        copy.set_weights(form.get_weights())
        return copy

    def trainable(self, network: keras.Model) -> keras.Model:
        optim = self.config.optim
        model = scoring(network)
        first = (*optim.lengthened, optim.epochs)[0]  # as it was, if the run was lengthened
        average = max(1.0, min(_LONGEST_AVERAGE, first * optim.steps / 10))
        optimizer = keras.optimizers.AdamW(
            optim.learning_rate,
            weight_decay=optim.weight_decay,
            beta_2=0.98,
            clipnorm=5.0,
            use_ema=True,
            ema_momentum=1 - 1 / average,
        )
        before = speech_before(self.frontend_config.hop_ms, self.batches.answer_frames)
        model.compile(optimizer=optimizer, loss=AnswerLoss(self.batches.voice, self._cost, before))
        return model

    def epoch(self, model: keras.Model, epoch: int) -> Generator[tuple, None, None]:
        past = states(model, self.config.optim.batch_size)
        for levels, targets in self.batches.epoch(epoch, self.config.optim.steps):
            yield [levels, *past], self._taught(levels, targets) if self.teacher else targets

    def _taught(self, levels: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Targets of :class:`AnswerLoss`, with those of the teacher for every label."""
        share = np.float32(self.config.weights.teacher_weight)
        scores = self.devices.answers(self.teacher, [levels, *states(self.teacher, len(levels))])[:, :, 0]
        posteriors = np.zeros_like(targets)
        posteriors[..., : len(self.labels)] = posterior(scores, SCORE_OFFSET)
        weights = share * self.batches.answer_weights(targets)
        weights[len(self.labels) :] = 0
        return np.concatenate([(1 - share) * targets, weights * posteriors, weights * (1 - posteriors)], axis=-1)

    def mine(self, model: keras.Model, epoch: int) -> str:
        answers = self._averaged(model)

        def posteriors(levels: np.ndarray) -> np.ndarray:
            scores = self.devices.answers(answers, [levels, *states(answers, len(levels))])
            return posterior(scores[:, :, 0], SCORE_OFFSET)

        found = self.batches.mine(posteriors, epoch)
        return ", ".join(f"{n} places in {name}" for name, n in found.items())

    def kept(self, model: keras.Model) -> keras.Model:
        return set_by_name(self._form(), self._averaged(model))

    @functools.cache  # noqa: B019
    def _form(self) -> keras.Model:
        """The network that is kept, with the weights to start from if it has fake quantisation, else with any."""
        if not self.config.weights.qat:
            return self.network()
        levels = span_range(self._calibration.copy(), self.frontend_config)
        return quantisation_aware(load_run(self.config.weights.qat).model(), levels)

    def _averaged(self, model: keras.Model) -> keras.Model:
        """A copy of the training model with the averages of its weights."""
        copy, own = self._copy(model), model.get_weights()
        if int(model.optimizer.iterations):
            model.optimizer.finalize_variable_values(model.trainable_variables)
        copy.set_weights(model.get_weights())
        model.set_weights(own)
        return copy

    @functools.cache  # noqa: B019
    def _copy(self, model: keras.Model) -> keras.Model:
        with self.devices.scope():
            return keras.models.clone_model(model)

    def validate(self, model: keras.Model, kept: keras.Model) -> dict[str, float]:
        made = self._validation
        scores = scores_of(kept, made.levels)
        targets = self._validating.targets(made)
        found = {"loss": float(ops.convert_to_numpy(AnswerLoss(self.batches.voice)(targets, scores[:, :, np.newaxis])))}
        posteriors, hop_s = posterior(scores, SCORE_OFFSET), self.frontend_config.hop_ms / 1000
        answer_s = self._validating.answer_frames * hop_s
        for threshold in VALIDATION_THRESHOLDS:
            score = sequence_scores(
                posteriors, made.words, self.labels, threshold=threshold, answer_s=answer_s, hop_s=hop_s
            )
            found[f"missed_{threshold:g}"] = score.false_reject_rate or 0.0
            found[f"false_accepts_{threshold:g}"] = score.false_accepts_per_hour or 0.0
        return found

    def better(self, now: dict[str, float], best: dict[str, float]) -> bool:
        """By validation loss."""
        return now["val_loss"] < best["val_loss"]


def _file_of_clips(path: str) -> Model:
    """A model file to start from."""
    try:
        return Model(path, kernels="builtin")
    except KwsError as error:
        raise TrainingError(str(error)) from None


def _validation_words(examples: Examples[Tracks]) -> Examples[Tracks]:
    """The same sounds with the words that validate in place of those that train."""
    raw, truth = examples.validation
    names = [SPOKEN_AS_UNKNOWN if label == UNKNOWN else label for label in examples.labels]
    by_word = {name: np.flatnonzero(truth == i) for i, name in enumerate(names)}
    return replace(
        examples,
        stores=[raw],
        kinds=["recorded"],
        by_word={name: numbers for name, numbers in by_word.items() if len(numbers)},
        windows=None,
    )
