"""Audio that arrives on a pipe."""

from __future__ import annotations

from kws_edge.audio.decoded import DecodedSource, Reader
from kws_edge.audio.formats import NATIVE, is_audio, recognise, recognise_within
from kws_edge.audio.pcm import Bytes, Header, PcmReader, Readable, read_header
from kws_edge.audio.source import BLOCK_MS
from kws_edge.audio_limits import check_format
from kws_edge.errors import AudioError

__all__ = ["PcmStream", "read_stream"]


class PcmStream(DecodedSource):
    """Audio as it arrives on a pipe: raw signed 16-bit little-endian PCM, or a format that is recognised.

    This package reads WAV (the default of ``arecord``), Wave64, AU and SoX's own format. Others need ffmpeg.

    Parameters
    ----------
    stream : binary file
        Read as data arrives, so that nothing waits for a full buffer.
    sample_rate : int
        Hz of the blocks.
    source_rate, channels : int
        Rate in Hz and number of channels of raw PCM. If there is a header, its values are used instead.
    name : str
        Name of the source in error messages.

    Raises
    ------
    AudioError
        If the data is not audio, or its format cannot be read here.

    Examples
    --------
    This reads stereo at 48 kHz, here from memory instead of a pipe:

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
        self._pcm = reader if isinstance(reader, PcmReader) else None
        super().__init__(name, reader, sample_rate, max(1, reader.source_rate * BLOCK_MS // 1000))

    def want(self, seconds: float) -> None:
        if self._pcm:
            self._pcm.least = max(1, int(seconds * self._pcm.source_rate))


def raw(rate: int, channels: int) -> Header:
    """Return the header that would describe raw PCM."""
    check_format(rate, channels)
    return Header("<i2", channels, rate)


def read_stream(data: Bytes, sample_rate: int) -> Reader | None:
    """Return a reader for a stream of a recognised format, or None for any other stream.

    Parameters
    ----------
    data : Bytes
    sample_rate : int
        Rate in Hz that the error message recommends.

    Raises
    ------
    AudioError
        If the data is not audio, or its format cannot be read here.
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
