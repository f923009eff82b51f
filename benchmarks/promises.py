"""Measures whether `kws-host calibrate` keeps its promise of false accepts on speakers that it was not given.

    python -m benchmarks.promises DATA MODEL --budget 0.5 1 2 4 [--on FILE|DIR ...] -o promises.json

DATA is the folder of `kws-host stream-eval --standard`. The model is calibrated on half of the speakers in the
reporting half of speech, and tested on the others, both ways. With `--on` it is also calibrated on those streams, and
tested on all speakers. Words are those of the quiet condition.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from host_tools.data.recordings import group_of
from host_tools.errors import DatasetError
from host_tools.evaluation.calibration import calibrate
from host_tools.evaluation.standard.conditions import Folders
from host_tools.evaluation.standard.measure import NEGATIVE_CONDITIONS
from host_tools.evaluation.standard.streams import standard_streams
from host_tools.evaluation.stream_audio import Stream, find_streams
from host_tools.evaluation.stream_inference import hear_all
from host_tools.evaluation.stream_replay import score_replayed
from kws_edge.detection.calibration import poisson_interval

GAINS = tuple(condition for condition in NEGATIVE_CONDITIONS if not condition.room)


def calibrated_on_others(
    model: str,
    words: list[Stream],
    speech: list[Stream],
    budgets: Sequence[float],
    *,
    development: Sequence[Stream] = (),
    halvings: int = 1,
) -> list[dict[str, Any]]:
    """Results of settings that were calibrated on some streams and tested on others, at three gains.

    Development streams calibrate, and all of the speech tests. Half of the speakers calibrates, and the others test,
    both ways, for each of several ways to halve them.
    """
    settings = [("development", development, speech)] if development else []
    for halving in range(halvings):
        speakers = sorted({group_of(stream.path) for stream in speech})
        first = set(random.Random(halving).sample(speakers, len(speakers) // 2))
        halves = [[s for s in speech if (group_of(s.path) in first) == side] for side in (True, False)]
        settings += [(f"half {2 * halving + side + 1}", halves[side], halves[1 - side]) for side in (0, 1)]
    rows: list[dict[str, Any]] = []
    for budget in budgets:
        for name, tuned, tested in settings:
            row: dict[str, Any] = {"budget_per_hour": budget, "calibrated_on": name}
            rows.append(row)
            try:
                found = calibrate(model, [*tuned, *words], budget=budget, conditions=GAINS, say=lambda line: None)
            except DatasetError as error:
                row["refused"] = str(error)
                continue
            config = found.after.config
            heard = hear_all(model, tested, config, conditions=GAINS)
            score = score_replayed([*tested] * len(GAINS), [h.track for h in heard], config)
            allowed = poisson_interval(round(budget * score.hours))
            row |= {
                **found.after.to_dict(),
                "tested": {"count": score.false_accepts, "hours": score.hours},
                "allowed": allowed[1],
                "within_interval_of_budget": bool(score.false_accepts <= allowed[1]),
            }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("model")
    parser.add_argument("--budget", type=float, nargs="+", required=True, metavar="N", help="false accepts per hour")
    parser.add_argument("--on", type=Path, nargs="+", default=[], metavar="FILE|DIR", help="development streams")
    parser.add_argument("--halvings", type=int, default=1, metavar="N", help="ways to halve the speakers; default 1")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="JSON")
    args = parser.parse_args()
    streams = standard_streams(Folders(args.data), args.output.parent / "streams", conditions=["quiet", "negatives"])
    rows = calibrated_on_others(
        args.model,
        [streams.words["quiet"]],
        streams.negatives["speech"],
        args.budget,
        development=find_streams(args.on) if args.on else [],
        halvings=args.halvings,
    )
    args.output.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
