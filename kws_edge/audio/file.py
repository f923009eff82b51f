"""Audio files."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from kws_edge.audio.source import Resampler, mono
from kws_edge.errors import AudioError

__all__ = ["AudioFile"]

_FILE_BLOCK = 1 << 14


class AudioFile:
    """A file of any format, rate and channel count that libsndfile reads.

    Parameters
    ----------
    path : str or path
    rate : int
        Hz of the blocks.

    Raises
    ------
    AudioError
        If the file is missing, a folder, empty, or cannot be decoded.
    """

    lost = 0

    def __init__(self, path: str | os.PathLike[str], *, rate: int) -> None:
        self.name = path = os.fspath(path)
        if os.path.isdir(path):
            raise AudioError(f"{path}: is a folder, not an audio file")
        if not os.path.exists(path):
            raise AudioError(f"{path}: no such file")
        soundfile = _soundfile()
        try:
            if not os.path.getsize(path):
                raise AudioError(f"{path}: is empty")
            self._file = soundfile.SoundFile(path)
        except OSError as error:
            raise AudioError(f"{path}: cannot be read ({error.strerror or error})") from None
        except soundfile.SoundFileError as error:
            raise AudioError(f"{path}: cannot be decoded ({_reason(error)}); is it an audio file?") from None
        self.rate = rate
        self.source_rate, self.channels = self._file.samplerate, self._file.channels
        try:
            self._resampler = Resampler(self.source_rate, rate)
        except AudioError as error:
            self._file.close()
            raise AudioError(f"{path}: {error}") from None

    def __enter__(self) -> AudioFile:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def frames(self) -> Iterator[np.ndarray]:
        """All channels as they are: blocks of shape (n, channels), float32 in [-1, 1), at `source_rate`; the last one
        is shorter than the others, and may be empty.

        Raises
        ------
        AudioError
            If decoding stops, or there is no sample.
        """
        heard = 0
        while True:
            try:
                frames = self._file.read(_FILE_BLOCK, dtype="float32", always_2d=True)
            except _soundfile().SoundFileError as error:
                raise AudioError(f"{self.name}: decoding stopped after {heard} samples ({_reason(error)})") from None
            heard += len(frames)
            yield frames
            if len(frames) < _FILE_BLOCK:
                break
        if not heard:
            raise AudioError(f"{self.name}: holds no samples")

    def __iter__(self) -> Iterator[np.ndarray]:
        for frames in self.frames():
            try:
                samples = self._resampler.process(mono(frames), last=len(frames) < _FILE_BLOCK)
            except AudioError as error:
                raise AudioError(f"{self.name}: {error}") from None
            if len(samples):
                yield samples

    def read(self) -> np.ndarray:
        """All samples, shape (n,), int16."""
        return np.concatenate(list(self))


def _soundfile():
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise AudioError(f"audio files need libsndfile ({error}): sudo apt install libsndfile1") from None
    return soundfile


def _reason(error: Exception) -> str:
    return getattr(error, "error_string", str(error)).strip().rstrip(".")
