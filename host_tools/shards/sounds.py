"""Reads the sound of clips, from files and from tar files."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from host_tools.data.dataset import word_of
from host_tools.data.features import read_clip
from host_tools.data.label_sets import spelt
from host_tools.data.recordings import AUDIO_ENDINGS
from host_tools.data.splits import PARTS, Recording, official_split
from host_tools.errors import DatasetError
from host_tools.shards.corpus import File
from host_tools.shards.storage import is_url, opened
from kws_edge.config import FrontendConfig

__all__ = ["Said", "sounds"]

_ABOUT = (".json", ".txt")
"""Endings of files beside a clip in a tar file that tell of it."""


class Said(NamedTuple):
    """What a clip is, in the order in which shards sort clips."""

    split: str
    word: str
    name: str
    """Path in the corpus, or in the tar file after the tar file's own."""
    speaker: str


def sounds(
    file: File, config: FrontendConfig, scratch: Path, *, packed: bool
) -> Iterator[tuple[Said, NDArray[np.int16] | str]]:
    """The clips in a file, each with its samples, or with the reason why it cannot be used.

    Parameters
    ----------
    file : File
        A clip, or with `packed` a tar file.
    config : FrontendConfig
        Its sample rate is that of the samples.
    scratch : path
        A folder for the clip at hand.
    packed : bool

    Raises
    ------
    DatasetError
        If the file cannot be read. The sound in it may be anything.
    """
    if packed:
        for member in _members(file.url):
            said = _said(file, member)
            yield said, _heard(member.sound, config, scratch) if said.word else "a recording in no word's folder"
        return
    said = Said(file.split, file.word, file.name, file.speaker)
    if not is_url(file.url):
        yield said, _read(Path(file.url), config)
        return
    with opened(file.url) as stream:
        data = stream.read()
    yield said, _heard(data, config, scratch)


class _Member(NamedTuple):
    name: str
    sound: bytes
    about: dict[str, bytes]
    """The files beside it that tell of it, by ending."""


def _members(url: str) -> Iterator[_Member]:
    """The clips of a tar file, in its order. Files of one clip follow each other, as WebDataset demands."""
    key = ""
    clips: dict[str, bytes] = {}
    about: dict[str, bytes] = {}
    with opened(url) as stream, tarfile.open(fileobj=stream, mode="r|*") as tar:
        for entry in tar:
            path = PurePosixPath(entry.name)
            if not entry.isfile() or path.name.startswith("."):
                continue
            if (now := str(path.parent / path.name.partition(".")[0])) != key:
                yield from (_Member(name, sound, about) for name, sound in clips.items())
                key, clips, about = now, {}, {}
            ending = path.suffix.lower()
            if ending in AUDIO_ENDINGS:
                clips[str(path)] = tar.extractfile(entry).read()  # type: ignore[union-attr] # it is a file
            elif ending in _ABOUT:
                about[ending] = tar.extractfile(entry).read()  # type: ignore[union-attr]
        yield from (_Member(name, sound, about) for name, sound in clips.items())


def _said(file: File, member: _Member) -> Said:
    """What a clip of a tar file is: by the JSON or the text beside it, or else by the names of its folder and file."""
    path, name = PurePosixPath(member.name), f"{file.name}/{member.name}"
    about: dict[str, str] = {}
    if ".json" in member.about:
        try:
            given = json.loads(member.about[".json"])
            about = {one: str(given[one]) for one in ("word", "speaker", "split") if given.get(one)}
        except (ValueError, AttributeError, RecursionError):
            raise DatasetError(f"{name}: the .json beside it is no table of word, speaker and split") from None
    elif ".txt" in member.about:
        about["word"] = member.about[".txt"].decode(errors="replace")
    word = word_of(about["word"].strip() if "word" in about else path.parent.name)
    speaker = spelt(about.get("speaker", Recording(Path(path.name), word, ("", spelt(path.name))).speaker))
    split = about.get("split") or official_split(speaker or spelt(path.name))
    if split not in PARTS:
        raise DatasetError(f"{name}: the .json beside it has the split {split!r}; known are {', '.join(PARTS)}")
    return Said(split, word, name, speaker)


def _heard(data: bytes, config: FrontendConfig, scratch: Path) -> NDArray[np.int16] | str:
    path = scratch / "clip"
    path.write_bytes(data)
    try:
        return _read(path, config)
    finally:
        path.unlink()  # file systems put a file that is written over on the disk at once


def _read(path: Path, config: FrontendConfig) -> NDArray[np.int16] | str:
    try:
        return read_clip(path, config)
    except DatasetError as error:
        return str(error).removeprefix(f"{path}: ")
