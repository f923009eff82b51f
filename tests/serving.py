"""``kws-edge serve`` in a process of its own, the audio that it hears, and the systemd that it reports to."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

RATE = 16000


class Feed:
    """A named pipe that a room hears: live audio whose pace the test sets."""

    def __init__(self, path):
        self.path = Path(path)
        os.mkfifo(self.path)
        self._file = None

    def write(self, samples):
        """Write int16 samples; wait until all but the pipe's own buffer is read."""
        if self._file is None or self._file.closed:
            self._file = open(self.path, "wb", buffering=0)  # noqa: SIM115  it stays open
            self._file.write(struct.pack(">4s5I", b".snd", 24, 0xFFFFFFFF, 3, RATE, 1))  # AU, 16 bits, endless
        data = memoryview(samples.astype(">i2").tobytes())
        try:
            while data:
                data = data[self._file.write(data) :]
        except BrokenPipeError:  # the next reader gets a beginning
            self._file.close()
            raise

    def close(self):
        """End the audio."""
        if self._file:
            self._file.close()


class Supervisor:
    """Plays systemd: receives what the service says of itself."""

    def __init__(self, folder, watchdog_s=None):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = folder / "notify"
        path.unlink(missing_ok=True)
        self._socket.bind(str(path))
        self.environment = {"NOTIFY_SOCKET": str(path)}
        if watchdog_s:
            self.environment["WATCHDOG_USEC"] = str(round(1e6 * watchdog_s))

    def next(self, timeout=30.0):
        """The next states; None if none come in time."""
        self._socket.settimeout(timeout)
        try:
            return dict(line.split("=", 1) for line in self._socket.recv(65536).decode().split("\n"))
        except TimeoutError:
            return None

    def wait_for(self, name, timeout=30.0):
        """The value of a state, as soon as it comes."""
        until = time.monotonic() + timeout
        while (left := until - time.monotonic()) > 0:
            states = self.next(left)
            if states and name in states:
                return states[name]
        raise AssertionError(f"no {name} in {timeout:g} s")

    def close(self):
        self._socket.close()


class Serving:
    """``kws-edge serve``. Its standard output and error can be waited for, line by line.

    `code` runs in the process before the command, to plant a fault.
    """

    def __init__(self, folder, text, *, environment=None, code=None, prefix=()):
        self.config = folder / "serve.toml"
        self.config.write_text(text)
        command = ["-m", "kws_edge"]
        if code:
            (folder / "planted.py").write_text(f"{code}\nimport sys\nfrom kws_edge.cli import main\nsys.exit(main())\n")
            command = [str(folder / "planted.py")]
        self.process = subprocess.Popen(
            [*prefix, sys.executable, *command, "serve", "--config", str(self.config)],
            env={**os.environ, "XDG_STATE_HOME": str(folder / "state"), **(environment or {})},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._out, self._err = queue.Queue(), queue.Queue()
        self.errors = []
        """Every line on standard error that :meth:`wait_for` or :meth:`finish` has seen."""
        self._readers = [
            threading.Thread(target=self._read, args=ends, daemon=True)
            for ends in ((self.process.stdout, self._out), (self.process.stderr, self._err))
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream, lines):
        with stream:
            for line in stream:
                lines.put(line.rstrip("\n"))

    @property
    def said(self):
        """All of standard error so far, as one text."""
        return "\n".join([*self.errors, *self._err.queue])

    def wait_for(self, text, timeout=30.0):
        """The next line on standard error that contains `text`."""
        until = time.monotonic() + timeout
        while True:
            try:
                self.errors.append(self._err.get(timeout=max(0.0, until - time.monotonic())))
            except queue.Empty:
                raise AssertionError(f"no {text!r} in {timeout:g} s: {self.errors}") from None
            if text in self.errors[-1]:
                return self.errors[-1]

    def detection(self, timeout=30.0):
        """The next line on standard output."""
        try:
            return json.loads(self._out.get(timeout=timeout))
        except queue.Empty:
            raise AssertionError(f"no detection in {timeout:g} s: {self.errors}, {list(self._err.queue)}") from None

    def reload(self):
        """Send SIGHUP, and wait for what comes of it."""
        self.process.send_signal(signal.SIGHUP)
        return self.wait_for("reloaded")

    def rss_kb(self):
        """Resident memory that is not shared with files, in kB."""
        return int(re.search(r"RssAnon:\s*(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1])

    def finish(self, send=None, status=0, timeout=60):
        """Wait for the end. Returns the remaining detections."""
        if send:
            self.process.send_signal(send)
        code = self.process.wait(timeout=timeout)
        for reader in self._readers:
            reader.join(timeout=60)
        self.errors += self._err.queue
        assert code == status, self.errors
        assert "Traceback (most recent call last):" not in self.errors
        return [json.loads(line) for line in self._out.queue]

    def kill(self):
        self.process.kill()
        self.process.wait()


def without_time(rows):
    """Detections without what depends on the run."""
    return [{name: value for name, value in row.items() if name not in ("time", "file")} for row in rows]


def silence(seconds):
    return np.zeros(round(seconds * RATE), np.int16)
