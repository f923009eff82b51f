"""One number sets all thresholds, by what the model file was measured to do with them."""

from __future__ import annotations

import dataclasses
import json

import pytest

from kws_edge import ConfigError, DetectorConfig, Metadata, Model, OperatingPoint, Spotter, pack, preset, unpack
from kws_edge.cli.demo import STREAM
from kws_edge.detection.sensitivity import point_at, read_points
from kws_edge.model.model import read_model, shipped_models
from tests.conftest import assert_one_line_error, assert_usage_error

FEWEST = {"threshold": 0.86, "thresholds": {"yes": 0.9}, "misses": 0.31, "false_accepts_per_hour": 0.2}
OWN = {"threshold": 0.76, "thresholds": {"yes": 0.8}, "misses": 0.06, "false_accepts_per_hour": 1.4}
MOST = {"threshold": 0.36, "thresholds": {"yes": 0.4}, "misses": 0.02, "false_accepts_per_hour": 14.0}
POINTS = [{"sensitivity": s, **values} for s, values in ((0.0, FEWEST), (0.5, OWN), (1.0, MOST))]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """micro12 as if it had been measured so."""
    _, flat, metadata = read_model("micro12")
    config = dataclasses.replace(metadata.detector_config, threshold=0.76, thresholds={"yes": 0.8})
    metrics = {**metadata.metrics, "operating_points": POINTS}
    path = tmp_path_factory.mktemp("measured") / "measured.tflite"
    path.write_bytes(pack(flat.data, dataclasses.replace(metadata, detector_config=config, metrics=metrics)))
    return path


def test_half_is_the_files_own_and_the_ends_are_the_measured_ones(file):
    model = Model(file)
    assert model.operating_point(0.5).applied(model.detector_config) == model.detector_config
    for sensitivity, values in ((0, FEWEST), (1, MOST)):
        config = model.operating_point(sensitivity).applied(model.detector_config)
        assert (config.threshold, config.thresholds) == (values["threshold"], values["thresholds"])
        changed = dataclasses.replace(config, threshold=0.76, thresholds={"yes": 0.8})
        assert changed == model.detector_config  # nothing else


def test_between_two_points_all_numbers_are_between_theirs(file):
    point = Model(file).operating_point(0.75)
    assert point.threshold == pytest.approx(0.56)
    assert point.thresholds == {"yes": pytest.approx(0.6)}
    assert point.misses == pytest.approx(0.04)
    assert point.false_accepts_per_hour == pytest.approx(7.7)
    assert str(point) == "sensitivity 0.75: expect 4.0 % of commands missed and 7.7 false accepts an hour"


def test_a_more_sensitive_spotter_hears_more(file, demo_stream):
    from kws_edge import AudioFile

    model = Model(file)
    found = []
    for sensitivity in (0, 0.5, 1):
        config = model.operating_point(sensitivity).applied(model.detector_config)
        with AudioFile(demo_stream, sample_rate=16000) as source:
            found.append(len(list(Spotter(model, detector_config=config).detections(source))))
    assert found == sorted(found)
    assert found[0] < found[-1]


@pytest.mark.parametrize("sensitivity", [-0.1, 1.1, "0.5", None, True, float("nan")])
def test_sensitivity_is_from_0_to_1(file, sensitivity):
    with pytest.raises(ConfigError, match="sensitivity must be a number from 0 to 1"):
        Model(file).operating_point(sensitivity)


@pytest.fixture
def unmeasured(tmp_path):
    """micro12 without what was measured."""
    _, flat, metadata = read_model("micro12")
    path = tmp_path / "unmeasured.tflite"
    path.write_bytes(pack(flat.data, dataclasses.replace(metadata, metrics={})))
    return path


def test_a_file_without_points_says_what_to_do(run_cli, unmeasured):
    with pytest.raises(ConfigError, match="has no measured operating points for its thresholds"):
        Model(unmeasured).operating_point(0.7)
    failed = run_cli("detect", STREAM, "--model", unmeasured, "--sensitivity", 0.7)
    assert_one_line_error(failed, "kws-edge calibrate", "kws-host calibrate")


