"""Measures what taught words learn from a recording that was wrongly taken for them.

    python -m benchmarks.teach_wrong DATA -o benchmarks/teach

DATA holds `speech_commands`. Each of the words of :mod:`benchmarks.teach` is taught from five clips of different
people, several times. Clips of all other words are heard at the device's own threshold. From one of those that are
taken for the word it learns, as `kws-edge teach --wrong` does. Then everything is heard again: this clip, other
people's clips of the same wrong word, all other words, and clips of the word itself that taught nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.teach import WORDS, audio
from host_tools.data.dataset import index_clips
from kws_edge import Model, TaughtWords
from kws_edge.detection.calibration import wilson
from kws_edge.teach.encoder import normalised
from kws_edge.teach.listener import BUDGET
from kws_edge.teach.word import TaughtWord
from kws_edge.teach.wrong import learnt, windows

_CLIPS, _SHOTS, _DRAWS, _MISTAKES = 100, 5, 10, 5
_LENGTH = 16_000 + 3_200
"""Samples of a clip with silence around it, so that windows lie up to 100 ms earlier and later."""
_ROWS = 4000


@dataclasses.dataclass
class Counts:
    """Recordings that are heard before and after a word has learnt."""

    of: int = 0
    before: int = 0
    after: int = 0

    def add(self, before: np.ndarray, after: np.ndarray) -> None:
        self.of += len(before)
        self.before += int(before.sum())
        self.after += int(after.sum())

    def row(self, name: str) -> str:
        def cell(n: int) -> str:
            low, high = wilson(n, self.of)
            return f"{n} of {self.of} ({100 * low:.1f} to {100 * high:.1f} %)"

        return f"| {name} | {cell(self.before)} | {cell(self.after)} |"


def centred(samples: np.ndarray) -> np.ndarray:
    """A clip in the middle of `_LENGTH` samples."""
    samples = samples[:_LENGTH]
    before = (_LENGTH - len(samples)) // 2
    return np.pad(samples, (before, _LENGTH - len(samples) - before))


class Heard:
    """Embeddings of clips, and the scores of words for them."""

    def __init__(self, words: TaughtWords, data: Path, rng: np.random.Generator) -> None:
        by_word: dict[str, list[Path]] = {}
        for clip in index_clips(data / "speech_commands").clips:
            by_word.setdefault(clip.word, []).append(clip.path)
        self.encoder, labels, found = words.encoder, [], []
        for word, paths in sorted(by_word.items()):
            for i in rng.permutation(len(paths))[:_CLIPS]:
                found.append(windows(self.encoder, centred(audio(paths[i]))))
                labels.append(word)
            print(f"{word}: {len(found)} clips", flush=True)
        self.embeddings, self.labels = np.stack(found), np.array(labels)
        self._penalties: dict[bytes, np.ndarray] = {}

    def penalties(self, same: np.ndarray) -> np.ndarray:
        if (key := same.tobytes()) not in self._penalties:
            flat = self.embeddings.reshape(-1, self.embeddings.shape[-1])
            parts = [self.encoder.rivals.penalty(flat[at : at + _ROWS], same) for at in range(0, len(flat), _ROWS)]
            self._penalties = {key: np.concatenate(parts).reshape(self.embeddings.shape[:2])}
        return self._penalties[key]

    def hears(self, word: TaughtWord) -> np.ndarray:
        """Whether a stream hears the word in each clip, as far as its windows tell."""
        penalty = self.penalties(self.encoder.rivals.same(word.name, word.prototype))
        mean, deviation = word.others
        scores = ((self.embeddings @ word.prototype - penalty).max(axis=1) - mean) / deviation
        return scores >= self.encoder.threshold(BUDGET)


def taught(heard: Heard, name: str, takes: np.ndarray) -> TaughtWord:
    """The word, without the variations of `teach`."""
    rivals = heard.encoder.rivals
    mean = normalised(normalised(heard.embeddings[takes].mean(axis=1)).mean(axis=0))
    others = rivals.compared(mean, rivals.spoken(rivals.same(name, mean)))
    return TaughtWord(name, len(takes), "", mean, mean, others, 0.0, np.empty((0, len(mean)), np.float32))


def mistakes(heard: Heard, rng: np.random.Generator) -> Iterator[tuple[str, TaughtWord, np.ndarray, np.ndarray]]:
    """Each word as it is taught, what it hears, and which clips of the word taught nothing."""
    for name in WORDS:
        of_word = np.flatnonzero(heard.labels == name)
        for _ in range(_DRAWS):
            takes = rng.choice(of_word, _SHOTS, replace=False)
            word = taught(heard, name, takes)
            yield name, word, heard.hears(word), np.setdiff1d(of_word, takes)


def measure(heard: Heard, rng: np.random.Generator) -> tuple[dict[str, Counts], int]:
    rows = {name: Counts() for name in ("this clip", "the same wrong word, other people", "other words", "the word")}
    refused = 0
    for name, word, before, tests in mistakes(heard, rng):
        other = heard.labels != name
        wrong = np.flatnonzero(before & other)
        for clip in rng.permutation(wrong)[:_MISTAKES]:
            try:
                after = heard.hears(learnt(word, heard.embeddings[clip], heard.encoder))
            except ValueError:
                refused += 1
                continue
            alike = (heard.labels == heard.labels[clip]) & (np.arange(len(before)) != clip)
            groups = (np.array([clip]), alike, other & (heard.labels != heard.labels[clip]), tests)
            for counts, group in zip(rows.values(), groups, strict=True):
                counts.add(before[group], after[group])
    return rows, refused


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    rng = np.random.default_rng(1)
    with TemporaryDirectory() as folder:
        heard = Heard(TaughtWords(Model(), Path(folder) / "none.json"), args.data, rng)
    rows, refused = measure(heard, rng)
    lines = ["| clips | heard before | heard after |", "|---|---:|---:|", *(rows[name].row(name) for name in rows)]
    lines += ["", f"{rows['this clip'].of} mistakes; {refused} were refused as too like the word."]
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "wrong.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
