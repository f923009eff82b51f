"""Audio from an address, read by ffmpeg, whose server comes and goes."""

from __future__ import annotations

import signal
import socket
import struct
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws_edge import AudioError
from kws_edge.audio.remote import RemoteStream
from tests.conftest import is_gone, need_program, wait_until
from tests.serving import RATE, Serving

pytestmark = pytest.mark.sound

FORMAT = struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
HEADER = b"RIFF\xff\xff\xff\x7fWAVEfmt \x10\0\0\0" + FORMAT + b"data\0\xff\xff\x7f"


class Camera:
    """A server of WAV at the pace of live audio. It plays `samples` again and again, to one client."""

    def __init__(self, samples, port=0):
        self._samples = samples
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.clients, self.stalls = 0, threading.Event()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while not self._end.is_set():
            with suppress(OSError), self._listener.accept()[0] as client:
                self.clients += 1
                client.sendall(HEADER)
                start, at = time.monotonic(), 0
                while not self._end.wait(0.02):
                    due = round((time.monotonic() - start) * RATE)
                    if not self.stalls.is_set():
                        client.sendall(np.take(self._samples, np.arange(at, due), mode="wrap").tobytes())
                    at = due

    def close(self):
        self._end.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@pytest.fixture(scope="module")
def speech(demo_stream):
    """Seven seconds with yes, left and stop."""
    return soundfile.read(demo_stream, dtype="int16", frames=7 * RATE)[0]


@pytest.fixture
def camera(speech):
    need_program("ffmpeg")
    with closing(Camera(speech)) as camera:
        yield camera


def test_remote_stream_is_live_audio(camera):
    with RemoteStream(camera.address, format="wav", sample_rate=RATE) as stream:
        heard = np.concatenate([stream.read() for _ in range(20)])
        start = time.monotonic()
        while time.monotonic() - start < 2:
            heard = np.append(heard, stream.read())
    assert len(heard) > 2 * RATE
    assert np.abs(heard.astype(int)).max() > 1000
    assert (stream.lost_samples, stream.outages, stream.gone) == (0, 0, False)


def test_stream_that_comes_and_goes(camera, speech):
    """What was missing counts by the clock."""
    told, n = [], [0]

    def hear(stream):
        for block in stream:
            n[0] += len(block)

    with RemoteStream(camera.address, format="wav", sample_rate=RATE, notice=told.append) as stream:
        reader = threading.Thread(target=hear, args=(stream,), daemon=True)
        reader.start()
        wait_until(lambda: n[0] > RATE, 30)
        begin = time.monotonic()
        camera.close()
        wait_until(lambda: stream.gone, 20)
        attempts = stream.attempts
        wait_until(lambda: stream.attempts > attempts + 1, 20)
        with closing(Camera(speech, port=camera.port)):
            before = n[0]
            wait_until(lambda: stream.lost_samples and n[0] > before, 60)
            away = time.monotonic() - begin
            assert stream.outages == 1
    reader.join(30)
    lost = stream.lost_samples / RATE
    assert 1 < lost < away + 1
    assert told[0].startswith(f"{camera.address} is gone (")
    assert told[1].endswith(f"is back: {lost:.1f} s lost; detection starts anew")


def test_stream_that_stalls_is_opened_again(camera, monkeypatch):
    from kws_edge.audio import remote

    monkeypatch.setattr(remote, "_SILENT_S", 5.0)
    with RemoteStream(camera.address, format="wav", sample_rate=RATE) as stream:
        stream.read()
        camera.stalls.set()
        reader = threading.Thread(target=lambda: [stream.read() for _ in range(200)], daemon=True)
        reader.start()
        wait_until(lambda: stream.outages == 1, 20)
        camera.stalls.clear()
        wait_until(lambda: not stream.gone, 30)
        assert camera.clients >= 2
    reader.join(10)


def test_closed_stream_ends_and_leaves_no_process(camera):
    stream = RemoteStream(camera.address, format="wav", sample_rate=RATE)
    with stream:
        stream.read()
        pid = stream._child.process.pid
        threading.Timer(0.3, stream.close).start()
        while stream.read() is not None:
            pass
    wait_until(lambda: is_gone(pid))
    unused = RemoteStream(camera.address, format="wav", sample_rate=RATE)
    unused.close()
    assert unused.read() is None


def test_remote_stream_needs_ffmpeg(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(AudioError, match=r"^rtsp://camera/x: needs ffmpeg"):
        RemoteStream("rtsp://me:password@camera/x", sample_rate=RATE)


@pytest.mark.parametrize("protocol", ["rtsp", "http", "nosuch"])
def test_messages_hold_no_secret(protocol):
    """Neither ours nor those of ffmpeg hold the password, even one with an @, or the query."""
    told = []
    address = f"{protocol}://me:secret@secret@127.0.0.1:9/x?token=secret"
    with closing(RemoteStream(address, sample_rate=RATE, notice=told.append)) as stream:
        stream._begin()
        wait_until(lambda: told, 30)
    assert told[0].startswith(f"{protocol}://127.0.0.1:9/x is gone (")
    assert "secret" not in told[0]
    assert told[0].endswith("); waiting until it is back")


def test_service_hears_an_address(camera, speech, tmp_path):
    """Two words are heard, the stream is cut, and words are heard again; SIGTERM ends ffmpeg, too."""
    service = Serving(tmp_path, f"""
        [[source]]
        name = "porch"
        ffmpeg = "{camera.address}"
        format = "wav"
        thresholds = {{yes = 0.5, left = 0.5, stop = 0.5}}
        [jsonl]
    """)  # fmt: skip
    try:
        assert {service.detection()["keyword"] for _ in range(2)} <= {"yes", "left", "stop"}
        camera.close()
        service.wait_for(f"porch: {camera.address} is gone (")
        with closing(Camera(speech, port=camera.port)):
            service.wait_for("is back: ")
            rows = [service.detection() for _ in range(2)]
            assert rows[0]["start_s"] > 1
            pid = service.process.pid
            children = " ".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")).split()
            assert children
            service.finish(signal.SIGTERM)
        assert all(is_gone(child) for child in children)
    finally:
        service.kill()
