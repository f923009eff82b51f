"""Frames of the Wyoming protocol: read from the network within limits, and written.

A frame is a line of JSON, then perhaps more JSON, then perhaps bytes. The package `wyoming` reads frames of any length,
and takes 2 MB of memory.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from kws_edge.errors import KwsError
from kws_edge.text import parse_json, shown

__all__ = ["MOST_LINE", "Frame", "FrameError", "read_frame"]

MOST_LINE = 2**14
"""Most bytes of the line. Of each client, some times as many may wait in memory."""
_MOST_DATA, _MOST_PAYLOAD = 2**18, 2**16
_MOST_TYPE = 100


class FrameError(KwsError):
    """Bytes that are no frame, or one that is too large."""


@dataclass(frozen=True)
class Frame:
    """A frame: its type, what it says, and bytes such as audio."""

    type: str
    data: dict[str, Any] = field(default_factory=dict)
    payload: bytes = b""

    def to_bytes(self) -> bytes:
        """The frame as it is sent, without a payload: no answer of this server has one.

        Examples
        --------
        >>> from kws_edge.service.wyoming.frames import Frame
        >>> Frame("pong", {"text": "a"}).to_bytes()
        b'{"type": "pong", "data_length": 13}\\n{"text": "a"}'
        """
        data = json.dumps(self.data, ensure_ascii=False).encode()
        return json.dumps({"type": self.type, "data_length": len(data)}).encode() + b"\n" + data


async def read_frame(reader: asyncio.StreamReader) -> Frame | None:
    """Read the next frame; None at the end of the stream.

    Parameters
    ----------
    reader : asyncio.StreamReader
        Its limit is :data:`MOST_LINE`.

    Raises
    ------
    FrameError
        If there is no frame, or a part of it is too large, or the stream ends within one.
    """
    try:
        line = await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise FrameError("the connection ended within a frame") from None
    except asyncio.LimitOverrunError:
        raise FrameError(f"a line of more than {MOST_LINE:,} bytes") from None
    head = _parse(line)
    kind, data = head.get("type"), head.get("data")
    if not isinstance(kind, str) or not 0 < len(kind) <= _MOST_TYPE:
        raise FrameError(f"type must be a text, got {shown(kind)}")
    if data is not None and not isinstance(data, dict):
        raise FrameError(f"data must be an object, got {shown(data)}")
    data_length = _length(head, "data_length", _MOST_DATA)
    payload_length = _length(head, "payload_length", _MOST_PAYLOAD)
    try:
        more = _parse(await reader.readexactly(data_length)) if data_length else {}
        payload = await reader.readexactly(payload_length) if payload_length else b""
    except asyncio.IncompleteReadError:
        raise FrameError("the connection ended within a frame") from None
    return Frame(kind, {**(data or {}), **more}, payload)


def _parse(text: bytes) -> dict[str, Any]:
    try:
        values = parse_json(text.decode())
    except ValueError as error:
        raise FrameError(f"no JSON: {error}") from None
    if not isinstance(values, dict):
        raise FrameError(f"expected a JSON object, got {shown(values)}")
    return values


def _length(head: dict[str, Any], name: str, most: int) -> int:
    value = head.get(name)
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise FrameError(f"{name} must be a whole number from 0 to {most}, got {shown(value)}")
    return value
