"""``kws-host calibrate`` chooses settings for a budget, on real streams through the real chain."""

import dataclasses
import json
import math
import shutil
from pathlib import Path

import pytest

from host_tools.evaluation.operating_points import shifted
from kws_edge import DetectorConfig, Model, shipped_models, unpack
from kws_edge.detection.calibration import poisson_interval
from tests.conftest import assert_one_line_error, assert_usage_error

pytestmark = pytest.mark.host


@pytest.fixture
def streams(demo_stream, tmp_path):
    """The demo with its labels, and the demo without labels, which gives thirteen false accepts in 31 seconds."""
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
    # One more than counted is expected elsewhere.
    assert tight["after"]["expected_per_hour"] <= 400 < tight["before"]["expected_per_hour"]
    assert tight["after"]["false_accepts"] == int(400 * tight["after"]["hours"]) - 1
    interval = [x / tight["after"]["hours"] for x in poisson_interval(tight["after"]["false_accepts"])]
    assert tight["after"]["interval_95"] == pytest.approx(interval, rel=0.1)  # hours are rounded to 3.6 s
    chosen = min(tight["by_smoothing"], key=lambda t: (t["false_reject_rate"], t["smoothing_ms"]))
    assert tight["after"]["smoothing_ms"] == chosen["smoothing_ms"]
    curve = dict(map(tuple, tight["miss_curve"]))
    assert curve[0.3] < curve[0.95]
    # The file carries the choice, and live listening with it keeps the promise.
    model = Model(tmp_path / "tight.tflite")
    assert model.flat.data == Model("micro12").flat.data
    assert model.detector_config.threshold == tight["after"]["threshold"]
    assert model.detector_config.speech_margin == tight["after"]["speech_margin"] == 0.1
    assert model.metadata.metrics["miss_curve"] == tight["miss_curve"]
    assert model.metadata.metrics["calibration"]["data"] == streams
    done = run_cli("stream-eval", "tight.tflite", "nothing.flac", "--json", package="host_tools")
    measured = json.loads(done.stdout)["conditions"][0]["false_accepts"]["per_hour"]
    assert measured == pytest.approx(tight["after"]["false_accepts_per_hour"], abs=0.01)


def test_sensitivities_are_measured(run_cli, streams, tmp_path):
    """Each point is what calibrating with its thresholds gives, and live listening with it does the same."""
    keys = ("false_accepts_per_hour", "misses", "threshold", "thresholds")
    given = ("--threshold", "0.7", "--threshold", "yes=0.6", "--json", "--gains", "0")
    done = run_cli("calibrate", "micro12", *streams, *given, "-o", "points.tflite", package="host_tools")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    points = result["operating_points"]
    assert [point["sensitivity"] for point in points] == [i / 10 for i in range(11)]
    own, after = points[5], result["after"]
    assert (own["threshold"], own["thresholds"]) == (0.7, {"yes": 0.6})
    assert own["misses"] == after["false_reject_rate"]
    assert own["false_accepts_per_hour"] == pytest.approx(after["expected_per_hour"], abs=0.01)
    for name, rising in (("misses", False), ("false_accepts_per_hour", True), ("threshold", False)):
        first, last = points[0][name], points[-1][name]
        assert first < last if rising else first > last, name
    assert points[-1]["false_accepts_per_hour"] <= 10 * own["false_accepts_per_hour"]
    assert points[0]["misses"] <= 0.5
    for at in (2, 9):
        thresholds = [points[at]["threshold"], f"yes={points[at]['thresholds']['yes']}"]
        options = [word for value in thresholds for word in ("--threshold", value)]
        done = run_cli("calibrate", "micro12", *streams, *options, "--json", "--gains", "0", package="host_tools")
        measured = json.loads(done.stdout)["operating_points"][5]
        assert {key: measured[key] for key in keys} == {key: points[at][key] for key in keys}
    model = Model(tmp_path / "points.tflite")
    assert [point.to_dict() for point in model.metadata.operating_points] == points
    found = run_cli("detect", "nothing.flac", "--model", "points.tflite", "--sensitivity", "0.9", "--json")
    hours = after["hours"]
    assert len(found.stdout.splitlines()) + 1 == pytest.approx(points[9]["false_accepts_per_hour"] * hours, rel=0.05)


@pytest.mark.parametrize("shift", [-4.0, -1.0, -0.1, 0.0, 0.3, 2.0, 9.0])
def test_thresholds_shift_together_along_the_logit(shift):
    config = DetectorConfig(threshold=0.7, thresholds={"a": 0.5, "b": 0.999, "c": 0.005})
    moved = shifted(config, shift)
    assert moved.thresholds.keys() == config.thresholds.keys()
    if not shift:
        assert moved == config
    for before, after in ((0.7, moved.threshold), *((config.thresholds[w], moved.thresholds[w]) for w in "abc")):
        assert 0.005 <= after <= 0.999
        assert (after > before, after < before) in ((shift > 0, shift < 0), (False, False))
    if abs(shift) <= 2:
        logits = [math.log(t / (1 - t)) for t in (0.7, moved.threshold, 0.5, moved.thresholds["a"])]
        assert logits[1] - logits[0] == pytest.approx(shift, abs=0.01)
        assert logits[3] - logits[2] == pytest.approx(shift, abs=0.01)


