"""Compares FP32 in Keras and in TFLite, PTQ and QAT on the same clips, to show what quantisation costs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from host_tools.convert.clip_graph import to_float, to_int8
from host_tools.convert.quantize import quantize_run
from host_tools.convert.step_graph import step_of, to_step_float
from host_tools.data.manifest import manifest
from host_tools.errors import TrainingError
from host_tools.evaluation.clips import Evaluation, posteriors_of
from host_tools.evaluation.test_sets import TestSet, answers, clip_set
from host_tools.networks.models import count_macs
from host_tools.networks.qat import is_quantisation_aware
from host_tools.training.run import LAST, Run
from kws_edge.config import DetectorConfig
from kws_edge.files import write_atomically
from kws_edge.model.file import Metadata, pack
from kws_edge.model.model import Model
from kws_edge.text import printable

__all__ = ["Report", "compare", "own_test_set", "plot_confusions"]

FP32, FLOAT, PTQ, QAT = "FP32 Keras", "float TFLite", "PTQ INT8", "QAT INT8"
_SAMPLES = 10


@dataclass(frozen=True)
class Report:
    """Results of :func:`compare`."""

    name: str
    test: TestSet
    labels: tuple[str, ...]
    posteriors: dict[str, NDArray[np.float32]]
    """Posteriors, shape (n, n_labels), by the form of the model."""
    sizes: dict[str, int]
    """Bytes by file."""
    parameters: int
    macs: int

    def evaluation(self, form: str) -> Evaluation:
        return Evaluation(self.labels, self.test.truth, self.posteriors[form], self.test.items)

    def ratios(self) -> dict[str, float]:
        """How many times smaller the INT8 file is than each float file, by the names of both."""
        int8 = self.sizes["PTQ INT8 TFLite"]
        return {
            f"{n} to INT8": round(self.sizes[n] / int8, 2) for n in (_FLOAT_FILE, _TRAINING_FILE) if n in self.sizes
        }

    def samples(self) -> list[dict[str, Any]]:
        """Ten clips, evenly over the test set, with every form's prediction and its score."""
        chosen = np.linspace(0, len(self.test.truth) - 1, min(_SAMPLES, len(self.test.truth))).astype(int)
        return [
            {
                "clip": "/".join(Path(self.test.items[i]).parts[-2:]),
                "truth": self.labels[self.test.truth[i]],
                **{f: [self.labels[p[i].argmax()], round(float(p[i].max()), 3)] for f, p in self.posteriors.items()},
            }
            for i in chosen
        ]

    def to_dict(self) -> dict[str, Any]:
        """The results as a JSON-ready dict."""
        reference = self.posteriors[FP32].argmax(axis=1)
        forms = {}
        for form, posteriors in self.posteriors.items():
            forms[form] = {
                **self.evaluation(form).to_dict(),
                "drop_points": round(
                    100 * float((reference == self.test.truth).mean() - self.evaluation(form).accuracy), 3
                ),
                "agreement_with_fp32": round(float((posteriors.argmax(axis=1) == reference).mean()), 5),
            }
        return {
            "model": self.name,
            "data": self.test.name,
            "clips": len(self.test.truth),
            "skipped": list(self.test.skipped),
            "parameters": self.parameters,
            "macs": self.macs,
            "forms": forms,
            "sizes": self.sizes,
            "ratios": self.ratios(),
            "samples": self.samples(),
        }

    def markdown(self) -> str:
        """The results for people; plain enough to be printed as they are."""
        values = self.to_dict()
        forms = values["forms"]
        names = list(forms)

        def percent(x: float) -> str:
            return f"{100 * x:.2f} %"

        accuracy = [
            [
                form,
                percent(v["accuracy"]),
                " to ".join(f"{100 * x:.2f}" for x in v["interval_95"]),
                f"{v['drop_points']:+.2f}",
                percent(v["agreement_with_fp32"]),
            ]
            for form, v in forms.items()
        ]
        recall = [
            [label, *(percent(forms[f]["recall"][label]) if label in forms[f]["recall"] else "" for f in names)]
            for label in self.labels
        ]
        samples = [
            [s["clip"], s["truth"], *(f"{label} {score:.2f}" for label, score in (s[f] for f in names))]
            for s in values["samples"]
        ]
        lines = [
            f"# {self.name}: FP32 against INT8",
            "",
            f"{values['clips']} clips of {Path(self.test.name).name}"
            + (f", {len(self.test.skipped)} left out" if self.test.skipped else "")
            + f"; {self.parameters:,} parameters, {self.macs:,} multiply-accumulates.",
            "",
            *_table(["", "accuracy", "95 % interval", "drop, points", "agrees with FP32"], accuracy),
            "",
            *_table(["file", "bytes"], [[name, f"{size:,}"] for name, size in self.sizes.items()]),
            "",
            *_table(["ratio of sizes", ""], [[name, f"{ratio:.2f}"] for name, ratio in values["ratios"].items()]),
            "",
            "Recall:",
            "",
            *_table(["label", *names], recall),
            "",
            "Sample predictions:",
            "",
            *_table(["clip", "truth", *names], samples),
        ]
        return "\n".join(lines) + "\n"


