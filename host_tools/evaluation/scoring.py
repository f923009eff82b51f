"""Compares detections with the words that were said: false rejects, false accepts, confusions, duplicates, delay.

These are pure functions of :class:`kws_edge.Detection` and :class:`host_tools.data.annotations.Word`. No audio is heard
here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from host_tools.data.annotations import Word, anything_said
from host_tools.evaluation.intervals import by_group
from kws_edge.detection.calibration import poisson_interval, wilson
from kws_edge.detection.detector import Detection

__all__ = [
    "CONFUSION",
    "DUPLICATE",
    "EARLY_S",
    "FALSE_ACCEPT",
    "GENUINE",
    "HIT",
    "MISS",
    "TOLERANCE_S",
    "Event",
    "Heard",
    "Score",
    "match",
    "score",
]

TOLERANCE_S = 1.0
"""A decision may be credited with a word until this long after the word's end."""
EARLY_S = 0.1
"""A decision may be credited with a word from this long after the word's start: before, too little was said."""

HIT, MISS, CONFUSION, DUPLICATE, FALSE_ACCEPT = "hit", "miss", "confusion", "duplicate", "false_accept"
GENUINE = "genuine"


@dataclass(frozen=True)
class Heard:
    """A stream with the words that were said and the detections."""

    name: str
    duration_s: float
    words: Sequence[Word]
    detections: Sequence[Detection]


@dataclass(frozen=True)
class Event:
    """The result for a word or for a detection."""

    kind: str
    """``hit`` (a word and its detection), ``miss`` (a word), ``confusion``, ``duplicate``, ``false_accept``, or
    ``genuine`` (the detection of an optional word)."""
    stream: str
    start_s: float
    """Start of the window that decided, or of a missed word."""
    time_s: float
    """Time of the decision, or the end of a missed word."""
    said: str | None
    """The word at that time; None for a detection where nothing was labelled."""
    keyword: str | None
    """The detected keyword; None for a missed word."""
    score: float | None = None
    """Score of the detection."""
    delay_s: float | None = None
    """Time from the end of the word to the decision, for hits."""
    speaker: str | None = None
    """Who said the word, for hits and missed words, where that is known."""


def match(
    detections: Iterable[Detection],
    words: Iterable[Word],
    keywords: Sequence[str],
    *,
    tolerance_s: float = TOLERANCE_S,
    stream: str = "",
) -> list[Event]:
    """Pair the detections of one stream with its words.

    The *span* of a word reaches from :data:`EARLY_S` after its start to `tolerance_s` after its end. Detections are
    taken in order of time, each at its time of decision (``end_s``). A detection is

    - a hit, if it lies in the span of a word of its own keyword that is not yet credited. The first such word is
      credited;
    - a duplicate, if it lies in the span of such words, but all are credited;
    - genuine, if it lies in the span of an optional word of its keyword. It is neither a hit nor an error;
    - a confusion, if it lies in the span of another keyword. That keyword is missed, unless another detection hits it;
    - a false accept otherwise, also if it lies in the span of a word that is no keyword.

    Parameters
    ----------
    detections : iterable of Detection
    words : iterable of Word
    keywords : sequence of str
        The active keywords. Other words need no detection.
    tolerance_s : float
    stream : str
        Name of the stream in the events.

    Returns
    -------
    list of Event, by time
    """
    optional = [word for word in words if word.optional]
    words = sorted((word for word in words if not word.optional), key=lambda word: word.end_s)
    spans = np.array([(w.start_s + EARLY_S, w.end_s + tolerance_s) for w in words]).reshape(-1, 2)
    credited: set[int] = set()
    events = []
    for found in sorted(detections, key=lambda found: found.end_s):
        at = found.end_s
        # Times are sums of floats, so a nanosecond beyond the tolerance still lies within it.
        near = [int(i) for i in np.flatnonzero((spans[:, 0] <= at + 1e-9) & (at <= spans[:, 1] + 1e-9))]
        own = [i for i in near if words[i].label == found.keyword]
        free = [i for i in own if i not in credited]
        confused = [i for i in near if words[i].label in keywords]
        kind = HIT if free else DUPLICATE if own else CONFUSION if confused else FALSE_ACCEPT
        if kind in (CONFUSION, FALSE_ACCEPT) and any(
            w.label == found.keyword and w.start_s + EARLY_S <= at <= w.end_s + tolerance_s for w in optional
        ):
            kind = GENUINE
        word = next((words[i] for i in (*free[:1], *own[-1:], *confused[-1:], *near[-1:])), None)
        credited.update(free[:1])
        said, hit = word.label if word else None, word if kind == HIT else None
        delay, speaker = (at - hit.end_s, hit.speaker or None) if hit else (None, None)
        events.append(Event(kind, stream, found.start_s, at, said, found.keyword, found.score, delay, speaker))
    for i, word in enumerate(words):
        if i not in credited and word.label in keywords:
            speaker = word.speaker or None
            events.append(Event(MISS, stream, word.start_s, word.end_s, word.label, None, speaker=speaker))
    return sorted(events, key=lambda event: event.time_s)


