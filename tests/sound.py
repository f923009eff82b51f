"""A microphone without hardware, a PulseAudio daemon of the test's own, and ``kws-edge listen`` on it."""

from __future__ import annotations

import json
import os
import pty
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import need_program

RATE = 16000
ALSA_CONFIG = Path("/usr/share/alsa/alsa.conf")


class SoundServer:
    """A PulseAudio daemon of the test's own.

    Its null sink ``vmic`` is the microphone. Programs that record from its monitor hear what is played into it.
    """

    def __init__(self, folder, rate=RATE, channels=1):
        for program in ("pulseaudio", "pactl", "paplay"):
            need_program(program)
        pytest.importorskip("sounddevice", exc_type=(ImportError, OSError), reason="PortAudio is missing")
        self.environment = {
            **os.environ,
            "XDG_RUNTIME_DIR": str(folder),
            "HOME": str(folder),
            "PULSE_RUNTIME_PATH": str(folder / "pulse"),
            "PULSE_CLIENTCONFIG": str(folder / "client.conf"),
        }
        # If the daemon is gone, PulseAudio's clients would start one with the machine's configuration.
        (folder / "client.conf").write_text("autospawn = no\n")
        for name in ("PULSE_SERVER", "PULSE_SOURCE", "DISPLAY"):
            self.environment.pop(name, None)
        self.clients = []  # processes that end with the test
        self.channels = channels
        self.sink = f"module-null-sink sink_name=vmic rate={rate} channels={channels} format=s16le"
        self.start()

    def start(self):
        """Start the daemon, and play silence."""
        self.process = subprocess.Popen(
            ["pulseaudio", "-n", "-F", "/dev/stdin", "--exit-idle-time=-1", "--disallow-exit", "--daemonize=no"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self.environment,
        )
        script = f"load-module module-native-protocol-unix\nload-module {self.sink}\nset-default-source vmic.monitor\n"
        self.process.stdin.write(script.encode())
        self.process.stdin.close()
        deadline = time.monotonic() + 20
        while subprocess.run(["pactl", "info"], env=self.environment, capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, "PulseAudio did not start"
            time.sleep(0.1)
        self.make_room()

    def make_room(self):
        """Play silence. Without it, the sink and the microphone stand still, which a room's microphone never does.

        It is sent with little delay, so the microphone does not wait for two seconds that players send ahead.
        """
        self.room = self.start_playing("/dev/zero", "--latency-msec=20")

    def start_playing(self, path, *options):
        """Play a file of raw samples at 16 kHz, with the microphone's number of channels. Returns the player."""
        command = ["pacat", "--device=vmic", "--rate=16000", f"--channels={self.channels}", "--format=s16le", "--raw"]
        return subprocess.Popen([*command, *options, str(path)], env=self.environment, stderr=subprocess.DEVNULL)

    def play(self, path):
        """Play a file into the microphone, to its end."""
        subprocess.run(["paplay", "--device=vmic", str(path)], env=self.environment, check=True, timeout=120)

    def pactl(self, *args):
        """Run ``pactl`` on the daemon."""
        subprocess.run(["pactl", *args], env=self.environment, check=True, timeout=30, stdout=subprocess.DEVNULL)

    def stop(self):
        for process in (*self.clients, self.room, self.process):
            process.kill()
            process.wait()


class Listener:
    """``kws-edge listen`` in a process of its own."""

    def __init__(self, server, *args, environment=None):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kws_edge", "listen", "--kernels", "builtin", "--json", *args],
            env=environment or server.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        server.clients.append(self.process)
        self._out, self._err = queue.Queue(), queue.Queue()
        self._readers = [
            threading.Thread(target=self._read, args=ends, daemon=True)
            for ends in ((self.process.stdout, self._out), (self.process.stderr, self._err))
        ]
        for reader in self._readers:
            reader.start()
        self.greeting = self.wait_for("")

    @staticmethod
    def _read(stream, lines):
        with stream:
            for line in stream:
                lines.put(line)

    def wait_for(self, text):
        """The next line on standard error that contains `text`."""
        while text not in (line := self._next(self._err)):
            pass
        return line

    def detection(self):
        """The next detection."""
        return json.loads(self._next(self._out))

    def _next(self, lines):
        try:
            return lines.get(timeout=30)
        except queue.Empty:
            raise AssertionError(f"nothing in 30 s; on standard error: {list(self._err.queue)}") from None

    def finish(self, send=None):
        """Wait for its end. Returns the remaining detections and the summary line."""
        if send:
            self.process.send_signal(send)
        code = self.process.wait(timeout=60)
        for reader in self._readers:
            reader.join(timeout=60)
        lines = list(self._err.queue)
        assert code == 0, lines
        return [json.loads(line) for line in self._out.queue], lines[-1].strip()


_REAL = """
import sys
sys.path.remove({folder!r})
del sys.modules["sounddevice"]
import sounddevice
"""
_ONLY_48_KHZ = """
check = sounddevice.check_input_settings
def only_48_khz(*args, samplerate, **kwargs):
    # A USB microphone with a single rate answers this. The sound server behind "pulse" would convert.
    if samplerate != 48000:
        raise sounddevice.PortAudioError("Invalid sample rate", -9997)
    check(*args, samplerate=samplerate, **kwargs)
sounddevice.check_input_settings = only_48_khz
query = sounddevice.query_devices
def at_48_khz(*args):
    found = query(*args)
    return {**found, "default_samplerate": 48000.0} if isinstance(found, dict) else found
sounddevice.query_devices = at_48_khz
"""
_BUSY = """
import fcntl, os, termios
# The devices were listed while this one could still be opened; from here on, opening it is EBUSY.
fcntl.ioctl(os.open({terminal!r}, os.O_RDWR | os.O_NOCTTY), termios.TIOCEXCL)
"""


def altered(folder, environment, code):
    """An environment in which `code` alters sounddevice for the process that records."""
    folder = folder / "altered"
    folder.mkdir(exist_ok=True)
    (folder / "sounddevice.py").write_text(_REAL.format(folder=str(folder)) + code)
    path = os.pathsep.join(filter(None, (str(folder), environment.get("PYTHONPATH"))))
    return {**environment, "PYTHONPATH": path}


def only_48_khz(folder, environment):
    """An environment whose microphones have a single sample rate."""
    return altered(folder, environment, _ONLY_48_KHZ)


def run_on_busy_device(folder, *args):
    """Run kws-edge on a busy device: ALSA's file plug-in on a terminal that is locked when it is opened."""
    pytest.importorskip("sounddevice", exc_type=(ImportError, OSError), reason="PortAudio is missing")
    if not ALSA_CONFIG.exists():
        pytest.skip(f"{ALSA_CONFIG} is missing")
    leader, follower = pty.openpty()
    config = f"""<{ALSA_CONFIG}>
    pcm.usbmic {{ type file  slave.pcm {{ type null }}  file "/dev/null"  infile "{os.ttyname(follower)}"  format raw }}
    """
    (folder / "asound.conf").write_text(config)
    command = [sys.executable, "-m", "kws_edge", *args, "--device", "usbmic"]
    if os.geteuid() == 0:  # otherwise a lock does not stop root
        need_program("setpriv")
        command = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", *command]
    environment = {**os.environ, "ALSA_CONFIG_PATH": str(folder / "asound.conf")}
    environment = altered(folder, environment, _BUSY.format(terminal=os.ttyname(follower)))
    failed = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)
    os.close(leader)
    os.close(follower)
    return failed
