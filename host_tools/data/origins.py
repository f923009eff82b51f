"""Who made the recordings. Licences and model cards say so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from host_tools.data.label_sets import SPEECH_COMMANDS_WORDS, SPOKEN_AS_UNKNOWN
from kws_edge.labels import is_keyword

__all__ = ["PRIVATE", "SPEECH_COMMANDS", "SYNTHETIC", "is_official", "origin_of", "origins_of"]

SPEECH_COMMANDS = "Speech Commands by Pete Warden (CC BY 4.0)"
PRIVATE, SYNTHETIC = "private recordings", "synthetic speech"
_OFFICIAL = re.compile(r"[0-9a-f]{8}_nohash_.+", re.DOTALL)


def is_official(word: str, name: str) -> bool:
    """Whether a recording's word and its file's name are those of Speech Commands."""
    known = word in SPEECH_COMMANDS_WORDS or word == SPOKEN_AS_UNKNOWN
    return known and _OFFICIAL.fullmatch(name) is not None


def origin_of(word: str, name: str) -> str:
    """Origin of a recording, by its word and its file's name: :data:`SPEECH_COMMANDS`, or else :data:`PRIVATE`."""
    return SPEECH_COMMANDS if is_official(word, name) else PRIVATE


def origins_of(data: Mapping[str, Any], labels: Iterable[str]) -> list[str]:
    """Origins of the words that a model was trained on, from the data in its run's record.

    If an old record does not hold the origins, the labels tell them. Without a record nothing is known.
    """
    if not data or "origins" in data:
        return data.get("origins", [])
    return [SPEECH_COMMANDS if set(filter(is_keyword, labels)) <= SPEECH_COMMANDS_WORDS else PRIVATE]
