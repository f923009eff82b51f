"""``kws-edge info``: what a model file says of itself, and what runs it."""

from __future__ import annotations

import argparse
import json
import platform

import numpy as np

import kws_edge
from kws_edge.cli import options
from kws_edge.errors import ConfigError
from kws_edge.model import Model
from kws_edge.runtime import installed
from kws_edge.site import Site, is_there, site_path
from kws_edge.text import printable

_MOST, _MOST_NAME = 10_000, 60


def add(commands) -> None:
    parser = commands.add_parser(
        "info", help="describe a model and the runtime", description="Describe a model file and what runs it."
    )
    options.add_model(parser, positional=True)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def describe(model: Model) -> dict:
    """Everything that ``info --json`` prints."""
    tensors = {
        what: {"shape": list(t.shape), "dtype": t.dtype, "scale": t.scale, "zero_point": t.zero_point}
        for what, t in (("input", model.input), ("output", model.output))
    }
    c = model.front_end
    return {
        "file": model.path,
        "name": model.metadata.name,
        "description": model.metadata.description,
        "labels": list(model.labels),
        "front_end": {**c.to_dict(), "feature_shape": list(c.feature_shape), "hash": c.hash},
        "detector": model.detector.to_dict(),
        "quantisation": tensors,
        "operators": list(model.flat.operators),
        "macs": model.flat.macs,
        "sizes": {
            "file_bytes": model.size,
            "tflite_bytes": len(model.flat.data),
            "weight_bytes": model.flat.weight_bytes,
        },
        "runtime": {
            "name": model.interpreter.runtime,
            "version": model.interpreter.version,
            "installed": installed(),
            "numpy": np.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "kws_edge": kws_edge.__version__,
        },
        "metrics": model.metadata.metrics,
        "provenance": model.metadata.provenance,
        "licence": model.metadata.licence,
        "site": _site(model),
    }


def _site(model: Model) -> dict | None:
    path = site_path(model)
    if not is_there(path):
        return None
    try:
        site = Site.load(path, model)
    except ConfigError as error:
        return {"file": path, "error": str(error)}
    return {"file": path, "summary": site.summary, "thresholds": site.thresholds}


def _site_text(site: dict | None) -> str:
    if site is None:
        return "none; kws-edge calibrate makes one"
    if "error" in site:
        return f"not usable: {site['error']}"
    thresholds = ", ".join(f"{word} {value:g}" for word, value in site["thresholds"].items())
    return f"{site['file']}: {thresholds}; {site['summary']}"


def run(args: argparse.Namespace) -> int:
    model = options.load_model(args)
    values = describe(model)
    if args.json:
        print(json.dumps(values))
        return 0
    c, d, q, s, r = (values[key] for key in ("front_end", "detector", "quantisation", "sizes", "runtime"))
    wake = model.detector.wake_word
    band = f"{c['f_min_hz']:g}-{c['f_max_hz']:g} Hz"
    lines = [
        ("model", f"{values['name']}  ({values['file']})"),
        ("", values["description"]),
        ("labels", ", ".join(values["labels"])),
        (
            "front end",
            f"{c['n_mels']} {c['mel_scale']} mels of {c['spectrum']}, {band}, frame {c['frame_ms']:g} ms, "
            f"hop {c['hop_ms']:g} ms, FFT {c['n_fft']}, {c['sample_rate']} Hz  (hash {c['hash']})",
        ),
        *(
            (what, f"{t['dtype']} {t['shape']}, scale {t['scale']:.6g}, zero point {t['zero_point']}")
            for what, t in q.items()
            if t["scale"] is not None
        ),
        ("operators", ", ".join(values["operators"]) + f"; {values['macs']:,} multiply-accumulates"),
        ("sizes", f"file {s['file_bytes']:,} bytes, TFLite {s['tflite_bytes']:,}, weights {s['weight_bytes']:,}"),
        (
            "detector",
            f"threshold {d['threshold']:g}"
            + "".join(f", {word} {value:g}" for word, value in d["thresholds"].items())
            + (f", {d['speech_margin']:g} more after speech" if d.get("speech_margin") else "")
            + f", smoothing {d['smoothing_ms']:g} ms, hysteresis {d['hysteresis']:g}, refractory "
            f"{d['refractory_ms']:g} ms, every {d['step_ms']:g} ms",
        ),
        ("wake word", f"{wake}, armed for {model.detector.armed_s:g} s" if wake else ""),
        ("site", _site_text(values["site"])),
        *((f"metric {name}", json.dumps(value)) for name, value in values["metrics"].items()),
        *(
            (f"made {name}", value if isinstance(value, str) else json.dumps(value))
            for name, value in values["provenance"].items()
        ),
        ("licence", values["licence"]),
        (
            "runtime",
            f"{r['name']} {r['version']}; installed: "
            + ", ".join(f"{name} {version}" for name, version in r["installed"].items())
            + f"; NumPy {r['numpy']}, Python {r['python']}, {r['machine']}",
        ),
    ]
    lines = [(printable(name, most=_MOST_NAME), printable(text, most=_MOST)) for name, text in lines]
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        if text:
            print(f"{name:<{width}}  {text}")
    return 0