def score(streams: Iterable[Heard], keywords: Sequence[str], *, tolerance_s: float = TOLERANCE_S) -> Score:
    """Score of all streams by :func:`match`, and of the streams without words alone.

    Parameters
    ----------
    streams : iterable of Heard
    keywords : sequence of str
        The active keywords.
    tolerance_s : float
        As for :func:`match`.
    """
    parts = [(h, match(h.detections, h.words, keywords, tolerance_s=tolerance_s, stream=h.name)) for h in streams]
    wordless = [(heard, events) for heard, events in parts if not anything_said(heard.words)]

    def total(parts: Sequence[tuple[Heard, list[Event]]], wordless: Score | None = None) -> Score:
        every = tuple(event for _, events in parts for event in events)
        return Score(tuple(keywords), sum(heard.duration_s for heard, _ in parts), every, wordless)

    return total(parts, total(wordless))


@dataclass(frozen=True)
class Score:
    """Errors on streams. Rates of false accepts are per hour of all streams, including the time of words.

    Streams with words lower these rates, because little else can be falsely accepted between close words. So `wordless`
    has the score of the other streams.
    """

    keywords: tuple[str, ...]
    seconds: float
    events: tuple[Event, ...]
    wordless: Score | None = None
    """Score of the streams without words, including streams with optional words alone."""

    def of_kind(self, kind: str) -> list[Event]:
        """Events of one kind."""
        return [event for event in self.events if event.kind == kind]

    @property
    def hours(self) -> float:
        """Length of the streams."""
        return self.seconds / 3600

    @property
    def words(self) -> int:
        """Number of keywords that were said."""
        return len(self.of_kind(HIT)) + len(self.of_kind(MISS))

    @property
    def false_rejects(self) -> int:
        """Number of keywords that were said and not detected as themselves."""
        return len(self.of_kind(MISS))

    @property
    def false_reject_rate(self) -> float | None:
        """Share of missed keywords, in [0, 1]. None if no keyword was said."""
        return self.false_rejects / self.words if self.words else None

    @property
    def false_accepts(self) -> int:
        """Number of detections where no keyword was said."""
        return len(self.of_kind(FALSE_ACCEPT))

    @property
    def false_accepts_per_hour(self) -> float | None:
        """False accepts per hour; None if there is no audio."""
        return self.false_accepts / self.hours if self.seconds else None

    @property
    def false_reject_interval(self) -> tuple[float, float]:
        """95 % interval of :attr:`false_reject_rate`: by speaker, if all are known, else as if each word had its own.

        See :func:`host_tools.evaluation.intervals.by_group`.
        """
        events = [event for event in self.events if event.kind in (HIT, MISS)]
        if not all(event.speaker for event in events):
            return wilson(self.false_rejects, self.words)
        said, missed = (Counter(e.speaker for e in part) for part in (events, self.of_kind(MISS)))
        return by_group([(missed[speaker], n) for speaker, n in said.items()])

    def delays_ms(self, *percentiles: float) -> list[float] | None:
        """Percentiles in ms of the delay from a word's end to its detection. None without hits."""
        delays = [1000 * event.delay_s for event in self.of_kind(HIT) if event.delay_s is not None]
        return [float(x) for x in np.percentile(delays, percentiles)] if delays else None

    def to_dict(self) -> dict[str, Any]:
        """The counts and rates as a JSON-ready dict."""
        said = Counter(e.said for e in self.events if e.kind in (HIT, MISS))
        missed = Counter(e.said for e in self.of_kind(MISS))
        duplicates, hits, delays = len(self.of_kind(DUPLICATE)), len(self.of_kind(HIT)), self.delays_ms(50, 95)
        return {
            "hours": round(self.hours, 5),
            "hours_without_words": round(self.wordless.hours, 5) if self.wordless else None,
            "false_rejects": _proportion(self.false_rejects, self.words, self.false_reject_interval),
            **self._accepts(self.keywords),
            "confusions": len(self.of_kind(CONFUSION)),
            "genuine": len(self.of_kind(GENUINE)),
            "duplicates": {"count": duplicates, "per_hit": round(duplicates / hits, 5) if hits else None},
            "delay_ms": {"p50": round(delays[0], 1), "p95": round(delays[1], 1)} if delays else None,
            "keywords": {
                word: {"false_rejects": _proportion(missed[word], said[word]), **self._accepts([word])}
                for word in self.keywords
            },
        }

    def _accepts(self, keywords: Sequence[str]) -> dict[str, Any]:
        """Rates of false accepts of some keywords: on all streams, and on streams without words."""
        return {
            name: part and _rate(sum(e.keyword in keywords for e in part.of_kind(FALSE_ACCEPT)), part.hours)
            for name, part in (("false_accepts", self), ("false_accepts_without_words", self.wordless))
        }


def _proportion(count: int, n: int, interval: tuple[float, float] | None = None) -> dict[str, Any]:
    return {
        "count": count,
        "words": n,
        "rate": round(count / n, 5) if n else None,
        "interval_95": [round(x, 5) for x in interval or wilson(count, n)] if n else None,
    }


def _rate(count: int, hours: float) -> dict[str, Any]:
    return {
        "count": count,
        "per_hour": round(count / hours, 4) if hours else None,
        "interval_95": [round(x / hours, 4) for x in poisson_interval(count)] if hours else None,
    }
