"""Measures the service: a day of audio at full speed, and its cost beside ``listen`` on live audio.

    python -m benchmarks.serve day [--hours 24] [--more FILE]
    python -m benchmarks.serve idle [--seconds 60] [--more FILE]

`day` sends the bundled stream again and again. Its detections must be those of a spotter, and its memory may grow by
less than 1 MB after the first minute. `idle` sends faint hiss at the pace of a microphone to `listen` and to `serve`.
Lines of JSON, a command and a webhook are on. FILE holds sections of further outputs, such as `[mqtt]`.
"""

from __future__ import annotations

import argparse
import http.server
import json
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

import numpy as np

import kws_edge
from kws_edge import AudioFile, Model, Spotter

RATE = 16000
STREAM = Path(kws_edge.__file__).parent / "demo" / "stream.flac"
HISS_RMS = 30
BLOCK_S = 0.1
MOST_GROWTH_KB = 1000
AU = struct.pack(">4s5I", b".snd", 24, 0xFFFFFFFF, 3, RATE, 1)
"""Header of endless 16-bit sound."""


class Receiver(http.server.BaseHTTPRequestHandler):
    """The webhook's end."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *nothing: Any) -> None:
        pass


def start(folder: Path, more: Path | None) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    """Start the service in a folder; return its process, and the pipe that it hears."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.mkfifo(folder / "feed")
    (folder / "serve.toml").write_text(
        f'[[source]]\nfile = "feed"\n[jsonl]\n[[exec]]\ncommand = "true"\nkeyword = "go"\n'
        f'[[webhook]]\nurl = "http://127.0.0.1:{server.server_port}/"\n' + (more.read_text() if more else "")
    )
    command = [sys.executable, "-m", "kws_edge", "serve", "--config", str(folder / "serve.toml")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sys.stderr)
    feed = open(folder / "feed", "wb", buffering=0)  # noqa: SIM115  the caller closes it
    feed.write(AU)
    return process, feed


def written(feed: IO[bytes], samples: np.ndarray, kind: str = ">i2") -> None:
    """Write all samples into a pipe."""
    data = memoryview(samples.astype(kind).tobytes())
    while data:
        data = data[feed.write(data) :]


def anonymous_kb(pid: int) -> int:
    """Memory of a process that belongs to no file, in kB."""
    found = re.search(r"RssAnon:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])


def usage(pid: int) -> tuple[float, float]:
    """CPU seconds and resident MB of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    return (int(fields[11]) + int(fields[12])) / ticks, int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def day(hours: float, more: Path | None) -> dict[str, Any]:
    """Send `hours` of speech as fast as they are taken."""
    with AudioFile(STREAM, sample_rate=RATE) as audio:
        speech = audio.read_all()
    rounds = max(3, round(hours * 3600 * RATE / len(speech)))
    lines: list[bytes] = []
    memory: list[int] = []
    with tempfile.TemporaryDirectory() as name:
        process, feed = start(Path(name), more)
        assert process.stdout
        out = process.stdout
        reader = threading.Thread(target=lambda: lines.extend(out), daemon=True)
        reader.start()
        began = time.monotonic()
        for i in range(rounds):
            written(feed, speech)
            if (i + 1) % max(2, rounds // 20) == 0 or i == 1:
                memory.append(anonymous_kb(process.pid))
                print(f"{(i + 1) * len(speech) / RATE / 3600:6.2f} h: {memory[-1]:,} kB", file=sys.stderr)
        feed.close()
        process.wait()
        reader.join()
        spent_s = time.monotonic() - began
    spotter, expected = Spotter(Model()), []
    for _ in range(rounds):
        expected += spotter.process(speech)
    expected += spotter.flush()
    found = [json.loads(line) for line in lines]
    same = [(row["keyword"], row["end_s"]) for row in found] == [(d.keyword, round(d.end_s, 4)) for d in expected]
    return {
        "hours": rounds * len(speech) / RATE / 3600,
        "seconds": spent_s,
        "detections": len(found),
        "expected": len(expected),
        "same": same,
        "memory_kb": memory,
        "growth_kb": max(memory) - memory[0],
        "exit_status": process.returncode,
    }


def idle(seconds: float, more: Path | None) -> dict[str, Any]:
    """Send hiss at the pace of a microphone to both."""
    with tempfile.TemporaryDirectory() as name:
        serve, feed = start(Path(name), more)
        command = [sys.executable, "-m", "kws_edge", "listen", "-", "--rate", str(RATE), "--json"]
        listen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert listen.stdin
        rng = np.random.default_rng(0)
        begin = time.monotonic()
        before: dict[str, tuple[float, float]] = {}
        n = 0
        while (now := time.monotonic() - begin) < seconds + 10:
            if now > 10 and not before:  # the start does not count
                before = {"serve": usage(serve.pid), "listen": usage(listen.pid)}
            block = rng.normal(0, HISS_RMS, round(BLOCK_S * RATE)).round().astype(np.int16)
            written(feed, block)
            listen.stdin.write(block.tobytes())
            listen.stdin.flush()
            n += 1
            time.sleep(max(0.0, begin + n * BLOCK_S - time.monotonic()))
        after = {"serve": usage(serve.pid), "listen": usage(listen.pid)}
        feed.close()
        listen.send_signal(signal.SIGINT)
        serve.wait()
        listen.wait()
    found: dict[str, Any] = {}
    for what in before:
        found[what] = {"cpu_share": (after[what][0] - before[what][0]) / seconds, "rss_mb": after[what][1]}
    found["cpu_ratio"] = found["serve"]["cpu_share"] / found["listen"]["cpu_share"]
    found["more_of_a_core"] = found["serve"]["cpu_share"] - found["listen"]["cpu_share"]
    found["more_mb"] = found["serve"]["rss_mb"] - found["listen"]["rss_mb"]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("day", "idle"))
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--more", type=Path, metavar="FILE", help="sections of further outputs")
    args = parser.parse_args()
    if args.what == "idle":
        print(json.dumps(idle(args.seconds, args.more), indent=1))
        return 0
    found = day(args.hours, args.more)
    print(json.dumps(found, indent=1))
    return 0 if found["same"] and not found["exit_status"] and found["growth_kb"] < MOST_GROWTH_KB else 1


if __name__ == "__main__":
    sys.exit(main())
