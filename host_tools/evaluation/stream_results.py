"""Results on streams under one condition, for JSON and for people."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from host_tools.evaluation.scoring import FALSE_ACCEPT, HIT, Event, Score
from host_tools.evaluation.stream_audio import Condition
from host_tools.evaluation.stream_replay import Track

__all__ = ["Result"]


@dataclass(frozen=True)
class Result:
    """Results under one condition."""

    condition: Condition
    score: Score
    """Score of the live run with its own settings."""
    sweep: tuple[tuple[float, Score], ...]
    """Thresholds for every keyword, each with its score."""
    tracks: dict[int, Track]
    """Posteriors of the streams, by the number of the stream."""

    def to_dict(self) -> dict[str, Any]:
        """The results as a JSON-ready dict, with all events except hits."""
        return {
            "name": self.condition.name,
            **asdict(self.condition),
            **self.score.to_dict(),
            "det": [_point(threshold, score) for threshold, score in self.sweep],
            "events": [_event(e) for e in self.score.events if e.kind != HIT],
        }

    def table(self) -> list[str]:
        """Lines for people."""
        values = self.score.to_dict()
        on_words = sum(e.said is not None for e in self.score.of_kind(FALSE_ACCEPT))
        delay, duplicates, hours = values["delay_ms"], values["duplicates"], values["hours_without_words"]
        mixed = 0 < hours < values["hours"]
        rejects, accepts = "false rejects (95 % interval)", "false accepts per hour (95 % interval)"
        notes = [f"{values['confusions']} confused with another keyword", f"{duplicates['count']} heard twice"]
        notes += [f"{on_words} of the false accepts on other words"] * bool(on_words)
        notes += [f"{values['genuine']} genuine, by the list of what is also said"] * bool(values["genuine"])
        decided = "; decided {p50:.0f} ms after the word's end (p50), {p95:.0f} ms (p95)"
        lines = [
            f"{self.condition.name:<16} {rejects:<33} {accepts}" + f"   in the {hours:.3g} h without words" * mixed,
            _row("all", values, mixed),
            *(_row(f"  {word}", v, mixed) for word, v in values["keywords"].items()),
            ", ".join(notes) + (decided.format(**delay) if delay else ""),
        ]
        if self.sweep:
            lines += ["threshold", *(_row(f"  {t:.2f}", _point(t, score), mixed) for t, score in self.sweep)]
        return lines


def _point(threshold: float, score: Score) -> dict[str, Any]:
    """A point of the DET curve."""
    values = score.to_dict()
    names = ("false_rejects", "false_accepts", "false_accepts_without_words", "confusions")
    return {"threshold": threshold, **{name: values[name] for name in names}}


def _event(event: Event) -> dict[str, Any]:
    values = asdict(event)
    for name in ("start_s", "time_s", "score", "delay_s"):
        values[name] = values[name] and round(values[name], 4)
    return values


def _rejects(values: dict[str, Any]) -> str:
    if not values["words"]:
        return "none said"
    low, high = values["interval_95"]
    return f"{100 * values['rate']:6.2f} % of {values['words']:<4} ({100 * low:.2f} to {100 * high:.2f})"


def _accepts(values: dict[str, Any]) -> str:
    if values["per_hour"] is None:
        return ""
    low, high = values["interval_95"]
    return f"{values['per_hour']:7.2f} ({low:.2f} to {high:.2f}), {values['count']} counted"


def _row(name: str, values: dict[str, Any], mixed: bool) -> str:
    columns = f"{name:<16} {_rejects(values['false_rejects']):<33} {_accepts(values['false_accepts']):<41}"
    return (columns + _accepts(values["false_accepts_without_words"]) * mixed).rstrip()
