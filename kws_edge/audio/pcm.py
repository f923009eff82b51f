"""Uncompressed audio after a header: WAV and its relatives, AU, SoX's own. Files and pipes are read alike."""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from kws_edge.audio.formats import NATIVE, recognise
from kws_edge.audio_limits import check_format, check_scale
from kws_edge.errors import AudioError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Bytes", "Header", "PcmReader", "Readable", "read_header"]

_MAX_HEADER, _MOST_CHUNKS = 1 << 24, 1000
"""Most bytes, and most chunks, before the audio."""
_UNKNOWN_SIZE = 0x7FFF0000
"""A size in a header from here on means "unknown": a program that writes into a pipe gives the largest one."""
_TAGS = (b"LIST", b"id3 ", b"ID3 ", b"bext", b"fact", b"cue ", b"smpl", b"JUNK", b"RIFF")
_CODECS = {
    2: "Microsoft ADPCM", 17: "IMA ADPCM", 32: "Yamaha ADPCM", 49: "GSM 6.10", 64: "G.721", 69: "G.726", 80: "MPEG",
    85: "MP3", 255: "AAC", 353: "Windows Media", 8192: "AC-3",
}  # fmt: skip


class Readable(Protocol):
    """An origin of bytes: a file, a pipe, a program."""

    def read(self, n: int, /) -> bytes | None: ...


class Bytes:
    """Bytes as they arrive. You can look at them before you take them.

    Parameters
    ----------
    stream : binary file
        Read as data arrives, so that nothing waits for a full buffer.
    """

    def __init__(self, stream: Readable) -> None:
        self._stream, self._read = stream, getattr(stream, "read1", stream.read)
        self._ahead = bytearray()

    def unbuffer(self) -> None:
        """Bypass Python's buffer from now on. If a thread waits inside it when Python exits, Python aborts."""
        if isinstance(self._stream, io.BufferedReader):
            self._ahead += self._stream.read1(len(self._stream.peek(1)))
            self._read = functools.partial(io.RawIOBase.read, self._stream.raw)

    def look(self, at: int, n: int) -> bytes:
        """Return `n` bytes from offset `at`, counted from the next byte of :meth:`some`; fewer if the stream ends."""
        while len(self._ahead) < at + n and (more := self._read(at + n - len(self._ahead))):
            self._ahead += more
        return bytes(self._ahead[at : at + n])

    def some(self, n: int, least: int = 1) -> bytes:
        """Return at most `n` bytes, waiting only for `least` of them; fewer if the stream ends, none at the end."""
        data = b""
        if self._ahead:
            data = bytes(self._ahead[:n])
            del self._ahead[:n]
        while len(data) < least and (more := self._read(n - len(data))):
            data += more
        return data

    def skip(self, n: int) -> int:
        """Skip `n` bytes; return how many of them the stream did not have."""
        while n and (data := self.some(min(n, 1 << 16))):
            n -= len(data)
        return n


class Header(NamedTuple):
    """A header's description of the samples that follow it."""

    encoding: str
    """Encoding of the samples, such as ``<i2``, ``ulaw`` or ``alaw``; empty if they are compressed.

    ``<`` or ``>`` is the byte order. ``i``, ``u`` (unsigned) or ``f`` (float) is the type. The number of bytes follows.
    """
    channels: int
    rate: int
    start: int = 0
    """Length of the header in bytes."""
    size: int | None = None
    """Bytes of audio. None: the audio goes on to the end."""
    file_end: int | None = None
    """End of a RIFF file by its own header, in bytes from the start; None if the header does not give it."""
    codec: str = ""
    """Codec of compressed samples."""

    @property
    def frame(self) -> int:
        """Bytes of a frame: one sample of every channel."""
        return self.channels * (1 if self.encoding in ("ulaw", "alaw") else int(self.encoding[-1]))


def read_header(data: Bytes, name: str) -> Header:
    """Return the header that `data` begins with, without taking it from `data`.

    Parameters
    ----------
    data : Bytes
    name : str
        One of :data:`kws_edge.audio.formats.NATIVE`.

    Raises
    ------
    AudioError
        If the header is broken, or holds values outside :mod:`kws_edge.audio_limits`.
    """
    try:
        header = {"AU": _au, "SoX": _sox}.get(name, _riff)(data)
    except struct.error:
        raise AudioError(f"the {name} header is cut short") from None
    try:
        check_format(header.rate, header.channels)
    except AudioError as error:
        raise AudioError(f"the {name} header says {error}") from None
    return header


