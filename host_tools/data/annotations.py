"""Label files: which words a recording holds, and where."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from host_tools.errors import DatasetError
from kws_edge.files import write_atomically
from kws_edge.text import decode

__all__ = ["Word", "anything_said", "labels_beside", "read_also_said", "read_labels", "write_labels"]

_LARGEST = 2**26  # bytes
_COLUMNS = ("start_s", "end_s", "label")


@dataclass(frozen=True)
class Word:
    """A word of a recording."""

    start_s: float
    """Seconds from the start of the recording."""
    end_s: float
    label: str
    optional: bool = False
    """True for a keyword in speech that was not recorded to test it. It may be detected or not."""
    speaker: str = ""
    """Who says it; empty where nothing tells."""


def anything_said(words: Iterable[Word]) -> bool:
    """Whether a recording has a word that was recorded to test detection."""
    return not all(word.optional for word in words)


def labels_beside(path: str | Path) -> Path | None:
    """The label file of a recording: the file of its name that ends in ``.csv``, or else in ``.txt``, or else None."""
    candidates = (Path(path).with_suffix(ending) for ending in (".csv", ".txt"))
    return next((p for p in candidates if p.is_file()), None)


def read_labels(path: str | Path) -> list[Word]:
    """The words of a label file, in order of time.

    Parameters
    ----------
    path : path
        CSV with a header that names the columns ``start_s``, ``end_s``, ``label`` (or ``said``), and if known
        ``speaker``. Or Audacity's labels without a header: tabs separate start, end and label, and lines of frequencies
        (``\\``) may follow each.

    Raises
    ------
    DatasetError
        If the file cannot be read, has neither form, or has a line that is not a word with its times.
    """
    lines = _lines(path)
    if "\t" in lines[0][1]:
        words = [_word(path, number, fields) for number, fields in _audacity(path, lines)]
    else:
        rows = _csv(path, lines, _COLUMNS, "speaker")
        words = [_word(path, number, fields[:3], *fields[3:]) for number, fields in rows]
    return sorted(words, key=lambda word: (word.start_s, word.end_s))


def read_also_said(path: str | Path) -> dict[str, tuple[Word, ...]]:
    """Keywords that occur in recordings without labels, as optional words by recording.

    Parameters
    ----------
    path : path
        CSV with a header that names the columns ``recording`` (a file's name, without folder and ending), ``start_s``,
        ``end_s`` and ``label``.

    Raises
    ------
    DatasetError
        If the file cannot be read, or a line is not a word with its recording and times.
    """
    words: dict[str, list[Word]] = {}
    for number, (recording, *fields) in _csv(path, _lines(path), ("recording", *_COLUMNS)):
        words.setdefault(recording, []).append(replace(_word(path, number, fields), optional=True))
    return {recording: tuple(found) for recording, found in words.items()}


def _lines(path: str | Path) -> list[tuple[int, str]]:
    """Number and text of each line that is not empty. The file is UTF-8 or, as Windows writes it, UTF-16."""
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST + 1)
        text = decode(data)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise DatasetError(f"{path}: is not text in UTF-8; export the labels again") from None
    if len(data) > _LARGEST or "\0" in text:
        raise DatasetError(f"{path}: is no label file, but {'larger' if len(data) > _LARGEST else 'binary'}")
    lines = [(number, line) for number, line in enumerate(re.split("\r\n|\r|\n", text), 1) if line.strip()]
    if not lines:
        raise DatasetError(
            f"{path}: is empty; expected start, end and label separated by tabs, or CSV with the header "
            "start_s,end_s,label"
        )
    return lines


def _audacity(path: str | Path, lines: Sequence[tuple[int, str]]) -> Iterable[tuple[int, Sequence[str]]]:
    for number, line in lines:
        if not line.startswith("\\"):
            yield number, line.split("\t")


def _csv(
    path: str | Path, lines: Sequence[tuple[int, str]], wanted: Sequence[str], *known: str
) -> Iterable[tuple[int, Sequence[str]]]:
    """Number and columns of each row: those `wanted`, and those of `known` that are there."""
    header, *rows = ((number, _columns(path, number, line)) for number, line in lines)
    names = [name.strip() for name in header[1]]
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise DatasetError(f"{path}, line {header[0]}: the column {_short(twice[0])} is there twice")
    if "label" not in names and "said" in names:
        names[names.index("said")] = "label"
    missing = [name for name in wanted if name not in names]
    if missing:
        raise DatasetError(
            f"{path}, line {header[0]}: no column {missing[0]!r}; the header must name {','.join(wanted)}"
        )
    columns = [names.index(name) for name in (*wanted, *known) if name in names]
    for number, row in rows:
        if len(row) <= max(columns):
            raise DatasetError(f"{path}, line {number}: {len(row)} columns; the header names {len(names)}")
        yield number, [row[i] for i in columns]


def _columns(path: str | Path, number: int, line: str) -> list[str]:
    try:
        return next(csv.reader([line]))
    except csv.Error as error:
        raise DatasetError(f"{path}, line {number}: is not CSV ({error})") from None


def _word(path: str | Path, number: int, fields: Sequence[str], speaker: str = "") -> Word:
    where = f"{path}, line {number}"
    if len(fields) != 3 or not fields[2].strip():
        raise DatasetError(f"{where}: expected start, end and label, got {_short(chr(9).join(fields))}")
    try:
        start, end = map(float, fields[:2])
    except ValueError:
        raise DatasetError(
            f"{where}: the times {_short(fields[0])} and {_short(fields[1])} are not numbers of seconds"
        ) from None
    if not (0 <= start <= end < math.inf):
        raise DatasetError(f"{where}: a word from {start:g} to {end:g} s; 0 <= start <= end is expected")
    return Word(start, end, fields[2].strip(), speaker=speaker.strip())


def _short(text: str) -> str:
    """`text`, shortened for a message."""
    return repr(text if len(text) <= 60 else f"{text[:60]}...")


def write_labels(path: str | Path, words: Iterable[Word]) -> None:
    """Write words as CSV that :func:`read_labels` reads. Times are rounded to a tenth of a millisecond.

    There is a column for speakers if any is known.
    """
    words = list(words)
    columns = (*_COLUMNS, "speaker") if any(word.speaker for word in words) else _COLUMNS

    def write(temporary: str) -> None:
        with open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = ((f"{word.start_s:.4f}", f"{word.end_s:.4f}", word.label, word.speaker) for word in words)
            csv.writer(file, lineterminator="\n").writerows([columns, *(row[: len(columns)] for row in rows)])

    write_atomically(path, write)
