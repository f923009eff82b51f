"""The list of shards in a folder of features."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from host_tools.errors import DatasetError
from host_tools.shards.shard import Facts
from kws_edge.config import FrontendConfig
from kws_edge.errors import ConfigError
from kws_edge.text import parse_json

__all__ = ["LIST", "Entry", "ShardList", "Totals"]

LIST = "shards.json"
"""The list's file in a folder of features."""
_FIRST_LEFT_OUT = 1000


class Entry(NamedTuple):
    """A shard of the list."""

    file: str
    clips: int
    size: int
    """In bytes."""
    sha256: str


@dataclass
class Totals:
    """Sums over shards, of which each brings thousands of words."""

    words: dict[str, dict[str, int]] = field(default_factory=dict)
    """Number of clips by split and word."""
    origins: set[str] = field(default_factory=set)
    left_out: int = 0
    first_left_out: list[list[str]] = field(default_factory=list)
    """Names of clips that cannot be used, each with the reason; the first of them, where there are very many."""

    def add(self, shard: Facts) -> None:
        for split, words in shard.words.items():
            here = self.words.setdefault(split, {})
            for word, n in words.items():
                here[word] = here.get(word, 0) + n
        self.origins |= {*shard.origins}
        self.left_out += len(shard.left_out)
        self.first_left_out = sorted([*self.first_left_out, *shard.left_out])[:_FIRST_LEFT_OUT]


@dataclass(frozen=True)
class ShardList:
    """The shards of a corpus, which all are whole."""

    corpus: str
    """Path or URL of the corpus."""
    frontend: FrontendConfig
    """The front end, without level offset and clips."""
    words: Mapping[str, Mapping[str, int]]
    """Number of clips by split and word."""
    origins: tuple[str, ...]
    """Origins of the words that train."""
    left_out: int
    """Number of clips that cannot be used."""
    first_left_out: tuple[tuple[str, str], ...]
    """Names of the first of them, each with the reason."""
    shards: tuple[Entry, ...]
    """Sorted by name."""

    @classmethod
    def of(cls, shards: Iterable[Entry], totals: Totals, *, corpus: str, frontend: FrontendConfig) -> ShardList:
        words = {split: dict(sorted(words.items())) for split, words in sorted(totals.words.items())}
        first = tuple((name, why) for name, why in totals.first_left_out)
        return cls(
            corpus, frontend, words, tuple(sorted(totals.origins)), totals.left_out, first, tuple(sorted(shards))
        )

    @classmethod
    def load(cls, folder: Path) -> ShardList:
        """The list in a folder.

        Raises
        ------
        DatasetError
            If it is none.
        """
        path = folder / LIST
        try:
            values = parse_json(path.read_text())
            return cls(
                str(values["corpus"]),
                FrontendConfig.from_dict(values["frontend"]),
                {
                    str(split): {str(word): int(n) for word, n in words.items()}
                    for split, words in values["words"].items()
                },
                tuple(map(str, values["origins"])),
                int(values["left_out"]),
                tuple((str(name), str(why)) for name, why in values["first_left_out"]),
                tuple(_entry(*one) for one in values["shards"]),
            )
        except OSError as error:
            raise DatasetError(f"{path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
            raise DatasetError(
                f"{path}: is no list of shards ({error}); remove it, and kws-host features makes it anew"
            ) from None

    def to_json(self) -> str:
        """The list as text, one line a shard."""
        about = {name: value for name, value in vars(self).items() if name != "shards"}
        shards = ",\n".join(json.dumps(one) for one in self.shards)
        return f'{json.dumps(about | {"frontend": asdict(self.frontend)})[:-1]}, "shards": [\n{shards}\n]}}\n'

    @property
    def clips(self) -> int:
        return sum(one.clips for one in self.shards)


def _entry(file: str, clips: int, size: int, sha256: str) -> Entry:
    if Path(file).name != file:
        raise ValueError(f"{file!r} is no name of a shard")
    return Entry(file, int(clips), int(size), str(sha256))
