"""Training: from examples to a run folder with the best weights, the log and the configuration that produced them."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import platform
import shlex
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

from host_tools.data.dataset import count, index_clips
from host_tools.data.features import raw_to_levels
from host_tools.data.label_sets import label_set
from host_tools.data.origins import origins_of
from host_tools.data.stored_features import NPY_DAMAGE
from host_tools.errors import TrainingError
from host_tools.locks import locked
from host_tools.networks.dequantize import load_int8
from host_tools.networks.models import build
from host_tools.networks.own_network import is_own, source_of
from host_tools.networks.qat import quantisation_aware
from host_tools.networks.weight_import import load_weights, set_head, transfer
from host_tools.sampling.augment import AugmentConfig
from host_tools.sampling.examples import Batches, Sources, check_sources, load_examples, model_input, span_range
from kws_edge.config import FrontendConfig, preset
from kws_edge.files import write_atomically
from kws_edge.labels import is_keyword
from kws_edge.model.file import unpack
from kws_edge.model.model import shipped_models
from kws_edge.text import printable

__all__ = ["BEST", "Run", "TrainConfig", "load_run", "plot_curves", "read_log", "sources_of", "train"]

BEST = "best.keras"
LAST = "last.keras"
_CONFIG = "config.json"
_LOG = "log.csv"
_KEPT = "examples.npz"
_PROBLEMS = "problems.txt"
_CURVES = "curves.png"
_TENSORBOARD = "tensorboard"
_WORDS = "words"
_MANY = 50
"""Recordings of a word from which on it is worth telling from others."""
_CALIBRATION = 600
_BACKENDS = ("tensorflow", "jax", "torch")
_SHOWN_PROBLEMS = 10
_DAMAGE = (  # what Keras and NumPy raise for a file that is cut short or of another kind
    *NPY_DAMAGE,
    OSError,
    KeyError,
    AttributeError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that a run depends on besides its data."""

    model: str = "residual"
    """A name of :data:`host_tools.networks.models.MODELS`, or ``module:function``."""
    width: float = 1.0
    frontend: str = "logmel40"
    labels: str = "commands12"
    """Name of a label set, or words, separated by commas."""
    split: str = "official"
    epochs: int = 40
    """0: the weights to start from are measured and kept as they are."""
    minutes: float = 0.0
    """Time that everything takes together, features included, however many epochs that gives; 0: `epochs` are done."""
    steps: int = 300
    """Batches an epoch."""
    batch_size: int = 160
    learning_rate: float = 2e-3
    """Peak; a warm-up of one epoch, or a fifth of all, leads to it, a cosine to zero follows."""
    weight_decay: float = 0.02
    smoothing: float = 0.1
    """Label smoothing."""
    augmentation: float = 1.0
    """Strength of the augmentation; 0: none."""
    reverberation: float = 0.0
    """Share of examples that get a room's response."""
    mixup: float = 0.0
    """Parameter of mixup's Beta distribution; 0: no mixup."""
    audio_copies: int = 0
    """Copies of each clip, varied as audio, to be drawn besides the clips."""
    shift_ms: float = 100.0
    """Largest shift to either side, before it is scaled by `augmentation`."""
    silence_share: float = 0.08
    """Share of a batch that is noise, at all levels."""
    unknown_share: float = 0.25
    """Share of a batch that is unknown words and speech."""
    speech_share: float = 0.3
    """Share of the unknown examples that are windows of continuous speech."""
    hard_negatives: float = 0.0
    """Share of the unknown examples that are pairs of words and halves of keywords."""
    mined: float = 0.0
    """Share of the noise and of the continuous speech that is what the network hears keywords in, looked for before
    each epoch."""
    variety: float = 0.0
    """Share of the noise and of the continuous speech that is made unlike the recordings: other speed, pitch, bands."""
    hiss: float = 0.0
    """Share of the noise that is what words' recordings hold besides the word."""
    babble: float = 0.0
    """Share of the noise behind examples that is speech."""
    equalisation_db: float = 0.0
    """Largest gain of a part of the bands, before it is scaled by `augmentation`."""
    gated: float = 0.15
    """Share of examples that are digitally silent but for the word, before it is scaled by `augmentation`."""
    noise_share: float = 0.6
    """Share of examples that get noise, before it is scaled by `augmentation`."""
    snr_db: tuple[float, float] = (0.0, 40.0)
    """Range of its signal-to-noise ratio."""
    keep: str = "best"
    """Epoch whose weights are kept: the ``best`` on the validation examples, or the ``last``, where validation clips do
    not show what is trained for, such as few false accepts in streams."""
    seed: int = 1
    words_first: float = 0.0
    """Share of the time in which, to begin with, all words with many recordings are told apart, by a run in the folder
    ``words``, from which the run itself starts: who tells many words of many speakers apart learns a new one from few
    recordings. 0: none of it."""
    start: str = ""
    """Run, file of weights in any Keras format, or INT8 model file (a shipped one's name, too) to start from; empty:
    from scratch."""
    blend: str = ""
    """Run whose weights are averaged with those to start from; empty: none."""
    blend_share: float = 0.5
    """Its share."""
    log_prior: str = ""
    """``LABEL=X``, separated by commas: to start with, X is added to the label's logit, as if the label were e^X times
    likelier. With no epochs after it, it undoes what a label's share of the batches has done to its posterior."""
    teacher: str = ""
    """Runs to distil from, separated by commas: the mean of their posteriors teaches; empty: none."""
    teacher_weight: float = 0.5
    """Share of the teacher's posteriors in the targets."""
    qat: str = ""
    """Run whose network is fine-tuned with fake quantisation; empty: training in floating point."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "snr_db", tuple(self.snr_db))  # JSON has lists

    @property
    def augment_config(self) -> AugmentConfig:
        base = AugmentConfig(
            shift_ms=self.shift_ms,
            noise_probability=self.noise_share,
            snr_db=self.snr_db,
            reverberation_probability=self.reverberation,
            gated=self.gated,
            mixup=self.mixup,
            equalisation_db=self.equalisation_db,
        )
        return base.scaled(self.augmentation)


@dataclass(frozen=True)
class Run:
    """A finished (or interrupted) run's folder."""

    folder: Path
    config: TrainConfig
    record: dict
    """``config.json`` as written: configuration, data, versions, and the best epoch so far."""

    @property
    def frontend_config(self) -> FrontendConfig:
        return FrontendConfig.from_dict(self.record["front_end"])

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.record["labels"])

    @property
    def origins(self) -> list[str]:
        """Whose the words are that trained it, and the weights that it started from."""
        return origins_of(self.record["data"], self.labels)

    def model(self) -> keras.Model:
        """The network with its best weights.

        Raises
        ------
        TrainingError
            If no epoch has finished yet, the file is broken, or the module of one's own network is not there.
        """
        path = self.folder / BEST
        if not path.exists():
            raise TrainingError(f"{path}: missing; no epoch of this run has finished yet")
        self.import_network()
        try:
            return keras.models.load_model(path, compile=False)
        except _DAMAGE as error:
            raise _broken(path, error) from None

    def import_network(self) -> None:
        """Import the module of one's own network, whose layers cannot be loaded without it.

        Raises
        ------
        TrainingError
            If it is not there.
        """
        if not is_own(self.config.model):
            return
        trained = self.record["network"]
        try:
            source = source_of(self.config.model)
        except TrainingError as error:
            raise TrainingError(f"{self.folder}: trained with {trained['file']}: {error}") from None
        if source["sha256"] != trained["sha256"]:
            print(f"kws-host: warning: {source['file']} has changed since {self.folder} was trained", file=sys.stderr)

    def examples(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Examples that training set aside: ``validation``, or ``calibration`` (training examples, evenly by label).

        Returns
        -------
        inputs : numpy.ndarray, shape (n, *frontend_config.feature_shape, 1), float32
        truth : numpy.ndarray, shape (n,), int
        """
        path = self.folder / _KEPT
        try:
            with open(path, "rb") as file, np.load(file) as stored:
                inputs, truth = stored[part], stored[f"{part}_truth"]
        except _DAMAGE as error:
            raise _broken(path, error) from None
        shape = (*self.frontend_config.feature_shape, 1)
        if inputs.shape != (len(truth), *shape) or inputs.dtype != np.float32 or truth.dtype.kind != "i":
            raise TrainingError(f"{path}: holds {inputs.dtype} {inputs.shape}, not examples of the run's front end")
        return inputs, truth

    def calibration(self, n: int, *, seed: int) -> np.ndarray:
        """`n` of the calibration examples, chosen by `seed`.

        They span the range of the front end's levels; see :func:`host_tools.sampling.examples.span_range`.

        Returns
        -------
        numpy.ndarray, shape (n, *feature_shape, 1), float32

        Raises
        ------
        TrainingError
            If there are fewer than `n` examples.
        """
        inputs, _ = self.examples("calibration")
        if not 1 <= n <= len(inputs):
            raise TrainingError(f"{n} calibration examples asked for; the run kept {len(inputs)}")
        chosen = inputs[np.random.default_rng(seed).permutation(len(inputs))[:n]]
        return span_range(chosen, self.frontend_config)


def sources_of(run: Run) -> Sources:
    """The data that a run was trained on, where they lay then.

    Raises
    ------
    TrainingError
        If its record does not say, because an earlier version wrote it.
    """
    try:
        places = {name: [Path(one["path"]) for one in folders] for name, folders in run.record["sources"].items()}
        several = {one.name for one in dataclasses.fields(Sources) if one.default == ()}
        return Sources(**{name: tuple(paths) if name in several else paths[0] for name, paths in places.items()})
    except (KeyError, TypeError, AttributeError, IndexError):
        raise TrainingError(f"{run.folder}: does not say what data it was trained on; name them") from None


def load_run(folder: str | Path) -> Run:
    """Open a run's folder.

    Raises
    ------
    TrainingError
        If it is no run's folder.
    """
    folder = Path(folder)
    path = folder / _CONFIG
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        run = Run(folder, TrainConfig(**record["training"]), record)
        _check_record(run)
        return run
    except OSError as error:
        raise TrainingError(f"{path}: {error.strerror}; {folder} is no folder of a `kws-host train`") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _broken(path, error) from None


def _check_record(run: Run) -> None:
    """Raise an error of the kind that JSON and dictionaries raise, unless every value is of its type."""
    for field in dataclasses.fields(TrainConfig):
        value, kind = getattr(run.config, field.name), type(field.default)
        if not isinstance(value, (int, float) if kind is float else kind):
            raise TypeError(f"{field.name} is {str(value)[:60]!r}, not of the type {kind.__name__}")
        if kind in (int, float) and not 0 <= value < math.inf:
            raise ValueError(f"{field.name} is {value}")
    if run.config.steps < 1 or run.config.batch_size < 1:
        raise ValueError("steps and batch_size must be at least 1")
    if not run.labels or not all(isinstance(label, str) for label in run.labels):
        raise TypeError("labels are not a list of texts")
    _ = run.frontend_config
    best = run.record.get("best", {})
    data = run.record["data"]
    if not isinstance(data, dict) or not isinstance(best, dict):
        raise TypeError("data and best are not objects")
    if not isinstance(run.origins, list) or not all(isinstance(origin, str) for origin in run.origins):
        raise TypeError("origins are not a list of texts")
    if is_own(run.config.model) and not {"file", "sha256"} <= dict(run.record["network"]).keys():
        raise TypeError("network does not say which file it is from")
    if best and not all(math.isfinite(best[name]) for name in ("epoch", "val_loss", "val_accuracy")):
        raise ValueError("the best epoch's values are not finite")


def _broken(path: Path, error: Exception) -> TrainingError:
    reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split()) or type(error).__name__
    return TrainingError(f"{path}: broken ({reason[:200]})")


class _Progress:
    """How much of the training is done: of its batches, or of its time.

    Parameters
    ----------
    config : TrainConfig
    first : int
        Epochs that an earlier call did.
    used_s : float
        What they took, with all around them, and what this call has taken so far.
    """

    def __init__(self, config: TrainConfig, first: int, used_s: float) -> None:
        self._limit_s = 60 * config.minutes
        self._total = max(1, config.epochs * config.steps)
        self._warm_up = 0.05 if self._limit_s else min(config.steps, max(1, self._total // 5)) / self._total
        self._peak = config.learning_rate
        self._batches = first * config.steps
        self._started, self._began_s = time.monotonic(), used_s
        self._before = self._share()

    def _share(self) -> float:
        return self.used_s / self._limit_s if self._limit_s else self._batches / self._total

    @property
    def used_s(self) -> float:
        """Time since the run began, pauses between calls left out."""
        return self._began_s + time.monotonic() - self._started

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self._share() >= 1

    @property
    def left_s(self) -> float:
        """Time that is left, as far as this call's pace tells."""
        if self._limit_s:
            return max(0.0, self._limit_s - self.used_s)
        done = self._share()
        return (1 - done) * (time.monotonic() - self._started) / max(1e-9, done - self._before)

    def learning_rate(self) -> float:
        """Of the next batch: a linear warm-up to the peak, then half a cosine to zero."""
        done = min(1.0, self._share() + 0.5 / self._total * (not self._limit_s))
        cosine = 0.5 * (1 + math.cos(math.pi * max(0.0, done - self._warm_up) / max(1e-9, 1 - self._warm_up)))
        return self._peak * min(done / self._warm_up, cosine)

    def step(self) -> None:
        """A batch is done."""
        self._batches += 1


def _write_record(run: Run) -> None:
    write_atomically(run.folder / _CONFIG, json.dumps(run.record, indent=2) + "\n")


def train(config: TrainConfig, sources: Sources, folder: str | Path, *, say: Callable[[str], None] = print) -> Run:
    """Train a network, or go on with an interrupted run of the same configuration.

    Nothing else trains in the folder at the same time.

    Parameters
    ----------
    config : TrainConfig
    sources : Sources
    folder : path
        The run's folder, made if it does not exist.
    say : callable
        Takes lines of progress.

    Raises
    ------
    TrainingError
        If the folder holds a run of another configuration, or the configuration cannot be trained.
    DatasetError
        If the data cannot be used.
    BusyError
        If another process trains there.
    WriteError
        If the folder cannot be written.
    """
    folder, share = Path(folder), config.words_first
    with locked(folder):
        if not share or not (labels := _words_to_tell(config, sources)):
            return _train(config, sources, folder, say)
        parts = [
            dataclasses.replace(config, minutes=part * config.minutes, epochs=round(part * config.epochs))
            for part in (share, 1 - share)
        ]
        say(f"to begin with, {labels.count(',') + 1} words are told apart")
        _train(dataclasses.replace(parts[0], labels=labels, words_first=0.0), sources, folder / _WORDS, say)
        rest = dataclasses.replace(parts[1], start=str(folder / _WORDS), learning_rate=config.learning_rate / 2)
        return _train(rest, sources, folder, say, asked=config)


def _words_to_tell(config: TrainConfig, sources: Sources) -> str:
    """The words to be told apart to begin with: the keywords, and all words of which there are many recordings; empty
    where none are."""
    clips = index_clips(sources.clips, split=config.split, seed=config.seed).clips
    own = [label for label in label_set(config.labels) if is_keyword(label)]
    found = count(clip.word for clip in clips if is_keyword(clip.word) and clip.word not in own)
    many = [word for word, n in found.items() if n >= _MANY]
    return ",".join([*own, *many]) if many else ""


def _train(
    config: TrainConfig,
    sources: Sources,
    folder: Path,
    say: Callable[[str], None],
    *,
    asked: TrainConfig | None = None,
) -> Run:
    """`asked` is what the record says, where `config` is a part of it."""
    asked = asked or config
    started = time.monotonic()
    labels = label_set(config.labels)
    frontend_config = preset(config.frontend)
    previous = load_run(folder) if (folder / _CONFIG).exists() else None
    if previous:
        _check_same(folder, _options(previous.config), _options(asked))
    if keras.backend.backend() not in _BACKENDS:
        raise TrainingError(
            f"Keras's backend {keras.backend.backend()} cannot train; set KERAS_BACKEND to {', '.join(_BACKENDS)}"
        )
    if not (config.epochs or config.minutes or config.start or config.qat):
        raise TrainingError("no epochs to train, and no weights to start from: give --epochs or --start")
    check_sources(sources, frontend_config, labels, split=config.split, seed=config.seed)  # before anything is read
    origins = sources.fingerprint()
    if previous and (lines := _other_data(previous.record.get("sources", {}), origins)):
        raise TrainingError(
            f"{folder} holds a run on other data: {'; '.join(lines)}. Put the data back as they were, or choose another"
            " folder"
        )
    teacher = _teacher(config, frontend_config, labels) if config.teacher else None
    if config.start and not Path(config.start).exists() and config.start not in shipped_models():
        raise TrainingError(f"{config.start}: no such run and no such file of weights to start from")
    keras.utils.set_random_seed(config.seed)
    network = build(
        config.model, frontend_config, len(labels), width=config.width
    )  # what is wrong with it is said at once
    source = {"network": source_of(config.model)} if is_own(config.model) else {}
    if previous and source and previous.record["network"]["sha256"] != source["network"]["sha256"]:
        file = source["network"]["file"]
        raise TrainingError(f"{folder} holds a run of {file} as it was before it changed; choose another folder")
    examples = load_examples(
        sources, frontend_config, labels, split=config.split, audio_copies=config.audio_copies, seed=config.seed
    )
    for line in examples.problems[:_SHOWN_PROBLEMS]:
        say(f"note: {line}")
    if (more := len(examples.problems) - _SHOWN_PROBLEMS) > 0:
        say(f"note: {more} more in {folder / _PROBLEMS}")
    if files := examples.summary["left_out"]:
        print(f"kws-host: {files} files left out; {folder / _PROBLEMS} lists them", file=sys.stderr)
    say(f"examples: {json.dumps(examples.summary)}")

    record = {
        "training": dataclasses.asdict(asked),
        "labels": list(labels),
        "front_end": frontend_config.to_dict(),
        **source,
        "augmentation": dataclasses.asdict(config.augment_config),
        "data": examples.summary,
        "sources": origins,
        "versions": {"python": platform.python_version(), "keras": keras.__version__, "numpy": np.__version__},
        "backend": keras.backend.backend(),
        "threads": os.cpu_count(),
    }
    if not (config.epochs or config.minutes) and config.start and Path(config.start).is_dir():
        record["data"] = load_run(config.start).record["data"]  # nothing else has trained these weights
    record["data"] = {**record["data"], "origins": _origins(config, record["data"], labels)}
    if previous:
        record["best"] = previous.record.get("best", {})
    run = Run(folder, config, record)
    _write_record(run)
    write_atomically(folder / _PROBLEMS, "".join(f"{line}\n" for line in examples.problems))

    batches = Batches(
        examples,
        batch_size=config.batch_size,
        augment_config=config.augment_config,
        seed=config.seed,
        smoothing=config.smoothing,
        silence_share=config.silence_share,
        unknown_share=config.unknown_share,
        speech_share=config.speech_share,
        hard_negatives=config.hard_negatives,
        mined=config.mined,
        variety=config.variety,
        hiss=config.hiss,
        babble=config.babble,
    )
    _keep_examples(run, batches)
    model, first = _start(run, network, say)
    counted_s = sum(row["seconds"] for row in read_log(folder)) if first else 0.0
    progress = _Progress(config, first, counted_s + time.monotonic() - started)
    if progress.over and not first:
        raise TrainingError(
            f"{config.minutes:.3g} minutes were over before the first batch; give more --minutes (features are kept)"
        )
    length = f"{config.minutes:g} minutes" if config.minutes else f"{config.epochs} epochs of {config.steps} batches"
    say(
        f"{config.model}: {model.count_params():,} parameters, {length}"
        + (f", from epoch {first + 1} on" if first else "")
    )
    inputs, truth = run.examples("validation")
    targets = np.eye(len(labels), dtype=np.float32)[truth]

    def finished(epoch: int, history: list[dict[str, float]]) -> dict[str, float]:
        nonlocal counted_s
        logs = model.evaluate(inputs, targets, batch_size=config.batch_size, verbose=0, return_dict=True)
        before_s, counted_s = counted_s, progress.used_s
        row = {
            "epoch": epoch,
            **{name: float(np.mean([one[name] for one in history] or [math.nan])) for name in ("loss", "accuracy")},
            **{f"val_{name}": float(logs[name]) for name in ("loss", "accuracy")},
            "seconds": counted_s - before_s,
        }
        _finish_epoch(run, model, row)
        return row

    def trained(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
        if teacher:
            share = np.float32(config.teacher_weight)
            y = (1 - share) * y + share * teacher.predict_on_batch(x)
        model.optimizer.learning_rate = progress.learning_rate()
        logs = model.train_on_batch(x, y, return_dict=True)
        progress.step()
        return logs

    if not first and (config.start or config.qat):
        row = finished(0, [])
        say(f"before training: validation loss {row['val_loss']:.4f}, accuracy {row['val_accuracy']:.2%}")
    epoch = first
    try:
        while not progress.over and (config.minutes or epoch < config.epochs):
            if config.mined:
                found = batches.mine(model.predict_on_batch, epoch)
                say("hard: " + ", ".join(f"{n} windows of {name}" for name, n in found.items()))
            _seed_dropout(model, config.seed, epoch)
            with _bar(config, epoch) as bar, closing(batches.epoch(epoch, config.steps)) as made:
                history = []
                for x, y in made:
                    history.append(trained(x, y))
                    bar.update()
                    bar.set_postfix_str(_time_left(progress.left_s), refresh=False)
                    if progress.over:
                        break
            epoch += 1
            row = finished(epoch, history)
            say("  ".join(f"{name} {value:.4g}" for name, value in row.items()) + "  " + _time_left(progress.left_s))
    except KeyboardInterrupt:
        if (folder / BEST).exists():
            line = f"kept: epoch {epoch} of {folder}; the same command goes on"
            say(f"{line}, kws-host quantize {folder} takes it as it is")
        raise
    best = run.record.get("best")
    if not best:  # nothing was left to train
        raise TrainingError(f"{folder / _CONFIG}: broken (it names no best epoch); remove {folder} to start anew")
    say(f"best epoch {best['epoch']}: validation loss {best['val_loss']:.4f}, accuracy {best['val_accuracy']:.2%}")
    return run


def _bar(config: TrainConfig, epoch: int) -> tqdm:
    name = f"epoch {epoch + 1}" + ("" if config.minutes else f"/{config.epochs}")
    return tqdm(total=config.steps, desc=name, unit="batch", mininterval=1, leave=False, disable=None)


def _time_left(seconds: float) -> str:
    return f"{math.ceil(seconds / 60)} min left" if seconds > 90 else f"{math.ceil(seconds)} s left"


def _seed_dropout(model: keras.Model, seed: int, epoch: int) -> None:
    """Let dropout depend on the epoch, not on what came before: Keras does not store where its generators were."""
    for i, layer in enumerate(model.layers):
        if isinstance(layer, keras.layers.Dropout) and layer.rate:  # spatial dropout is one, too
            state = np.random.default_rng((seed, epoch, i)).integers(2**32, size=2, dtype=np.uint32)
            layer.seed_generator.state.assign(state.astype(layer.seed_generator.state.dtype))


def _other_data(before: dict, now: dict) -> list[str]:
    """In what the data of a run differ from those at hand, a line for each option."""
    lines = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if [one["sha256"] for one in old or []] != [one["sha256"] for one in new or []]:
            lines.append(f"{name}: was {_described(old)}, is {_described(new)}")
    return lines


def _described(folders: list[dict] | None) -> str:
    return (
        " and ".join(f"{one['path']} ({one['files']} files, {one['bytes']:,} bytes)" for one in folders or []) or "none"
    )


def _options(config: TrainConfig) -> dict[str, str]:
    """The value of each option, as it is given on the command line; but for the time, of which a run may get more."""
    names = {"snr_db": "--snr", "qat": "RUN"}
    values = {}
    for field in (one for one in dataclasses.fields(config) if one.name != "minutes"):
        value = getattr(config, field.name)
        texts = (str(one).removesuffix(".0") for one in (value if isinstance(value, tuple) else (value,)))
        values[names.get(field.name, f"--{field.name.replace('_', '-')}")] = " ".join(map(shlex.quote, texts))
    return values


def _check_same(folder: Path, before: dict[str, str], now: dict[str, str]) -> None:
    """Raise an error that names each option which is no longer that of the run in a folder, unless none is."""
    changed = [f"{name} {before[name]}, not {value}" for name, value in now.items() if before[name] != value]
    if changed:
        raise TrainingError(
            f"{folder} holds a run with {'; '.join(changed)}. Repeat what it was made with, or choose another folder "
            f"with -o (--start {shlex.quote(str(folder))} goes on from its weights)"
        )


def _origins(config: TrainConfig, data: dict, labels: tuple[str, ...]) -> list[str]:
    """Whose words train, and those that have trained the weights to start from."""
    origins = [*origins_of(data, labels)]
    for folder in filter(None, (config.qat, config.blend, config.start)):
        if Path(folder).is_dir():
            origins += load_run(folder).origins
    if config.start and not Path(config.start).is_dir():
        licence = ""
        if config.start in shipped_models() or config.start.lower().endswith(".tflite"):
            path = Path(shipped_models().get(config.start, config.start))
            _, metadata = unpack(path.read_bytes(), config.start)
            licence = f" ({metadata.licence})" if metadata and metadata.licence else ""
        origins.append(f"weights of {Path(config.start).name}{licence}")
    return list(dict.fromkeys(origins))


def _teacher(config: TrainConfig, frontend_config: FrontendConfig, labels: tuple[str, ...]) -> keras.Model:
    teachers = [load_run(folder) for folder in config.teacher.split(",")]
    for teacher in teachers:
        if teacher.frontend_config != frontend_config or teacher.labels != labels:
            raise TrainingError(
                f"{teacher.folder}: a teacher needs the front end and the labels of the network it teaches"
            )
    if len(teachers) == 1:
        return teachers[0].model()
    models = [teacher.model() for teacher in teachers]
    for i, model in enumerate(models):
        model.name = f"teacher{i}"  # names in a network are its layers', each one's own
    inputs = keras.Input((*frontend_config.feature_shape, 1))
    return keras.Model(inputs, keras.layers.Average()([model(inputs) for model in models]))


def _keep_examples(run: Run, batches: Batches) -> None:
    """Set aside what validation and quantisation need, so that they do not depend on the data being there."""
    frontend_config = run.frontend_config
    levels, truth = batches.examples.validation
    raw, calibration_truth, _ = batches.draw(_CALIBRATION, np.random.default_rng(run.config.seed), even=True)
    parts = {
        "validation": model_input(levels, frontend_config),
        "validation_truth": truth,
        "calibration": model_input(raw_to_levels(raw, frontend_config), frontend_config),
        "calibration_truth": calibration_truth,
    }
    write_atomically(run.folder / _KEPT, lambda path: np.savez(path, **parts))


def _start(run: Run, network: keras.Model, say: Callable[[str], None]) -> tuple[keras.Model, int]:
    """The model to train, `network` or as the last finished epoch left it, and the number of epochs that are done."""
    config = run.config
    last = run.folder / LAST
    if last.exists():
        try:
            model = keras.models.load_model(last)
            return model, int(model.optimizer.iterations) // config.steps
        except _DAMAGE as error:
            raise TrainingError(f"{_broken(last, error)}; remove {run.folder} to start anew") from None
    if config.qat:
        parent = load_run(config.qat)
        model = quantisation_aware(parent.model(), run.calibration(200, seed=config.seed))
    else:
        model = network
    if config.start:
        if config.start in shipped_models() or config.start.lower().endswith(".tflite"):
            left = load_int8(model, config.start, run.frontend_config, run.examples("calibration")[0], run.labels)
        elif Path(config.start).is_dir():
            parent = load_run(config.start)
            source = parent.model()
            left = transfer(source, model)
            if parent.labels != run.labels:
                left = [name for name in left if name != model.layers[-1].name]
                left += set_head(model, *source.layers[-1].get_weights(), parent.labels, run.labels)
        else:
            left = load_weights(model, config.start)
        say(f"weights from {config.start}" + (f"; new: {', '.join(left)}" if left else ""))
    if config.blend:
        _blend(model, load_run(config.blend), config.blend_share)
        say(f"and {config.blend_share:.0%} of {config.blend}")
    if config.log_prior:
        _shift_logits(model, run.labels, config.log_prior)
    model.compile(
        optimizer=keras.optimizers.AdamW(config.learning_rate, weight_decay=config.weight_decay),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model, 0


def _blend(model: keras.Model, run: Run, share: float) -> None:
    """Average the weights with those of a run that was fine-tuned from the same ones.

    What both have learnt often holds. Source: Wortsman et al., "Model soups", 2022. Weights behind a batch norm can be
    averaged where both norms subtract and divide by the same, so the other's statistics are made this one's first, and
    its scale and offset such that it computes what it did.
    """
    other = run.model()
    if [w.shape for w in model.get_weights()] != [w.shape for w in other.get_weights()]:
        raise TrainingError(f"{run.folder}: another network; only weights of the same shapes can be averaged")
    if not 0 <= share <= 1:
        raise TrainingError(f"blend_share must be in [0, 1], got {share}")
    for own, norm in zip(model.layers, other.layers, strict=True):
        if isinstance(own, keras.layers.BatchNormalization):
            (_, _, mean, variance), (scale, offset, its_mean, its_variance) = own.get_weights(), norm.get_weights()
            factor = scale / np.sqrt(its_variance + norm.epsilon)
            scale = factor * np.sqrt(variance + own.epsilon)
            norm.set_weights([scale, offset + factor * (mean - its_mean), mean, variance])
    pairs = zip(model.get_weights(), other.get_weights(), strict=True)
    model.set_weights([(1 - share) * a + share * b for a, b in pairs])


def _shift_logits(model: keras.Model, labels: tuple[str, ...], shifts: str) -> None:
    kernel, bias = model.layers[-1].get_weights()
    for shift in shifts.split(","):
        label, _, value = shift.partition("=")
        try:
            bias[labels.index(label)] += float(value)
        except ValueError:
            raise TrainingError(
                f"log_prior takes LABEL=NUMBER with a label of {', '.join(labels)}, got {shift!r}"
            ) from None
    model.layers[-1].set_weights([kernel, bias])


def _finish_epoch(run: Run, model: keras.Model, row: dict[str, float]) -> None:
    """Keep the log, the best weights and the state to go on from, each file whole or not at all."""
    path = run.folder / _LOG
    rows = read_log(run.folder) if path.exists() else []
    rows = [*(r for r in rows if r["epoch"] < row["epoch"]), row]
    lines = [",".join(row), *(",".join(f"{value:.6g}" for value in r.values()) for r in rows)]
    write_atomically(path, "\n".join(lines) + "\n")
    if _better(row, run):
        bare = keras.models.clone_model(model)  # without the optimizer's state, which is twice the weights
        bare.set_weights(model.get_weights())
        write_atomically(run.folder / BEST, bare.save)
        run.record["best"] = {"epoch": row["epoch"], **{k: round(row[k], 5) for k in ("val_loss", "val_accuracy")}}
        _write_record(run)
    if row["epoch"]:
        write_atomically(run.folder / LAST, model.save)
    _log_to_tensorboard(run, row)
    write_atomically(run.folder / _CURVES, lambda temporary: plot_curves(rows, temporary, run.folder.name))


def _better(row: dict[str, float], run: Run) -> bool:
    """Whether an epoch is the best so far: by validation loss; in quantisation-aware runs, whose few steps change the
    posteriors' confidence more than their order, by accuracy."""
    best = run.record.get("best")
    if not best or run.config.keep == "last":
        return True
    if run.config.qat:
        return row["val_accuracy"] > best["val_accuracy"]
    return row["val_loss"] < best["val_loss"]


def read_log(folder: Path) -> list[dict[str, float]]:
    """The rows of a run's ``log.csv``.

    Raises
    ------
    TrainingError
        If it is not there, or broken.
    """
    path = folder / _LOG
    rows = []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            for row in reader:
                try:
                    values = {name: float(value) for name, value in row.items()}
                    rows.append({**values, "epoch": int(values["epoch"])})
                except (ValueError, KeyError, TypeError, OverflowError):
                    raise TrainingError(f"{path}, line {reader.line_num}: is no row of numbers with an epoch") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _broken(path, error) from None
    return rows


def _log_to_tensorboard(run: Run, row: dict[str, float]) -> None:
    """Write the epoch's numbers for TensorBoard, where that is installed (it comes with TensorFlow)."""
    try:
        from tensorboard.summary import Writer
    except ImportError:
        return
    writer = Writer(str(run.folder / _TENSORBOARD))
    for name, value in row.items():
        if name != "epoch" and math.isfinite(value):
            writer.add_scalar(name, value, row["epoch"])
    writer.close()


def plot_curves(rows: list[dict[str, float]], path: str | Path, title: str) -> None:
    """Loss and accuracy by epoch, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    epochs = [row["epoch"] for row in rows]
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for key, label in ((name, "training (augmented)"), (f"val_{name}", "validation")):
            axes.plot(epochs, [row[key] for row in rows], marker=".", label=label)
        axes.set(xlabel="epoch", ylabel=name)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(printable(title))
    figure.savefig(path, dpi=100)
