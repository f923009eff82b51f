"""A shard: raw levels of clips in one file, sorted by split and word, with what the clips are.

It is a ZIP file without compression, which ``numpy.load`` reads, too. ``levels.npy`` comes first. ``about.json`` says
how many clips of each split and word follow each other, and which clips were left out. ``clips.json`` names each clip
and its speaker.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from host_tools.data.manifest import file_sha256
from host_tools.data.origins import origin_of
from host_tools.errors import DatasetError
from host_tools.shards.sounds import Said

__all__ = ["Facts", "Run", "Shard", "facts", "write_shard"]

_LEVELS, _ABOUT, _CLIPS = "levels.npy", "about.json", "clips.json"
_CHUNK = 256  # clips
_DAMAGE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    ValueError,
    KeyError,
    EOFError,
    RecursionError,
    NotImplementedError,
)
"""What a file that is no whole shard raises."""


class Run(NamedTuple):
    """Clips of one word and split that follow each other in a shard."""

    split: str
    word: str
    start: int
    stop: int


class Facts(NamedTuple):
    """What there is to know of a shard."""

    file: str
    clips: int
    size: int
    """In bytes."""
    sha256: str
    words: dict[str, dict[str, int]]
    """Number of clips by split and word."""
    origins: list[str]
    """Origins of the words that train."""
    left_out: list[list[str]]
    """Names of clips that cannot be used, each with the reason."""


def write_shard(path: str, clips: Iterable[tuple[Said, NDArray[np.float16] | str]], shape: tuple[int, int]) -> None:
    """Write a shard to `path`. Levels wait in a file beside it until they are sorted, not in memory.

    Parameters
    ----------
    path : str
    clips : iterable of (Said, levels)
        Raw levels, float16 of `shape`, or the reason why a clip is left out.
    shape : (frames, mels)
    """
    said, left_out = [], []
    with open(f"{path}.unsorted", "w+b") as unsorted:
        for clip, levels in clips:
            if isinstance(levels, str):
                left_out.append([clip.name, levels])
            else:
                said.append(clip)
                unsorted.write(np.ascontiguousarray(levels, "<f2").data)
        unsorted.flush()
        order = sorted(range(len(said)), key=said.__getitem__)
        with zipfile.ZipFile(path, "w") as file:  # the date that ZipFile gives its entries is always the same
            with file.open(_LEVELS, "w", force_zip64=True) as entry:
                _write_levels(entry, unsorted, order, shape)
            about = {"runs": _runs([said[i] for i in order]), "left_out": sorted(left_out)}
            file.writestr(zipfile.ZipInfo(_ABOUT), json.dumps(about))
            file.writestr(zipfile.ZipInfo(_CLIPS), json.dumps([[said[i].name, said[i].speaker] for i in order]))
    os.unlink(f"{path}.unsorted")


def _write_levels(entry: IO[bytes], unsorted: IO[bytes], order: Sequence[int], shape: tuple[int, int]) -> None:
    whole = (len(order), *shape)
    header = {"descr": "<f2", "fortran_order": False, "shape": whole}
    np.lib.format.write_array_header_1_0(entry, header)  # type: ignore[arg-type] # any file will do
    if order:  # an empty file cannot be mapped
        levels: NDArray[np.float16] = np.memmap(unsorted, "<f2", "r", shape=whole)  # type: ignore[call-overload]
        for at in range(0, len(order), _CHUNK):
            entry.write(levels[order[at : at + _CHUNK]].tobytes())


def _runs(said: Sequence[Said]) -> list[list[Any]]:
    """Split, word and number of the clips that follow each other."""
    runs: list[list[Any]] = []
    for split, word, _, _ in said:
        if runs and runs[-1][:2] == [split, word]:
            runs[-1][2] += 1
        else:
            runs.append([split, word, 1])
    return runs


@dataclass(frozen=True)
class Shard:
    """A shard that was written, open to be read.

    Examples
    --------
    >>> shard = Shard.open("features/0a2f.npz", (98, 40))  # doctest: +SKIP
    >>> shard.runs[0], shard.read(0, 2).shape  # doctest: +SKIP
    (Run(split='testing', word='yes', start=0, stop=12), (2, 98, 40))
    """

    path: Path
    runs: tuple[Run, ...]
    left_out: list[list[str]]
    shape: tuple[int, int]
    """Frames and mel bands of a clip."""
    _start: int
    """Place of the first level in the file."""

    @classmethod
    def open(cls, path: Path, shape: tuple[int, int]) -> Shard:
        """Open a shard of clips of this shape.

        Raises
        ------
        DatasetError
            If it is missing, cut short, or none.
        """
        try:
            with open(path, "rb") as file, zipfile.ZipFile(file) as entries:
                about = json.loads(entries.read(_ABOUT))
                start, n = _find_levels(file, entries.getinfo(_LEVELS), shape)
            runs, at = [], 0
            for split, word, count in about["runs"]:
                runs.append(Run(str(split), str(word), at, at := at + int(count)))
            if at != n:
                raise ValueError(f"it names {at} clips, and holds {n}")
            return cls(path, tuple(runs), about["left_out"], shape, start)
        except OSError as error:
            raise DatasetError(f"{path}: {error.strerror or error}; kws-host features makes it anew") from None
        except (*_DAMAGE, TypeError) as error:
            reason = str(error).partition("\n")[0][:100]
            raise DatasetError(f"{path}: is no whole shard ({reason}); kws-host features makes it anew") from None

    @property
    def clips(self) -> int:
        return self.runs[-1].stop if self.runs else 0

    def read(self, start: int, stop: int) -> NDArray[np.float16]:
        """Raw levels of the clips from `start` to before `stop`, float16 (n, frames, mels)."""
        out = np.empty((stop - start, *self.shape), "<f2")
        with open(self.path, "rb", buffering=0) as file:
            self.read_into(file, start, out)
        return out

    def read_into(self, file: Any, start: int, out: NDArray[np.float16]) -> None:
        """Read the clips from `start` on into `out`, from the open `file` of this shard."""
        file.seek(self._start + start * out[:1].nbytes)
        if file.readinto(out.view(np.uint8).data.cast("B")) != out.nbytes:
            raise DatasetError(f"{self.path}: is cut short; kws-host features makes it anew")


def _find_levels(file: IO[bytes], info: zipfile.ZipInfo, shape: tuple[int, int]) -> tuple[int, int]:
    """Where the levels begin in the file, and of how many clips they are."""
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError("its levels are compressed")
    file.seek(info.header_offset + 26)
    name, more = (int.from_bytes(file.read(2), "little") for _ in range(2))
    begin = file.seek(info.header_offset + 30 + name + more)
    np.lib.format.read_magic(file)  # type: ignore[arg-type]
    found, _, dtype = np.lib.format.read_array_header_1_0(file)  # type: ignore[arg-type]
    if found[1:] != shape or dtype != np.dtype("<f2"):
        raise ValueError(f"float16 of shape (n, {shape[0]}, {shape[1]}) expected, it has {dtype} {found}")
    if file.tell() - begin + 2 * int(np.prod(found)) != info.file_size:
        raise ValueError("its levels are cut short")
    return file.tell(), found[0]


def facts(path: Path, shape: tuple[int, int], *, sha256: str = "") -> Facts:
    """What there is to know of a shard.

    Parameters
    ----------
    path : path
    shape : (frames, mels)
    sha256 : str
        Its checksum, if that is known. Otherwise the whole file is read, and must be as it was written.

    Raises
    ------
    DatasetError
        As :meth:`Shard.open`.
    """
    shard = Shard.open(path, shape)
    try:
        with zipfile.ZipFile(path) as entries:
            if not sha256 and (damaged := entries.testzip()):
                raise zipfile.BadZipFile(f"{damaged} is damaged")
            names = [name for name, _ in json.loads(entries.read(_CLIPS))]
    except _DAMAGE as error:
        raise DatasetError(f"{path}: is no whole shard ({error}); kws-host features makes it anew") from None
    words: dict[str, dict[str, int]] = {}
    origins = set()
    for split, word, start, stop in shard.runs:
        words.setdefault(split, {})[word] = stop - start
        if split == "training":
            origins |= {origin_of(word, os.path.basename(name)) for name in names[start:stop]}
    checksum = sha256 or file_sha256(path)
    return Facts(path.name, shard.clips, path.stat().st_size, checksum, words, sorted(origins), shard.left_out)
