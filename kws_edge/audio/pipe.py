"""Audio that arrives on a pipe."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from kws_edge.audio.source import BLOCK_MS, Resampler, mono_pcm, pcm_frames
from kws_edge.errors import AudioError
from kws_edge.timing import AUDIO, OFF, RESAMPLE, Stopwatch

__all__ = ["PcmStream"]


class PcmStream:
    """Raw signed 16-bit little-endian PCM from a pipe, or a WAV file of that kind, as ``arecord`` writes by default.

    Parameters
    ----------
    stream : binary file
        Read as data arrives, so that nothing waits for a full buffer.
    rate : int
        Hz of the blocks.
    source_rate, channels : int
        What the pipe carries; a WAV header on it decides instead.
    name : str
        What errors call it.

    Raises
    ------
    AudioError
        If a WAV header announces another sample format.
    """

    lost = 0
    stopwatch: Stopwatch = OFF

    def __init__(
        self, stream: BinaryIO, *, rate: int, source_rate: int | None = None, channels: int = 1, name: str = "-"
    ) -> None:
        self.name, self._stream = name, stream
        self.source_rate, self.channels = source_rate or rate, channels
        head = self._exactly(12)
        self._left: int | None = None
        if head[:4] == b"RIFF" and head[8:] == b"WAVE":
            self._read_header()
            head = b""
        self._rest = head
        self._resampler = Resampler(self.source_rate, rate)

    def __enter__(self) -> PcmStream:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def _some(self, n: int) -> bytes:
        read = getattr(self._stream, "read1", self._stream.read)
        return read(n) or b""

    def _exactly(self, n: int) -> bytes:
        data = b""
        while len(data) < n and (more := self._some(n - len(data))):
            data += more
        return data

    def _read_header(self) -> None:
        while True:
            head = self._exactly(8)
            if len(head) < 8:
                raise AudioError(f"{self.name}: a WAV header without audio")
            kind, size = head[:4], struct.unpack("<I", head[4:])[0]
            if kind == b"data":
                # A recorder that writes into a pipe does not know the length and announces the largest one.
                self._left = size if 0 < size < 0x7FFF0000 else None
                return
            if size > 1 << 20:
                raise AudioError(f"{self.name}: a broken WAV header")
            body = self._exactly(size + size % 2)
            if kind == b"fmt ":
                if len(body) < 16:
                    raise AudioError(f"{self.name}: a broken WAV header")
                code, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", body)
                if code not in (1, 0xFFFE) or bits != 16 or not channels or not rate:
                    raise AudioError(
                        f"{self.name}: WAV of format {code} with {bits} bits; a pipe must carry signed 16-bit PCM "
                        "(arecord -f S16_LE)"
                    )
                self.channels, self.source_rate = channels, rate

    def __iter__(self) -> Iterator[np.ndarray]:
        frame = 2 * self.channels
        size = max(1, self.source_rate * BLOCK_MS // 1000) * frame
        heard = 0
        while True:
            data = self._some(size)
            self.stopwatch.start()
            ended = not data
            if self._left is not None:
                data = data[: self._left]
                self._left -= len(data)
                ended = ended or self._left <= 0
            data = self._rest + data
            whole = len(data) - len(data) % frame
            self._rest = data[whole:]
            heard += whole
            pcm = mono_pcm(pcm_frames(data[:whole], self.channels))
            self.stopwatch.lap(AUDIO)
            samples = self._resampler.process(pcm, last=ended)
            self.stopwatch.lap(RESAMPLE)
            if len(samples):
                yield samples
            if ended:
                break
        if not heard:
            raise AudioError(f"{self.name}: no audio arrived on the pipe")
