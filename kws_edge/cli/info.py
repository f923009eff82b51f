"""``kws-edge info``: describe a model file and the runtime that runs it."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import kws_edge
from kws_edge.cli import options
from kws_edge.config import DetectorConfig
from kws_edge.detection.room_profile import RoomProfile, is_there, profile_path
from kws_edge.detection.sensitivity import OperatingPoint
from kws_edge.errors import ConfigError, KwsError
from kws_edge.model.check import ends_of_no_clip, fits
from kws_edge.model.interpreter import Interpreter
from kws_edge.model.model import Model, read_model
from kws_edge.model.runtime import installed
from kws_edge.model.tflite import FlatModel, Tensor
from kws_edge.presets import PRESETS
from kws_edge.text import counted, listed, printable

if TYPE_CHECKING:
    from kws_edge.cli.parser import Commands

_MOST, _MOST_NAME, _LEAST = 10_000, 60, 80


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "info",
        help="describe a model and the runtime",
        description="Describe a model file and the runtime that runs it. If you give a .tflite from elsewhere without "
        "--labels and --frontend, info says what the file holds, whether it can run, and which options you must add.",
    )
    options.add_model(parser, positional=True)
    parser.add_argument("--tensors", action="store_true", help="list every tensor and operator, too")
    parser.add_argument("--json", action="store_true", help="one JSON object, with every tensor and operator")
    parser.set_defaults(run=run)


def describe(flat: FlatModel, file_bytes: int) -> dict[str, Any]:
    """The contents of a file's flatbuffer, JSON-ready."""
    return {
        "file": flat.name,
        "name": os.path.splitext(os.path.basename(flat.name))[0],
        "inputs": [_tensor(t) for t in flat.inputs],
        "outputs": [_tensor(t) for t in flat.outputs],
        "operators": list(flat.operators),
        "macs": flat.macs,
        "macs_left_out": list(flat.uncounted),
        "stateful": flat.stateful,
        "signatures": list(flat.signatures),
        "sizes": {"file_bytes": file_bytes, "tflite_bytes": len(flat.data), "weight_bytes": flat.weight_bytes},
        "subgraphs": [
            {
                "name": graph.name,
                "tensors": [
                    {**_tensor(t), "constant": t.data is not None, "variable": t.variable} for t in graph.tensors
                ],
                "operators": [
                    {"name": op.name, "version": op.version, "inputs": list(op.inputs), "outputs": list(op.outputs)}
                    for op in graph.operators
                ],
            }
            for graph in flat.graphs
        ],
        "runtime": {
            "name": None,
            "version": None,
            "installed": installed(),
            "numpy": np.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "kws_edge": kws_edge.__version__,
        },
    }


def _tensor(t: Tensor) -> dict[str, Any]:
    return {
        "name": t.name,
        "shape": list(t.shape),
        "dtype": t.dtype,
        "scale": t.scale if t.scales and math.isfinite(t.scale) else None,
        "zero_point": t.zero_point,
        "scales": len(t.scales),
    }


def describe_model(model: Model) -> dict[str, Any]:
    """Everything that ``info --json`` prints about a model with known labels and front end."""
    c = model.frontend_config
    values = describe(model.flat, model.size)
    values["runtime"] |= {"name": model.interpreter.runtime, "version": model.interpreter.version}
    shown = ("shape", "dtype", "scale", "zero_point")
    points = model.metadata.operating_points
    return values | {
        "name": model.metadata.name,
        "description": model.metadata.description,
        "labels": list(model.labels),
        "frontend": {**c.to_dict(), "feature_shape": list(c.feature_shape), "hash": c.hash},
        "step": model.step and {**model.step.to_dict(), "answer_ms": model.step.frames * c.hop_ms},
        "confirm": model.metadata.confirm and {**model.metadata.confirm.to_dict(), "name": _second_name(model)},
        "detector": model.detector_config.to_dict(),
        "quantisation": {what: {key: values[f"{what}s"][0][key] for key in shown} for what in ("input", "output")},
        "metrics": model.metadata.metrics,
        "operating_points": points and [point.to_dict() for point in points],
        "provenance": model.metadata.provenance,
        "licence": model.metadata.licence,
        "room": _profile(model),
    }


