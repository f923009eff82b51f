"""``kws-host calibrate``: settings for a budget, on real streams through the real chain."""

import json
import shutil

import pytest

from kws_edge import Model
from tests.conftest import assert_one_line_error

pytest.importorskip("scipy", reason="SciPy is not installed here")


@pytest.fixture
def streams(demo_stream, tmp_path):
    """The demo with its labels, and the demo as if nothing were said in it: thirteen false accepts in 31 seconds."""
    shutil.copy(demo_stream, tmp_path / "words.flac")
    shutil.copy(demo_stream.with_suffix(".csv"), tmp_path / "words.csv")
    shutil.copy(demo_stream, tmp_path / "nothing.flac")
    return ["words.flac", "nothing.flac"]


def calibrated(run_cli, streams, budget, *options):
    done = run_cli("calibrate", "micro12", *streams, "--budget", budget, "--json", *options, package="host_tools")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_budget_is_kept_by_the_written_file(run_cli, streams, tmp_path):
    loose, tight = (
        calibrated(run_cli, streams, 5000),
        calibrated(run_cli, streams, 400, "-o", "tight.tflite", "--speech-margin", "0.1"),
    )
    assert loose["after"]["false_reject_rate"] <= tight["after"]["false_reject_rate"]
    assert tight["after"]["false_accepts_per_hour"] <= 400 < tight["before"]["false_accepts_per_hour"]
    low, high = tight["after"]["interval_95"]
    assert low <= tight["after"]["false_accepts_per_hour"] <= high
    chosen = min(tight["by_smoothing"], key=lambda t: (t["false_reject_rate"], t["smoothing_ms"]))
    assert tight["after"]["smoothing_ms"] == chosen["smoothing_ms"]
    curve = dict(map(tuple, tight["miss_curve"]))
    assert curve[0.3] <= curve[0.95]
    # The file carries the choice, and live listening with it gives what was promised.
    model = Model(tmp_path / "tight.tflite")
    assert model.flat.data == Model("micro12").flat.data
    assert model.detector.threshold == tight["after"]["threshold"]
    assert model.detector.speech_margin == tight["after"]["speech_margin"] == 0.1
    assert model.metadata.metrics["miss_curve"] == tight["miss_curve"]
    assert model.metadata.metrics["calibration"]["data"] == streams
    done = run_cli("stream-eval", "tight.tflite", "nothing.flac", "--json", package="host_tools")
    measured = json.loads(done.stdout)["conditions"][0]["false_accepts"]["per_hour"]
    assert measured == pytest.approx(tight["after"]["false_accepts_per_hour"], abs=0.01)


def test_text(run_cli, streams, tmp_path):
    done = run_cli("calibrate", "micro12", *streams, "--budget", "400", package="host_tools")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith(("before", "chosen"))] == ["before", "chosen"]
    assert not list(tmp_path.glob("*.tflite"))


def test_errors(run_cli, streams, tmp_path):
    for arguments, part in (
        ((*streams, "--budget", "0"), "--budget"),
        ((streams[0],), "without words"),
        ((streams[1],), "with words"),
        (("gone.flac",), "gone.flac"),
        ((*streams, "--speech-margin", "2"), "speech_margin"),
    ):
        failed = run_cli("calibrate", "micro12", *arguments, "-o", "x.tflite", package="host_tools")
        assert failed.returncode == 1
        error = failed.stderr.decode().replace("\r", "\n").splitlines()[-1]
        assert error.startswith("kws-host: ")
        assert part in error
    assert_one_line_error(run_cli("calibrate", "gone", *streams, package="host_tools"), "gone", program="kws-host")
    assert not (tmp_path / "x.tflite").exists()
