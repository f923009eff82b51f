"""Audio that arrives on a pipe."""

from __future__ import annotations

from kws_edge.audio.decoded import DecodedSource, Reader
from kws_edge.audio.formats import NATIVE, is_audio, recognise, recognise_within
from kws_edge.audio.limits import check_format
from kws_edge.audio.pcm import Bytes, Header, PcmReader, Readable, read_header
from kws_edge.audio.source import BLOCK_MS
from kws_edge.errors import AudioError

__all__ = ["PcmStream", "read_stream"]


class PcmStream(DecodedSource):
    """Audio as it arrives: raw signed 16-bit little-endian PCM, or what begins as a format that is recognised.

    WAV, as ``arecord`` writes it by default, Wave64, AU and SoX's own format are read here; others need ffmpeg.

    Parameters
    ----------
    stream : binary file
        Read as data arrives, so that nothing waits for a full buffer.
    sample_rate : int
        Hz of the blocks.
    source_rate, channels : int
        What raw PCM is; a header decides instead.
    name : str
        What errors call it.

    Raises
    ------
    AudioError
        If it is no audio, or of a format that cannot be read here.

    Examples
    --------
    Stereo at 48 kHz, such as a program writes into a pipe, here from memory:

    >>> import io
    >>> from kws_edge import PcmStream
    >>> second = io.BytesIO(bytes(2 * 2 * 48000))
    >>> with PcmStream(second, sample_rate=16000, source_rate=48000, channels=2) as source:
    ...     sum(len(block) for block in source)
    16000
    """

    _nothing = "no audio arrived on the pipe"

    def __init__(
        self,
        stream: Readable,
        *,
        sample_rate: int,
        source_rate: int | None = None,
        channels: int = 1,
        name: str = "-",
    ) -> None:
        self.name, data = name, Bytes(stream)
        with self._named():
            reader = read_stream(data, sample_rate) or PcmReader(data, raw(source_rate or sample_rate, channels))
        super().__init__(name, reader, sample_rate, max(1, reader.source_rate * BLOCK_MS // 1000))


def raw(rate: int, channels: int) -> Header:
    """What a header would say of raw PCM."""
    check_format(rate, channels)
    return Header("<i2", channels, rate)


def read_stream(data: Bytes, sample_rate: int) -> Reader | None:
    """What reads a stream of a format that is recognised; None for another one.

    Parameters
    ----------
    data : Bytes
    sample_rate : int
        Hz, for the advice.

    Raises
    ------
    AudioError
        If it is no audio, or of a format that cannot be read here.
    """
    kind = what = recognise(data.look) or recognise_within(data.look)
    if kind is None:
        return None
    if not is_audio(kind):
        raise AudioError(f"is {kind}, not audio")
    if kind in NATIVE:
        header = read_header(data, kind)
        if header.encoding:
            return PcmReader(data, header)
        what = f"{kind} of {header.codec}"
    from kws_edge.audio.ffmpeg import MissingError, decoded

    try:
        return decoded(data)
    except MissingError:
        advice = f"install ffmpeg, or send it through ffmpeg -i pipe: -f s16le -ar {sample_rate} -ac 1 -"
        raise AudioError(f"{what} on a pipe needs ffmpeg: {advice}") from None
    except AudioError as error:
        raise AudioError(f"{what}: {error}") from None