def _riff(data: Bytes) -> Header:
    """Read the header of WAV or a relative: big-endian (RIFX), long (RF64) or with 64-bit chunks (Wave64).

    Source: Multimedia Programming Interface and Data Specifications 1.0; EBU Tech 3306; Sony Wave64.
    """
    magic = data.look(0, 8)
    order, wide = ">" if magic[:4] == b"RIFX" else "<", magic[:4] == b"riff"
    (whole,) = struct.unpack(f"{order}I", magic[4:])
    chunk, at, most = (
        (struct.Struct("<4s12xQ"), 40, 1 << 62) if wide else (struct.Struct(f"{order}4sI"), 12, _UNKNOWN_SIZE)
    )
    form, long_size = None, 0
    for _ in range(_MOST_CHUNKS):
        head = data.look(at, chunk.size)
        if len(head) < chunk.size:
            raise AudioError("a WAV header without audio")
        kind, size = chunk.unpack(head)
        size -= chunk.size * wide  # the size counts the chunk's own head
        at += chunk.size
        if kind == b"data":
            break
        if not _is_chunk(kind) or not 0 <= size <= _MAX_HEADER - at:
            raise AudioError("the WAV header is broken: no audio within its first bytes")
        if kind == b"fmt ":
            form = data.look(at, min(size, 40))
        elif kind == b"ds64":
            _, long_size = struct.unpack("<QQ", data.look(at, 16))
        at += size
        at += -at % 8 if wide else _pad(data, at, size)
    else:
        raise AudioError(f"the WAV header is broken: no audio after {_MOST_CHUNKS} chunks")
    if form is None:
        raise AudioError("the WAV header does not say what its samples are (no 'fmt ' chunk)")
    code, channels, rate, _, align, bits = struct.unpack_from(f"{order}HHIIHH", form)
    if code == 0xFFFE and len(form) >= 26:
        (code,) = struct.unpack_from(f"{order}H", form, 24)
    encoding = _encoding(order, code, bits, align // max(1, channels))
    if size == 0xFFFFFFFF and 0 < long_size < 1 << 62:
        size = long_size
    elif not 0 <= size < most or (size == 0 and data.look(at, 4) not in _TAGS):
        size = None  # size 0: the recorder never came back to write the true size
    end = 8 + whole if 36 < whole < _UNKNOWN_SIZE and not wide else None
    return Header(encoding, channels, rate, at, size, end, _CODECS.get(code, f"code {code}"))


def _is_chunk(kind: bytes) -> bool:
    return len(kind) == 4 and all(32 <= byte < 127 for byte in kind)


def _pad(data: Bytes, at: int, size: int) -> int:
    """Whether a padding byte follows a chunk of odd size. It should, but some writers leave it out."""
    return size % 2 and data.look(at, 1) == b"\0"


def _encoding(order: str, code: int, bits: int, width: int) -> str:
    """Return the encoding of WAV's format `code`; `width` is the header's number of bytes in a sample."""
    if code == 1:
        if not 1 <= bits <= 32:
            raise AudioError(f"the WAV header says {bits} bits a sample; PCM has 8 to 32")
        size = 4 if width == 4 and bits > 16 else (bits + 7) // 8
        return f"{order}{'u' if size == 1 else 'i'}{size}"
    if code == 3:
        if bits not in (32, 64):
            raise AudioError(f"the WAV header says floats of {bits} bits; they have 32 or 64")
        return f"{order}f{bits // 8}"
    return {6: "alaw", 7: "ulaw"}.get(code, "")


def _au(data: Bytes) -> Header:
    """Read the header of AU, the format of Sun and NeXT. Source: au(4) of SunOS."""
    order = ">" if data.look(0, 4) == b".snd" else "<"
    start, size, code, rate, channels = struct.unpack(f"{order}5I", data.look(4, 20))
    known = {2: "i1", 3: "i2", 4: "i3", 5: "i4", 6: "f4", 7: "f8"}
    encoding = order + known[code] if code in known else {1: "ulaw", 27: "alaw"}.get(code, "")
    if not 24 <= start <= _MAX_HEADER:
        raise AudioError("the AU header is broken")
    return Header(encoding, channels, rate, start, None if size >= _UNKNOWN_SIZE else size, codec=f"code {code}")


def _sox(data: Bytes) -> Header:
    """Read the header of SoX's own format (its option -p). Source: soxformat(7)."""
    order = "<" if data.look(0, 4) == b".SoX" else ">"
    start, samples, rate, channels, comments = struct.unpack(f"{order}IQdII", data.look(4, 28))
    if not (comments <= start - 28 <= _MAX_HEADER and 0 <= rate < 1 << 32):
        raise AudioError("the SoX header is broken")
    size = 4 * samples if 0 < samples < 1 << 60 else None
    return Header(order + "i4", channels, round(rate), 4 + start, size)


class PcmReader:
    """Reads the samples after a header, and those of further files in the same stream.

    Parameters
    ----------
    data : Bytes
    header : Header
        Header of uncompressed samples.
    close : callable
        Closes the origin of `data`.
    """

    def __init__(self, data: Bytes, header: Header, close: Callable[[], object] = lambda: None) -> None:
        self.source_rate, self.channels = header.rate, header.channels
        self.seconds = None if header.size is None else header.size / header.frame / header.rate
        self.remark: str | None = None
        self.least = 1
        """Samples of each channel to wait for before the next block."""
        self.close = close
        self._data, self._header = data, header

    def frames(self, n: int) -> Iterator[NDArray[Any]]:
        """Yield blocks of shape (k, channels) as they arrive: int16, or float32 in [-1, 1).

        `k` is at most `n` and at least `self.least`; if they contradict each other, it is `self.least`.

        Raises
        ------
        AudioError
            If the samples are not what the header says.
        """
        header: Header | None = self._header
        while header:
            self._data.skip(header.start)
            left, rest = header.size, b""
            while left is None or left > 0:
                wanted = max(n, self.least) * header.frame - len(rest)
                wanted = wanted if left is None else min(wanted, left)
                data = self._data.some(wanted, min(wanted, self.least * header.frame - len(rest)))
                if not data:
                    break
                left = left and left - len(data)
                data = rest + data
                whole = len(data) - len(data) % header.frame
                rest = data[whole:]
                if whole:
                    yield _decoded(data[:whole], header.encoding).reshape(-1, header.channels)
            if left and header.size:
                self.remark = f"cut short: {header.size - left} of {header.size} bytes of audio are there"
            header = self._following(header) if header.size is not None and not left else None

    def _following(self, header: Header) -> Header | None:
        """Return the header of the next file, skipping other chunks after the audio."""
        data, size = self._data, header.size or 0
        at = header.start + size
        while True:
            pad = _pad(data, 0, size)
            data.skip(pad)
            at += pad
            kind = recognise(data.look)
            if kind in NATIVE:
                break
            head = data.look(0, 8)
            size = int.from_bytes(head[4:], "little")
            if head[:4] == b"data":  # the audio goes on
                return header._replace(start=8, size=size if size < _UNKNOWN_SIZE else None, file_end=None)
            if len(head) < 8 or not _is_chunk(head[:4]) or size > _MAX_HEADER:
                if len(head) == 8 and header.file_end and header.file_end - at >= 8:
                    self.remark = (
                        f"{header.file_end - at} bytes after its audio are not heard: the header leaves them out"
                    )
                return None
            data.skip(8 + size)
            at += 8 + size
        following = read_header(data, kind)
        if following[:3] != header[:3]:
            raise AudioError(f"another {kind} file follows in it, of other rate, channels or samples")
        return following


def _decoded(data: bytes, encoding: str) -> NDArray[Any]:
    """Decode interleaved samples to int16, or to float32 in [-1, 1)."""
    if encoding in ("ulaw", "alaw"):
        return _LAWS[encoding][np.frombuffer(data, np.uint8)]
    order, kind = encoding[0], encoding[1:]
    samples: NDArray[Any]
    if kind == "i2":
        samples = np.frombuffer(data, order + kind)
        return samples.astype(np.int16, copy=False)
    if kind in ("i1", "u1"):
        samples = np.frombuffer(data, kind).astype(np.int16)
        samples = (samples - 128 if kind == "u1" else samples) * np.int16(256)
        return samples
    if kind == "i3":
        padded = np.zeros((len(data) // 3, 4), np.uint8)
        padded[:, slice(1, 4) if order == "<" else slice(0, 3)] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        data, kind = padded.tobytes(), "i4"
    samples = np.frombuffer(data, order + kind)
    if kind == "i4":
        if _are_floats(samples):
            raise AudioError("the header says integers of 32 bits, but the samples are floats")
        samples = samples / np.float32(2**31)
    else:
        check_scale(samples)
    return samples.astype(np.float32)


def _are_floats(samples: NDArray[np.int32]) -> bool:
    """Whether 32-bit samples make sense only as floats.

    Floats of up to 32768, read as integers, look like this: every negative value is loud, and no positive value is.
    """
    negative = samples < 0
    if not negative.any() or negative.all():
        return False
    return bool(samples[negative].max() <= 0xC7000000 - 2**32 and samples[~negative].max() <= 0x47000000)


def _law(kind: str) -> NDArray[np.int16]:
    """Return the 256 values of ITU-T G.711's mu-law or A-law, int16."""
    code = np.arange(256) ^ (0xFF if kind == "ulaw" else 0xD5)
    exponent, mantissa = code >> 4 & 7, code & 15
    if kind == "ulaw":
        size = ((mantissa << 3) + 132 << exponent) - 132
    else:
        size = (mantissa << 4) + 8 + 256 * (exponent > 0) << np.maximum(exponent - 1, 0)
    return np.where(code & 128, -size, size).astype(np.int16)


_LAWS: dict[str, NDArray[np.int16]] = {kind: _law(kind) for kind in ("ulaw", "alaw")}
