"""Finds the clips of a corpus: a folder of words, tar files as WebDataset lays them out, or a list of either."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from host_tools.data.dataset import index_clips, word_of
from host_tools.data.label_sets import spelt
from host_tools.data.recordings import AUDIO_ENDINGS, LeftOut
from host_tools.data.splits import Recording, official_parts
from host_tools.errors import DatasetError
from host_tools.shards.storage import Stored, find, is_url, opened

__all__ = ["Corpus", "File", "find_corpus"]

_TAR = re.compile(r"\.(tar|tgz|tbz2|txz|tar\.(gz|bz2|xz))$", re.IGNORECASE)


class File(NamedTuple):
    """A clip, or a tar file of clips."""

    name: str
    """Path relative to the corpus, with slashes; the URL where a list names it."""
    url: str
    """Path or URL."""
    state: str
    """Size and time of change. Another state means other content."""
    word: str = ""
    """Empty for a tar file, which tells words itself."""
    speaker: str = ""
    split: str = ""


@dataclass(frozen=True)
class Corpus:
    """The files of a corpus."""

    name: str
    """Its path or URL."""
    files: list[File]
    packed: bool
    """Whether they are tar files."""
    left_out: list[LeftOut]
    problems: list[str]

    @property
    def whole_name(self) -> str:
        """Its URL, or its path from the root of the file system."""
        return self.name if is_url(self.name) else os.path.abspath(self.name)


def find_corpus(name: str) -> Corpus:
    """List a corpus. No audio is read.

    Parameters
    ----------
    name : str
        A folder laid out ``<word>/*.wav``, a folder of tar files, one tar file, a pattern such as ``s3://bucket/*.tar``,
        or a text file that lists clips or tar files, one path or URL a line. All but the list may be URLs.

    Raises
    ------
    DatasetError
        If there are no clips, or tar files and clips are mixed.
    """
    is_list = name.lower().endswith(".txt")
    if is_list:
        found = _listed(name)
    elif not is_url(name) and os.path.isdir(name) and not _tars_in(name):
        return _folder(name)
    else:
        found = find(name) if is_url(name) or not os.path.isdir(name) else [find(tar)[0] for tar in _tars_in(name)]
    root = "" if is_list else re.split(r"[^/]*\*", name)[0].rstrip("/")
    tars = [one for one in found if _TAR.search(one.url)]
    if not tars:
        return _clips(name, root, found)
    if is_list and len(tars) < len(found):
        other = next(one.url for one in found if not _TAR.search(one.url))
        raise DatasetError(f"{name}: lists both tar files and other files ({other}); make a list of each")
    files = [File(_relative(one.url, root), one.url, _state(one)) for one in tars]
    return Corpus(name, files, True, [], [])


def _tars_in(folder: str) -> list[str]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read ({error.strerror})") from None
    return [os.path.join(folder, name) for name in names if _TAR.search(name) and not name.startswith(".")]


def _folder(name: str) -> Corpus:
    index, root = index_clips(name), Path(name)
    files = []
    for clip in index.clips:
        try:
            status = clip.path.stat()
        except OSError as error:
            raise DatasetError(f"{clip.path}: {error.strerror}") from None
        state = f"{status.st_size} {status.st_mtime_ns}"
        relative = clip.path.relative_to(root).as_posix()
        files.append(File(relative, str(clip.path.absolute()), state, clip.word, clip.speaker, clip.split))
    problems = list(index.problems)
    if index.background:
        folder = index.background[0].parent
        problems.append(f"{folder}: {len(index.background)} recordings without words; train with --more-noise {folder}")
    return Corpus(name, files, False, index.left_out, problems)


def _listed(name: str) -> list[Stored]:
    """The files that a list names. Nothing asks for their state, which would take a question for each."""
    with opened(name) as file:
        lines = [line.strip() for line in file.read().decode("utf-8-sig", "surrogateescape").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise DatasetError(f"{name}: lists no file")
    base = name.rpartition("/")[0] if is_url(name) else os.path.dirname(os.path.abspath(name))
    whole = [line if is_url(line) or line.startswith("/") else f"{base}/{line}" for line in lines]
    return [Stored(one, -1, "") for one in dict.fromkeys(whole)]


def _clips(name: str, root: str, found: Sequence[Stored]) -> Corpus:
    """A corpus of single clips with URLs. The folder of a clip is its word, as in a tar file."""
    recordings, files, left_out = [], [], []
    for one in found:
        path = PurePosixPath(_relative(one.url, root))
        if path.suffix.lower() not in AUDIO_ENDINGS:
            continue
        word = word_of(path.parent.name)
        if not word:
            left_out.append(LeftOut(Path(one.url), "a recording in no word's folder"))
            continue
        recordings.append(Recording(Path(path.name), word, (spelt(path.parent.name), spelt(path.name))))
        files.append(File(str(path), one.url, _state(one), word))
    if not files:
        raise DatasetError(f"{name}: neither clips of the form <word>/*.wav nor tar files in it")
    parts, _ = official_parts(None, recordings)
    files = [
        file._replace(speaker=recording.speaker, split=part)
        for file, recording, part in zip(files, recordings, parts, strict=True)
    ]
    return Corpus(name, files, False, left_out, [])


def _relative(url: str, root: str) -> str:
    root = root if is_url(url) or not root else os.path.abspath(root)
    return url[len(root) :].lstrip("/") or os.path.basename(url) if root and url.startswith(root) else url


def _state(one: Stored) -> str:
    return f"{one.size} {one.stamp}"
