"""The figures that each kind of stage measures, and where its results hold them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from host_tools.config import STREAM_NETWORKS, VALIDATION_THRESHOLDS
from host_tools.errors import SweepError
from host_tools.evaluation.standard.conditions import KINDS as NEGATIVES
from host_tools.evaluation.standard.conditions import WORDS
from host_tools.recipe.file import Recipe, Stage
from kws_edge.model.model import Model
from kws_edge.text import shown
from kws_edge.toml_files import near

__all__ = ["Figure", "figure_of", "figures_of"]

_Read = Callable[[Path], Any]
_RUNS = ("train", "qat")
"""Commands whose results are runs."""


@dataclass(frozen=True)
class Figure:
    """A number that a stage measures, written ``STAGE.NAME``."""

    stage: str
    name: str

    def __str__(self) -> str:
        return f"{self.stage}.{self.name}"

    @property
    def larger_is_better(self) -> bool:
        """Whether training improves as it rises, of a figure that training logs."""
        return self.name == "val_accuracy"

    def read(self, stage: Stage, recipe: Recipe, output: Path) -> float | None:
        """The figure in the output of `stage`; None if nothing could be measured,
        such as misses without words, or it is no finite number.

        Raises
        ------
        SweepError
            If the output does not hold it.
        """
        try:
            value = figures_of(stage, recipe)[self.name](output)
            return None if value is None or not math.isfinite(value) else float(value)
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise SweepError(f"{output}: holds no {self.name} ({type(error).__name__}: {error})") from None


def figure_of(text: str, recipe: Recipe) -> Figure:
    """The figure that `text`, ``STAGE.NAME``, names.

    Raises
    ------
    SweepError
        If no stage of the recipe measures it. The message says what is measured.
    """
    stage, _, name = text.partition(".")
    if stage not in recipe.by_id:
        measuring = [one.id for one in recipe.stages if figures_of(one, recipe)]
        raise SweepError(
            f"{shown(text)}: there is no stage {shown(stage)}{near(stage, measuring)}; give STAGE.FIGURE, of a stage"
            f" that measures: {', '.join(measuring)}"
        )
    found = figures_of(recipe.by_id[stage], recipe)
    if name not in found:
        what = f"it measures {', '.join(found)}" if found else "it measures nothing"
        raise SweepError(f"{shown(text)}: stage {stage} measures no {shown(name)}{near(name, found)}; {what}")
    return Figure(stage, name)


def figures_of(stage: Stage, recipe: Recipe) -> Mapping[str, _Read]:
    """The figures that a stage measures by name, each with a function that reads it from the stage's output."""
    command = stage.kind.command
    if command in _RUNS:
        return {name: _json("config.json", "best", name) for name in _logged(stage, recipe)}
    if command == "stream-eval" and stage.resolved["standard"]:
        return _standard(stage.resolved["conditions"])
    return _FIGURES.get(command, {})


def _logged(stage: Stage, recipe: Recipe) -> list[str]:
    """The columns of a training's log that tell of validation."""
    while stage.kind.command == "qat":  # it takes the network of another run
        run = stage.resolved["run"].partition("/")[0]
        if run not in recipe.by_id:
            return ["val_loss"]
        stage = recipe.by_id[run]
    if stage.resolved["model"] not in STREAM_NETWORKS:
        return ["val_loss", "val_accuracy"]
    kinds = ("val_missed", "val_false_accepts")
    return ["val_loss", *(f"{kind}_{threshold:g}" for threshold in VALIDATION_THRESHOLDS for kind in kinds)]


def _json(file: str, *keys: str | int) -> _Read:
    """A function that reads what lies at `keys` of a JSON file, in the output or, without a name, the output itself."""

    def read(output: Path) -> Any:
        value = json.loads((output / file if file else output).read_bytes())
        for key in keys:
            if value is None:
                return None
            value = value[key]
        return value

    return read


def _worst_recall(output: Path) -> float:
    values: Mapping[str, float] = _json("", "results", 0, "recall")(output)
    return min(values.values())


def _bytes(output: Path) -> int:
    return output.stat().st_size


def _macs(output: Path) -> int:
    return Model(output).flat.macs


def _calibrated(name: str) -> _Read:
    return lambda output: Model(output).metadata.metrics["calibration"][name]


def _heard(*keys: str) -> _Read:
    return _json("report.json", "conditions", 0, *keys)


def _standard(conditions: list[str]) -> dict[str, _Read]:
    """Figures under the standard conditions: under all of them if `conditions` is empty."""
    found: dict[str, _Read] = {"macs_per_second": _json("report.json", "macs_per_second")}
    for name in WORDS:
        if name in (conditions or WORDS):
            found[f"false_reject_rate_{name}"] = _json("report.json", "words", name, "false_rejects", "rate")
    for kind in NEGATIVES if not conditions or "negatives" in conditions else ():
        found[f"false_accepts_per_hour_{kind}"] = _json("report.json", "negatives", kind, "per_hour")
    return found


_MODEL_FILE: dict[str, _Read] = {"bytes": _bytes, "macs": _macs}
_FIGURES: dict[str, dict[str, _Read]] = {
    "quantize": _MODEL_FILE,
    "calibrate": {
        **_MODEL_FILE,
        "false_reject_rate": _calibrated("false_reject_rate"),
        "false_accepts_per_hour": _calibrated("false_accepts_per_hour"),
    },
    "evaluate": {"accuracy": _json("", "results", 0, "accuracy"), "worst_recall": _worst_recall},
    "stream-eval": {
        "false_reject_rate": _heard("false_rejects", "rate"),
        "misses": _heard("false_rejects", "count"),
        "false_accepts_per_hour": _heard("false_accepts", "per_hour"),
        "false_accepts": _heard("false_accepts", "count"),
        "confusions": _heard("confusions"),
        "delay_ms": _heard("delay_ms", "p50"),
    },
    "report": {
        "float_accuracy": _json("report.json", "forms", "FP32 Keras", "accuracy"),
        "int8_accuracy": _json("report.json", "forms", "PTQ INT8", "accuracy"),
        "parameters": _json("report.json", "parameters"),
        "macs": _json("report.json", "macs"),
    },
    "arena": {"arena": _json("", "total"), "flatbuffer": _json("", "flatbuffer"), "macs": _json("", "macs")},
}
