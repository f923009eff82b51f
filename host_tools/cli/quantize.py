"""``kws-host quantize``: a run as an INT8 model file."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from host_tools.cli import options
from host_tools.config import SEED
from kws_edge.cli.parser import output_path
from kws_edge.config import DetectorConfig
from kws_edge.errors import ModelError
from kws_edge.model.file import unpack
from kws_edge.ranges import whole


def add(commands) -> None:
    parser = commands.add_parser("quantize", help="quantise a run to an INT8 model file")
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of the run")
    parser.add_argument("-o", "--output", type=output_path, required=True, metavar="FILE", help=".tflite to write")
    parser.add_argument("--name", metavar="NAME", help="name that the file carries; default: the file's")
    parser.add_argument(
        "--description", metavar="TEXT", help="what the file says of itself; default: the network's kind and size"
    )
    parser.add_argument(
        "--licence",
        metavar="TEXT",
        help="licence and attribution of the weights; default: what Speech Commands asks for, or that none is stated",
    )
    parser.add_argument("--samples", type=whole(1, 1_000_000), default=200, help="calibration examples")
    parser.add_argument("--seed", type=SEED, default=0, help="choice of calibration examples")
    options.add_carried(parser)
    parser.set_defaults(work=work)


def work(args: argparse.Namespace) -> None:
    options.use_tensorflow()
    from host_tools.convert.quantize import quantize_run
    from host_tools.training.run import load_run

    detector = DetectorConfig(**options.carried(args))
    run = load_run(args.run)
    replaced = _is_calibrated(args.output)
    name = args.name or Path(args.output).stem
    metadata = quantize_run(
        run,
        args.output,
        name=name,
        n=args.samples,
        seed=args.seed,
        detector_config=detector,
        description=args.description,
        licence=args.licence,
    )
    print(f"wrote {args.output}, {Path(args.output).stat().st_size:,} bytes; {_told(metadata.metrics['validation'])}")
    if replaced:
        print(f"{args.output} held settings that kws-host calibrate chose, and holds them no more: calibrate again")


def _told(v: Mapping[str, float]) -> str:
    """What quantisation changed, for people."""
    if "clips" in v:
        return (
            f"on {v['clips']} validation examples: float {v['float_accuracy']:.2%}, INT8 {v['int8_accuracy']:.2%}, "
            f"agreement {v['agreement']:.2%}"
        )
    forms = (
        f"{name} misses {v[f'{form}_missed']:.2%} with {v[f'{form}_false_accepts_per_hour']:.3g} false accepts an hour"
        for form, name in (("float", "float"), ("int8", "INT8"))
    )
    return (
        f"on {v['sequences']} validation sequences at a threshold of {v['threshold']:g}: {', '.join(forms)}; "
        f"{v['agreement']:.2%} of the answers agree"
    )


def _is_calibrated(path: Path) -> bool:
    """Whether there is a model file with settings that ``kws-host calibrate`` chose."""
    try:
        metadata = unpack(path.read_bytes(), str(path))[1] if path.is_file() else None
    except (OSError, ModelError):
        return False
    return metadata is not None and "calibration" in metadata.metrics
