"""Recordings of what the service heard and missed, on a bounded part of the disk.

They lie in the layout of ``kws-host``: ``words/<keyword>/`` and ``words/_unknown_/``. Near misses lie apart, in
``near-misses/<keyword>/``, until somebody says what they are.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kws_edge.errors import ConfigError, WriteError
from kws_edge.files import explained, write_atomically
from kws_edge.labels import UNKNOWN
from kws_edge.text import shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["CHECKED", "HIT", "NEAR_MISS", "WRONG", "Clip", "ClipFolder"]

HIT, NEAR_MISS, WRONG, CHECKED = "hit", "near", "wrong", "checked"
"""What a clip is: a detection, something that was almost one, a detection that somebody called wrong, and a clip whose
word somebody has given."""
_KINDS = (HIT, NEAR_MISS, WRONG, CHECKED)
_WORDS, _NEAR_MISSES = "words", "near-misses"
_OTHER_WORDS = f"_{UNKNOWN}_"
_NAME = re.compile(
    r"(?P<time>\d{8}T\d{9}Z)-(?P<room>\w{1,20})-(?P<heard>\w{1,20})-(?P<score>[01]\.\d\d)-"
    rf"(?P<kind>{'|'.join(_KINDS)})\.wav"
)
_APART = datetime.timedelta(milliseconds=1)
_AHEAD = datetime.timedelta(minutes=1)
_MOST_NAME = 255  # bytes of a name in a folder


@dataclass(frozen=True)
class Clip:
    """A recording in the folder."""

    name: str
    """Name of the file, which tells it apart from all others."""
    path: str
    word: str
    """Word that it trains; ``unknown`` for other sounds. Of a near miss, the keyword that it was close to."""
    room: str
    heard: str
    """Keyword that was heard, or almost. Other signs than letters and digits are ``_``, as in `room`."""
    score: float
    kind: str
    """One of the kinds above."""
    time: str
    """Time in UTC, ISO 8601."""
    size: int
    """Bytes on the disk."""


class ClipFolder:
    """A folder of clips. Any thread may use it; every method looks at the disk, so you may change files meanwhile.

    Parameters
    ----------
    path : str
    most_bytes : int
        Room on the disk for all clips together. If there are more, the oldest go first.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from kws_edge.service.clips import HIT, ClipFolder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     clips = ClipFolder(folder, most_bytes=1_000_000)
    ...     name = clips.add(np.zeros(24000, np.int16), 16000, room="kitchen", word="stop", score=0.9, kind=HIT)
    ...     changed = clips.label(name, "unknown")
    ...     [(clip.word, clip.heard, clip.kind) for clip in clips]
    [('unknown', 'stop', 'checked')]
    """

    def __init__(self, path: str, *, most_bytes: int) -> None:
        self.path, self._most = path, most_bytes
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Clip]:
        """The clips, the newest first. Files of other names do not count."""
        return iter(sorted(self._found(), key=lambda clip: clip.name, reverse=True))

    def _found(self) -> Iterator[Clip]:
        for group in (_WORDS, _NEAR_MISSES):
            for folder in _entries(os.path.join(self.path, group)):
                word = UNKNOWN if folder.name == _OTHER_WORDS else folder.name
                for file in _entries(folder.path):
                    if (match := _NAME.fullmatch(file.name)) and file.is_file(follow_symlinks=False):
                        with contextlib.suppress(OSError):  # it is gone
                            size = file.stat(follow_symlinks=False).st_size
                            values = match.groupdict()
                            score, time = float(values.pop("score")), _iso(values.pop("time"))
                            yield Clip(file.name, file.path, word, score=score, time=time, size=size, **values)

    def make(self) -> None:
        """Make the folder, if it is missing, for its owner only: it holds what people say.

        Raises
        ------
        WriteError
            If that is impossible.
        """
        with explained(self.path):
            os.makedirs(self.path, mode=0o700, exist_ok=True)

    def find(self, name: str) -> Clip:
        """The clip of this name.

        Raises
        ------
        ConfigError
            If there is none.
        """
        for clip in self._found():
            if clip.name == name:
                return clip
        raise ConfigError(f"there is no clip {shown(name)}")

    def add(
        self,
        samples: NDArray[np.int16],
        sample_rate: int,
        *,
        room: str,
        word: str,
        score: float,
        kind: str,
        time: str | None = None,
    ) -> str:
        """Write a clip whole or not at all, and remove the oldest if there are too many bytes. Return its name.

        Parameters
        ----------
        samples : numpy.ndarray, shape (n,), int16
        sample_rate : int
            In Hz.
        room : str
        word : str
            Keyword that was heard, or almost.
        score : float
            Smoothed posterior, in [0, 1].
        kind : str
            ``HIT``, ``NEAR_MISS`` or ``WRONG``.
        time : str, optional
            Time in UTC, ISO 8601; by default now.

        Raises
        ------
        ConfigError
            If the word cannot name a folder, or something else than a folder has its name.
        WriteError
            If the clip cannot be written, or too many others cannot be removed.
        """
        when = datetime.datetime.fromisoformat(time) if time else datetime.datetime.now(datetime.timezone.utc)
        about = f"{_slug(room)}-{_slug(word)}-{min(max(score, 0.0), 1.0):.2f}-{kind}.wav"
        folder = self._folder(UNKNOWN if kind == WRONG else word, near=kind == NEAR_MISS)
        with self._lock:
            self.make()
            _check_folder(folder)
            while os.path.lexists(path := os.path.join(folder, name := f"{_stamp(when)}-{about}")):
                when += _APART  # nothing is written over
            write_atomically(path, _wav(samples, sample_rate), durable=True)
            self._make_room(path)
        return name

    def label(self, name: str, word: str) -> str:
        """Say which word a clip holds; ``unknown`` if it is none of the keywords. Return its new name.

        Raises
        ------
        ConfigError
            If there is no such clip, or the word cannot name a folder.
        WriteError
            If the file cannot be moved.
        """
        return self._move(name, word, CHECKED)

    def call_wrong(self, name: str) -> str:
        """Say that nobody said the keyword of a hit. Return the clip's new name. Errors are as for :meth:`label`."""
        return self._move(name, UNKNOWN, WRONG)

    def _move(self, name: str, word: str, kind: str) -> str:
        with self._lock:
            clip = self.find(name)
            new = f"{name.rpartition('-')[0]}-{kind}.wav"
            path = os.path.join(self._folder(word, near=False), new)
            with explained(path):
                os.makedirs(os.path.dirname(path), exist_ok=True)
                os.replace(clip.path, path)
            return new

    def delete(self, name: str) -> None:
        """Remove a clip.

        Raises
        ------
        ConfigError
            If there is no such clip.
        WriteError
            If it cannot be removed.
        """
        with self._lock, explained(path := self.find(name).path), contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    def _folder(self, word: str, *, near: bool) -> str:
        folder = _OTHER_WORDS if word == UNKNOWN else word
        if "/" in word or "\0" in word or word.startswith((".", "_")) or len(os.fsencode(word)) > _MOST_NAME:
            raise ConfigError(f"{shown(word)}: no folder can have this name, so there are no clips of it")
        return os.path.join(self.path, _NEAR_MISSES if near else _WORDS, folder)

    def _make_room(self, new: str) -> None:
        """Remove the oldest clips, those that nobody checked before the others. The new one goes if they cannot.

        Clips of the future are from a clock that was wrong, and go first.
        """
        now = _stamp(datetime.datetime.now(datetime.timezone.utc) + _AHEAD)
        clips = sorted(self._found(), key=lambda clip: (clip.kind == CHECKED, clip.name < now, clip.name))
        over = sum(clip.size for clip in clips) - self._most
        stuck = None
        for clip in clips:
            if over <= 0:
                return
            if clip.path == new:
                continue
            try:
                os.unlink(clip.path)
            except FileNotFoundError:
                pass
            except OSError as error:
                stuck = f"{clip.path}: cannot be removed ({error.strerror or error})"
                continue
            over -= clip.size
        if over > 0 and stuck:
            os.unlink(new)
            raise WriteError(f"{stuck}, and there is no room for other clips; remove it")


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """The visible entries of a folder; none if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError:
        return []


def _check_folder(path: str) -> None:
    """Check that a folder is there, or can be made. Other words have folders of their own, and go on."""
    if os.path.lexists(path) and not os.path.isdir(path):
        raise ConfigError(f"{path}: is no folder, so it takes no clips; move it away")


def _slug(text: str) -> str:
    return re.sub(r"\W", "_", text)[:20] or "_"


def _stamp(when: datetime.datetime) -> str:
    """A time as names of files have it, so that they sort by it."""
    return f"{when.astimezone(datetime.timezone.utc):%Y%m%dT%H%M%S}{when.microsecond // 1000:03d}Z"


def _iso(stamp: str) -> str:
    return f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:11]}:{stamp[11:13]}:{stamp[13:15]}.{stamp[15:18]}+00:00"


def _wav(samples: NDArray[np.int16], rate: int) -> bytes:
    """A WAV file of mono 16-bit samples."""
    import wave

    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return content.getvalue()
