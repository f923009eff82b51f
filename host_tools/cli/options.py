"""Options that several commands share, and what they stand for."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from host_tools.config import DB, NetworkConfig
from host_tools.options import add_option
from kws_edge.cli.options import add_setting, frontend, labels, threshold_of, thresholds
from kws_edge.cli.parser import output_path
from kws_edge.config import DetectorConfig
from kws_edge.errors import UsageError
from kws_edge.ranges import whole
from kws_edge.text import counted

COUNT = whole(0, 10_000_000)
"""Of words, clips or sounds."""


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Add the option that names keywords, as training has it."""
    one = NetworkConfig.options()["labels"]
    add_option(parser, one, one.default)


def add_test(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--clips", type=Path, metavar="DIR", help="folder laid out <label>/*.wav")
    parser.add_argument("--features", type=Path, metavar="DIR", help="precomputed features.npy with manifest.tsv")
    parser.add_argument("--split", metavar="PART", help="only this part of the official split (features: validation)")
    parser.add_argument("--at-least", type=COUNT, default=1, metavar="N", help="leave out words with fewer clips")
    parser.add_argument("--own-labels", action="store_true", help="leave out words that are no label of the model")


def which_clips(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `clip_set` that say which clips of a folder to use, from the options of :func:`add_test`."""
    return {name: getattr(args, name) for name in ("split", "at_least", "own_labels")}


def test_sets(args: argparse.Namespace, subject) -> list:
    if not args.clips and not args.features:
        raise UsageError("nothing to evaluate on: give --clips or --features, or both")
    from host_tools.evaluation.test_sets import answers, clip_set, feature_set

    sets, labels = [], answers(subject)
    if args.clips:
        sets.append(clip_set(args.clips, labels, subject.frontend_config, **which_clips(args)))
    if args.features:
        sets.append(feature_set(args.features, labels, subject.frontend_config, split=args.split or "validation"))
    return sets


def add_errors(parser: argparse.ArgumentParser, about: str) -> None:
    parser.add_argument("--errors", type=output_path, metavar="DIR", help=about)
    parser.add_argument("--most-errors", type=COUNT, default=100, metavar="N", help="sounds of each kind, worst first")


def add_carried(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threshold",
        type=threshold_of,
        action="append",
        default=[],
        metavar="[KEYWORD=]X",
        help=f"detection threshold that it carries; repeatable; default {DetectorConfig.threshold:g}",
    )
    for name, about in (
        ("smoothing_ms", "smoothing that the file carries"),
        ("refractory_ms", "refractory time that the file carries"),
        ("speech_margin", "how much more than the threshold a keyword needs after speech"),
    ):
        add_setting(parser, name, help=f"{about}; default {getattr(DetectorConfig, name):g}")


def carried(args: argparse.Namespace) -> dict:
    """The detector's settings that the options of :func:`add_carried` change."""
    changes = {k: v for k in ("smoothing_ms", "refractory_ms", "speech_margin") if (v := getattr(args, k)) is not None}
    return changes | (thresholds(args.threshold) if args.threshold else {})


def foreign(args: argparse.Namespace) -> dict:
    """Arguments of :class:`kws_edge.Model` for a model file made elsewhere, from the options."""
    return {"labels": labels(args.labels), "frontend_config": frontend(args.frontend)}


def add_streams(parser: argparse.ArgumentParser, *, needed: bool = True) -> None:
    parser.add_argument(
        "streams", nargs="+" if needed else "*", type=Path, metavar="FILE|DIR", help="recordings, or folders of them"
    )
    parser.add_argument(
        "--truth", nargs="+", type=Path, default=[], metavar="FILE", help="label files, one for each recording"
    )
    parser.add_argument(
        "--also-said",
        type=Path,
        metavar="CSV",
        help="CSV of keywords in unlabelled recordings, which count neither as errors nor as missed:"
        " recording,start_s,end_s,label",
    )
    add_half(parser, "all", "of folders: half, by speaker")
    parser.add_argument("--gains", type=DB, nargs="+", default=[0.0], metavar="DB", help="repeat at these gains")
    parser.add_argument("--rooms", action="store_true", help="repeat in synthetic rooms")
    parser.add_argument(
        "--gated",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="repeat labelled streams behind a noise gate: digitally silent outside the words",
    )
    parser.add_argument("--workers", type=whole(1, 1024), metavar="N", help="processes; default: one a core")


def streams(args: argparse.Namespace) -> list:
    from host_tools.data.recordings import find_audio
    from host_tools.evaluation.stream_audio import find_streams

    count_left_out([one for path in args.streams if path.is_dir() for one in find_audio(path).left_out])
    return find_streams(args.streams, truth=args.truth, half=half(args), also_said=args.also_said)


def conditions(args: argparse.Namespace, streams: list) -> list:
    from host_tools.evaluation.stream_audio import Condition

    gains = dict.fromkeys(args.gains)  # keeps each gain once
    ways: list[dict[str, bool]] = [{}]
    if args.rooms:
        ways.append({"room": True})
    if args.gated and any(stream.spoken for stream in streams):
        ways.append({"gated": True})
    return [Condition(gain, **way) for way in ways for gain in gains]


def add_half(parser: argparse.ArgumentParser, default: str, about: str) -> None:
    parser.add_argument("--half", default=default, choices=("training", "reporting", "all"), help=about)


def half(args: argparse.Namespace) -> str | None:
    return None if args.half == "all" else args.half


def use_tensorflow() -> None:
    """Have Keras compute with TensorFlow, which the converter needs, whatever backend trained the run."""
    os.environ["KERAS_BACKEND"] = "tensorflow"


def count_left_out(left_out: list) -> None:
    """Say on standard error how much was not used."""
    if left_out:
        files = sum(one.files for one in left_out)
        print(f"kws-host: {counted(files, 'file')} left out, the first: {left_out[0]}", file=sys.stderr)
