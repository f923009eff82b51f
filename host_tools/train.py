"""Training: from examples to a run folder with the best weights, the log and the configuration that produced them."""

from __future__ import annotations

import dataclasses
import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

from host_tools.augment import AugmentConfig
from host_tools.dataset import LABEL_SETS
from host_tools.errors import TrainingError
from host_tools.examples import Batches, Sources, load_examples, model_input
from host_tools.features import raw_to_levels
from host_tools.models import build
from kws_edge.config import FrontendConfig, preset
from kws_edge.files import write_atomically

__all__ = ["BEST", "Run", "TrainConfig", "load_run", "train"]

BEST = "best.keras"
LAST = "last.keras"
_CONFIG = "config.json"
_LOG = "log.csv"
_KEPT = "examples.npz"
_CALIBRATION = 600


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that a run depends on besides its data."""

    model: str = "residual"
    width: float = 1.0
    front_end: str = "logmel40"
    labels: str = "commands12"
    epochs: int = 40
    steps: int = 300
    """Batches an epoch."""
    batch_size: int = 160
    learning_rate: float = 2e-3
    """Peak; a warm-up of one epoch leads to it, a cosine to zero follows."""
    weight_decay: float = 0.02
    smoothing: float = 0.1
    """Label smoothing."""
    seed: int = 1


@dataclass(frozen=True)
class Run:
    """A finished (or interrupted) run's folder."""

    folder: Path
    config: TrainConfig
    record: dict
    """``config.json`` as written: configuration, data, versions, and the best epoch so far."""

    @property
    def front_end(self) -> FrontendConfig:
        return FrontendConfig.from_dict(self.record["front_end"])

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.record["labels"])

    def model(self) -> keras.Model:
        """The network with its best weights.

        Raises
        ------
        TrainingError
            If no epoch has finished yet, or the file is broken.
        """
        path = self.folder / BEST
        if not path.exists():
            raise TrainingError(f"{path}: missing; no epoch of this run has finished yet")
        try:
            return keras.models.load_model(path, compile=False)
        except (OSError, ValueError) as error:
            raise TrainingError(f"{path}: cannot be loaded ({error})") from None

    def examples(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Examples that training set aside: ``validation``, or ``calibration`` (training examples, evenly by label).

        Returns
        -------
        inputs : numpy.ndarray, shape (n, *front_end.feature_shape, 1), float32
        truth : numpy.ndarray, shape (n,), int
        """
        path = self.folder / _KEPT
        try:
            with np.load(path) as stored:
                return stored[part], stored[f"{part}_truth"]
        except (OSError, ValueError, KeyError) as error:
            raise TrainingError(f"{path}: cannot be read ({error})") from None


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
        record = json.loads(path.read_text())
        return Run(folder, TrainConfig(**record["training"]), record)
    except OSError as error:
        raise TrainingError(f"{path}: {error.strerror}; {folder} is no folder of a `kws-host train`") from None
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path}: broken ({error})") from None


@keras.saving.register_keras_serializable("kws_edge")
class WarmUpCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to `peak`, then half a cosine to zero."""

    def __init__(self, peak: float, warm_up: int, total: int) -> None:
        self.peak, self.warm_up, self.total = peak, warm_up, total

    def __call__(self, step):
        step = keras.ops.cast(step, "float32")
        done = (step - self.warm_up) / max(1, self.total - self.warm_up)
        cosine = 0.5 * (1 + keras.ops.cos(math.pi * keras.ops.clip(done, 0, 1)))
        return self.peak * keras.ops.minimum((step + 1) / max(1, self.warm_up), cosine)

    def get_config(self) -> dict:
        return {"peak": self.peak, "warm_up": self.warm_up, "total": self.total}


def _write_record(run: Run) -> None:
    text = json.dumps(run.record, indent=2) + "\n"
    write_atomically(run.folder / _CONFIG, lambda path: Path(path).write_text(text))


def train(config: TrainConfig, sources: Sources, folder: str | Path, *, say: Callable[[str], None] = print) -> Run:
    """Train a network, or go on with an interrupted run of the same configuration.

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
        If the folder holds a run of another configuration.
    DatasetError
        If the data cannot be used.
    """
    folder = Path(folder)
    if config.labels not in LABEL_SETS:
        raise TrainingError(f"unknown label set {config.labels!r}; known are {', '.join(LABEL_SETS)}")
    if (folder / _CONFIG).exists():
        previous = load_run(folder)
        if previous.config != config:
            changed = [
                f.name
                for f in dataclasses.fields(config)
                if getattr(config, f.name) != getattr(previous.config, f.name)
            ]
            raise TrainingError(
                f"{folder} holds a run with another {', '.join(changed)}; choose another folder, or repeat its options"
            )
    front_end = preset(config.front_end)
    labels = LABEL_SETS[config.labels]
    keras.utils.set_random_seed(config.seed)
    examples = load_examples(sources, front_end, labels, seed=config.seed)
    say(f"examples: {json.dumps(examples.summary)}")

    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "training": dataclasses.asdict(config),
        "labels": list(labels),
        "front_end": front_end.to_dict(),
        "augmentation": dataclasses.asdict(AugmentConfig()),
        "data": examples.summary,
        "versions": {"python": platform.python_version(), "keras": keras.__version__, "numpy": np.__version__},
        "backend": keras.backend.backend(),
    }
    if (folder / _CONFIG).exists():
        record["best"] = load_run(folder).record.get("best", {})
    run = Run(folder, config, record)
    _write_record(run)

    model, first = _start(run)
    say(
        f"{config.model}: {model.count_params():,} parameters, {config.epochs} epochs of {config.steps} batches"
        + (f", from epoch {first + 1} on" if first else "")
    )
    batches = Batches(
        examples,
        batch_size=config.batch_size,
        augment_config=AugmentConfig(),
        seed=config.seed,
        smoothing=config.smoothing,
    )
    _keep_examples(run, batches)
    inputs, truth = run.examples("validation")
    targets = np.eye(len(labels), dtype=np.float32)[truth]
    for epoch in range(first, config.epochs):
        started = time.monotonic()
        bar = tqdm(
            batches.epoch(epoch, config.steps),
            total=config.steps,
            desc=f"epoch {epoch + 1}/{config.epochs}",
            unit="batch",
            mininterval=1,
            leave=False,
            disable=None,
        )
        history = [model.train_on_batch(x, y, return_dict=True) for x, y in bar]
        held_out = model.evaluate(inputs, targets, batch_size=config.batch_size, verbose=0, return_dict=True)
        row = {
            "epoch": epoch + 1,
            "loss": float(np.mean([logs["loss"] for logs in history])),
            "accuracy": float(np.mean([logs["accuracy"] for logs in history])),
            "val_loss": float(held_out["loss"]),
            "val_accuracy": float(held_out["accuracy"]),
            "seconds": time.monotonic() - started,
        }
        _finish_epoch(run, model, row)
        say("  ".join(f"{name} {value:.4g}" for name, value in row.items()))
    best = run.record["best"]
    say(f"best epoch {best['epoch']}: validation loss {best['val_loss']:.4f}, accuracy {best['val_accuracy']:.2%}")
    return run


