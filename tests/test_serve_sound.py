"""The service on a sound server that dies, again and again."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.serving import RATE, Serving, Supervisor
from tests.sound import SoundServer
from tests.test_recovery import kill

pytestmark = [pytest.mark.sound, pytest.mark.timeout(600)]

TIMES = 20


@pytest.fixture
def server(tmp_path):
    server = SoundServer(tmp_path)
    yield server
    server.stop()


def n_threads(service):
    return len(list(Path(f"/proc/{service.process.pid}/task").iterdir()))


def test_sound_server_killed_twenty_times(server, demo_stream, tmp_path):
    """Each time the service says so, hears again, and counts what was lost. Nothing is left over."""
    samples = soundfile.read(demo_stream, dtype="int16")[0][round(5.6 * RATE) :][: round(1.1 * RATE)]
    word = tmp_path / "stop.wav"
    soundfile.write(word, np.concatenate([np.zeros(RATE // 2, np.int16), samples, np.zeros(RATE, np.int16)]), RATE)
    supervisor = Supervisor(tmp_path, watchdog_s=30)
    text = """
        [service]
        telemetry_s = 1
        [[source]]
        name = "room"
        device = "pulse"
        thresholds = {stop = 0.5}
        [jsonl]
    """
    service = Serving(tmp_path, text, environment={**server.environment, **supervisor.environment})
    try:
        supervisor.wait_for("READY")
        server.play(word)
        assert service.detection()["keyword"] == "stop"
        threads = n_threads(service)
        before = service.rss_kb()
        for i in range(TIMES):
            kill(server)
            service.wait_for("'pulse' is gone", 30)
            server.room.wait(timeout=60)
            server.start()
            service.wait_for("'pulse' is back: ", 60)
            if i % 5 == 4:
                server.play(word)
                assert service.detection()["keyword"] == "stop"
        fed, until = 0, time.monotonic() + 40
        while fed < 3 and time.monotonic() < until:
            states = supervisor.next(5)
            fed += bool(states and "WATCHDOG" in states)
        assert fed == 3
        assert service.rss_kb() - before < 2000
        assert n_threads(service) == threads
        assert service.finish(signal.SIGTERM) == []
        assert f"{TIMES} outages" in " ".join(service.errors)
    finally:
        service.kill()
        supervisor.close()
