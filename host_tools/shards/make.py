"""Computes the features of a corpus into shards, here or on a cluster, and lists the shards when all are whole.

A shard's name follows from what it is made of: the names and states of its clips, and the front end. So an interrupted
command goes on with the shards that are missing, and a changed corpus changes those shards alone that its clips are in.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from host_tools.cluster.place import LOCAL
from host_tools.data.features import clip_levels, raw_config
from host_tools.errors import DatasetError, WorkerError
from host_tools.locks import locked
from host_tools.parallel import run_parallel
from host_tools.shards.corpus import Corpus, File, find_corpus
from host_tools.shards.shard import Facts, facts, write_shard
from host_tools.shards.sounds import Said, sounds
from host_tools.shards.stored import LIST, Entry, ShardList, Totals
from kws_edge.config import FrontendConfig
from kws_edge.files import write_atomically

__all__ = ["Made", "Part", "make_features", "make_shard"]

_LAYOUT = 1  # version of shards, and of how recordings are read
_SHARD = re.compile(r"[0-9a-f]{32}\.npz")


class Part(NamedTuple):
    """The files of a corpus that one shard is made of."""

    shard: str
    """The shard's file name."""
    files: tuple[File, ...]
    packed: bool
    sha256: str = ""
    """The shard's checksum, if the earlier list of shards has it."""


class Made(NamedTuple):
    """The shards of a corpus."""

    shards: ShardList
    corpus: Corpus
    removed: int
    """Shards of earlier states of the corpus that were removed."""


def make_features(
    name: str,
    folder: str | Path,
    config: FrontendConfig,
    *,
    shards: int,
    where: str = LOCAL,
    workers: int | None = None,
) -> Made:
    """Compute the features of a corpus into shards in `folder`. Shards that are there are kept.

    Parameters
    ----------
    name : str
        The corpus, as :func:`host_tools.shards.corpus.find_corpus` takes it.
    folder : path
        Folder of the shards. If the work runs on a cluster, every machine must have it by this name.
    config : FrontendConfig
    shards : int
        Number of shards. Of tar files there are no more shards than files.
    where : str
        As :func:`host_tools.cluster.place.place` reads it.
    workers : int, optional
        Processes on this machine; by default one a core.

    Raises
    ------
    DatasetError
        If the corpus cannot be read, has no usable clip, or `folder` holds the features of another corpus.
    WorkerError
        If a process dies, or the cluster goes away. The same call goes on.
    WriteError
        If the folder cannot be written.
    """
    folder, config = Path(os.path.abspath(folder)), raw_config(config)
    corpus = find_corpus(name)
    with locked(folder):
        before = _earlier(folder, corpus, config)
        known = _checksums(folder, before)
        parts = [part._replace(sha256=known.get(part.shard, "")) for part in _parts(corpus, config, shards)]
        if before and len(parts) == len(before.shards) and all(part.sha256 for part in parts):
            return Made(before, corpus, 0)
        totals, found = Totals(), []
        for one in _compute(parts, folder, config, where, workers):
            totals.add(one)
            found.append(Entry(*one[:4]))
        if not totals.words:
            why = "".join(f", the first: {name}: {why}" for name, why in totals.first_left_out[:1])
            raise DatasetError(f"{corpus.name}: none of its clips can be used{why}")
        now = ShardList.of(found, totals, corpus=corpus.whole_name, frontend=config)
        write_atomically(folder / LIST, now.to_json(), durable=True)
        return Made(now, corpus, _remove_others(folder, {part.shard for part in parts}))


def _earlier(folder: Path, corpus: Corpus, config: FrontendConfig) -> ShardList | None:
    """The list of shards in `folder`, if there is one. It must be of the same corpus and front end."""
    if not (folder / LIST).exists():
        return None
    before = ShardList.load(folder)
    if before.corpus != corpus.whole_name:
        raise DatasetError(f"{folder}: holds the features of {before.corpus}; name another folder, or remove it")
    if before.frontend != config:
        raise DatasetError(f"{folder}: holds features of another front end; name another folder, or remove it")
    return before


def _checksums(folder: Path, before: ShardList | None) -> dict[str, str]:
    """The checksums of the shards that the earlier list names, of those that have the size that they should have."""
    found = {}
    for one in before.shards if before else ():
        with contextlib.suppress(OSError):
            if os.path.getsize(folder / one.file) == one.size:
                found[one.file] = one.sha256
    return found


def _parts(corpus: Corpus, config: FrontendConfig, shards: int) -> list[Part]:
    """The files of each shard. A clip's name chooses its shard, so that other clips do not move when one is added."""
    groups: dict[int, list[File]] = {}
    for i, file in enumerate(sorted(corpus.files)):
        number = i if corpus.packed else int.from_bytes(hashlib.sha1(os.fsencode(file.name)).digest()[:8], "big")
        groups.setdefault(number % shards, []).append(file)
    return [Part(_shard_name(files, config), tuple(files), corpus.packed) for _, files in sorted(groups.items())]


def _shard_name(files: Sequence[File], config: FrontendConfig) -> str:
    made_of = [_LAYOUT, config.hash, [[f.name, f.state, f.word, f.speaker, f.split] for f in files]]
    return f"{hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:32]}.npz"


def _compute(
    parts: Sequence[Part], folder: Path, config: FrontendConfig, where: str, workers: int | None
) -> Iterator[Facts]:
    """Make the shards that are missing, with a bar."""
    work = functools.partial(make_shard, folder=folder, config=config)
    if where == LOCAL:
        results = run_parallel(work, parts, workers=1 if len(parts) < 2 else workers)
    else:
        from host_tools.cluster.joined import run_on_cluster

        results = run_on_cluster(work, parts, where)
    clips = 0
    with tqdm(total=len(parts), desc="features", unit="shard", mininterval=0.5) as bar:
        for one in results:
            if not (folder / one.file).exists():
                raise WorkerError(
                    f"{folder / one.file}: written elsewhere, and not here; name a folder that all machines share"
                )
            clips += one.clips
            bar.set_postfix_str(f"{clips:,} clips", refresh=False)
            bar.update()
            yield one


def make_shard(part: Part, *, folder: Path, config: FrontendConfig) -> Facts:
    """Make a shard in `folder`, unless it is there and whole. Returns what the list of shards says of it.

    Parameters
    ----------
    part : Part
    folder : path
    config : FrontendConfig
        As :func:`host_tools.data.features.raw_config` gives it.
    """
    path, shape = folder / part.shard, (config.n_frames, config.n_mels)
    if path.exists():
        try:
            return facts(path, shape, sha256=part.sha256)
        except DatasetError:
            path.unlink()  # the machine was switched off, or its disk is broken
    write_atomically(path, lambda scratch: write_shard(scratch, _levels(part, config, scratch), shape), durable=True)
    return facts(path, shape)


def _levels(part: Part, config: FrontendConfig, scratch: str) -> Iterator[tuple[Said, NDArray[np.float16] | str]]:
    for file in part.files:
        for said, samples in sounds(file, config, Path(scratch).parent, packed=part.packed):
            yield said, samples if isinstance(samples, str) else clip_levels(samples, config)


def _remove_others(folder: Path, shards: set[str]) -> int:
    """Remove shards of earlier states of the corpus. Returns their number."""
    others = [path for path in folder.iterdir() if _SHARD.fullmatch(path.name) and path.name not in shards]
    for path in others:
        path.unlink()
    return len(others)
