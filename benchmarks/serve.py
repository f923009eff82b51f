"""Measures the service with all outputs on: a day of audio at full speed, and its cost beside ``listen`` on live audio.

    python -m benchmarks.serve day [--hours 24]
    python -m benchmarks.serve idle [--seconds 60]

`day` sends the bundled stream again and again, while clients look at the page and send audio by Wyoming. Two rounds
come at the pace of a microphone, the others as fast as they are taken. The detections must be those of a spotter, and
the broker and the web server must get them all. Memory may grow by less than 1 MB after the first minute at full speed,
when blocks are larger than a microphone's. `idle` sends faint hiss at the pace of a microphone to `listen` and to
`serve`; no client is there.
mosquitto and openssl must be installed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kws_edge
from benchmarks.service_ends import RATE, PageReader, PageVisitor, Receivers, Satellite, working
from kws_edge import AudioFile, Detection, Model, Spotter
from tests.conftest import wait_until
from tests.serving import Feed, Serving

STREAM = Path(kws_edge.__file__).parent / "demo" / "stream.flac"
HISS_RMS = 30
BLOCK_S = 0.1
SETTLED_S, START_S = 10.0, 60.0
MOST_GROWTH_KB = 1000
_BEHIND_S = 30.0
_LOOKS, _LOOK_S = 60, 0.05


@dataclass(frozen=True)
class Day:
    """What became of audio at full speed."""

    hours: float
    seconds: float
    rows: list[dict[str, Any]]
    """The lines of JSON."""
    same: bool
    """Whether the lines are the detections of a spotter."""
    missing: dict[str, int]
    """Detections that a receiver did not get."""
    memory_kb: list[tuple[float, int]]
    """Hours, and the service's own memory then, at rest. The first is after a minute at full speed."""
    clients: dict[str, int]
    """What the clients did and got."""
    counts: list[str]
    """What the service said of its outputs at the end."""

    @property
    def growth_kb(self) -> int:
        """Growth of the memory after the first minute at full speed."""
        return max(kb for _, kb in self.memory_kb) - self.memory_kb[0][1]

    @property
    def went_well(self) -> bool:
        wrong = self.clients["wyoming_wrong"] or any(self.missing.values())
        return self.same and not wrong and self.growth_kb < MOST_GROWTH_KB


def configuration(receivers: Receivers, file: str) -> str:
    """A service that hears a pipe, with all outputs on."""
    return (
        f'[service]\nstate = "state"\ntelemetry_s = 1\n[[source]]\nname = "room"\nfile = "{file}"{receivers.sections}'
    )


def speech() -> NDArray[np.int16]:
    """The bundled stream."""
    with AudioFile(STREAM, sample_rate=RATE) as audio:
        return audio.read_all()


def page_port(serving: Serving) -> int:
    """The port of the page, as the service tells it."""
    return int(serving.wait_for("the page is", START_S).rpartition(":")[2].strip("/"))


def live(feed: Feed, samples: NDArray[np.int16], pace: float) -> None:
    """Send audio at `pace` times that of a microphone."""
    begin, block = time.monotonic(), round(BLOCK_S * RATE)
    for at in range(0, len(samples), block):
        time.sleep(max(0.0, begin + at / RATE / pace - time.monotonic()))
        feed.write(samples[at : at + block])


