"""Sweeps on Ray: a killed worker and a killed head change nothing, and ASHA stops trials that fall behind."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")

from tests.conftest import wait_until
from tests.ray_cluster import PATIENT, cluster
from tests.test_sweep import ASHA, processes, trials_of, written

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="Ray is not installed here"),
    pytest.mark.timeout(1800),
]

GRID = """
name = "kernels"
about = "Every model with every kernel."
recipe = "heard.toml"
maximize = "accuracy.accuracy"
[vary.model]
options = "accuracy.model"
values = ["micro12", "commands12"]
[vary.kernels]
options = "accuracy.kernels"
values = ["fast", "builtin"]
"""


def sweep(path, folder, runs, *options):
    """The command of a sweep."""
    return [sys.executable, "-m", "host_tools", "sweep", str(path), "--data", str(folder), "-o", str(runs), *options]


def started(command, env):
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def running(runs):
    """The processes of trials, by the number in their record's name."""
    return {path.stem for path in (runs / "kernels" / "trials").glob("*.json") if "figures" not in path.read_text()}


def done(runs):
    """How many trials are done."""
    results = runs / "kernels" / "results.json"
    return results.exists() and [one["state"] for one in trials_of(results.parent)].count("done")


def test_a_killed_worker_and_a_killed_head_change_nothing(tmp_path, folder):
    """Two workers run two trials at a time, each in a process of its own."""
    path = written(tmp_path, GRID)
    plain = subprocess.run(sweep(path, folder, tmp_path / "plain"), capture_output=True, text=True, check=False)
    assert plain.returncode == 0, plain.stderr
    expected = trials_of(tmp_path / "plain" / "kernels")

    runs = tmp_path / "killed"
    with cluster() as ray:
        command = sweep(path, folder, runs, "--on", ray.address, "--cpus", "1")
        process = started(command, ray.env)
        wait_until(lambda: running(runs) or process.poll() is not None, 600)
        trial = processes(f"{runs}/kernels/trials")[0]
        worker = int(Path(f"/proc/{trial}/stat").read_text().rpartition(")")[2].split()[1])
        assert "ray::" in Path(f"/proc/{worker}/cmdline").read_text()
        os.kill(worker, signal.SIGKILL)
        said = process.communicate(timeout=900)
        assert process.returncode == 0, said
        assert said[1] == ""
        assert trials_of(runs / "kernels") == expected

        runs = tmp_path / "headless"
        command = sweep(path, folder, runs, "--on", ray.address, "--cpus", "1")
        # Ray Tune's state is written at the beginning alone, so it is older than the results.
        process = started(command, {**ray.env, "TUNE_GLOBAL_CHECKPOINT_S": "1000"})
        wait_until(lambda: done(runs) or process.poll() is not None, 600)
        assert 0 < done(runs) < 4
        ray.kill()
        said = process.communicate(timeout=300)
        assert process.returncode, said
        wait_until(lambda: not processes(str(runs)), 60)
        ray.start()
        again = subprocess.run([*command, "--resume"], env=ray.env, capture_output=True, text=True, check=False)
        assert again.returncode == 0, again.stderr
        assert trials_of(runs / "kernels") == expected


def test_asha_stops_trials_by_the_training_log(tmp_path, folder):
    """One trial runs at a time, as each takes both cores. What was stopped kept what it had learnt until then."""
    path = written(tmp_path, ASHA)
    env = {**os.environ, **PATIENT}
    done = subprocess.run(sweep(path, folder, tmp_path / "runs"), env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    trials = trials_of(tmp_path / "runs" / "rates")
    states = [one["state"] for one in trials]
    assert set(states) == {"done", "stopped"}, done.stdout
    assert all(one["epoch"] < 4 for one in trials if one["state"] == "stopped")
    assert all(one["epoch"] == 4 for one in trials if one["state"] == "done")
    assert not processes(str(tmp_path / "runs"))
    best = min(one["figures"]["words.val_loss"] for one in trials if one["state"] == "done")
    best_toml = (tmp_path / "runs" / "rates" / "best.toml").read_text()
    assert f"words.val_loss {best:g}" in best_toml
    again = subprocess.run(
        sweep(path, folder, tmp_path / "runs", "--resume"), capture_output=True, text=True, check=False
    )
    assert again.stdout.startswith("every trial is done already\n")
    assert json.dumps(trials) == json.dumps(trials_of(tmp_path / "runs" / "rates"))
