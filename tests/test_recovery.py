"""Listening goes on when servers die, microphones come and go, or the machine stands still. All of this is real.

The words come from the bundled stream, so the tests need only a sound server.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws_edge import Spotter
from kws_edge.audio.capture_process import HEADER
from kws_edge.audio.queue import BlockQueue
from kws_edge.audio.source import LiveSource, Source
from kws_edge.cli.listen import listen
from tests.conftest import assert_one_line_error, is_gone, wait_until
from tests.sound import RATE, Listener, SoundServer, altered, only_48_khz

pytestmark = pytest.mark.sound

STOPPED_S = 3.0
# These words are heard wherever the steps of inference fall. A new model should not need new words.
HEAR = ("--threshold", "0.5", "--device", "pulse")
# PortAudio's device, which stands for the default source, and that source by its name.
each_way = pytest.mark.parametrize("device", ["pulse", "vmic.monitor"])


@pytest.fixture
def server(tmp_path):
    server = SoundServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def words(demo_stream):
    """The demo's down, left and stop by name, int16, 1.1 seconds each with their noise."""
    samples = soundfile.read(demo_stream, dtype="int16")[0]
    starts = {"down": 14.35, "left": 1.9, "stop": 5.6}
    return {name: samples[round(at * RATE) :][: round(1.1 * RATE)] for name, at in starts.items()}


