"""What a client sends to the Wyoming server, from its first byte to its last."""

from __future__ import annotations

import asyncio
import json
import random

from kws_edge import Model
from kws_edge.service.wyoming.frames import MOST_LINE
from kws_edge.service.wyoming.hearing import Hearing
from kws_edge.service.wyoming.session import Session
from tests.fuzz import values
from tests.house import WORDS, reloaded

__all__ = ["consume", "mutate", "seeds"]

FORMAT = {"rate": 16_000, "width": 2, "channels": 1}
HEARING = Hearing(
    reloaded("kitchen", model=Model("micro12").path), name="kws-edge", language="en", sentences={"on": "turn it on"}
)
HEARING.spotter()
LOOP = asyncio.new_event_loop()


class Sink(asyncio.Transport):
    """Takes what is written, as a client that reads at once."""

    def write(self, data):
        pass

    def get_write_buffer_size(self):
        return 0

    def is_closing(self):
        return False


def frame(kind, data=None, payload=b""):
    body = json.dumps(data).encode() if data else b""
    head = {"type": kind, "version": "1.10.2", "data_length": len(body), "payload_length": len(payload)}
    return json.dumps(head).encode() + b"\n" + body + payload


def seeds():
    audio = [
        frame("audio-start", FORMAT),
        frame("audio-chunk", FORMAT, bytes(3200)),
        frame("audio-stop", {"timestamp": 1}),
    ]
    yield b"".join([frame("describe"), frame("ping", {"text": "a"}), frame("transcribe", {"language": "en"}), *audio])
    yield b"".join([frame("detect", {"names": list(WORDS[:2])}), *audio])


def mutate(data, size, seed):
    """Another value in one line of JSON, or other bytes."""
    rng = random.Random(seed)
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    if lines[at].startswith(b"{"):
        end = lines[at].rfind(b"}") + 1
        lines[at] = values.mutate(lines[at][:end], size, seed) + lines[at][end:]
        return b"\n".join(lines)[:size]
    return values.mutate(data, size, seed)


def consume(data):
    async def serve():
        reader = asyncio.StreamReader(limit=MOST_LINE)
        reader.feed_data(data)
        reader.feed_eof()
        writer = asyncio.StreamWriter(Sink(), asyncio.StreamReaderProtocol(reader), reader, LOOP)
        await Session(HEARING, reader, writer, patience_s=1).run()

    LOOP.run_until_complete(serve())
