"""Compares model files under the standard conditions, such as an old one and a new one.

    python -m benchmarks.streams DATA NAME=MODEL|JSON [NAME=MODEL|JSON ...] -o DIR

DATA is the folder of `kws-host stream-eval --standard`. The table has a column for each model: commands of strangers,
words in quiet, behind a noise gate, over noise, speech and music, delays, false accepts per hour, and the work of a
second. `det.png` has the DET curves of all models. The results are `table.md`, `det.png` and `report.json`, and the
streams lie in `streams/`. `NAME=DIR/report.json` takes the column of that name from an earlier run.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from host_tools.errors import DatasetError
from host_tools.evaluation.clips import evaluate
from host_tools.evaluation.standard.conditions import CONDITIONS, SNR_DB, Folders
from host_tools.evaluation.standard.measure import measure
from host_tools.evaluation.standard.report import table, write
from host_tools.evaluation.standard.streams import standard_streams
from host_tools.evaluation.test_sets import answers, clip_set
from kws_edge import Model
from kws_edge.detection.calibration import wilson


def named(text: str) -> tuple[str, str]:
    """A ``type`` of argparse that reads ``NAME=MODEL``."""
    name, _, model = text.partition("=")
    if not (name and model):
        raise argparse.ArgumentTypeError(f"must be NAME=MODEL, got {text!r}")
    return name, model


def test12(model: str, folder: Path) -> dict[str, Any]:
    """Accuracy of a model file on labelled clips, with the kernels of a microcontroller."""
    loaded = Model(model, kernels="builtin")
    result = evaluate(loaded, clip_set(folder, answers(loaded), loaded.frontend_config))
    n = len(result.truth)
    return {"rate": result.accuracy, "interval_95": list(wilson(result.accuracy * n, n)), "clips": n}


def known(name: str, path: Path, streams: Mapping[str, str]) -> dict[str, Any]:
    """What an earlier run measured of the model of that name, on the same streams as far as it had them."""
    results = json.loads(path.read_text())
    if name not in results:
        raise SystemExit(f"{path}: has no {name}; it has {', '.join(results)}")
    values = dict(results[name])
    for condition, stream in streams.items():
        if values["streams"].get(condition, stream) != stream:
            raise SystemExit(f"{path}: {name} heard another stream for {condition}; measure its model file again")
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("models", nargs="+", type=named, metavar="NAME=MODEL|JSON")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=[], metavar="NAME")
    parser.add_argument(
        "--music", type=Path, metavar="DIR", help="music, such as kws-host collect --from music fetches"
    )
    parser.add_argument("--words", type=int, default=1000, metavar="N", help="words under each condition; default 1000")
    parser.add_argument("--snr-db", type=float, default=SNR_DB, metavar="DB")
    parser.add_argument(
        "--test12", action="store_true", help="also measure accuracy on DATA/test12: seldom, not to choose"
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes; default: one a core")
    args = parser.parse_args()
    models = dict(args.models)
    streams = standard_streams(
        Folders(args.data, args.music),
        args.output / "streams",
        conditions=args.conditions,
        clips=args.words,
        snr_db=args.snr_db,
    )
    results = {}
    for name, model in models.items():
        if model.endswith(".json"):
            results[name] = known(name, Path(model), streams.names)
        else:
            results[name] = measure(model, streams, workers=args.workers)
            if args.test12:
                try:
                    results[name]["test12"] = test12(model, args.data / "test12")
                except DatasetError as error:  # a model without unknown or silence
                    results[name]["not_measured"]["test12"] = str(error)
        write(results, args.output)
    print(table(results))
    for name, values in results.items():
        for condition, reason in values["not_measured"].items():
            print(f"{name}: {condition} not measured: {reason}")


if __name__ == "__main__":
    main()
