"""Audio files."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from kws_edge.audio.decoded import DecodedSource, Reader
from kws_edge.audio.formats import NATIVE, is_audio, recognise
from kws_edge.audio.pcm import Bytes, PcmReader, read_header
from kws_edge.audio.pipe import read_stream
from kws_edge.audio_limits import check_scale
from kws_edge.errors import AudioError
from kws_edge.native_output import quiet_native

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["AudioFile"]

_FILE_BLOCK = 1 << 14
_STARTS = {"Ogg": b"OggS\0\2", "FLAC": b"fLaC\0\0\0\x22"}
"""First bytes of a recording, for formats of which a file may hold several in a row."""
_UNKNOWN = 2**63 - 1
"""libsndfile's number of frames for a file that does not give one."""
_FIRST_BYTES = 1000
"""These first bytes all belong to the first recording."""


class AudioFile(DecodedSource):
    """An audio file of any format, sample rate and channel count.

    This package reads WAV, Wave64, AU and SoX's own format itself. libsndfile reads further formats, and ffmpeg reads
    the rest if it is installed. A FIFO, such as a shell's ``<(...)`` makes, is read as data arrives.

    Parameters
    ----------
    path : str or path
    sample_rate : int
        Hz of the blocks.

    Raises
    ------
    AudioError
        If the file is missing, a folder, empty, or cannot be decoded.

    Examples
    --------
    >>> from importlib.resources import files
    >>> from kws_edge import AudioFile
    >>> with AudioFile(files("kws_edge") / "demo/stream.flac", sample_rate=16000) as source:
    ...     block = source.read()
    ...     rest = source.read_all()
    >>> str(block.dtype), round((len(block) + len(rest)) / source.sample_rate)
    ('int16', 31)
    """

    def __init__(self, path: str | os.PathLike[str], *, sample_rate: int) -> None:
        self.name = os.fsdecode(path)
        with self._named():
            self._stream = _opened(self.name)
            try:
                reader = _reader(self.name, self._stream, sample_rate)
            except BaseException:
                self._stream.close()
                raise
        super().__init__(self.name, reader, sample_rate, _FILE_BLOCK)

    def close(self) -> None:
        super().close()
        self._stream.close()

    def read_all(self, *, longest_s: float | None = None) -> NDArray[np.int16]:
        """Return the samples of all blocks that are left, shape (n,), int16.

        Parameters
        ----------
        longest_s : float, optional
            Longest audio to accept, in seconds.

        Raises
        ------
        AudioError
            If the audio is too long, or decoding fails.
        """
        blocks, n = [np.empty(0, np.int16)], 0
        for block in self:
            blocks.append(block)
            n += len(block)
            if longest_s and n > longest_s * self.sample_rate:
                raise AudioError(f"{self.name}: longer than {longest_s:g} s; kws-edge detect hears it whole")
        return np.concatenate(blocks)


def _opened(name: str) -> io.FileIO:
    try:
        mode = os.stat(name).st_mode
    except (FileNotFoundError, ValueError):  # of a name that no file can have
        missing = "no such file; standard input is /dev/stdin" if name == "-" else "no such file"
        raise AudioError("is a broken link" if os.path.islink(name) else missing) from None
    if stat.S_ISDIR(mode):
        raise AudioError("is a folder, not an audio file")
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise AudioError("is a device or a socket, not an audio file")
    return open(name, "rb", buffering=0)


def _reader(name: str, stream: io.FileIO, rate: int) -> Reader:
    """Return the first reader that knows the format of the file."""
    data = Bytes(stream)
    if not data.look(0, 1):
        raise AudioError("is empty")
    status = os.fstat(stream.fileno())
    if not stat.S_ISREG(status.st_mode):
        reader = read_stream(data, rate)
        if not reader:
            raise AudioError("no format of audio that is recognised; kws-edge listen - takes raw PCM")
        return reader
    kind = what = recognise(data.look)
    if kind in NATIVE:
        header = read_header(data, kind)
        if header.encoding:
            there = max(0, status.st_size - header.start)
            reader = PcmReader(data, header._replace(size=there) if header.size is None else header)
            reader.seconds = min(header.size or there, there) / header.frame / header.rate
            return reader
        what = f"{kind} of {header.codec}"
    try:
        _check_libsndfile(stream, kind)
        return _Sndfile(stream)
    except AudioError as error:
        if not is_audio(kind):
            raise AudioError(f"is {kind}, not audio" if kind else f"{error}; is it an audio file?") from None
        reason = error
    from kws_edge.audio.ffmpeg import MissingError, decoded

    try:
        return decoded(os.fsencode(name))
    except MissingError:
        from shlex import quote

        source = quote(f"file:{name}" if name.startswith("-") else name)
        raise AudioError(f"{what}: {reason}; install ffmpeg, or convert it: ffmpeg -i {source} out.wav") from None
    except AudioError as error:
        raise AudioError(f"{what}: {error}") from None


def _check_libsndfile(stream: io.FileIO, kind: str | None) -> None:
    """Refuse files that libsndfile would read wrongly."""
    if kind == "VOC":
        raise AudioError("libsndfile takes the heads of its blocks for samples")
    if kind in _STARTS:
        import mmap

        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data.find(_STARTS[kind], _FIRST_BYTES) >= 0:
                raise AudioError("libsndfile reads only the first of its recordings")


class _Sndfile:
    """The samples of a file that libsndfile reads."""

    remark: str | None = None

    def __init__(self, stream: io.FileIO) -> None:
        try:
            import soundfile
        except (ImportError, OSError) as error:
            raise AudioError(f"it needs libsndfile ({error}): sudo apt install libsndfile1") from None
        self._errors = soundfile.SoundFileError
        self._in_use = threading.RLock()  # one thread must not close libsndfile while another one reads
        stream.seek(0)
        try:
            with quiet_native():
                self._file = soundfile.SoundFile(stream.fileno(), closefd=False)
        except self._errors as error:
            raise AudioError(f"cannot be decoded ({_reason(error)})") from None
        # libmpg123 prints many lines about data that is not MP3.
        self._quiet = quiet_native if self._file.format == "MP3" else contextlib.nullcontext
        self.source_rate, self.channels = self._file.samplerate, self._file.channels
        length = self._file.frames
        self.seconds = None if length == _UNKNOWN else length / max(1, self.source_rate)

    def close(self) -> None:
        """Close the file as soon as no thread reads it."""
        with self._in_use:
            self._file.close()

    def frames(self, n: int) -> Iterator[NDArray[Any]]:
        while True:
            try:
                with self._in_use, self._quiet():
                    frames = self._file.read(n, dtype="float32", always_2d=True)
            except self._errors as error:
                raise AudioError(f"decoding stopped ({_reason(error)})") from None
            if not len(frames):
                return
            check_scale(frames)
            yield frames


def _reason(error: Exception) -> str:
    return getattr(error, "error_string", str(error)).strip().rstrip(".")