def test_given_settings_are_written(run_cli, streams, tmp_path):
    options = ("--threshold", "0.71", "--smoothing-ms", "500", "--step-ms", "200", "--json", "-o", "given.tflite")
    done = run_cli("calibrate", "micro12", *streams, *options, package="host_tools")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["budget_per_hour"] is None
    assert not result["by_smoothing"]
    model = Model(tmp_path / "given.tflite")
    chosen = model.detector_config
    assert (chosen.threshold, chosen.smoothing_ms, chosen.step_ms) == (0.71, 500, 200)
    assert result["before"]["threshold"] != 0.71
    assert "budget_per_hour" not in model.metadata.metrics["calibration"]
    assert model.metadata.metrics["calibration"]["words"] == 2 * 13  # each behind a gate, too


def test_front_end_is_written(run_cli, streams, tmp_path):
    """A finished file gets another floor. The network is the same, and the settings were measured with that floor."""
    own = Model("micro12")
    settings = dataclasses.replace(own.frontend_config, level_min=45)
    (tmp_path / "floor.json").write_text(json.dumps(settings.to_dict()))
    given = ("--frontend", "floor.json", "--threshold", "0.7", "--threshold", "stop=0.6", "-o", "floor.tflite")
    done = run_cli("calibrate", "micro12", *streams, *given, "--json", package="host_tools")
    assert done.returncode == 0, done.stderr
    model = Model(tmp_path / "floor.tflite")
    assert model.frontend_config == settings != own.frontend_config
    assert model.flat.data == own.flat.data
    assert model.metadata.provenance == own.metadata.provenance
    assert (model.detector_config.threshold, model.detector_config.thresholds) == (0.7, {"stop": 0.6})
    values = model.metadata.metrics["calibration"]
    assert values["thresholds"] == {"stop": 0.6}
    done = run_cli("stream-eval", "floor.tflite", "nothing.flac", "--json", package="host_tools")
    measured = json.loads(done.stdout)["conditions"][0]["false_accepts"]["count"]
    assert measured == values["false_accepts"]


def test_calibrate_takes_a_foreign_model(run_cli, streams, tmp_path):
    """The written file names its labels and front end itself."""
    flatbuffer, metadata = unpack(Path(shipped_models()["micro12"]).read_bytes(), "micro12")
    (tmp_path / "foreign.tflite").write_bytes(flatbuffer)
    foreign = ("--labels", ",".join(metadata.labels), "--frontend", "logmel40")
    settings = ("--threshold", "0.71", "--smoothing-ms", "500", "--json", "-o", "own.tflite")
    done = run_cli("calibrate", "foreign.tflite", *streams, *foreign, *settings, package="host_tools")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["after"]["threshold"] == 0.71
    model = Model(tmp_path / "own.tflite")
    assert (model.labels, model.frontend_config) == (metadata.labels, metadata.frontend_config)
    assert (model.detector_config.threshold, model.metadata.name) == (0.71, "foreign")
    failed = run_cli("calibrate", "foreign.tflite", *streams, *settings, package="host_tools")
    assert_one_line_error(failed, "--labels and --frontend", program="kws-host")


def test_smoothing_is_kept(run_cli, streams):
    result = calibrated(run_cli, streams, 400, "--smoothing-ms", "550")
    assert [trial["smoothing_ms"] for trial in result["by_smoothing"]] == [550]


def test_place_counts_once(run_cli, streams):
    """A false accept at three gains counts as one, and the hours are those of the recording."""
    options = ("--threshold", "0.5", "--json")
    once, thrice = (
        json.loads(run_cli("calibrate", "micro12", *streams, *options, "--gains", *gains, package="host_tools").stdout)
        for gains in (("0",), ("-0.5", "0", "0.5"))
    )
    assert once["after"]["false_accepts"] <= thrice["after"]["false_accepts"] < 2 * once["after"]["false_accepts"]
    assert thrice["after"]["hours"] == once["after"]["hours"]
    assert thrice["after"]["words"] == 3 * once["after"]["words"]


def test_text(run_cli, streams, tmp_path):
    done = run_cli("calibrate", "micro12", *streams, "--budget", "400", package="host_tools")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith(("before", "chosen"))] == ["before", "chosen"]
    assert not list(tmp_path.glob("*.tflite"))


def test_errors(run_cli, streams, tmp_path):
    for arguments, part in (
        (tuple(streams), "0.01 h without words are too few for 1 false accepts per hour"),
        ((streams[0],), "without words"),
        ((streams[1],), "with words"),
        (("gone.flac",), "gone.flac"),
    ):
        failed = run_cli("calibrate", "micro12", *arguments, "-o", "x.tflite", package="host_tools")
        assert failed.returncode == 1
        error = failed.stderr.decode().replace("\r", "\n").splitlines()[-1]
        assert error.startswith("kws-host: ")
        assert part in error
    wrong = run_cli("calibrate", "commands12-stream", *streams, "--step-ms", "100", package="host_tools")
    assert_usage_error(wrong, "--step-ms 100: this model answers every 40 ms", program="kws-host")
    assert_one_line_error(run_cli("calibrate", "gone", *streams, package="host_tools"), "gone", program="kws-host")
    assert not (tmp_path / "x.tflite").exists()
