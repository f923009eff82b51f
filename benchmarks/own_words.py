"""Measures `kws-host train --preset own` on new words with few recordings.

    python -m benchmarks.own_words DATA --sounds SOUNDS --held-out HELD_OUT -o own_words --recordings 50 200 500

DATA holds `speech_commands` and `negatives`. `kws-host collect` makes SOUNDS and HELD_OUT (README: Train your own). The
seed draws the words' recordings from the training clips of Speech Commands. A fifth of their speakers does not train;
their recordings are for calibration. The test is a quiet stream of all clips of the words by other speakers, each once.
Precomputed features are not used, because they hold the words, too. Every command is printed before it runs. The result
is `table.md`. Finished steps are not repeated.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from host_tools.data.dataset import Clip, index_clips
from host_tools.training.curves import read_log
from kws_edge import Model
from kws_edge.detection.calibration import poisson_interval

_HELD_OUT = 0.2
_BUDGET = 1.0
_CONDITIONS = ("--gains", "-12", "0", "8", "--rooms")
_MARGIN = 0.2
_LIST = "validation_list.txt"


def host(*arguments: object) -> str:
    """Run a `kws-host` command as a user would, and return its output."""
    line = shlex.join(["kws-host", *map(str, arguments)])
    print(f"$ {line}", flush=True)
    started = time.monotonic()
    command = [sys.executable, "-m", "host_tools", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    print(done.stdout.rstrip(), f"\n({time.monotonic() - started:.0f} s)", flush=True)
    return done.stdout


def share_of(speaker: str) -> float:
    """A number from 0 to 1 for a speaker, by another hash than the dataset's own."""
    return int.from_bytes(hashlib.sha256(speaker.encode()).digest()[:4], "big") / 2**32


def drawn(data: Path, words: Sequence[str], n: int, seed: int, folder: Path) -> tuple[list[Clip], list[Clip]]:
    """Link the data of a user into `folder`: `n` recordings of each word, and all other words of Speech Commands.

    Returns
    -------
    own : list of Clip
        Recordings that were drawn.
    others : list of Clip
        Recordings of the words by other people.
    """
    clips = [clip for clip in index_clips(data).clips if clip.word in words]
    rng = random.Random(seed)
    own = []
    for word in words:
        candidates = [clip for clip in clips if clip.word == word and clip.split == "training"]
        own += rng.sample(candidates, min(n, len(candidates)))
    speakers = {clip.speaker for clip in own}
    others = [clip for clip in clips if clip.speaker not in speakers]
    listed = (data / _LIST).read_text().split() if (data / _LIST).exists() else []
    listed = [entry for entry in listed if entry.split("/")[0] not in words]
    for source, target, chosen in ((data, folder / "data", own), (None, folder / "others", others)):
        target.mkdir(parents=True, exist_ok=True)
        for entry in sorted(source.iterdir()) if source else ():
            if entry.is_dir() and entry.name not in words:
                _link(entry, target / entry.name)
        for clip in chosen:
            _link(clip.path, target / clip.word / clip.path.name)
    kept = [f"{clip.word}/{clip.path.name}" for clip in own if share_of(clip.speaker) < _HELD_OUT]
    (folder / "data" / _LIST).write_text("\n".join([*listed, *kept]) + "\n")
    return own, others


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    if not target.exists():
        os.symlink(source.absolute(), target)


