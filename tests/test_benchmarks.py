"""The arithmetic, the table and the worker of the comparison with peers, but not its times."""

import json
import sys

import numpy as np
import pytest
import soundfile

from benchmarks.peers.__main__ import _long_recording
from benchmarks.peers.pairs import Worker, ratio, regressions, spread, take_turns
from benchmarks.peers.report import Results

pytestmark = pytest.mark.host


def results() -> Results:
    found = Results(machine="a machine", date="2026-01-01", versions={"numpy": "2"}, command="make bench")
    found.compare("fast/peer", "features", "peer", [1.0, 1.1, 0.9], [4.0, 4.4, 3.6], factor=1e3, bar=0.3)
    found.compare("slow/peer", "memory", "peer", [3.0, 3.0, 3.0], [2.0, 2.0, 2.0], unit="MB", bar=1.1)
    return found


def test_ratios_are_of_the_same_round():
    assert ratio([1, 2, 30], [2, 4, 60]) == {"median": 0.5, "low": 0.5, "high": 0.5}
    assert spread([5.0]) == {"median": 5.0, "low": 5.0, "high": 5.0}
    assert spread([1, 2, 3, 4, 5]) == {"median": 3, "low": 2, "high": 4}


def test_the_order_changes_from_round_to_round():
    order = []
    sides = {name: lambda name=name: order.append(name) or 1.0 for name in "ab"}
    assert take_turns(sides, 3) == {"a": [1.0] * 3, "b": [1.0] * 3}
    assert order == list("abbaab")


def test_regression_is_more_than_a_tenth():
    recorded = {"a": 1.0, "b": 1.0, "c": 1.0}
    assert regressions({"a": 1.09, "b": 1.2, "c": 0.5, "new": 9.0}, recorded) == {"b": pytest.approx(1.2)}


def test_table_says_what_holds_and_what_grew():
    text = results().table({"fast/peer": 0.2, "slow/peer": 1.5})
    (fast,) = (line for line in text.splitlines() if line.startswith("| features"))
    (slow,) = (line for line in text.splitlines() if line.startswith("| memory"))
    assert "1e+03 ms" in fast and "0.250 (0.250 to 0.250)" in fast and "0.3: holds" in fast and "25 % more now" in fast
    assert "3 MB" in slow and "1.1: **does not hold**" in slow and "more now" not in slow


def test_results_are_json():
    assert json.loads(json.dumps(results().to_dict()))["ratios"] == {"fast/peer": 0.25, "slow/peer": 1.5}


def test_long_recording(tmp_path):
    path = tmp_path / "two.wav"
    _long_recording(path, 2)
    with soundfile.SoundFile(path) as file:
        assert (file.frames, file.samplerate, file.channels) == (2 * 3600 * 16000, 16000, 1)
        first = file.read(16000, dtype="int16")
        file.seek(3600 * 16000)
        assert np.array_equal(file.read(16000, dtype="int16"), first) and first.any()
    assert path.stat().st_blocks * 512 < 4 * 2**20  # the rest are holes


def test_worker_answers(tmp_path):
    recording = tmp_path / "noise.pcm"
    np.random.default_rng(0).integers(-900, 900, 32000).astype(np.int16).tofile(recording)
    with Worker(sys.executable, "clips", recording) as worker:
        for call in ("ours", "floor"):
            answer = worker.ask(blocks=2, call=call)
            assert min(answer.values()) > 0
        assert worker.ask(memory=True)["peak_bytes"] > 10e6
    with Worker(sys.executable, "no such workload", recording) as worker, pytest.raises(RuntimeError, match="no such"):
        worker.ask(blocks=1)
