"""The streams of the standard conditions. Those of words are made once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from host_tools.data.dataset import Clip, index_clips
from host_tools.data.label_sets import LABEL_SETS
from host_tools.data.recordings import recordings
from host_tools.errors import DatasetError
from host_tools.evaluation.standard.conditions import SNR_DB, WORDS, Folders
from host_tools.evaluation.standard.independent import Recording, find_independent
from host_tools.evaluation.stream_audio import Stream, find_streams
from host_tools.evaluation.stream_config import StreamConfig
from host_tools.evaluation.stream_synthesis import make_stream
from host_tools.toml_files import shipped_file
from kws_edge.labels import is_keyword

__all__ = ["StandardStreams", "standard_streams"]

_ALSO_SAID = "sources/librispeech_words.csv"


@dataclass(frozen=True)
class StandardStreams:
    """What models are measured on."""

    words: dict[str, Stream]
    """A stream of words for each condition, by the condition's name."""
    negatives: dict[str, list[Stream]]
    """Recordings without keywords, by kind."""
    independent: list[Recording]
    snr_db: float
    """How far the background of words is below them."""
    not_measured: dict[str, str]
    """Why conditions are left out, by name."""

    @property
    def names(self) -> dict[str, str]:
        """A name for each condition and each kind of negatives, which follows from what is heard."""
        return {
            **{name: stream.path.stem for name, stream in self.words.items()},
            **{f"negatives, {kind}": _digest([s.path for s in some]) for kind, some in self.negatives.items()},
            **({"independent": _digest([r.path for r in self.independent])} if self.independent else {}),
        }


def standard_streams(
    folders: Folders,
    work: str | Path,
    *,
    conditions: Sequence[str] = (),
    clips: int = 1000,
    snr_db: float = SNR_DB,
    progress: Callable[..., Any] = tqdm,
) -> StandardStreams:
    """Find the recordings of the standard conditions, and make the streams of words.

    Words are the ten commands of the validation part. Backgrounds and negatives are the reporting halves.

    Parameters
    ----------
    folders : Folders
    work : path
        Folder for the streams of words. What an earlier call made there of the same clips is used again.
    conditions : sequence of str
        Names of conditions; empty: all whose recordings are there.
    clips : int
        Words of each stream.
    snr_db : float
        How far the background is below each word.

    Raises
    ------
    DatasetError
        If recordings are missing.
    WriteError
        If `work` cannot be written.
    """
    measured, reasons = folders.chosen(conditions)
    wanted = [name for name in WORDS if name in measured]
    said = _commands(folders.clips) if wanted else []
    words = {}
    for name in wanted:
        condition = WORDS[name]
        behind = recordings(folders.kinds[condition.behind], "reporting").paths if condition.behind else []
        config = StreamConfig(
            clips=clips,
            snr_db=(snr_db, snr_db) if behind else None,
            seed=condition.seed,
            gate_db=condition.gate_db,
        )
        path = Path(work) / f"{name}-{_digest([*(clip.path for clip in said), *behind], config.to_dict())}.flac"
        if not (path.exists() and path.with_suffix(".csv").exists()):
            path.parent.mkdir(parents=True, exist_ok=True)
            make_stream(path, config, said, backgrounds=behind, progress=progress)
        (words[name],) = find_streams([path])
    negatives = {}
    if "negatives" in measured:
        for kind, folder in folders.negatives().items():
            also_said = shipped_file(_ALSO_SAID) if kind == "speech" else None
            negatives[kind] = find_streams([folder], half="reporting", also_said=also_said)
    independent = find_independent(folders.independent) if "independent" in measured else []
    return StandardStreams(words, negatives, independent, snr_db, reasons)


def _commands(folder: Path) -> list[Clip]:
    """The clips of the ten commands in the validation part."""
    words = set(filter(is_keyword, LABEL_SETS["commands12"]))
    clips = [clip for clip in index_clips(folder).clips if clip.split == "validation" and clip.word in words]
    if not clips:
        raise DatasetError(f"{folder}: no validation clips of {', '.join(sorted(words))}")
    return clips


def _digest(paths: Sequence[Path], *settings: Any) -> str:
    """A name for recordings, by their names and sizes, and for settings."""
    parts = [*settings, [[path.parent.name, path.name, path.stat().st_size] for path in paths]]
    return hashlib.sha256(json.dumps(parts).encode("utf-8", "surrogateescape")).hexdigest()[:12]