def missing(flat: FlatModel, *, labels: bool, frontend: bool) -> list[str]:
    """What a foreign file lacks for ``kws-edge detect``, and what to do about it.

    Parameters
    ----------
    labels, frontend : bool
        Whether the user gave them.
    """
    if found := ends_of_no_clip(flat):
        return found
    (source,), (target,) = flat.inputs, flat.outputs
    for what, tensor in (("input", source), ("output", target)):
        if tensor.dtype not in ("int8", "uint8"):
            found.append(f"{what} of INT8, not {tensor.dtype}: quantise the model with kws-host import")
    if not frontend:
        fitting = [name for name, preset in PRESETS.items() if fits(source.shape, preset.feature_shape)]
        sides = [n for n in source.shape if n != 1]
        features = (
            f"{sides[0]} frames of {sides[1]} mels"
            if len(sides) == 2
            else f"{source.elements:,} levels, frame by frame (a model of samples of audio cannot be run)"
        )
        known = f"{', '.join(fitting)} {'have' if fitting[1:] else 'has'} that shape, or give" if fitting else "give"
        found.append(
            f"the front end, of {features}: --frontend; {known} a JSON file of the settings it was trained with"
        )
    if not labels:
        n = target.elements
        found.append(f"the label{'s' * (n != 1)} of its {counted(n, 'output')}: --labels A,B,... or a file")
    return found


def _runs(args: argparse.Namespace, flat: FlatModel) -> str:
    """Say whether a foreign file can run, as far as a trial shows."""
    try:
        interpreter = Interpreter(flat, runtime=args.runtime, threads=args.threads, kernels=args.kernels)
    except KwsError as error:
        return str(error).removeprefix(f"{flat.name}: ")
    if interpreter.unproven:
        return f"yes, as a trial in a process of its own showed: {'; '.join(interpreter.unproven)}"
    return "yes: every operator and tensor is verified"


def _profile(model: Model) -> dict[str, Any] | None:
    path = profile_path(model)
    if not is_there(path):
        return None
    try:
        profile = RoomProfile.load(path, model)
    except ConfigError as error:
        return {"file": path, "error": str(error)}
    return {"file": path, "summary": profile.summary, "thresholds": profile.thresholds}


def _profile_text(profile: dict[str, Any] | None) -> str:
    if profile is None:
        return "none; kws-edge calibrate makes one"
    if "error" in profile:
        return f"not usable: {profile['error']}"
    thresholds = ", ".join(f"{word} {value:g}" for word, value in profile["thresholds"].items())
    return f"{profile['file']}: {thresholds}; {profile['summary']}"


def _tensor_text(t: dict[str, Any]) -> str:
    text = f"{t['dtype']} {t['shape']}"
    if t["scales"] > 1:
        return f"{text}, {counted(t['scales'], 'scale')}"
    return text if t["scale"] is None else f"{text}, scale {t['scale']:.6g}, zero point {t['zero_point']}"


def _second_name(model: Model) -> str:
    """The name of the network that confirms."""
    return model.confirming.metadata.name if model.confirming else ""


def _confirm_text(values: dict[str, Any]) -> str:
    """Which network confirms, and when it is asked."""
    return (
        f"by {values['confirm']['name']}, from a posterior of {values['confirm']['least']:g} on"
        if values["confirm"]
        else ""
    )


def _state_text(values: dict[str, Any]) -> str:
    """What a network with state remembers, and how often it answers."""
    if not values["step"]:
        return ""
    states = values["inputs"][1:]
    size = sum(math.prod(t["shape"]) * np.dtype(t["dtype"]).itemsize for t in states)
    return f"{counted(len(states), 'tensor')} of {size:,} bytes; answers every {values['step']['answer_ms']:g} ms"


def _listing(flat: FlatModel, values: dict[str, Any]) -> list[tuple[str, str]]:
    """A line for each tensor and operator."""
    lines = []
    for number, graph in enumerate(values["subgraphs"]):
        where = f"{number}:" if len(values["subgraphs"]) > 1 else ""
        for i, t in enumerate(graph["tensors"]):
            kind = ", constant" if t["constant"] else ", variable" if t["variable"] else ""
            lines.append((f"tensor {where}{i}", f"{_tensor_text(t)}{kind}  {t['name']}"))
        for i, op in enumerate(graph["operators"]):
            lines.append((f"operator {where}{i}", f"{op['name']} {op['inputs']} -> {op['outputs']}"))
    return lines