def day(hours: float, *, pace: float = 1.0, warm_s: float = 60.0) -> Day:
    """Send `hours` of speech: a minute at `pace` times that of a microphone, the rest as fast as it is taken.

    Memory counts after `warm_s` seconds of that, or after a quarter of it, if that comes first.
    """
    samples = speech()
    rounds = max(3, round(hours * 3600 * RATE / len(samples)))
    once = [found.keyword for found in detections(samples, 1)]
    rows: list[dict[str, Any]] = []
    memory: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as name, Receivers(Path(name)) as receivers:
        feed = Feed(Path(name) / "feed")
        serving = Serving(Path(name), configuration(receivers, "feed"))
        began = time.monotonic()
        live(feed, samples[:RATE], pace)
        port = page_port(serving)
        wait_until(lambda: receivers.has_mqtt, START_S)  # what is said before would be too old for the broker
        readers, visitor = [PageReader(port, "room") for _ in range(2)], PageVisitor(port)
        satellite = Satellite(receivers.wyoming_port, samples, once)
        with working([*readers, visitor, satellite]):
            live(feed, np.concatenate([samples[RATE:], samples]), pace)
            warm = time.monotonic() + warm_s
            for i in range(2, rounds + 1):
                begun = time.monotonic() > warm or i > rounds // 4
                due = i % max(1, rounds // 20) == 0 if memory else begun
                if due or i == rounds:
                    memory.append((i * len(samples) / RATE / 3600, at_rest_kb(serving)))
                    print(f"{memory[-1][0]:6.2f} h: {memory[-1][1]:,} kB", file=sys.stderr)
                if i < rounds:
                    feed.write(samples)
            feed.close()
            rows = serving.finish(timeout=600)
        spent_s = time.monotonic() - began
        with suppress(AssertionError):
            wait_until(lambda: len(receivers.published) >= len(rows), _BEHIND_S)
        told = {"webhook": receivers.posted, "mqtt": receivers.published}
    expected = detections(samples, rounds)
    found = [(row["keyword"], row["end_s"]) for row in rows]
    words = Counter(one.keyword for one in expected)
    return Day(
        hours=rounds * len(samples) / RATE / 3600,
        seconds=spent_s,
        rows=rows,
        same=found == [(one.keyword, round(one.end_s, 4)) for one in expected],
        missing={name: (words - Counter(got)).total() for name, got in told.items()},
        memory_kb=memory,
        clients={
            "page_events": sum(reader.events for reader in readers),
            "page_connections": sum(reader.begun for reader in readers),
            "page_visits": visitor.visits,
            "wyoming_streams": satellite.streams,
            "wyoming_wrong": satellite.wrong,
        },
        counts=[line for line in serving.errors if " sent, " in line or "commands run" in line or "heard " in line],
    )


def at_rest_kb(serving: Serving) -> int:
    """The least memory of three seconds without audio, so without what inferences take in passing."""
    found = []
    for _ in range(_LOOKS):
        time.sleep(_LOOK_S)
        found.append(serving.rss_kb())
    return min(found)


def detections(samples: NDArray[np.int16], rounds: int) -> list[Detection]:
    """What a spotter hears in speech that comes again and again."""
    spotter, found = Spotter(Model()), []
    for _ in range(rounds):
        found += spotter.process(samples)
    return found + spotter.flush()


def usage(pid: int) -> tuple[float, float, float]:
    """CPU seconds of a process, resident MB, and MB without what it shares with others in proportion (PSS)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    shares = re.search(r"Pss:\s*(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text())
    assert shares
    resident = int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return (int(fields[11]) + int(fields[12])) / ticks, resident, int(shares[1]) * 1024 / 1e6


def idle(seconds: float) -> dict[str, Any]:
    """Send hiss at the pace of a microphone to both."""
    with tempfile.TemporaryDirectory() as name, Receivers(Path(name)) as receivers:
        feed = Feed(Path(name) / "feed")
        serving = Serving(Path(name), configuration(receivers, "feed"))
        command = [sys.executable, "-m", "kws_edge", "listen", "-", "--rate", str(RATE), "--json"]
        listen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert listen.stdin
        pids = {"serve": serving.process.pid, "listen": listen.pid}
        rng = np.random.default_rng(0)
        feed.write(np.zeros(RATE, np.int16))  # waits until the service reads
        begin = time.monotonic()
        before: dict[str, tuple[float, float, float]] = {}
        n = 0
        while (now := time.monotonic() - begin) < seconds + SETTLED_S:
            if now > SETTLED_S and not before:  # the start does not count
                before = {what: usage(pid) for what, pid in pids.items()}
            block = rng.normal(0, HISS_RMS, round(BLOCK_S * RATE)).round().astype(np.int16)
            feed.write(block)
            listen.stdin.write(block.tobytes())
            listen.stdin.flush()
            n += 1
            time.sleep(max(0.0, begin + n * BLOCK_S - time.monotonic()))
        after = {what: usage(pid) for what, pid in pids.items()}
        feed.close()
        listen.send_signal(signal.SIGINT)
        serving.finish()
        listen.wait()
    found: dict[str, Any] = {}
    for what, (spent_s, resident, shared) in after.items():
        share = (spent_s - before[what][0]) / seconds
        found[what] = {"cpu_share": share, "rss_mb": resident, "pss_mb": shared}
    found["cpu_ratio"] = found["serve"]["cpu_share"] / found["listen"]["cpu_share"]
    found["more_of_a_core"] = found["serve"]["cpu_share"] - found["listen"]["cpu_share"]
    for kind in ("rss_mb", "pss_mb"):
        found[f"more_{kind}"] = found["serve"][kind] - found["listen"][kind]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("day", "idle"))
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    args = parser.parse_args(arguments)
    if args.what == "idle":
        print(json.dumps(idle(args.seconds), indent=1))
        return 0
    found = day(args.hours)
    values = {**vars(found), "rows": len(found.rows), "growth_kb": found.growth_kb}
    print(json.dumps(values, indent=1))
    return 0 if found.went_well else 1


if __name__ == "__main__":
    sys.exit(main())
