"""Handle detections beside other work in asyncio: python in_asyncio.py [RECORDING]"""

import asyncio
import sys
import threading

from kws_edge import AudioFile, Detection, Microphone, Model, Spotter


def listen(recording: str | None, put) -> None:
    """Listen in a thread of its own, so that the event loop never waits for sound."""
    model = Model("commands12")
    rate = model.frontend_config.sample_rate
    with AudioFile(recording, sample_rate=rate) if recording else Microphone(sample_rate=rate) as source:
        for detection in Spotter(model).detections(source):
            put(detection)
    put(None)


async def main(recording: str | None = None) -> None:
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[Detection | None]()

    def put(detection: Detection | None) -> None:
        loop.call_soon_threadsafe(queue.put_nowait, detection)

    threading.Thread(target=listen, args=(recording, put), daemon=True).start()
    while detection := await queue.get():
        print(f"{detection.end_s:6.2f} s  {detection.keyword}", flush=True)


asyncio.run(main(*sys.argv[1:]))
