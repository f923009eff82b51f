"""Words of Speech Commands, and the labels of a model: sets by name, or a list of your own words."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches

from host_tools.errors import DatasetError
from kws_edge.labels import SILENCE, UNKNOWN

__all__ = ["LABEL_SETS", "SPEECH_COMMANDS_WORDS", "SPOKEN_AS_UNKNOWN", "label_name", "label_of", "label_set", "spelt"]

_COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
_OTHER_WORDS = (
    "backward", "bed", "bird", "cat", "dog", "eight", "five", "follow", "forward", "four", "happy", "house", "learn",
    "marvin", "nine", "one", "seven", "sheila", "six", "three", "tree", "two", "visual", "wow", "zero",
)  # fmt: skip

LABEL_SETS: dict[str, tuple[str, ...]] = {
    "commands12": (SILENCE, UNKNOWN, *_COMMANDS),
    "words36": (SILENCE, *sorted(_COMMANDS + _OTHER_WORDS)),
}
"""Labels by name, in the order of the model's outputs."""

SPEECH_COMMANDS_WORDS = frozenset((*_COMMANDS, *_OTHER_WORDS))
SPOKEN_AS_UNKNOWN = f"_{UNKNOWN}_"
"""The word of clips in a folder of unknown words. It is no label, so these clips train as unknown."""


def label_set(spec: str) -> tuple[str, ...]:
    """Labels of a set by its name, or ``silence``, ``unknown`` and the words of a list such as ``hello,lamp``.

    A single word is a list, too, unless it looks like a misspelt name of a set. A comma after such a word makes it a
    list.

    Raises
    ------
    DatasetError
        If `spec` is neither.
    """
    if spec in LABEL_SETS:
        return LABEL_SETS[spec]
    words = [spelt(word.strip()) for word in spec.split(",") if word.strip()]
    if not words or ("," not in spec and get_close_matches(spec, LABEL_SETS, cutoff=0.75)):
        example = f"{words[0]}," if words else "hello,lamp"
        raise DatasetError(
            f"unknown label set {spec!r}; known are {', '.join(LABEL_SETS)}, or a list of words such as {example!r}"
        )
    twice = [word for word, n in Counter(words).items() if n > 1]
    if twice or {SILENCE, UNKNOWN} & set(words):
        raise DatasetError(f"labels {spec!r}: list each word once, without {SILENCE} and {UNKNOWN}, which are implied")
    return (SILENCE, UNKNOWN, *words)


def spelt(name: str) -> str:
    """A name in one Unicode form: macOS and keyboards use different forms of letters with accents."""
    return unicodedata.normalize("NFC", name)


def label_of(word: str, labels: Sequence[str]) -> int:
    """Index of `word` among `labels`. If `word` is no label, the index of ``unknown``.

    Raises
    ------
    DatasetError
        If neither is a label.
    """
    word, names = spelt(word).strip("_"), [spelt(label).strip("_") for label in labels]
    for name in (word, UNKNOWN):
        if name in names:
            return names.index(name)
    raise DatasetError(f"the word {word!r} is not among the labels {', '.join(labels)}, and there is no {UNKNOWN!r}")


def label_name(labels: Sequence[str], word: str) -> str:
    """The label that `word` is trained as. Raises the errors of :func:`label_of`."""
    return labels[label_of(word, labels)]