_FLOAT_FILE = "float TFLite"
_PLAIN_FILE = "PTQ INT8 TFLite, plain converter"
_TRAINING_FILE = "training file with optimizer state (.keras)"


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    """A Markdown table whose columns line up."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in [header, *rows]]
    lines.insert(1, ["-" * width for width in widths])
    return ["| " + " | ".join(line) + " |" for line in lines]


def own_test_set(run: Run, **options: Any) -> TestSet:
    """Clips of a part of the data that the run's record names. The default part is one that did not train.

    Parameters
    ----------
    run : Run
    options
        As for :func:`host_tools.evaluation.test_sets.clip_set`.

    Raises
    ------
    TrainingError
        If the data are gone or have changed.
    DatasetError
        If that part is empty.
    """
    folder = run.config.data.clips
    other = "name the test data with --clips or --features"
    if folder is None:
        raise TrainingError(f"{run.folder}: was trained on features in shards; {other}")
    if not folder.exists():
        raise TrainingError(f"{folder}: {run.folder} was trained on it, and it is gone; put it back, or {other}")
    if manifest(folder).sha256 != run.record["sources"]["clips"][0]["sha256"]:
        raise TrainingError(f"{folder}: has changed since {run.folder} was trained on it; put it back, or {other}")
    options["split"] = options.get("split") or "testing"
    rule, seed = run.config.data.split, run.config.seed
    return clip_set(folder, answers(run), run.frontend_config, rule=rule, seed=seed, **options)


def compare(
    run: Run, test: TestSet, folder: str | Path, *, qat: Run | None = None, say: Callable[[str], None] = print
) -> Report:
    """Convert a run to every form, measure each on `test`, and write the report to `folder`.

    Writes ``report.md``, ``report.json``, ``confusion.png``, and the models ``float.tflite``, ``ptq.tflite`` and
    ``qat.tflite``.

    Parameters
    ----------
    run : Run
        The float run.
    test : TestSet
    folder : path
    qat : Run, optional
        The quantisation-aware run made from `run`.

    Raises
    ------
    TrainingError
        If the runs are not of these kinds, or differ in front end or labels.
    """
    folder = Path(folder)
    model = run.model()
    if is_quantisation_aware(model):
        raise TrainingError(f"{run.folder}: is a quantisation-aware run; give the float run, and this one with --qat")
    if qat and not is_quantisation_aware(qat.model()):
        raise TrainingError(f"{qat.folder}: is a float run; --qat takes what kws-host qat made of {run.folder}")
    if qat and (qat.frontend_config, qat.labels) != (run.frontend_config, run.labels):
        raise TrainingError(f"{qat.folder}: has another front end or other labels than {run.folder}")
    metadata = Metadata(
        labels=run.labels,
        frontend_config=run.frontend_config,
        detector_config=DetectorConfig(),
        name=FLOAT,
        step=step_of(model),
    )
    flatbuffer = to_float(model) if metadata.step is None else to_step_float(model)
    write_atomically(folder / "float.tflite", pack(flatbuffer, metadata))
    quantize_run(run, folder / "ptq.tflite", name=PTQ)
    files = {FLOAT: folder / "float.tflite", PTQ: folder / "ptq.tflite"}
    if qat:
        quantize_run(qat, folder / "qat.tflite", name=QAT)
        files[QAT] = folder / "qat.tflite"
    posteriors = {FP32: posteriors_of(run, test.features)}
    for form, path in files.items():
        loaded = Model(path, kernels="fast" if form == FLOAT else "builtin", allow_float=form == FLOAT)
        posteriors[form] = posteriors_of(loaded, test.features)
    sizes = {
        _FLOAT_FILE: len(flatbuffer),
        **{f"{form} TFLite": len(Model(path).flat.data) for form, path in files.items() if form != FLOAT},
        "model file (PTQ INT8 with metadata)": (folder / "ptq.tflite").stat().st_size,
    }
    if metadata.step is None:
        sizes[_PLAIN_FILE] = len(to_int8(model, run.calibration(200, seed=0), plain=True))
    if (run.folder / LAST).exists():
        sizes[_TRAINING_FILE] = (run.folder / LAST).stat().st_size
    report = Report(run.folder.name, test, answers(run), posteriors, sizes, model.count_params(), count_macs(model))
    markdown = report.markdown()
    say(markdown)
    write_atomically(folder / "report.md", markdown)
    write_atomically(folder / "report.json", json.dumps(report.to_dict(), indent=1) + "\n")
    write_atomically(folder / "confusion.png", lambda path: plot_confusions(report, path))
    say(f"wrote {folder}/report.md, report.json, confusion.png and the models")
    return report


def plot_confusions(report: Report, path: str | Path) -> None:
    """Confusion matrix of each INT8 form, rows by truth, as PNG."""
    from matplotlib.figure import Figure

    forms = [form for form in (PTQ, QAT) if form in report.posteriors]
    n = len(report.labels)
    side = 2 + 0.3 * n
    figure = Figure(figsize=(side * len(forms) + 0.5, side), layout="constrained")
    for axes, form in zip(figure.subplots(1, len(forms), squeeze=False)[0], forms, strict=True):
        confusion = report.evaluation(form).confusion
        share = confusion / np.maximum(1, confusion.sum(axis=1, keepdims=True))
        axes.imshow(share**0.5, cmap="Blues", vmin=0, vmax=1)
        for i, j in zip(*np.nonzero(confusion), strict=True):
            axes.text(
                j, i, confusion[i, j], ha="center", va="center", fontsize=6, color="w" if share[i, j] > 0.5 else "k"
            )
        axes.set_xticks(range(n), report.labels, rotation=90)
        axes.set_yticks(range(n), report.labels)
        axes.set(xlabel="predicted", ylabel="truth", title=f"{form}: {report.evaluation(form).accuracy:.2%}")
    figure.suptitle(f"{printable(report.name)} on {len(report.test.truth)} clips")
    figure.savefig(path, dpi=110)
