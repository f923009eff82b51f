"""Finds the files that examples can come from. Only names are used; nothing is read or computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from host_tools.config import DataConfig
from host_tools.data.annotations import Word, read_also_said
from host_tools.data.dataset import Clip, Index, index_clips
from host_tools.data.features import raw_config
from host_tools.data.label_sets import label_name
from host_tools.data.origins import SYNTHETIC, origin_of
from host_tools.data.recordings import LeftOut, recordings
from host_tools.data.stored_features import FeatureSet, load_features
from host_tools.errors import DatasetError
from host_tools.shards.stored import LIST, ShardList
from kws_edge.config import MICROFRONTEND, FrontendConfig
from kws_edge.labels import UNKNOWN

__all__ = ["Files", "find_files"]


@dataclass
class Files:
    """Files that examples can be made from. Only their names are known."""

    recorded: list[Clip]
    synthetic: list[Clip]
    site: list[Clip]
    """Clips from where the model is used. All of them train."""
    stored: FeatureSet
    shards: ShardList | None
    banks: list[tuple[str, Sequence[Path]]]
    """Recordings without keywords, each group with its kind: ``noise``, ``speech`` or ``synthetic speech``."""
    said: dict[str, tuple[Word, ...]]
    """Keywords that occur in these recordings nevertheless, by the recording's name."""
    left_out: list[LeftOut]
    problems: list[str]

    @property
    def every_word(self) -> set[str]:
        clips = {c.word for c in (*self.recorded, *self.synthetic, *self.site)}
        return clips.union(map(str, self.stored.words), *(self.shards.words.values() if self.shards else ()))

    def words(self, part: str) -> set[str]:
        """Recorded words of a part of the split."""
        stored = self.stored.words[self.stored.splits == part]
        clips = {c.word for c in (*self.recorded, *self.site) if c.split == part}
        return clips.union(map(str, stored), self.shards.words.get(part, ()) if self.shards else ())

    def stand_ins(self, labels: Sequence[str]) -> list[Clip]:
        """Synthetic clips that do not train, for labels without other validation examples."""
        heard = {label_name(labels, word) for word in self.words("validation")}
        if any(paths for kind, paths in self.banks if kind != "noise"):
            heard.add(UNKNOWN)
        return [c for c in self.synthetic if c.split == "validation" and label_name(labels, c.word) not in heard]

    @property
    def origins(self) -> list[str]:
        """Origins of the words that train."""
        clips = {origin_of(c.word, c.path.name) for c in (*self.recorded, *self.site) if c.split == "training"}
        rows = np.flatnonzero(self.stored.splits == "training")
        stored = {origin_of(str(self.stored.words[i]), f"{self.stored.speakers[i]}_nohash_0.wav") for i in rows}
        sharded = self.shards.origins if self.shards else ()
        return sorted(clips.union(stored, sharded)) + [SYNTHETIC] * any(c.split == "training" for c in self.synthetic)


def find_files(data: DataConfig, config: FrontendConfig, *, seed: int) -> Files:
    """List the folders. Precomputed features are opened as a memory map, too.

    Raises
    ------
    DatasetError
        If a folder is missing or has another layout.
    """
    index = index_clips(data.clips, split=data.split, seed=seed) if data.clips else Index([], [], [], [])
    files = Files(
        recorded=index.clips,
        synthetic=[],
        site=[],
        stored=FeatureSet(np.empty((0, config.n_frames, config.n_mels), np.uint8), *np.empty((3, 0), str)),
        shards=None,
        banks=[("noise", index.background)],
        said=read_also_said(data.also_said) if data.also_said else {},
        left_out=[*index.left_out],
        problems=[*index.problems],
    )
    if data.site is not None:
        site = index_clips(data.site)
        files.site = [dataclasses.replace(clip, split="training") for clip in site.clips]
        files.banks.append(("noise", site.background))
        files.left_out += site.left_out
    spoken = _find_synthetic(files, data.synthetic) if data.synthetic is not None else None
    for kind, folder, half in (
        ("noise", data.noise, "training"),
        ("speech", data.speech, "training"),
        ("synthetic speech", spoken, "training"),
        *(("noise", folder, None) for folder in data.more_noise),
        *(("speech", folder, None) for folder in data.more_speech),
    ):
        if folder is not None:
            found = recordings(folder, half)
            files.banks.append((kind, found.paths))
            files.left_out += found.left_out
    if data.features is not None and config.algorithm == MICROFRONTEND:
        raise DatasetError(
            f"{data.features}: precomputed levels cannot train a network for {MICROFRONTEND}, because its noise "
            "reduction comes after augmentation; give recordings alone"
        )
    if data.features is not None and (data.features / LIST).exists():
        files.shards = _find_shards(data, config)
    elif data.features is not None:
        stored = load_features(data.features, (config.n_frames, config.n_mels))
        files.stored = stored.split_at_random(seed) if data.split == "random" else stored
    return files


def _find_shards(data: DataConfig, config: FrontendConfig) -> ShardList:
    """The list of shards of the features. They must be of this front end, and keep the split of the data."""
    shards = ShardList.load(Path(data.features or ""))
    if shards.frontend != raw_config(config):
        raise DatasetError(f"{data.features}: features of another front end; make them with this --frontend, too")
    if data.split == "random":
        raise DatasetError(f"{data.features}: shards keep the official split; leave out --split random")
    return shards


def _find_synthetic(files: Files, folder: Path) -> Path | None:
    """Add the words of a folder that ``kws-host synthesize`` wrote. Returns the folder of its speech, if any."""
    words, spoken = (folder / name for name in ("words", "speech"))
    if not words.is_dir() and not spoken.is_dir():
        raise DatasetError(f"{folder}: holds neither words nor speech, as kws-host synthesize writes them")
    if words.is_dir():
        index = index_clips(words)
        files.synthetic = index.clips
        files.left_out += index.left_out
        files.problems += index.problems
    return spoken if spoken.is_dir() else None
