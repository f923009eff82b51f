"""Trains a network first to tell many words apart. Then it learns a new word from few recordings."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from host_tools.config import StageConfig
from host_tools.data.label_sets import label_set
from host_tools.sampling.sources import find_files
from kws_edge.labels import is_keyword
from kws_edge.presets import preset

__all__ = ["WORDS", "two_parts"]

WORDS = "words"
"""Folder of the first part, in the run's folder."""
_MANY = 50
"""A word with at least this many recordings is told apart from others."""


def two_parts(config: StageConfig, folder: Path) -> tuple[StageConfig, StageConfig] | None:
    """A training that tells all words with many recordings apart, and a training that starts from it.

    None if there are no such words, or the configuration does not ask for it.

    Parameters
    ----------
    config : StageConfig
    folder : path
        Folder of the run.
    """
    share, optim = config.optim.words_first, config.optim
    if not share or not (labels := _words_to_tell(config)):
        return None

    def part(of: float, least: int, **changes: Any) -> StageConfig:
        epochs = max(least, round(of * optim.epochs))
        return config.changed(minutes=of * optim.minutes, epochs=epochs, lengthened=(), **changes)

    return (
        part(share, 1, labels=labels, words_first=0.0),
        part(1 - share, 0, start=str(folder / WORDS), learning_rate=optim.learning_rate / 2),
    )


def _words_to_tell(config: StageConfig) -> str:
    """The words to tell apart: the keywords, and all words with many recordings. Empty if there are no such words."""
    files = find_files(config.data, preset(config.network.frontend), seed=config.seed)
    own = [label for label in label_set(config.network.labels) if is_keyword(label)]
    found = Counter(clip.word for clip in files.recorded)
    for words in files.shards.words.values() if files.shards else ():
        found.update(words)
    many = [word for word, n in sorted(found.items()) if n >= _MANY and is_keyword(word) and word not in own]
    return ",".join([*own, *many]) if many else ""