def test_points_of_other_thresholds_do_not_count(file):
    """Whoever changes the thresholds of a file must measure anew."""
    flatbuffer, metadata = unpack(file.read_bytes(), "measured")
    assert [point.to_dict() for point in metadata.operating_points] == POINTS
    changed = dataclasses.replace(metadata, detector_config=DetectorConfig(threshold=0.9))
    assert changed.operating_points is None
    assert unpack(pack(flatbuffer, changed), "changed")[1] == changed


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ({}, "must be a list"),
        ([], "must rise from 0 through 0.5 to 1"),
        (POINTS[:2], "must rise from 0 through 0.5 to 1"),
        (POINTS[::2], "must rise from 0 through 0.5 to 1"),
        (POINTS[::-1], "must rise"),
        ([*POINTS[:2], *POINTS[1:]], "must rise"),
        ([POINTS[0], {**POINTS[1], "thresholds": {}}, POINTS[2]], "same keywords"),
        ([POINTS[0], {**POINTS[1], "threshold": 2}, POINTS[2]], "threshold must be"),
        ([POINTS[0], {**POINTS[1], "thresholds": {"yes": "x"}}, POINTS[2]], "threshold of 'yes' must be"),
        ([POINTS[0], {**POINTS[1], "misses": 1.5}, POINTS[2]], "misses must be"),
        ([POINTS[0], {**POINTS[1], "extra": 1}, POINTS[2]], "unknown setting 'extra'"),
        ([POINTS[0], 7, POINTS[2]], "expected a dict"),
    ],
)
def test_points_that_do_not_hold_together_are_refused(points, message):
    labels = ("silence", "unknown", "yes")
    with pytest.raises(ConfigError, match=message):
        Metadata(labels=labels, frontend_config=preset("logmel40"), metrics={"operating_points": points})


def test_points_are_read_as_they_are_written():
    points = read_points(json.loads(json.dumps(POINTS)))
    assert [point.to_dict() for point in points] == POINTS
    assert [point_at(points, point.sensitivity) for point in points] == list(points)
    assert OperatingPoint.from_dict(POINTS[0]) == points[0]


def test_commands_say_what_to_expect(run_cli, file, demo_stream):
    few, many = (run_cli("detect", demo_stream, "--model", file, "--sensitivity", s, "--json") for s in (0, 1))
    assert 0 < len(few.stdout.splitlines()) < len(many.stdout.splitlines())
    told = "kws-edge: sensitivity 1: expect 2.0 % of commands missed and 14.0 false accepts an hour"
    assert told in many.stderr.decode()
    live = run_cli("listen", "-", "--model", file, "--sensitivity", 1, input=demo_stream.read_bytes())
    assert told in live.stderr.decode()
    assert "does not hold" not in live.stderr.decode()
    other = run_cli("detect", demo_stream, "--model", file, "--sensitivity", 1, "--smoothing-ms", 500)
    assert "measured with another smoothing_ms; this does not hold now" in other.stderr.decode()


@pytest.mark.parametrize("name", shipped_models())
def test_shipped_files_have_points(name):
    points = Model(name).metadata.operating_points
    assert [point.sensitivity for point in points] == [i / 10 for i in range(11)]


def test_info_shows_the_points(run_cli, file, unmeasured):
    text = run_cli("info", file).stdout.decode().splitlines()
    at = next(i for i, line in enumerate(text) if line.startswith("sensitivity"))
    assert text[at].split(None, 1)[1] == (
        "0: threshold 0.86, yes 0.9; expect 31.0 % of commands missed and 0.2 false accepts an hour"
    )
    assert text[at + 2].strip().startswith("1: threshold 0.36, yes 0.4; ")
    values = json.loads(run_cli("info", file, "--json").stdout)
    assert values["operating_points"] == POINTS
    assert json.loads(run_cli("info", unmeasured, "--json").stdout)["operating_points"] is None
    helped = run_cli("detect", "--model", file, "--help").stdout.split()
    assert b"measured to have (default: 0.5)" in b" ".join(helped)


def test_other_options_that_set_thresholds_are_refused(run_cli, file, tmp_path):
    run = ("detect", STREAM, "--model", file, "--sensitivity", 0.7)
    assert_usage_error(run_cli(*run, "--threshold", "yes=0.5"), "--sensitivity 0.7 and --threshold yes=0.5 both set")
    assert_usage_error(run_cli(*run, "--threshold", "0.5"), "--threshold 0.5 both set thresholds")
    done = run_cli("calibrate", STREAM, "--model", file, "--force", "--budget", 3000, "-o", "room.json")
    assert done.returncode == 0, done.stderr
    assert_usage_error(run_cli(*run, "--room", "room.json"), "--sensitivity 0.7 and --room room.json both set")
    assert_usage_error(run_cli(*run[:-1], 1.5), "must be a number from 0 to 1")
    assert_usage_error(run_cli("calibrate", "--sensitivity", 0.5), "unrecognized arguments")


def test_it_replaces_the_rooms_own_profile(run_cli, file, demo_stream, tmp_path):
    import os

    home = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "config")}
    done = run_cli("calibrate", STREAM, "--model", file, "--force", "--budget", 500, env=home)
    assert done.returncode == 0, done.stderr
    plain = run_cli("detect", demo_stream, "--model", file, "--json", env=home)
    assert b"thresholds of" in plain.stderr
    given = run_cli("detect", demo_stream, "--model", file, "--json", "--sensitivity", 0.5, env=home)
    assert b"thresholds of" not in given.stderr
    alone = run_cli("detect", demo_stream, "--model", file, "--json", "--no-room", env=home)
    assert given.stdout == alone.stdout != plain.stdout
