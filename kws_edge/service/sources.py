"""Open what a section of the configuration calls a source."""

from __future__ import annotations

from collections.abc import Callable

from kws_edge.audio.source import Source
from kws_edge.service.config import SourceSection

__all__ = ["open_source"]


def open_source(section: SourceSection, sample_rate: int, notice: Callable[[str], None]) -> Source:
    """Open a source.

    Parameters
    ----------
    section : SourceSection
    sample_rate : int
        Hz of the blocks.
    notice : callable
        Called with a text when a live source is gone or back.

    Raises
    ------
    AudioError
        If the source cannot be opened.
    """
    if section.file is not None:
        from kws_edge.audio.file import AudioFile

        return AudioFile(section.file, sample_rate=sample_rate)
    if section.ffmpeg is not None:
        from kws_edge.audio.remote import RemoteStream

        return RemoteStream(section.ffmpeg, sample_rate=sample_rate, format=section.format, notice=notice)
    from kws_edge.audio.microphone import Microphone

    return Microphone(section.device, sample_rate=sample_rate, device_rate=section.rate, notice=notice)