def _keep_examples(run: Run, batches: Batches) -> None:
    """Set aside what validation and quantisation need, so that they do not depend on the data being there."""
    front_end = run.front_end
    levels, truth = batches.examples.validation
    raw, calibration_truth = batches.draw(_CALIBRATION, np.random.default_rng(run.config.seed), even=True)
    parts = {
        "validation": model_input(levels, front_end),
        "validation_truth": truth,
        "calibration": model_input(raw_to_levels(raw, front_end), front_end),
        "calibration_truth": calibration_truth,
    }
    write_atomically(run.folder / _KEPT, lambda path: np.savez(path, **parts))


def _start(run: Run) -> tuple[keras.Model, int]:
    """The model to train, new or as the last finished epoch left it, and the number of epochs that are done."""
    config = run.config
    last = run.folder / LAST
    if last.exists():
        try:
            model = keras.models.load_model(last)
        except (OSError, ValueError) as error:
            raise TrainingError(f"{last}: cannot be loaded ({error}); remove {run.folder} to start anew") from None
        return model, int(model.optimizer.iterations) // config.steps
    model = build(config.model, run.front_end, len(run.labels), width=config.width)
    schedule = WarmUpCosine(config.learning_rate, config.steps, config.epochs * config.steps)
    model.compile(
        optimizer=keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model, 0


def _finish_epoch(run: Run, model: keras.Model, row: dict[str, float]) -> None:
    """Keep the log, the best weights and the state to go on from, each file whole or not at all."""
    path = run.folder / _LOG
    lines = path.read_text().splitlines() if path.exists() else [",".join(row)]
    lines = [*lines[: row["epoch"]], ",".join(f"{value:.6g}" for value in row.values())]
    write_atomically(path, lambda temporary: Path(temporary).write_text("\n".join(lines) + "\n"))
    if row["val_loss"] < run.record.get("best", {}).get("val_loss", math.inf):
        write_atomically(run.folder / BEST, lambda temporary: model.save(temporary, include_optimizer=False))
        run.record["best"] = {"epoch": row["epoch"], **{k: round(row[k], 5) for k in ("val_loss", "val_accuracy")}}
        _write_record(run)
    write_atomically(run.folder / LAST, model.save)