def _file_lines(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Lines about any file."""
    s = values["sizes"]
    main = values["subgraphs"][0]
    left_out = f", those of {', '.join(values['macs_left_out'])} left out" if values["macs_left_out"] else ""
    others = len(values["subgraphs"]) - 1
    return [
        *(
            (what if len(shown) == 1 else f"{what} {i}", _tensor_text(t))
            for what in ("input", "output")
            for shown in [values[f"{what}s"][: 1 if values.get("step") else None]]
            for i, t in enumerate(shown)
        ),
        ("operators", ", ".join(values["operators"]) + f"; {values['macs']:,} multiply-accumulates{left_out}"),
        (
            "graph",
            f"{counted(len(main['operators']), 'operator')} on {counted(len(main['tensors']), 'tensor')}"
            + (f"; {counted(others, 'more subgraph')}" if others else "")
            + (f"; signatures {', '.join(values['signatures'])}" if len(values["signatures"]) > 1 else ""),
        ),
        ("state", "keeps what it has heard from one inference to the next" if values["stateful"] else ""),
        ("sizes", f"file {s['file_bytes']:,} bytes, TFLite {s['tflite_bytes']:,}, weights {s['weight_bytes']:,}"),
    ]


def _misses(curve: Sequence[tuple[float, float]] | None) -> str:
    """A model file's miss curve in words."""
    shares = ", ".join(f"{threshold:g}: {100 * share:.1f} %" for threshold, share in curve or ())
    return shares and f"commands missed, by threshold: {shares}"


def _sensitivity_lines(points: Sequence[OperatingPoint] | None) -> list[tuple[str, str]]:
    """A line for each sensitivity that was measured."""
    rows = [f"{p.sensitivity:g}: {_thresholds(p)}; {str(p).partition(': ')[2]}" for p in points or ()]
    return [("" if i else "sensitivity", row) for i, row in enumerate(rows)]


def _thresholds(settings: DetectorConfig | OperatingPoint) -> str:
    """Thresholds in words."""
    own = "".join(f", {word} {value:g}" for word, value in settings.thresholds.items())
    return f"threshold {settings.threshold:g}{own}"


def _runtime_line(r: dict[str, Any]) -> tuple[str, str]:
    return (
        "runtime",
        (f"{r['name']} {r['version']}; " if r["name"] else "")
        + f"installed: {', '.join(f'{name} {version}' for name, version in r['installed'].items()) or 'none'}"
        + f"; NumPy {r['numpy']}, Python {r['python']}, {r['machine']}",
    )


def run(args: argparse.Namespace) -> int:
    path, flat, metadata = read_model(args.model)
    if metadata is not None or (args.labels and args.frontend):
        model = options.load_model(args)
        values = describe_model(model)
        lines = _model_lines(model, values)
    else:
        values = describe(flat, os.path.getsize(path)) | {
            "runs": _runs(args, flat),
            "missing": missing(flat, labels=bool(args.labels), frontend=bool(args.frontend)),
        }
        lines = [
            ("model", f"made elsewhere: it says nothing of its labels and front end  ({path})"),
            *_file_lines(values),
            ("runs", values["runs"]),
            *(("missing", text) for text in values["missing"]),
            _runtime_line(values["runtime"]),
        ]
    if args.json:
        print(json.dumps(values))
        return 0
    if args.tensors:
        lines += _listing(flat, values)
    lines = [(printable(name, most=_MOST_NAME), printable(text, most=_MOST)) for name, text in lines]
    width = max(len(name) for name, _ in lines)
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 2 * _MOST
    for name, text in lines:
        if text:
            print(
                textwrap.fill(
                    text,
                    max(columns, _LEAST),
                    initial_indent=f"{name:<{width}}  ",
                    subsequent_indent=" " * (width + 2),
                    break_on_hyphens=False,
                )
            )
    return 0


def _model_lines(model: Model, values: dict[str, Any]) -> list[tuple[str, str]]:
    """Lines about a model with labels and front end."""
    c, d = values["frontend"], values["detector"]
    wake = model.detector_config.wake_word
    band = f"{c['f_min_hz']:g}-{c['f_max_hz']:g} Hz"
    return [
        ("model", f"{values['name']}  ({values['file']})"),
        ("", values["description"]),
        ("labels", ", ".join(values["labels"])),
        (
            "front end",
            f"{model.frontend_config.contents}, {band}, frame {c['frame_ms']:g} ms, "
            f"hop {c['hop_ms']:g} ms, FFT {c['n_fft']}, {c['sample_rate']} Hz  (hash {c['hash']})",
        ),
        ("state", _state_text(values)),
        ("confirmed", _confirm_text(values)),
        *_file_lines(values),
        (
            "detector",
            _thresholds(model.detector_config)
            + (f", {d['speech_margin']:g} more after speech" if d.get("speech_margin") else "")
            + f", smoothing {d['smoothing_ms']:g} ms, hysteresis {d['hysteresis']:g}, refractory "
            f"{d['refractory_ms']:g} ms, every {model.hop_frames(d['step_ms']) * c['hop_ms']:g} ms",
        ),
        ("wake word", f"{wake}, armed for {model.detector_config.armed_s:g} s" if wake else ""),
        ("room", _profile_text(values["room"])),
        *_sensitivity_lines(model.metadata.operating_points),
        ("misses", _misses(model.metadata.miss_curve)),
        *(
            (f"{what} {name}", listed(value))
            for what, facts in (("metric", values["metrics"]), ("made", values["provenance"]))
            for name, value in facts.items()
            if name not in ("miss_curve", "operating_points")
        ),
        ("licence", values["licence"]),
        _runtime_line(values["runtime"]),
    ]
