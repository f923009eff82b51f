"""Names of a model's outputs: which names are valid, and which are not keywords."""

from __future__ import annotations

from typing import Any

from kws_edge.errors import ConfigError
from kws_edge.text import printable, shown

__all__ = ["MAX_LABELS", "SILENCE", "UNKNOWN", "check_labels", "is_keyword", "is_unknown"]

SILENCE = "silence"
UNKNOWN = "unknown"
MAX_LABELS = 1000
_MAX_LENGTH = 100

# Letters of the names that training tools give to the labels that are not keywords.
_UNKNOWN = {UNKNOWN, "unknownword", "unknownwords", "unk", "other", "others", "otherword", "otherwords", "filler"}
_NO_SPEECH = {SILENCE, "noise", "background", "backgroundnoise", "backgroundsound", "backgroundsounds", "nospeech"}
_NOT_KEYWORDS = _UNKNOWN | _NO_SPEECH


def _letters(label: str) -> str:
    """Reduce ``_background_noise_`` or ``0 Background Noise`` to its letters in lower case."""
    return "".join(filter(str.isalpha, label.casefold()))


def is_keyword(label: str) -> bool:
    """Whether `label` is a word to detect, and not ``silence`` or ``unknown`` in any tool's spelling."""
    return _letters(label) not in _NOT_KEYWORDS


def is_unknown(label: str) -> bool:
    """Whether `label` stands for speech that is not a keyword."""
    return _letters(label) in _UNKNOWN


def check_labels(what: str, labels: Any) -> tuple[str, ...]:
    """Return `labels` as a tuple if they can name a model's outputs.

    Parameters
    ----------
    what : str
        Name of the labels in the message.
    labels : Any
        The value to check.

    Raises
    ------
    ConfigError
        If `labels` is not a list of 1 to 1000 names. If a name occurs twice, is empty, is longer than 100 characters,
        or holds control characters. The message names `what`.
    """
    if not isinstance(labels, (list, tuple)) or not all(isinstance(label, str) for label in labels):
        raise ConfigError(f"{what} must be a list of names, got {shown(labels)}")
    if not 1 <= len(labels) <= MAX_LABELS:
        raise ConfigError(f"{what} must be 1 to {MAX_LABELS} names, got {len(labels)}")
    seen: set[str] = set()
    for label in labels:
        if not label.strip() or len(label) > _MAX_LENGTH or printable(label) != label:
            raise ConfigError(
                f"{what}: a name has 1 to {_MAX_LENGTH} characters, no control characters, got {shown(label)}"
            )
        if label in seen:
            raise ConfigError(f"{what}: {shown(label)} occurs twice")
        seen.add(label)
    return tuple(labels)
