"""A run's numbers by epoch: ``log.csv``, ``curves.png`` and TensorBoard's logs."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from host_tools.errors import TrainingError, broken
from kws_edge.files import write_atomically
from kws_edge.text import printable

__all__ = ["draw_epochs", "epochs_done", "log_epoch", "plot_curves", "read_log"]

_LOG = "log.csv"
_CURVES = "curves.png"
_TENSORBOARD = "tensorboard"


def log_epoch(folder: Path, row: dict[str, float]) -> list[dict[str, float]]:
    """Add an epoch to the log. It replaces earlier rows of this and later epochs. Returns all rows."""
    path = folder / _LOG
    rows = read_log(folder) if path.exists() else []
    rows = [*(r for r in rows if r["epoch"] < row["epoch"]), row]
    lines = [",".join(row), *(",".join(f"{value:.6g}" for value in r.values()) for r in rows)]
    write_atomically(path, "\n".join(lines) + "\n")
    return rows


def draw_epochs(folder: Path, rows: list[dict[str, float]]) -> None:
    """Show the log to people: the last row in TensorBoard, all rows in the curves."""
    _log_to_tensorboard(folder, rows[-1])
    write_atomically(folder / _CURVES, lambda temporary: plot_curves(rows, temporary, folder.name))


def read_log(folder: Path) -> list[dict[str, float]]:
    """The rows of a run's ``log.csv``.

    Raises
    ------
    TrainingError
        If the log is missing or broken.
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
        raise broken(path, error) from None
    return rows


def epochs_done(folder: Path) -> int:
    """How many epochs the log tells of; none where there is no log yet."""
    rows = read_log(folder) if (folder / _LOG).exists() else []
    return int(rows[-1]["epoch"]) if rows else 0


def _log_to_tensorboard(folder: Path, row: dict[str, float]) -> None:
    """Write the epoch's numbers for TensorBoard, if it is installed. It comes with TensorFlow."""
    try:
        from tensorboard.summary import Writer
    except ImportError:
        return
    writer = Writer(str(folder / _TENSORBOARD))
    for name, value in row.items():
        if name != "epoch" and math.isfinite(value):
            writer.add_scalar(name, value, row["epoch"])
    writer.close()


def plot_curves(rows: list[dict[str, float]], path: str | Path, title: str) -> None:
    """The numbers of validation by epoch, with those of training where there are such, as PNG."""
    from matplotlib.figure import Figure

    names = [name.removeprefix("val_") for name in rows[-1] if name.startswith("val_")]
    figure = Figure(figsize=(4.5 * len(names), 3.5), layout="constrained")
    epochs = [row["epoch"] for row in rows]
    for axes, name in zip(figure.subplots(1, len(names)), names, strict=True):
        for key, label in ((name, "training (augmented)"), (f"val_{name}", "validation")):
            if key in rows[-1]:
                axes.plot(epochs, [row[key] for row in rows], marker=".", label=label)
        axes.set(xlabel="epoch", ylabel=name.replace("_", " "))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(printable(title))
    figure.savefig(path, dpi=100)