def write(path, words, *spoken):
    """Write a file of words, each after a pause in seconds, and half a second more."""
    parts = []
    for pause, word in spoken:
        parts += [np.zeros(round(pause * RATE), np.int16), words[word]]
    soundfile.write(path, np.concatenate([*parts, np.zeros(RATE // 2, np.int16)]), RATE)
    return path


def kill(server):
    server.process.kill()
    server.process.wait()


def unplug(server):
    server.pactl("unload-module", "module-null-sink")


def plug_in(server):
    server.pactl("load-module", *server.sink.split())
    server.pactl("set-default-source", "vmic.monitor")
    server.make_room()


@each_way
@pytest.mark.parametrize(("lose", "restore"), [(kill, SoundServer.start), (unplug, plug_in)], ids=["server", "source"])
def test_what_is_gone_comes_back(server, words, tmp_path, lose, restore, device):
    """The sound server is killed and started again, or the source is unloaded and loaded again.

    Words before and after are heard, none between, and the clock has gone on. A named source is waited for, even if the
    server has another one.
    """
    down, stop = (write(tmp_path / f"{word}.wav", words, (0.5, word)) for word in ("down", "stop"))
    if device != "pulse":
        server.pactl("load-module", "module-sine-source", "source_name=other")
    listener = Listener(server, "--threshold", "0.5", "--device", device)
    server.play(down)
    before = listener.detection()
    lost_at = time.monotonic()
    lose(server)
    assert f"{device!r} is gone (its stream ended); waiting" in listener.wait_for("gone")
    time.sleep(2)
    server.room.wait(timeout=60)
    restore(server)
    away = time.monotonic() - lost_at
    assert "s lost; detection starts anew" in listener.wait_for(f"{device!r} is back")
    server.play(stop)
    after = listener.detection()
    rows, summary = listener.finish(signal.SIGINT)
    assert [row["keyword"] for row in (before, after, *rows)] == ["down", "stop"]
    assert after["start_s"] - before["end_s"] > away - 1
    assert summary.endswith("s lost in all, 1 outage")


@each_way
def test_process_stopped(server, words, tmp_path, device):
    """The process is stopped for three seconds and continued.

    The word that was said meanwhile is too old and has no effect. The next one is heard at its time.
    """
    spoken = write(tmp_path / "spoken.wav", words, (0.5, "down"), (1.7, "left"), (4.0, "stop"))
    listener = Listener(server, "--threshold", "0.5", "--device", device)
    player = subprocess.Popen(["paplay", "--device=vmic", str(spoken)], env=server.environment)
    first = listener.detection()
    listener.process.send_signal(signal.SIGSTOP)
    time.sleep(STOPPED_S)
    listener.process.send_signal(signal.SIGCONT)
    assert f"{device!r} lost " in listener.wait_for("the machine was too slow, or stood still; detection starts anew")
    second = listener.detection()
    player.wait(timeout=60)
    rows, summary = listener.finish(signal.SIGINT)
    assert [row["keyword"] for row in (first, second, *rows)] == ["down", "stop"]
    assert second["start_s"] - first["start_s"] == pytest.approx(1.1 + 1.7 + 1.1 + 4.0, abs=0.5)
    dropped = int(summary.split(" sample")[0].split()[-1].replace(",", ""))
    assert dropped > 1.5 * RATE
    assert f"; {dropped / RATE:.1f} s lost in all" in summary
    assert "outages" not in summary


@each_way
def test_sound_server_hangs(server, device):
    """A server that stands still is waited for. Ctrl-C ends listening nevertheless."""
    listener = Listener(server, "--device", device)
    server.process.send_signal(signal.SIGSTOP)
    try:
        listener.wait_for("is gone (no audio for 3 s)")
        server.process.send_signal(signal.SIGCONT)
        listener.wait_for("' is back: ")
        server.process.send_signal(signal.SIGSTOP)
        listener.wait_for("is gone (no audio for 3 s)")
        rows, summary = listener.finish(signal.SIGINT)
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert rows == []
    assert summary.endswith("2 outages")


def recorder_of(listener):
    """The process that records for a listener."""
    path = f"/proc/{listener.process.pid}/task/{listener.process.pid}/children"
    (child,) = (int(pid) for pid in Path(path).read_text().split())
    return child


def test_server_killed_and_back_at_once(server, words, tmp_path):
    """This leaves threads in PortAudio that spin or wait for ever.

    Words are heard again within 5 s, and no line of PortAudio appears on standard error.
    """
    listener = Listener(server, *HEAR)
    said = [listener.greeting]
    for _ in range(4):
        kill(server)
        time.sleep(0.3)
        server.room.wait(timeout=60)
        server.start()
        started = time.monotonic()
        said += [listener.wait_for("' is gone"), listener.wait_for("' is back: ")]
        assert time.monotonic() - started < 5
    server.play(write(tmp_path / "stop.wav", words, (0.5, "stop")))
    assert listener.detection()["keyword"] == "stop"
    _, summary = listener.finish(signal.SIGINT)
    assert summary.endswith("4 outages")
    assert all(line.startswith("kws-edge: ") for line in said)


@pytest.mark.parametrize(
    ("number", "reason"), [(signal.SIGSTOP, "no audio for 3 s"), (signal.SIGKILL, "its stream ended")]
)
def test_process_that_records_hangs_or_dies(server, number, reason):
    """The process that records is replaced, whatever PortAudio does to it. Nothing is left of it."""
    listener = Listener(server, "--device", "pulse")
    first = recorder_of(listener)
    os.kill(first, number)
    listener.wait_for(f"is gone ({reason})")
    listener.wait_for("' is back: ")
    assert not Path(f"/proc/{first}").exists()
    second = recorder_of(listener)
    assert second != first
    assert listener.finish(signal.SIGINT)[1].endswith("1 outage")
    assert not Path(f"/proc/{second}").exists()


def test_process_that_records_and_spins_is_replaced(server, tmp_path):
    """The process delivers samples, but a thread of its audio system takes a whole core."""
    spin = f"""
import os, threading
def spin():
    while True: pass
try: os.mkdir({str(tmp_path / "once")!r})
except FileExistsError: pass
else: threading.Thread(target=spin, daemon=True).start()
"""
    code = (
        "from kws_edge import Microphone; from kws_edge.audio import capture\n"
        "capture._MOST_CPU, capture._WATCHED_S = 0.1, 2\n"  # of a machine that others use, too
        "with Microphone('pulse', sample_rate=16000, notice=print) as microphone:\n"
        "    first = microphone.process_id\n"
        "    for block in microphone:\n"
        "        if microphone.outages and microphone.queue.samples > 8 * 16000: break\n"
        "    print(microphone.outages, microphone.process_id != first)\n"
    )
    command, environment = [sys.executable, "-c", code], altered(tmp_path, server.environment, spin)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert "is gone (its stream ended)" in done.stdout
    assert "is back" in done.stdout
    assert done.stdout.endswith(" True\n")


def test_nobody_records_for_a_listener_that_was_killed(server):
    """This holds even if the sound server hangs at that time."""
    for hangs in (False, True):
        listener = Listener(server, "--device", "pulse")
        recorder = recorder_of(listener)
        if hangs:
            server.process.send_signal(signal.SIGSTOP)
        listener.process.kill()
        listener.process.wait()
        try:
            wait_until(lambda recorder=recorder: is_gone(recorder))
        finally:
            server.process.send_signal(signal.SIGCONT)


def test_nobody_records_for_a_program_whose_fork_lives(server):
    """The fork has the pipes, too, and would keep the microphone busy."""
    code = (
        "import os, signal, sys, time; from kws_edge import Microphone\n"
        "with Microphone('pulse', sample_rate=16000) as microphone:\n"
        "    next(iter(microphone))\n"
        "    fork = os.fork()\n"
        "    if not fork: signal.pause()\n"
        "    print(fork, microphone.process_id, flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, env=server.environment, stdout=subprocess.PIPE) as program:
        fork, recorder = map(int, program.stdout.readline().split())
        try:
            assert not is_gone(recorder)
            program.kill()
            wait_until(lambda: is_gone(recorder))
        finally:
            os.kill(fork, signal.SIGKILL)


def test_interrupt_from_a_terminal(server):
    """The interrupt reaches the process that records, too. Only the listener handles it."""
    listener = Listener(server, "--device", "pulse")
    os.kill(recorder_of(listener), signal.SIGINT)
    os.kill(recorder_of(listener), signal.SIGTERM)
    time.sleep(0.5)
    assert "outages" not in listener.finish(signal.SIGINT)[1]


@pytest.mark.parametrize("redirection", ["<&- >&- 2>&-", "<&-", ">&-", "2>&-", "2>/dev/full"])
def test_microphone_where_streams_are_closed(server, redirection):
    """Pipes of the process that records may get the numbers of closed streams, in the command and in your program."""
    code = "from kws_edge import Microphone\n"
    code += "with Microphone('pulse', sample_rate=16000) as m: len(next(iter(m))) or 1 / 0"
    command = ("-m", "kws_edge", "listen", "--device", "pulse", "--seconds", "0.5", "--threshold", "1")
    for arguments in (command, ("-c", code)):
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, *arguments],
            env=server.environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr


HANGING = "import threading\nthreading.Event().wait()\n"


def test_audio_system_that_never_answers(tmp_path):
    """If it hangs before a device is open, there is an error, and no process is left."""
    (tmp_path / "sounddevice.py").write_text(HANGING)
    code = (
        "from kws_edge import AudioError\n"
        "from kws_edge.audio.capture import Capture\n"
        "capture = Capture()\n"
        "try: capture.devices(timeout=2)\n"
        "except AudioError as error: print(capture.pid, error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    pid, _, error = done.stdout.strip().partition(" ")
    assert error == "audio devices: the audio system does not answer in 2 s; restart the sound server"
    assert not Path(f"/proc/{pid}").exists()
    (tmp_path / "sounddevice.py").write_text("raise ImportError")
    failed = subprocess.run(
        [sys.executable, "-m", "kws_edge", "devices"], env=environment, capture_output=True, timeout=60, check=False
    )
    assert_one_line_error(failed, "the microphone needs sounddevice: pip install sounddevice")


def test_where_nothing_can_record():
    """Without threads, or in a program that would start itself again, there is an error, and no process is left."""
    code = (
        "import os, resource, sys, threading\n"
        "from kws_edge import AudioError\n"
        "from kws_edge.audio.capture import Capture\n"
        "def refused():\n"
        "    try: Capture()\n"
        "    except AudioError as error: print(error)\n"
        "    assert not open(f'/proc/self/task/{os.getpid()}/children').read()\n"
        "threading.stack_size(1 << 30)\n"
        "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize() + (1 << 29)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size, size))\n"
        "refused()\n"
        "sys.frozen = True\n"
        "refused()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    thread, frozen = done.stdout.splitlines()
    assert thread == "the microphone needs a thread of its own: can't start new thread"
    assert frozen.startswith("the microphone needs a Python interpreter; sys.executable is ")


def test_messages_are_whole_and_one_after_another():
    """Several threads send large messages of many channels, while the process is stopped and continued."""
    code = (
        "import os, threading; from kws_edge.audio.capture_process import write\n"
        "def send(n):\n"
        "    for i in range(20): write(1, bytes([n]) * 300_001, True)\n"
        "for n in range(3): threading.Thread(target=send, args=[n]).start()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        for _ in range(60):
            head = process.stdout.read(HEADER.size)
            process.send_signal(signal.SIGSTOP)
            process.send_signal(signal.SIGCONT)
            assert HEADER.unpack(head)[:2] == (300_001, True)
            assert len(set(process.stdout.read(300_001))) == 1
        assert not process.stdout.read()


def test_microphone_that_nobody_opens_leaves_no_process(server):
    code = (
        "import os; from kws_edge import Microphone\n"
        "microphone = Microphone('pulse', sample_rate=16000)\n"
        "pid = microphone.process_id\n"
        "assert os.path.exists(f'/proc/{pid}')\n"
        "del microphone\n"
        "assert not os.path.exists(f'/proc/{pid}')\n"
    )
    subprocess.run([sys.executable, "-c", code], env=server.environment, timeout=60, check=True)


def test_microphone_that_is_closed_stays_closed(server):
    """Another thread closes it while it is read, or while it is gone and searched. Reading does not open it again."""
    code = (
        "import os, sys, threading, time; from kws_edge import Microphone\n"
        "microphone = Microphone('pulse', sample_rate=16000)\n"
        "with microphone:\n"
        "    blocks = iter(microphone)\n"
        "    next(blocks)\n"
        "    if sys.argv[1] == 'gone': os.kill(microphone.process_id, 9)\n"
        "    if sys.argv[1] != 'before': threading.Timer(0.3, microphone.__exit__).start()\n"
        "    if sys.argv[1] != 'before': [None for block in blocks]\n"
        "started = time.monotonic()\n"
        "assert not [None for block in microphone]\n"
        "assert time.monotonic() - started < 1\n"
        "time.sleep(0.5)\n"
        "children = open(f'/proc/self/task/{os.getpid()}/children').read()\n"
        "assert not children, children\n"
    )
    for when in ("before", "read", "gone"):
        subprocess.run([sys.executable, "-c", code, when], env=server.environment, timeout=20, check=True)


BUSY_THREAD = """
import sys, threading, time
from kws_edge.cli import listen, main
from kws_edge.native_output import quiet_native

def busy():
    while True:
        with quiet_native():
            time.sleep(0.001)

def opened(*args, open_source=listen.open_source, **options):
    threading.Thread(target=busy, daemon=True).start()
    return open_source(*args, **options)

listen.open_source = opened
sys.exit(main())
"""


@pytest.mark.parametrize(("seconds", "code", "last"), [(2, 0, "heard 2.0 s"), (0, 1, "no audio arrived")])
def test_thread_in_native_code(seconds, code, last):
    """The last line is shown even if a thread is in native code, which then holds standard error."""
    command = [sys.executable, "-c", BUSY_THREAD, "listen", "-"]
    done = subprocess.run(command, input=bytes(2 * RATE * seconds), capture_output=True, timeout=60, check=False)
    assert done.returncode == code
    assert last in done.stderr.decode().splitlines()[-1]


def test_slow_reader(server):
    """In a slow moment, audio that waited too long is dropped. Every sample is accounted for."""
    code = (
        "import time; from kws_edge import Microphone\n"
        "notices = []\n"
        "with Microphone('pulse', sample_rate=16000, notice=notices.append) as m:\n"
        "    heard, slow = 0, False\n"
        "    for block in m:\n"
        "        heard += len(block)\n"
        "        if heard > 16000 and not slow:\n"
        "            time.sleep(4)\n"
        "            slow = True\n"
        "        if heard > 32000: break\n"
        "    waiting = sum(b.samples for b in m.queue._blocks)\n"
        "    lost = m.lost_samples\n"
        "    print(m.queue.samples - heard - waiting - lost, lost == m.queue.dropped, lost > 32000, *notices)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=server.environment, capture_output=True, text=True, timeout=60, check=True
    )
    # A block may come between the two looks at the queue.
    unaccounted, *rest = done.stdout.split(maxsplit=3)
    assert 0 <= int(unaccounted) < RATE
    assert rest[:2] == ["True", "True"]
    assert "the machine was too slow" in rest[2]


def test_refused_rate(server, tmp_path):
    """If the device refuses a rate, it is opened at its own rate, and a message says so."""
    options = ("--device", "pulse", "--rate", "11025", "--seconds", "1")
    listener = Listener(server, *options, environment=only_48_khz(tmp_path, server.environment))
    assert "'pulse' does not take 11025 Hz; opened at 48000 Hz and converted" in listener.greeting
    assert "heard 1.0 s" in listener.finish()[1]


def test_patience(server):
    """On request, a lost microphone is an error at once or after some time."""
    code = (
        "import sys; from kws_edge import AudioError, Microphone\n"
        "try:\n"
        "    with Microphone('pulse', sample_rate=16000, patience_s=float(sys.argv[1])) as m:\n"
        "        for i, _ in enumerate(m):\n"
        "            if i == 0: print('ready', flush=True)\n"
        "except AudioError as error: print(error)\n"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, patience],
            env=server.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for patience in ("0", "2")
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    kill(server)
    out = [process.communicate(timeout=60)[0].strip() for process in started]
    assert out == [
        "microphone 'pulse': its stream ended; was it unplugged?",
        "microphone 'pulse': its stream ended, and not back in 2 s",
    ]


def test_queue_drops_what_is_too_old():
    """If audio is too old, all that is older than a quarter of the limit goes, too, as one gap."""
    queue = BlockQueue(capacity=1000, max_age_s=200)
    ages = (170, 120, 60, 40, 10)
    for age in ages:
        queue.put(bytes(2), 1, captured=time.perf_counter() - age)
    assert queue.get(0.1) == (bytes(10), 5, 0)
    for age in (210, *ages):
        queue.put(bytes(2), 1, captured=time.perf_counter() - age)
    assert queue.get(0.1) == (bytes(4), 2, 4)
    queue.put(bytes(2), 1, captured=time.perf_counter() - 170)
    assert queue.get(0.1) == (bytes(2), 1, 0)
    assert queue.dropped == 4


def test_queue_keeps_gaps_apart():
    queue = BlockQueue(capacity=100)
    for missing in (0, 0, 7, 0, 0):
        queue.put(bytes(2), 1, missing=missing, overrun=missing > 0)
    assert queue.get(0.1) == (bytes(4), 2, 0)
    assert queue.get(0.1) == (bytes(6), 3, 7)
    assert (queue.overruns, queue.dropped) == (1, 0)


class Gapped(Source):
    """A source that loses samples."""

    name, sample_rate = "gapped", RATE

    def __init__(self, samples, start, end):
        self._blocks = iter(range(0, len(samples), 320))
        self._samples, self._gap = samples, range(start, end)

    def read(self):
        for at in self._blocks:
            if at not in self._gap:
                return self._samples[at : at + 320]
            self.lost_samples += 320
        return None


class Muted(LiveSource):
    """A source that gives silence, and is gone for a while."""

    name, sample_rate, dropped_samples, overruns = "muted", RATE, 0, 0

    def __init__(self):
        self._seconds = iter([11, 6, 6, 11])
        self._left = next(self._seconds)

    def read(self):
        if not self._left:
            self.outages += 1
            self.lost_samples += RATE
            self._left = next(self._seconds, 0)
        self._left -= 1
        return np.zeros(RATE, np.int16) if self._left >= 0 else None

    def want(self, seconds):
        assert 0 < seconds <= 0.2


def test_muted_microphone_that_was_gone_is_said_again(model, capsys):
    """The silences before and after are not added up."""
    listen(Spotter(model), Muted(), as_lines=True, name="muted", seconds=None, stats=False)
    assert capsys.readouterr().err.count("10 s of digital silence") == 2


def test_no_detection_spans_a_gap(model, demo_stream):
    """The clock skips lost audio. Nothing that was heard before the gap counts after it."""
    samples = soundfile.read(demo_stream, dtype="int16", frames=16 * RATE)[0]
    whole = list(Spotter(model).detections([samples]))
    start, end = 5 * RATE, 83 * RATE // 10  # the demo's "stop" and "right" are said in this time
    spotter = Spotter(model)
    steps = list(spotter.steps(Gapped(samples, start, end)))
    found = [s.detection for s in steps if s.detection]
    assert all(d.end_s <= start / RATE or d.start_s >= end / RATE for d in found)
    assert [d.keyword for d in found] == [d.keyword for d in whole if not start / RATE < d.start_s + 0.5 < end / RATE]
    times = np.array([s.time_s for s in steps])
    assert not ((times > start / RATE) & (times < end / RATE)).any()
    assert spotter.n_samples == len(samples)
    # After the gap the state is that of the start of a stream.
    fresh = Spotter(model)
    expected = np.array([s.posteriors for s in fresh.steps([samples[end:]])])
    after = np.array([s.posteriors for s in steps if s.time_s > end / RATE])
    assert np.array_equal(after, expected)
