"""Compares model files on streams: false rejects and false accepts per hour in every condition.

    python benchmarks/streams.py DATA NAME=MODEL [NAME=MODEL ...] -o DIR

DATA holds `speech_commands` and `negatives`. The words are 1,000 validation clips in a quiet stream and the same stream
behind a noise gate. Two more streams have 1,000 clips each over noise and over running speech, both at 10 dB. The
negatives are the reporting halves, at three gains, dry and in synthetic rooms. The results are `table.md`, `det.png`
and `streams.json`. With --calibrate the last model is calibrated on half of the speakers and tested on the others, both
ways. It is also calibrated on the streams of --calibrate-on and tested on all speakers.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from host_tools.data.dataset import index_clips
from host_tools.data.label_sets import LABEL_SETS
from host_tools.data.recordings import group_of, recordings
from host_tools.errors import DatasetError
from host_tools.evaluation.calibration import calibrate
from host_tools.evaluation.stream_audio import Condition, Stream, find_streams
from host_tools.evaluation.stream_inference import hear_all
from host_tools.evaluation.stream_replay import Track, score_replayed
from host_tools.evaluation.stream_synthesis import StreamConfig, make_stream
from kws_edge import DetectorConfig, Model
from kws_edge.detection.calibration import poisson_interval, wilson
from kws_edge.labels import is_keyword

GAINS_DB = (-12.0, 0.0, 8.0)
CONDITIONS = tuple(Condition(gain, room) for room in (False, True) for gain in GAINS_DB)
THRESHOLDS = tuple(round(0.3 + 0.02 * i, 2) for i in range(34))
WORDS = (
    ("quiet", 101, None, None, Condition()),
    ("gated", 101, None, None, Condition(gated=True)),
    ("at 10 dB", 102, (10.0, 10.0), "noise", Condition()),
    ("over speech at 10 dB", 103, (10.0, 10.0), "speech", Condition()),
)
"""Name, seed, signal-to-noise ratio, background and condition of each stream of words."""
MOST_MISSES = {"quiet": 0.06, "at 10 dB": 0.12}


class Heard:
    """One model on all streams. Posteriors are computed once, and serve all settings."""

    def __init__(self, model: str, words: dict[str, list[Stream]], negatives: dict[str, list[Stream]]) -> None:
        self.own = Model(model).detector_config
        self.words = {name: (words[name], self._tracks(model, words[name], condition)) for name, *_, condition in WORDS}
        self.negatives = {
            (name, condition): (streams, self._tracks(model, streams, condition))
            for name, streams in negatives.items()
            for condition in CONDITIONS
        }

    def _tracks(self, model: str, streams: Sequence[Stream], condition: Condition) -> list[Track]:
        return [heard.track for heard in hear_all(model, streams, self.own, conditions=[condition])]

    def at(self, config: DetectorConfig) -> dict:
        """False rejects with these settings, and false accepts by kind and condition."""
        values = {"threshold": config.threshold, "smoothing_ms": config.smoothing_ms, "words": {}, "negatives": {}}
        for name, (streams, tracks) in self.words.items():
            score = score_replayed(streams, tracks, config)
            values["words"][name] = {
                "missed": score.false_rejects,
                "words": score.words,
                "rate": score.false_reject_rate,
                "interval_95": wilson(score.false_rejects, score.words),
                "heard_twice": len(score.of_kind("duplicate")),
                "delay_ms": score.delays_ms(50, 95),
            }
        for name in dict.fromkeys(name for name, _ in self.negatives):
            rows = {}
            for (kind, condition), (streams, tracks) in self.negatives.items():
                if kind == name:
                    score = score_replayed(streams, tracks, config)
                    rows[condition.name] = {**_rate(score.false_accepts, score.hours), **_genuine(score)}
            total, hours = (sum(row[key] for row in rows.values()) for key in ("count", "hours"))
            values["negatives"][name] = {**rows, "all": _rate(total, hours)}
        return values

    def matched(self, smoothing_ms: float | None = None) -> dict:
        """Results at the highest threshold that keeps to the given shares of missed words."""
        config = dataclasses.replace(self.own, thresholds={}, smoothing_ms=smoothing_ms or self.own.smoothing_ms)
        best = dataclasses.replace(config, threshold=THRESHOLDS[0])
        for threshold in THRESHOLDS:
            tried = dataclasses.replace(config, threshold=threshold)
            rates = {n: score_replayed(*pair, tried).false_reject_rate for n, pair in self.words.items()}
            if all(rates[name] <= most for name, most in MOST_MISSES.items() if name in rates):
                best = tried
        return self.at(best)

    def curve(self) -> list[dict]:
        """Results of the settings in use, with every threshold."""
        return [self.at(dataclasses.replace(self.own, thresholds={}, threshold=t)) for t in THRESHOLDS]


def _rate(count: int, hours: float) -> dict:
    return {
        "count": count,
        "hours": round(hours, 4),
        "per_hour": count / hours,
        "interval_95": [x / hours for x in poisson_interval(count)],
    }


def _genuine(score) -> dict:
    found = len(score.of_kind("genuine"))
    return {"genuine": found} if found else {}


def word_streams(data: Path, folder: Path) -> dict[str, list[Stream]]:
    """The streams of words. They are made in `folder` once."""
    folder.mkdir(parents=True, exist_ok=True)
    every = [clip for clip in index_clips(data / "speech_commands").clips if clip.split == "validation"]
    wanted = [clip for clip in every if clip.word in LABEL_SETS["commands12"] and is_keyword(clip.word)]
    streams = {}
    for name, seed, snr_db, background, _ in WORDS:
        path = folder / f"words{seed}.flac"
        if not path.with_suffix(".csv").exists():
            config = StreamConfig(clips=1000, snr_db=snr_db, seed=seed)
            behind = recordings(data / "negatives" / background, "reporting").paths if background else []
            make_stream(path, config, wanted, backgrounds=behind)
        streams[name] = find_streams([path])
    return streams


def table(results: dict[str, dict]) -> str:
    """The results as Markdown, with a column for each model."""
    first = next(iter(results.values()))
    rows = [["", *results], ["---"] * (len(results) + 1)]
    rows.append(["smoothing, threshold", *(f"{v['smoothing_ms']:g} ms, {v['threshold']:g}" for v in results.values())])
    for name, values in first["words"].items():
        rows.append([f"false rejects of {values['words']:,} words, {name}"])
        rows[-1] += [_percent(v["words"][name]) for v in results.values()]
        rows.append([f"delay {name}, p50 and p95"])
        rows[-1] += ["{:.0f} and {:.0f} ms".format(*v["words"][name]["delay_ms"]) for v in results.values()]
        rows.append([f"heard twice, {name}", *(str(v["words"][name]["heard_twice"]) for v in results.values())])
    for name, values in first["negatives"].items():
        for condition, row in values.items():
            rows.append([f"false accepts per hour, {row['hours']:.2f} h of {name}, {condition}"])
            rows[-1] += [_per_hour(v["negatives"][name][condition]) for v in results.values()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def _percent(values: dict) -> str:
    low, high = values["interval_95"]
    return f"{100 * values['rate']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _per_hour(values: dict) -> str:
    low, high = values["interval_95"]
    genuine = f"; {values['genuine']} genuine" if values.get("genuine") else ""
    return f"{values['per_hour']:.1f} ({low:.1f} to {high:.1f}){genuine}"


def plot(curves: dict[str, list[dict]], results: dict[str, dict], path: Path) -> None:
    """Draw false rejects over false accepts per hour of each kind of negatives, for all conditions together."""
    from matplotlib.figure import Figure

    kinds = list(next(iter(results.values()))["negatives"])
    figure = Figure(figsize=(6.5 * len(kinds), 5), layout="constrained")
    for axes, kind in zip(figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0], kinds, strict=True):
        hours = next(iter(results.values()))["negatives"][kind]["all"]["hours"]
        for name, curve in curves.items():
            *xs, own_x = (max(0.5 / hours, v["negatives"][kind]["all"]["per_hour"]) for v in [*curve, results[name]])
            *ys, own_y = (100 * v["words"]["quiet"]["rate"] for v in [*curve, results[name]])
            (line,) = axes.plot(xs, ys, "-", label=name)
            axes.plot(own_x, own_y, "*", markersize=13, color=line.get_color(), markeredgecolor="k")
        axes.set(
            xscale="log",
            ylim=(0, 15),
            title=f"{hours:.2f} h of {kind}, three gains, dry and in rooms",
            xlabel=f"false accepts per hour (none counted: drawn at {0.5 / hours:.2g})",
            ylabel="false rejects of words in quiet (%)",
        )
        axes.grid(alpha=0.3, which="both")
        axes.legend(title="star: the settings in use")
    figure.savefig(path, dpi=110)


def calibrated_on_others(
    model: str,
    words: list[Stream],
    speech: list[Stream],
    budgets: Sequence[float],
    *,
    development: Sequence[Stream] = (),
    halvings: int = 1,
) -> list[dict]:
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
    dry = [condition for condition in CONDITIONS if not condition.room]
    rows = []
    for budget in budgets:
        for name, tuned, tested in settings:
            row = {"budget_per_hour": budget, "calibrated_on": name}
            rows.append(row)
            try:
                found = calibrate(model, [*tuned, *words], budget=budget, conditions=dry, say=lambda line: None)
            except DatasetError as error:
                row["refused"] = str(error)
                continue
            config = found.after.config
            heard = hear_all(model, tested, config, conditions=dry)
            score = score_replayed([*tested] * len(dry), [h.track for h in heard], config)
            allowed = poisson_interval(round(budget * score.hours))
            row |= {
                **found.after.to_dict(),
                "tested": _rate(score.false_accepts, score.hours),
                "allowed": allowed[1],
                "within_interval_of_budget": bool(score.false_accepts <= allowed[1]),
            }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("models", nargs="+", metavar="NAME=MODEL")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--work", type=Path, help="where the streams of words are kept; default: the output folder")
    parser.add_argument("--also-said", type=Path, metavar="CSV", help="as for kws-host stream-eval")
    parser.add_argument("--calibrate", type=float, nargs="*", default=[], metavar="BUDGET")
    parser.add_argument("--calibrate-on", type=Path, nargs="*", default=[], metavar="FILE|DIR")
    parser.add_argument("--halvings", type=int, default=1, metavar="N", help="ways to halve the speakers; default 1")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    models = dict(pair.split("=", 1) for pair in args.models)
    words = word_streams(args.data, args.work or args.output)
    folder = args.data / "negatives"
    negatives = {
        "speech": find_streams([folder / "speech"], half="reporting", also_said=args.also_said),
        "sounds": find_streams([folder / "noise"], half="reporting"),
    }
    heard = {name: Heard(model, words, negatives) for name, model in models.items()}
    results = {name: h.at(h.own) for name, h in heard.items()}
    matched = {name: h.matched() for name, h in heard.items()}
    text = "With the settings in use:\n\n" + table(results)
    text += "\nAt the highest threshold that misses at most 6 % in quiet and 12 % at 10 dB:\n\n" + table(matched)
    curves = {name: h.curve() for name, h in heard.items()}
    document = {"in_use": results, "matched": matched, "by_threshold": curves}
    if args.calibrate:
        document["calibrated"] = calibrated_on_others(
            list(models.values())[-1],
            words["quiet"],
            negatives["speech"],
            args.calibrate,
            development=find_streams(args.calibrate_on) if args.calibrate_on else [],
            halvings=args.halvings,
        )
    (args.output / "table.md").write_text(text)
    (args.output / "streams.json").write_text(json.dumps(document, indent=1, default=_plain) + "\n")
    plot(curves, results, args.output / "det.png")
    print(text)
    for row in document.get("calibrated", []):
        print(json.dumps(row, default=_plain))


def _plain(value):
    return value.item() if isinstance(value, np.generic) else list(value)


if __name__ == "__main__":
    main()