def measured(args: argparse.Namespace, n: int) -> dict:
    """Train with `n` recordings of each word, calibrate, and measure."""
    folder, words = args.output / f"recordings{n}", ",".join(args.words)
    own, others = drawn(args.data / "speech_commands", args.words, n, args.seed, folder)
    model, run, heard, test = (folder / name for name in ("own.tflite", "run", "heard.flac", "others.flac"))
    sources = ["--synthetic", args.output / "synthetic"]
    sources += ["--more-speech", args.sounds / "speech", "--more-noise", args.sounds / "noise"]
    command = ["train", folder / "data", "--preset", "own", "--labels", words, *sources, "-o", run, *args.train]
    if not model.exists():  # training may go on where it stopped, but takes all its minutes
        host(*command)
    host("quantize", run, "-o", model)
    host("make-stream", folder / "data", "--words", words, "-o", heard)
    settings = ["--rooms", "--no-gated", "--speech-margin", _MARGIN, "--budget", f"{args.budget:g}"]
    development = [heard, args.held_out, args.output / "unheard" / "speech"]
    host("calibrate", model, *development, *settings, "-o", model)
    promise = Model(model).metadata.metrics["calibration"]
    host("make-stream", folder / "others", "--split", "all", "--words", words, "-o", test)
    host("stream-eval", model, test, "--no-gated", "-o", folder / "quiet")
    quiet = json.loads((folder / "quiet" / "report.json").read_text())["conditions"][0]
    negatives = [args.data / "negatives" / kind for kind in ("speech", "noise")]
    host("stream-eval", model, *negatives, "--half", args.half, *_CONDITIONS, "-o", folder / "negatives")
    rows = json.loads((folder / "negatives" / "report.json").read_text())["conditions"]
    return {
        "recordings": n,
        "trained": sum(share_of(clip.speaker) >= _HELD_OUT for clip in own),
        "test_words": len(others),
        "minutes": sum(row["seconds"] for part in (run, run / "words") for row in read_log(part)) / 60,
        "calibration": promise,
        "false_rejects": quiet["false_rejects"],
        "hours": rows[0]["hours"],
        "false_accepts": {row["name"]: row["false_accepts"]["count"] for row in rows},
    }


def table(results: Sequence[dict]) -> str:
    """The results as Markdown, a row for each number of recordings."""
    rows = [
        [
            "recordings of each word",
            "missed: promised",
            "measured, of other people's",
            "false accepts per hour: promised",
            "measured, all conditions",
            "measured, as recorded",
            "minutes of training",
        ],
        ["---"] * 7,
    ]
    for r in results:
        promise, missed, accepts = r["calibration"]["promise"], r["false_rejects"], r["false_accepts"]
        rows.append(
            [
                f"{r['recordings']} ({r['trained']} of all words' train)",
                _percent(promise["false_reject_rate"], promise["false_reject_interval_95"])
                + f", from {promise['distinct_words']}",
                _percent(missed["rate"], missed["interval_95"]) + f", of {missed['words']:,}",
                "{:.1f} ({:.1f} to {:.1f})".format(promise["false_accepts_per_hour"], *promise["interval_95"]),
                _per_hour(sum(accepts.values()), r["hours"] * len(accepts)),
                _per_hour(accepts["+0 dB"], r["hours"]),
                f"{r['minutes']:.1f}",
            ]
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def _percent(rate: float, interval: Sequence[float]) -> str:
    return f"{100 * rate:.1f} % ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"


def _per_hour(count: int, hours: float) -> str:
    low, high = poisson_interval(count)
    return f"{count / hours:.1f} ({low / hours:.1f} to {high / hours:.1f}): {count} in {hours:.2f} h"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sounds", type=Path, required=True, help="sounds of kws-host collect to train on")
    parser.add_argument("--held-out", type=Path, required=True, help="sounds of kws-host collect to calibrate on")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--words", type=lambda text: text.split(","), default=["cat", "happy"])
    parser.add_argument("--recordings", type=int, nargs="+", default=[50], metavar="N", help="recordings of each word")
    parser.add_argument("--seed", type=int, default=1, help="seed of the drawn recordings")
    parser.add_argument("--budget", type=float, default=_BUDGET, help="false accepts per hour for calibration")
    parser.add_argument("--half", default="reporting", choices=("training", "reporting"), help="half of the negatives")
    parser.add_argument("--train", type=shlex.split, default=[], metavar="OPTIONS", help="more options of training")
    args = parser.parse_args()
    words = ",".join(args.words)
    synthetic, unheard = args.output / "synthetic", args.output / "unheard"
    host("synthesize", "-o", synthetic, "--labels", words, "--minutes", 120, "--per-word", 200)
    host("synthesize", "-o", unheard, "--labels", words, "--minutes", 60, "--per-word", 0, "--seed", 2)
    results: list[dict] = []
    for n in args.recordings:
        result = args.output / f"recordings{n}" / "result.json"
        if not result.exists():
            result.write_text(json.dumps(measured(args, n), indent=1) + "\n")
        results.append(json.loads(result.read_text()))
        (args.output / "table.md").write_text(table(results))
        print(table(results), flush=True)


if __name__ == "__main__":
    main()
