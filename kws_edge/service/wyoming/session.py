"""One client of the Wyoming server: what it asks for, and what it is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from kws_edge.detection.detector import Detection
from kws_edge.errors import KwsError
from kws_edge.service.wyoming.frames import Frame, FrameError, read_frame
from kws_edge.service.wyoming.hearing import Hearing
from kws_edge.spotter import Spotter
from kws_edge.text import printable, shown

__all__ = ["Session"]

_IDLE_S = 30.0
"""Longest time from one frame to the next."""
_WRITE_S = 5.0
"""Longest time that a client may take to read an answer."""
_AHEAD_S, _PACE = 10.0, 8
"""Audio that may come at once, and how many times faster than live the rest may come."""
_MOST_TEXT = 100


class Session:
    """Serves one connection until it ends.

    A client asks to transcribe or to detect, and then streams audio. Transcribing ends with the first keyword, or after
    `patience_s` seconds without one. Detecting goes on.

    Parameters
    ----------
    hearing : Hearing
    reader, writer : asyncio streams
    patience_s : float
        Longest audio without a keyword that is transcribed, in seconds.
    """

    def __init__(
        self, hearing: Hearing, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, patience_s: float
    ) -> None:
        self._hearing, self._reader, self._writer, self._patience_s = hearing, reader, writer, patience_s
        self._task: str | None = None
        self._names: tuple[str, ...] | None = None
        self._spotter: Spotter | None = None
        self._found = False
        self._heard_s, self._begin, self._rest = 0.0, 0.0, b""

    async def run(self) -> None:
        """Answer frames until the client leaves.

        Raises
        ------
        KwsError
            If the client sends no frames, asks for what is not there, or does not read. It was told.
        OSError
            If the connection breaks.
        """
        try:
            while (frame := await _within(_IDLE_S, read_frame(self._reader), "sent nothing")) is not None:
                for answer in self._answers(frame):
                    await self._write(answer)
                await asyncio.sleep(self._ahead_s())
        except KwsError as error:
            await self._tell(str(error))
            raise

    async def refuse(self, reason: str) -> None:
        """Tell the client why it is not served.

        Raises
        ------
        KwsError
            In any case.
        """
        await self._tell(reason)
        raise FrameError(reason)

    async def _tell(self, text: str) -> None:
        """Tell the client what went wrong, unless it does not read."""
        if not self._writer.transport.get_write_buffer_size():
            with suppress(KwsError, OSError):
                await self._write(Frame("error", {"text": text, "code": "kws-edge"}))

    async def _write(self, answer: Frame) -> None:
        self._writer.write(answer.to_bytes())
        await _within(_WRITE_S, self._writer.drain(), "did not read")

    def _ahead_s(self) -> float:
        """Seconds to wait, so that a client that sends a recording leaves the processor to those that are live."""
        return max(0.0, (self._heard_s - _AHEAD_S) / _PACE - (time.monotonic() - self._begin))

    def _answers(self, frame: Frame) -> Iterator[Frame]:
        if frame.type == "audio-chunk":
            yield from self._hear(frame)
        elif frame.type == "describe":
            yield self._hearing.info()
        elif frame.type == "transcribe":
            self._task, self._names, self._spotter = "transcribe", None, None
        elif frame.type == "detect":
            self._task, self._names, self._spotter = "detect", self._wanted(frame.data.get("names")), None
        elif frame.type == "audio-start":
            self._start(frame.data)
        elif frame.type == "audio-stop":
            yield from self._stop()
        elif frame.type == "ping":
            yield Frame("pong", {"text": printable(str(frame.data.get("text") or ""), most=_MOST_TEXT) or None})
        # A server drops events that it does not know.

    def _wanted(self, names: Any) -> tuple[str, ...] | None:
        """The keywords that a client names, or all."""
        if names is None or names == []:
            return None
        if not isinstance(names, list):
            raise FrameError(f"names must be a list of texts, got {shown(names)}")
        for name in names:
            if name not in self._hearing.keywords:
                raise FrameError(f"no model {shown(name)}; there are {', '.join(self._hearing.keywords)}")
        return tuple(dict.fromkeys(names))

    def _start(self, data: dict[str, Any]) -> None:
        if self._task is None:
            raise FrameError("audio before transcribe or detect")
        self._spotter = self._hearing.spotter(self._names)
        self._check_format(data)
        self._found, self._heard_s, self._begin, self._rest = False, 0.0, time.monotonic(), b""

    def _check_format(self, data: dict[str, Any]) -> None:
        assert self._spotter is not None
        expected = (self._spotter.model.frontend_config.sample_rate, 2, 1)
        given = tuple(data.get(name) for name in ("rate", "width", "channels"))
        if given != expected:
            raise FrameError(f"audio must have rate, width and channels {expected}, got {shown(given)}")

    def _hear(self, frame: Frame) -> Iterator[Frame]:
        """Take a piece of audio."""
        if self._spotter is None:
            raise FrameError("audio before audio-start")
        self._check_format(frame.data)
        data = self._rest + frame.payload  # Home Assistant cuts streams anywhere, within a sample, too
        whole = len(data) // 2 * 2
        self._rest, samples = data[whole:], np.frombuffer(data[:whole], "<i2").astype(np.int16, copy=False)
        self._heard_s += len(samples) / self._spotter.model.frontend_config.sample_rate
        if self._task == "transcribe" and self._found:
            return
        yield from self._told(self._spotter.process(samples))
        if self._task == "transcribe" and not self._found and self._heard_s >= self._patience_s:
            self._found = True
            yield _transcript("")

    def _stop(self) -> Iterator[Frame]:
        """End the stream. A word at its very end is heard, too."""
        if self._spotter is None:
            return
        if not (self._task == "transcribe" and self._found):
            yield from self._told(self._spotter.flush())
        if not self._found:
            yield _transcript("") if self._task == "transcribe" else Frame("not-detected")
        self._spotter = None

    def _told(self, detections: Sequence[Detection]) -> Iterator[Frame]:
        for found in detections:
            if self._names is not None and found.keyword not in self._names:
                continue
            self._found = True
            if self._task == "transcribe":
                yield _transcript(self._hearing.sentence(found.keyword))
                return
            yield Frame("detection", {"name": found.keyword, "timestamp": round(1000 * found.end_s)})


def _transcript(text: str) -> Frame:
    return Frame("transcript", {"text": text})


async def _within(seconds: float, work: Any, what: str) -> Any:
    try:
        return await asyncio.wait_for(work, seconds)
    except asyncio.TimeoutError:
        raise FrameError(f"the client {what} in {seconds:g} s") from None
