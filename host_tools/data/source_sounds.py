"""Decodes, trims and writes the sounds of a package or a repository. Each sound is written once.

A file's name is ``<group>-<package>-<file>``. The group is the speaker, if known, or else the sound without the number
of the take. So :func:`host_tools.data.recordings.recordings` keeps each group in one half.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from host_tools.data.ffmpeg import RATE, decoded
from host_tools.data.sound_files import write_sound
from host_tools.data.source_tables import Source, SourceTable
from host_tools.errors import DatasetError

__all__ = ["write_sounds"]

Sound = NDArray[np.int16]
"""Samples at 16 kHz, mono."""

_SILENCE = 8  # of 32768: samples up to this count as digital silence at the ends
_PEAK = 0.01
_SHORTEST_S = 0.3
_SHORTEST_JOINED_S = 0.05
_JOINED_S = 20.0
_PAUSE_S = (0.1, 0.7)  # range of the pauses between sounds that are joined
_LONGEST_S = 24 * 3600.0  # most sound of one package or repository, which fits into memory


def write_sounds(
    folder: Path, paths: Sequence[Path], source: Source, table: SourceTable, *, root: Path, scratch: str
) -> None:
    """Write the sounds of the files at `paths`, which lie below `root`, as FLAC to a folder.

    Parameters
    ----------
    folder : path
        Folder to write to.
    paths : sequence of path
        Files that hold sounds, below `root`.
    source : Source
    table : SourceTable
    root : path
        The root of the package or repository.
    scratch : str
        Folder for files while they are made.

    Raises
    ------
    DatasetError
        If there are no sounds, or more than fit into memory.
    """
    for name, sound in _sounds(paths, source, table, root, scratch):
        while (folder / f"{name}.flac").exists():
            name += "_"
        write_sound(folder / f"{name}.flac", sound, RATE)
    if not any(folder.iterdir()):
        raise DatasetError("it holds no sounds that are wanted")


def _sounds(
    paths: Sequence[Path], source: Source, table: SourceTable, root: Path, scratch: str
) -> Iterator[tuple[str, Sound]]:
    """Names and sounds of files, as they are written."""
    noise = source.kind == "noise"
    joins, shortest_s = (True, _SHORTEST_JOINED_S) if noise and table.join else (False, _SHORTEST_S)
    without_s = table.without_s if noise else 0.0
    kept, heard_s = [], 0.0
    with closing(decoded(paths, limit_s=source.file_s, scratch=scratch)) as sounds:
        for path, sound in sounds:
            heard_s += len(sound) / RATE
            if heard_s > _LONGEST_S:
                raise DatasetError(f"holds more than {_LONGEST_S / 3600:g} hours of sound")
            if without_s and abs(len(sound) - without_s * RATE) < 0.01 * RATE:
                continue
            if (rest := _trim(sound, shortest_s)) is not None:
                kept.append((path, rest.copy()))  # a view would keep the whole file in memory
    named = _named(kept, source, root)
    return _joined(named, source.name) if joins else named


def _trim(sound: Sound, shortest_s: float) -> Sound | None:
    """The sound without digital silence at its ends; None if it is too quiet or too short."""
    level = np.abs(sound.astype(np.int32))
    loud = np.flatnonzero(level > _SILENCE)
    if not len(loud) or level.max() < _PEAK * 32768:
        return None
    sound = sound[loud[0] : loud[-1] + 1]
    return sound if len(sound) >= shortest_s * RATE else None


def _named(sounds: Sequence[tuple[Path, Sound]], source: Source, root: Path) -> Iterator[tuple[str, Sound]]:
    """Names and sounds, each sound once, up to the source's limit of time."""
    seen = set()
    total = sum(len(s) for _, s in sounds) / RATE
    keep = min(1.0, source.minutes * 60 / total) if total else 0.0
    for index, (path, sound) in enumerate(sounds):
        if int((index + 1) * keep) == int(index * keep):
            continue  # taken evenly over the source, so that a limit leaves some of everything
        digest = hashlib.sha1(sound.tobytes()).digest()
        if digest not in seen:
            seen.add(digest)
            yield _name(path, root, source), sound


def _joined(sounds: Iterable[tuple[str, Sound]], source: str) -> Iterator[tuple[str, Sound]]:
    """Sounds of a second or more as they are. Shorter ones are joined with pauses."""
    rng = np.random.default_rng(list(source.encode()))
    parts: list[Sound] = []
    number = 0

    def together() -> tuple[str, Sound]:
        return f"{_plain(source)}_joined_{number}-{_plain(source)}-short", np.concatenate(parts)

    for name, sound in sounds:
        if len(sound) >= RATE:
            yield name, sound
            continue
        parts += [sound, np.zeros(round(rng.uniform(*_PAUSE_S) * RATE), np.int16)]
        if sum(map(len, parts)) >= _JOINED_S * RATE:
            yield together()
            parts, number = [], number + 1
    if parts:
        yield together()


def _name(path: Path, root: Path, source: Source) -> str:
    """``<speaker or sound>-<package>-<path>``: recordings() keeps names that begin alike in one half."""
    relative = path.relative_to(root).as_posix()
    parts = [p for p in relative.split("/")[:-1] if p not in ("usr", "share", "games", "sounds", "sound", "data")]
    rest = "_".join([*parts[-3:], path.stem])
    if source.kind == "speech":
        match = re.search(source.speaker, relative) if source.speaker else None
        group = f"{source.name}_{match.group(1) if match else 'speaker'}"
    else:
        group = f"{source.name}_{re.sub(r'[^A-Za-z]*([0-9]+[a-z]?)?$', '', path.stem) or path.stem}"
    return "-".join(_plain(part) for part in (group, source.name, rest))[:180]


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_") or "x"
