"""The real microphone path: PulseAudio's null sink as a microphone, through ALSA and PortAudio, into kws-edge.

Each test has a sound server of its own; where PulseAudio or PortAudio is missing the tests are skipped, and say so.
"""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws_edge import AudioFile
from tests.conftest import assert_one_line_error, need_program

RATE = 16000
ALSA_CONFIG = Path("/usr/share/alsa/alsa.conf")


class SoundServer:
    """A PulseAudio daemon of the test's own."""

    def __init__(self, folder, rate=RATE):
        self.environment = {
            **os.environ,
            "XDG_RUNTIME_DIR": str(folder),
            "HOME": str(folder),
            "PULSE_RUNTIME_PATH": str(folder / "pulse"),
        }
        self.environment.pop("PULSE_SERVER", None)
        self.environment.pop("DISPLAY", None)
        sink = f"module-null-sink sink_name=vmic rate={rate} channels=1 format=s16le"
        self.process = subprocess.Popen(
            ["pulseaudio", "-n", "-F", "/dev/stdin", "--exit-idle-time=-1", "--disallow-exit", "--daemonize=no"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self.environment,
        )
        script = f"load-module module-native-protocol-unix\nload-module {sink}\nset-default-source vmic.monitor\n"
        self.process.stdin.write(script.encode())
        self.process.stdin.close()
        deadline = time.monotonic() + 20
        while subprocess.run(["pactl", "info"], env=self.environment, capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, "PulseAudio did not start"
            time.sleep(0.1)
        # A sink that nothing plays into stands still, and with it the microphone: a room is never that quiet.
        self.room = subprocess.Popen(
            ["pacat", "--device=vmic", "--rate=16000", "--channels=1", "--format=s16le", "--raw", "/dev/zero"],
            env=self.environment,
        )

    def play(self, path):
        """Play a file into the microphone, to its end."""
        subprocess.run(["paplay", "--device=vmic", str(path)], env=self.environment, check=True, timeout=120)

    def stop(self):
        for process in (self.room, self.process):
            process.kill()
            process.wait()


@pytest.fixture
def server(tmp_path):
    for program in ("pulseaudio", "pactl", "paplay"):
        need_program(program)
    sounddevice = pytest.importorskip("sounddevice", exc_type=(ImportError, OSError), reason="PortAudio is missing")
    assert sounddevice
    server = SoundServer(tmp_path)
    yield server
    server.stop()


class Listener:
    """``kws-edge listen`` in a process of its own."""

    def __init__(self, server, *args, program=("-m", "kws_edge")):
        self.process = subprocess.Popen(
            [sys.executable, *program, "listen", "--kernels", "builtin", "--json", *args],
            env=server.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.greeting = self.process.stderr.readline().decode()

    def finish(self, send=None):
        """Wait for its end; returns detections and the summary line."""
        if send:
            self.process.send_signal(send)
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, err.decode()
        return [json.loads(line) for line in out.decode().splitlines()], err.decode().splitlines()[-1]


@pytest.fixture(scope="module")
def speech(tmp_path_factory, validation_paths, model):
    """Real commands with a second and a half between them, at 16 kHz."""
    rng = np.random.default_rng(3)
    chosen = [p for p in validation_paths[:80] if model.classify(soundfile.read(p, dtype="int16")[0]).max() > 0.9][:8]
    assert len(chosen) == 8
    parts = [rng.normal(0, 20, RATE // 2)]
    for path in chosen:
        parts += [soundfile.read(path, dtype="int16")[0], rng.normal(0, 20, RATE // 2)]
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    soundfile.write(path, np.concatenate(parts).round().astype(np.int16), RATE)
    return path


def keywords(rows):
    return [row["keyword"] for row in rows]


def spacing(rows):
    """Times between detections."""
    return np.diff([row["start_s"] for row in rows])


def test_microphone_file_and_pipe_agree(server, speech, run_cli):
    """The same stream by file, by standard input and by microphone gives the same detections, without a lost sample."""
    by_file = [
        json.loads(line) for line in run_cli("detect", speech, "--json", "--kernels", "builtin").stdout.splitlines()
    ]
    assert len(by_file) >= 7
    raw = soundfile.read(speech, dtype="int16")[0].tobytes()
    piped = run_cli("listen", "-", "--json", "--kernels", "builtin", input=raw)
    by_pipe = [json.loads(line) for line in piped.stdout.splitlines()]
    assert [{**row, "file": ""} for row in by_pipe] == [{**row, "file": ""} for row in by_file]

    listener = Listener(server, "--device", "pulse")
    assert "listening to pulse" in listener.greeting
    server.play(speech)
    time.sleep(1.5)
    by_microphone, summary = listener.finish(signal.SIGINT)
    assert "0 samples dropped, 0 overruns" in summary
    # The microphone was open before the stream began, so its clock and its inference steps lie elsewhere by a constant.
    assert keywords(by_microphone) == keywords(by_file)
    assert np.abs(spacing(by_microphone) - spacing(by_file)).max() <= 0.11
    assert all(row["file"] == "microphone" for row in by_microphone)


def test_every_sample_arrives_unchanged(server, speech, tmp_path):
    """What PortAudio delivers is the stream, sample for sample."""
    code = (
        "import numpy as np, sys; from kws_edge import Microphone\n"
        "with Microphone('pulse', rate=16000) as m:\n"
        "    got, n = [], 0\n"
        "    for block in m:\n"
        "        if not got: print('ready', flush=True)\n"
        "        got.append(block); n += len(block)\n"
        "        if n > int(sys.argv[1]): break\n"
        "    np.save(sys.argv[2], np.concatenate(got)); print(m.queue.dropped, m.queue.overruns, m.source_rate)\n"
    )
    expected = AudioFile(speech, rate=RATE).read()
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(len(expected) + 2 * RATE), str(tmp_path / "got.npy")],
        env=server.environment,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"ready\n"
    server.play(speech)
    out, _ = process.communicate(timeout=60)
    assert out.split() == [b"0", b"0", b"16000"]
    got = np.load(tmp_path / "got.npy")
    # PulseAudio mixes a stream in somewhere in its first block, whose beginning the monitor has sent already.
    expected = expected[RATE // 10 :]
    pieces = np.lib.stride_tricks.sliding_window_view(got, 64)
    (start,) = np.flatnonzero((pieces == expected[:64]).all(axis=1))
    assert np.array_equal(got[start : start + len(expected)], expected)


_ONLY_48_KHZ = """
import sys, sounddevice
check = sounddevice.check_input_settings
def only_48_khz(*args, samplerate, **kwargs):
    # What a USB microphone answers that knows one rate; the sound server behind "pulse" would convert.
    if samplerate != 48000:
        raise sounddevice.PortAudioError("Invalid sample rate", -9997)
    check(*args, samplerate=samplerate, **kwargs)
sounddevice.check_input_settings = only_48_khz
query = sounddevice.query_devices
def at_48_khz(*args):
    found = query(*args)
    return {**found, "default_samplerate": 48000.0} if isinstance(found, dict) else found
sounddevice.query_devices = at_48_khz
from kws_edge.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize("asked", [True, False])
def test_48_khz_microphone(tmp_path, speech, run_cli, asked):
    """A microphone opened at 48 kHz, because asked to or because it takes nothing else, is converted as it streams."""
    for program in ("pulseaudio", "pactl", "paplay"):
        need_program(program)
    pytest.importorskip("sounddevice", exc_type=(ImportError, OSError), reason="PortAudio is missing")
    server = SoundServer(tmp_path, rate=48000)
    try:
        if asked:
            listener = Listener(server, "--device", "pulse", "--rate", "48000")
        else:
            listener = Listener(server, "--device", "pulse", program=("-c", _ONLY_48_KHZ))
        server.play(speech)
        time.sleep(1.5)
        heard, summary = listener.finish(signal.SIGTERM)
    finally:
        server.stop()
    assert "0 samples dropped, 0 overruns" in summary
    by_file = run_cli("detect", speech, "--json", "--kernels", "builtin").stdout.splitlines()
    expected = keywords(map(json.loads, by_file))
    assert len(set(enumerate(expected)) - set(enumerate(keywords(heard)))) <= 1


def test_calibrate(server, speech, tmp_path):
    """Commands that nobody was to speak, through the microphone, into a site file."""
    options = "--kernels builtin --device pulse --json --minutes 0.15 --budget 1000"
    process = subprocess.Popen(
        [sys.executable, "-m", "kws_edge", "calibrate", *options.split(), "-o", str(tmp_path / "site.json")],
        env=server.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    greeting = process.stderr.readline().decode()
    assert "listening to pulse for 0.15 min" in greeting
    assert "speak none of yes, no" in greeting
    server.play(speech)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    result = json.loads(out)
    assert result["hours"] == pytest.approx(9 / 3600, rel=0.03)
    assert result["table"][0]["false_accepts"] >= 4
    assert result["false_accepts"] <= 2
    assert json.loads((tmp_path / "site.json").read_text())["detector"]["thresholds"] == result["thresholds"]


def test_seconds_ends_by_itself(server):
    listener = Listener(server, "--device", "pulse", "--seconds", "1.5")
    rows, summary = listener.finish()
    assert rows == []
    assert "heard 1.5 s, 0 detections, 0 samples dropped" in summary


def test_terminal_shows_a_level_meter(server, speech):
    """In a terminal: a meter that is redrawn in place, and a line for each detection."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "kws_edge", "listen", "--device", "pulse", "--seconds", "6"],
        env=server.environment,
        stdout=follower,
        stderr=subprocess.PIPE,
    )
    os.close(follower)
    with process.stderr:
        assert b"listening to pulse" in process.stderr.readline()
    player = subprocess.Popen(["paplay", "--device=vmic", str(speech)], env=server.environment)
    shown = b""
    while select.select([leader], [], [], 20)[0]:
        try:
            piece = os.read(leader, 4096)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    assert process.wait(timeout=20) == 0
    player.wait(timeout=60)
    os.close(leader)
    assert shown.count(b"dBFS") > 20
    assert b"#" in shown
    lines = shown.decode().replace("\r", "\n").splitlines()
    assert sum(" s  " in line and " - " in line for line in lines) >= 2


def test_devices(server, run_cli):
    listed = run_cli("devices", "--json", env=server.environment)
    names = [json.loads(line)["name"] for line in listed.stdout.splitlines()]
    assert "pulse" in names
    text = run_cli("devices", env=server.environment).stdout.decode()
    assert "pulse" in text
    assert "Hz" in text


def test_missing_device(server, run_cli):
    failed = run_cli("listen", "--device", "no such thing", env=server.environment)
    assert_one_line_error(failed, "no input device 'no such thing'", "kws-edge devices")
    assert_one_line_error(run_cli("listen", "--device", "999", env=server.environment), "999")


def test_no_device_at_all(tmp_path, run_cli):
    pytest.importorskip("sounddevice", exc_type=(ImportError, OSError), reason="PortAudio is missing")
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    if run_cli("devices", "--json", env=environment).stdout:
        pytest.skip("this machine has a microphone")
    assert_one_line_error(run_cli("listen", env=environment), "no microphone found")
    assert_one_line_error(run_cli("devices", env=environment), "no device that can record")


_BUSY = """
import fcntl, sys, termios
import sounddevice  # lists the devices while this one can still be opened
fcntl.ioctl(int(sys.argv[1]), termios.TIOCEXCL)  # from here on, opening it is EBUSY
from kws_edge.cli import main
sys.exit(main(["listen", "--device", "usbmic"]))
"""


def test_busy_device(tmp_path):
    """A device that somebody else holds: ALSA's file plug-in on a terminal that is locked when it is to be opened."""
    pytest.importorskip("sounddevice", exc_type=(ImportError, OSError), reason="PortAudio is missing")
    if not ALSA_CONFIG.exists():
        pytest.skip(f"{ALSA_CONFIG} is missing")
    leader, follower = pty.openpty()
    config = f"""<{ALSA_CONFIG}>
    pcm.usbmic {{ type file  slave.pcm {{ type null }}  file "/dev/null"  infile "{os.ttyname(follower)}"  format raw }}
    """
    (tmp_path / "asound.conf").write_text(config)
    command = [sys.executable, "-c", _BUSY, str(follower)]
    if os.geteuid() == 0:  # whom a lock does not stop otherwise
        need_program("setpriv")
        command = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", *command]
    environment = {**os.environ, "ALSA_CONFIG_PATH": str(tmp_path / "asound.conf")}
    failed = subprocess.run(command, env=environment, pass_fds=[follower], capture_output=True, timeout=60, check=False)
    os.close(leader)
    os.close(follower)
    assert_one_line_error(failed, "microphone 'usbmic': busy", "kws-edge devices")
