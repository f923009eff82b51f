"""Thresholds for a room: the arithmetic on planted posteriors, and the command on recordings."""

import argparse
import contextlib
import dataclasses
import io
import json
import math
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws_edge import ConfigError, Detector, DetectorConfig, Model, shipped_models, unpack
from kws_edge.cli import calibrate
from kws_edge.cli import options as cli_options
from kws_edge.detection.calibration import MARGIN, Evidence, choose, poisson_interval, poisson_upper, wilson
from kws_edge.detection.room_profile import RoomProfile, profile_path
from kws_edge.model.file import pack
from tests.conftest import assert_one_line_error, assert_usage_error

LABELS = ("silence", "unknown", "yes", "no", "up")
RATE = 16000
QUIET = np.array([0.97, 0.03, 0, 0, 0], np.float32)


@pytest.mark.parametrize(
    ("k", "low", "high"),
    [(0, 0, 3.6889), (1, 0.0253, 5.5716), (2, 0.2422, 7.2247), (5, 1.6235, 11.6683), (10, 4.7954, 18.3904),
     (20, 12.2165, 30.8884), (50, 37.1110, 65.9188), (100, 81.3640, 121.6268)],
)  # fmt: skip
def test_poisson_interval(k, low, high):
    """The limits are Garwood's, as tabulated in Johnson, Kotz and Kemp."""
    assert poisson_interval(k) == pytest.approx((low, high), abs=1e-4)


def test_poisson_upper():
    assert poisson_upper(0) == pytest.approx(-math.log(0.05))
    assert poisson_upper(1) == pytest.approx(4.7439, abs=1e-4)
    assert poisson_upper(0, 0.5) == pytest.approx(math.log(2))
    assert poisson_upper(0, 1 - 1e-4) == pytest.approx(4 * math.log(10))  # the largest of an interval at 99.98 %
    assert poisson_upper(1000) == pytest.approx(1053.6, abs=0.1)
    assert poisson_interval(3, 0.9) == pytest.approx((0.8177, 7.7537), abs=1e-4)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718),
     (20, 20, 0.8389, 1), (0.5, 1, 0.0546, 0.9454), (0, 0, 0, 1)],
)  # fmt: skip
def test_wilson(successes, n, low, high):
    """The limits are those of Newcombe's examples (1998, method 3). The ends are added."""
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)
    assert wilson(successes, n)[0] >= 0 and wilson(successes, n)[1] <= 1


def event(label, peak, steps=4):
    """A few posteriors of a word that nobody spoke, and quiet afterwards."""
    row = np.zeros(len(LABELS), np.float32)
    row[LABELS.index(label)] = peak
    row[0] = 1 - peak
    return [row] * steps + [QUIET] * 30


def evidence_of(rows, **settings):
    settings = {"smoothing_ms": 300, "threshold": 0.7, "refractory_ms": 500, **settings}
    evidence = Evidence(LABELS, DetectorConfig(**settings), step_s=0.1, clip_s=1.0)
    for row in rows:
        evidence.add(row)
    evidence.close()
    return evidence


HOUR = [QUIET] * 36_000


@pytest.mark.parametrize(
    "settings",
    [{}, {"wake_word": "no", "armed_s": 2}, {"keywords": ("up", "no")}, {"speech_margin": 0.2, "keywords": ("up",)}],
)
def test_counts_are_those_of_the_whole_stream(settings):
    """Leaving out quiet parts changes no count, at any thresholds."""
    rng = np.random.default_rng(5)
    rows = []
    for _ in range(200):
        burst = rng.dirichlet(np.full(5, 0.2), rng.integers(1, 6)).repeat(rng.integers(1, 4), axis=0)
        rows += [*np.rint(burst * 256) / 256, *[QUIET] * int(rng.integers(0, 60))]
    rows = np.minimum(np.array(rows, np.float32), np.float32(255 / 256))
    evidence = evidence_of(rows, **settings)
    assert len(evidence._loud) < 0.8 * len(rows)
    config = evidence.config
    total = 0
    for thresholds in (evidence.floors, evidence.defaults, {w: rng.uniform(0.6, 0.95) for w in evidence.defaults}):
        changed = DetectorConfig.from_dict({**config.to_dict(), "thresholds": thresholds})
        detector = Detector(LABELS, changed, step_s=0.1, clip_s=1.0)
        found = [f.keyword for i, row in enumerate(rows) if (f := detector.process(row, i * 0.1))]
        assert evidence.false_accepts(thresholds) == {word: found.count(word) for word in evidence.defaults}
        total += len(found)
    assert total > 15


def test_a_short_quiet_time_changes_nothing():
    """Without false accepts the model file's thresholds stay: some minutes do not justify lower ones."""
    choice = choose(evidence_of([QUIET] * 3000, thresholds={"up": 0.845}), 1.0)
    assert choice.thresholds == {"yes": 0.7, "no": 0.7, "up": 0.845}
    assert not choice.supported


def test_a_long_quiet_time_lowers_to_the_floor():
    evidence = evidence_of(HOUR)
    assert evidence.hours == pytest.approx(1)
    assert choose(evidence, 2.9).thresholds == {"yes": 0.7, "no": 0.7, "up": 0.7}  # 2.996 is the bound
    choice = choose(evidence, 3.0)
    assert choice.thresholds == dict.fromkeys(("yes", "no", "up"), pytest.approx(0.7 - MARGIN))
    assert choice.supported


def test_only_the_keyword_that_fires_is_raised():
    choice = choose(evidence_of([*event("no", 0.84), *HOUR, *event("no", 0.9)]), 1.5)
    assert choice.thresholds == {"yes": 0.7, "no": 0.84, "up": 0.7}  # 0.84 is kept as 215 / 256, just below
    assert choice.counts == {"yes": 0, "no": 1, "up": 0}
    assert choice.common == 0.84
    assert not choice.supported
    assert choose(evidence_of([*event("no", 0.84), *HOUR]), 0.5).thresholds["no"] == 0.84


def test_what_it_shows_to_be_typed_can_be_typed(capsys):
    """This holds for keywords with blanks and quotes, too, as models from elsewhere have."""
    labels = ("unknown", "hey you", "it's")
    evidence = Evidence(labels, DetectorConfig(thresholds={"hey you": 0.8}), step_s=0.1, clip_s=1.0)
    for _ in range(100):
        evidence.add(np.array([1, 0, 0], np.float32))
    evidence.close()
    choice = choose(evidence, 1.0)
    calibrate._print_choice(evidence, choice, None, None, 1.0)
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "--threshold" in line)
    words = shlex.split(line.partition(": ")[2])
    assert words[::2] == ["--threshold"] * 2
    assert dict(map(cli_options.threshold_of, words[1::2])) == choice.thresholds


def test_the_choice_is_the_lowest_that_keeps_to_the_budget():
    rng = np.random.default_rng(1)
    rows = list(HOUR)
    for _ in range(60):
        rows += event(LABELS[rng.integers(2, 5)], float(rng.uniform(0.5, 0.97)))
    evidence = evidence_of(rows)
    for budget in (2, 8, 20, 40):
        choice = choose(evidence, budget)
        assert sum(evidence.false_accepts(choice.thresholds).values()) <= budget * evidence.hours
        for word, threshold in choice.thresholds.items():
            lower = {**choice.thresholds, word: round(threshold - 0.01, 6)}
            n = sum(evidence.false_accepts(lower).values())
            if lower[word] < evidence.floors[word]:
                continue
            assert n > budget * evidence.hours or (lower[word] < 0.7 and poisson_upper(n) > budget * evidence.hours)
    assert choose(evidence, 40).common < choose(evidence, 2).common


def test_hopeless():
    with pytest.raises(ConfigError, match=r"5 false accepts in 1\.02 h even at a threshold of 0\.99; .*--budget"):
        choose(evidence_of([*event("no", 1.0) * 5, *HOUR, *[QUIET] * 500]), 1.0)


@pytest.fixture
def config_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg" / "kws-edge"


@pytest.fixture
def short(tmp_path, demo_stream):
    """Twelve seconds of the demo: yes, left, hello, stop, right, up."""
    path = tmp_path / "short.wav"
    soundfile.write(path, soundfile.read(demo_stream, dtype="int16", frames=12 * RATE)[0], RATE)
    return path


def test_where_the_room_profile_is(model, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert profile_path(model) == str(tmp_path / "kws-edge" / "room-commands12.json")
    monkeypatch.setenv("HOME", "/home/somebody")
    for value in ("", "relative"):  # the specification says to ignore these
        monkeypatch.setenv("XDG_CONFIG_HOME", value)
        assert profile_path(model) == "/home/somebody/.config/kws-edge/room-commands12.json"


def test_calibrated_thresholds_are_used(run_cli, short, config_home):
    before = [json.loads(line) for line in run_cli("detect", short, "--json").stdout.splitlines()]
    assert len(before) >= 4
    done = run_cli("calibrate", short, "--force", "--json", "--budget", "400")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["hours"] == pytest.approx(12 / 3600, rel=0.02)
    assert result["false_accepts"] <= 1  # 400 an hour are 1.3 in 12 s
    path = config_home / "room-commands12.json"
    assert result["room"] == str(path)
    assert os.listdir(config_home) == [path.name]

    after = run_cli("detect", short, "--json")
    assert len(after.stdout.splitlines()) == result["false_accepts"]
    assert after.stderr.decode().count("\n") == 1
    assert f"thresholds of {path}: calibrated 20".encode() in after.stderr
    live = run_cli("listen", "-", "--json", input=short.read_bytes())
    assert len(live.stdout.splitlines()) == result["false_accepts"]
    assert b"thresholds of" in live.stderr
    assert [json.loads(line) for line in run_cli("detect", short, "--json", "--no-room").stdout.splitlines()] == before
    own = Model("commands12").detector_config
    each = [text for word, value in own.thresholds.items() for text in ("--threshold", f"{word}={value}")]
    explicit = run_cli("detect", short, "--json", "--threshold", own.threshold, *each)
    assert [json.loads(line) for line in explicit.stdout.splitlines()] == before
    assert not explicit.stderr
    word = before[1]["keyword"]
    one = run_cli("detect", short, "--json", "--threshold", f"{word}=0.6")
    assert word in [json.loads(line)["keyword"] for line in one.stdout.splitlines()]
    other = run_cli("detect", short, "--smoothing-ms", "300")
    assert b"calibrated with another smoothing_ms" in other.stderr
    heard = json.loads(run_cli("demo", "--fast", "--json").stdout.splitlines()[-1])["heard"]
    assert heard >= 10
    shown = json.loads(run_cli("info", "--json").stdout)["room"]
    assert shown["thresholds"] == result["thresholds"]
    assert str(path) in run_cli("info").stdout.decode()
    assert json.loads(run_cli("info", "micro12", "--json").stdout)["room"] is None


def test_calibrate_says_what_it_found(run_cli, short, config_home, tmp_path):
    done = run_cli("calibrate", short, short, "--force", "--budget", "200", "--output", "here.json")
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert f"{Model('commands12').detector_config.threshold:.2f}" in text
    assert "misses are unknown" not in text
    assert re.search(r"expected misses \d+\.\d % \(.*\) of the commands", text)
    flatbuffer, metadata = unpack(Path(shipped_models()["micro12"]).read_bytes(), "micro12")
    (tmp_path / "no_curve.tflite").write_bytes(pack(flatbuffer, dataclasses.replace(metadata, metrics={})))
    model = ("--model", "no_curve.tflite")
    other = run_cli("calibrate", short, "--force", *model, "--budget", "2000", "-o", "other.json")
    assert b"misses are unknown" in other.stdout, other.stderr
    assert "too short to show that 200 per hour is kept: it takes 0.015 h" in text
    assert "use it with --room here.json" in text
    assert not config_home.exists()
    heard = run_cli("detect", short, "--json", "--room", "here.json")
    assert heard.stdout.count(b"\n") == json.loads((tmp_path / "here.json").read_text())["false_accepts"] == 1
    assert b"thresholds of here.json" in heard.stderr


def test_minutes_and_pipe(run_cli, short, config_home):
    by_pipe = json.loads(
        run_cli("calibrate", "-", "--minutes", "0.1", "--force", "--json", input=short.read_bytes()).stdout
    )
    by_file = json.loads(run_cli("calibrate", short, short, "--minutes", "0.1", "--force", "--json").stdout)
    assert by_pipe == by_file
    assert by_pipe["hours"] == pytest.approx(0.1 / 60, rel=0.05)


def test_miss_curve(run_cli, short, config_home, tmp_path):
    flatbuffer, metadata = unpack(Path(shipped_models()["commands12"]).read_bytes(), "shipped")
    for curve, expected in (([[1.0, 0.18], [0.1, 0.0]], 0.12), (None, None)):
        metadata.metrics["miss_curve"] = curve
        (tmp_path / "curved.tflite").write_bytes(pack(flatbuffer, metadata))
        options = ("--model", "curved.tflite", "--budget", "900", "--force")
        rows = json.loads(run_cli("calibrate", short, "--json", *options).stdout)["table"]
        (row,) = (row for row in rows if row["threshold"] == 0.7)
        assert row["misses"] == (expected and pytest.approx(expected))
        text = run_cli("calibrate", short, *options).stdout.decode()
        assert ("misses are unknown" in text) == (expected is None)
        assert ("expected misses" in text) == (expected is not None)
    metadata.metrics.update({"miss_curve": [[0.1, 0.1], [1.0, 0.1]], "calibration": {"distinct_words": 20}})
    (tmp_path / "curved.tflite").write_bytes(pack(flatbuffer, metadata))
    text = run_cli("calibrate", short, *options).stdout.decode()
    assert "expected misses 10.0 % (2.8 to 30.1, from 20 words)" in text
    metadata.metrics["miss_curve"] = [[0.5, 2], [1.0, 0.1]]
    (tmp_path / "curved.tflite").write_bytes(pack(flatbuffer, metadata))
    assert_one_line_error(run_cli("calibrate", short, *options), "miss_curve must be a number from 0 to 1, got 2")


def test_profiles_that_do_not_fit(run_cli, short, config_home, tmp_path, model):
    """A named profile that does not fit is an error. The default one is ignored with a warning."""
    assert run_cli("calibrate", short, "--force", "--budget", "900").returncode == 0
    path = config_home / "room-commands12.json"
    good = json.loads(path.read_text())
    found = run_cli("detect", short, "--json", "--no-room").stdout
    assert run_cli("detect", short, "--json").stdout != found
    own = [json.loads(line)["end_s"] for line in found.splitlines()]
    assert_one_line_error(run_cli("detect", short, "--model", "micro12", "--room", path), str(path), "another model")
    for options in ("", "--model micro12 "):
        failed = run_cli("detect", short, *options.split(), "--room", "missing it.json")
        makes = f"kws-edge calibrate {options}--output 'missing it.json' makes one"
        assert_one_line_error(failed, f"missing it.json: no such room profile; {makes}")
    path.write_text(json.dumps({**good, "tflite_sha256": "0" * 64}))  # as after an upgrade
    for command in (["detect", short], ["listen", "-"]):
        done = run_cli(*command, "--json", input=short.read_bytes())
        assert done.returncode == 0
        assert [json.loads(line)["end_s"] for line in done.stdout.splitlines()] == own
        (warning,) = (line for line in done.stderr.decode().splitlines() if "warning" in line)
        assert str(path) in warning
        for part in ("made for another model", "own thresholds are used", "kws-edge calibrate", "--reset"):
            assert part in warning
    assert_one_line_error(run_cli("detect", short, "--room", path), str(path), "another model or front end")
    shown = run_cli("info", "--json")
    assert shown.returncode == 0
    assert "another model" in json.loads(shown.stdout)["room"]["error"]
    for options in (["--no-room"], ["--threshold", "0.7"]):
        done = run_cli("detect", short, *options)
        assert (done.returncode, done.stderr) == (0, b"")


CHANGES = [
    ({"format": 2}, "format is 2"),
    ({"format": [[[]]] * 1000}, "format is"),
    ({"tflite_sha256": "0" * 64}, "another model or front end"),
    ({"frontend_hash": "0" * 16}, "another model or front end"),
    ({"frontend_hash": 16}, "frontend_hash must be a text"),
    ({"date": "\x1b[2J"}, "date must be a text"),
    ({"model": "x" * 5000}, "model must be a text"),
    ({"hours": "many"}, "hours must be a number"),
    ({"hours": float("nan")}, "NaN is no number of JSON"),
    ({"hours": -1}, "hours must be a number"),
    ({"budget": float("inf")}, "Infinity is no number of JSON"),
    ({"budget": 10**400}, "budget must be a number"),
    ({"false_accepts": True}, "false_accepts must be a number"),
    ({"detector_config": {"thresholds": {"yes": 2}}}, "must be a number from 0.001 to 1"),
    ({"detector_config": {"thresholds": {"yes": float("nan")}}}, "NaN is no number of JSON"),
    ({"detector_config": {"thresholds": {"yes": 10**400}}}, "must be a number"),
    ({"detector_config": {"thresholds": {"marvin": 0.7}}}, "'marvin'"),
    ({"detector_config": {"keywords": 5}}, "room profile cannot be used"),
    ({"detector_config": {"step_ms": None}}, "step_ms must be a number"),
    ({"detector_config": 3}, "expected a dict"),
]


@pytest.fixture
def good(model):
    detector = DetectorConfig(thresholds={"yes": 0.8})
    profile = RoomProfile.of(model, date="2026-01-02", hours=0.5, false_accepts=1, budget=2.0, detector_config=detector)
    return {
        "format": 1,
        **{f.name: getattr(profile, f.name) for f in dataclasses.fields(profile)},
        "detector_config": {"thresholds": {"yes": 0.8}},
    }


def chosen(model, config_home, *options):
    """The room profile that `kws-edge detect` uses, and its messages. It never waits."""
    parser = argparse.ArgumentParser()
    cli_options.add_detector(parser)
    cli_options.add_room(parser)
    with contextlib.redirect_stderr(io.StringIO()) as said:
        profile = cli_options.room_profile(parser.parse_args(options), model)
    return profile, said.getvalue()


@pytest.mark.parametrize(("change", "words"), CHANGES)
def test_a_room_profile_with_wrong_values_is_warned_of(model, config_home, good, change, words):
    config_home.mkdir(parents=True)
    path = config_home / "room-commands12.json"
    path.write_text(json.dumps(good))
    assert chosen(model, config_home)[0].thresholds == {"yes": 0.8}
    path.write_text(json.dumps({**good, **change}))
    profile, said = chosen(model, config_home)
    assert profile is None
    assert said.count("\n") == 1
    assert said[:-1].isprintable()
    assert len(said) < 1500
    for part in (str(path), words, "own thresholds are used", "kws-edge calibrate", "--reset"):
        assert part in said
    with pytest.raises(ConfigError, match="room profile cannot be used"):
        chosen(model, config_home, "--room", str(path))


@pytest.mark.parametrize(
    "content",
    [
        b"", b"   \n", b"[]", b"3", b"null", b"{", b'{"format": 1', b'{"format": 1}', b"\x00", b"\xff\xfe{",
        b"\x89PNG\r\n", b"[" * 100_000, b'{"a":' * 100_000, b'{"format": ' + b"[" * 900 + b"]" * 900 + b"}",
        b"1" * 100_000, b" " * 3_000_000,
    ],
)  # fmt: skip
def test_a_room_profile_that_is_empty_torn_or_nested_is_warned_of(model, config_home, content):
    config_home.mkdir(parents=True)
    path = config_home / "room-commands12.json"
    path.write_bytes(content)
    profile, said = chosen(model, config_home)
    assert profile is None
    assert said.count("\n") == 1
    assert "own thresholds are used" in said
    with pytest.raises(ConfigError, match="room profile cannot be used"):
        chosen(model, config_home, "--room", str(path))


@pytest.mark.parametrize("kind", ["fifo", "folder", "socket", "dangling", "loop", "device", "unreadable"])
def test_a_room_profile_that_is_none_is_warned_of_and_never_waited_for(model, config_home, monkeypatch, kind):
    config_home.mkdir(parents=True)
    path = config_home / "room-commands12.json"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        monkeypatch.chdir(config_home)  # a socket's path is short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "unreadable":
        if os.getuid() == 0:
            pytest.skip("root reads all")
        path.touch(mode=0)
    else:
        path.symlink_to("missing" if kind == "dangling" else path.name)
    profile, said = chosen(model, config_home)
    assert profile is None
    assert said.count("\n") == 1
    assert "own thresholds are used" in said


def test_a_room_profile_with_a_byte_order_mark_is_read(model, config_home, good):
    config_home.mkdir(parents=True)
    (config_home / "room-commands12.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(good).encode())
    assert chosen(model, config_home)[0].thresholds == {"yes": 0.8}
    assert chosen(model, config_home, "--no-room") == (None, "")


def test_calibrate_errors(run_cli, short, config_home, tmp_path):
    assert_usage_error(run_cli("calibrate", short, "--budget", "0"), "--budget")
    assert_usage_error(run_cli("calibrate", short, "--minutes", "2000"), "1440")
    assert_usage_error(run_cli("calibrate", short, "-"), "not both")
    assert_one_line_error(run_cli("calibrate", "missing.wav"), "missing.wav")
    assert_one_line_error(run_cli("calibrate", short, "--minutes", "0.001", "--force"), "too short")
    assert_one_line_error(run_cli("calibrate", short, "--budget", "900", "-o", f"{short}/room.json"), "--output")
    assert_one_line_error(run_cli("calibrate", short, "--budget", "900", "-o", tmp_path), "--output", "is a folder")
    assert run_cli("calibrate", short, "--threshold", "0.5").returncode == 2
    assert not config_home.exists()


@pytest.fixture
def room(tmp_path):
    """Four minutes of faint noise, in which nobody says anything."""
    path = tmp_path / "room.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 20, 240 * RATE).astype(np.int16), RATE)
    return path


def test_calibrate_takes_a_least_length(run_cli, short, config_home):
    """Seven seconds of a recording do not replace an earlier calibration."""
    config_home.mkdir(parents=True)
    path = config_home / "room-commands12.json"
    path.write_text("before")
    assert_one_line_error(run_cli("calibrate", short), "3 min", "--force", "0.2 min were heard")
    for options in (["-"], [], [short]):  # the error comes before the minutes are spent
        assert_usage_error(run_cli("calibrate", *options, "--minutes", "2.9"), "--minutes 2.9", "3 min", "--force")
    ended = run_cli("calibrate", "-", input=short.read_bytes(), timeout=60)  # by the end of what was piped
    assert ended.returncode == 1
    assert b"0.2 min were heard: 3 min are the least" in ended.stderr.splitlines()[-1]
    assert path.read_text() == "before"
    assert os.listdir(config_home) == [path.name]


def test_calibrate_takes_no_commands_for_a_room(run_cli, demo_stream, config_home, tmp_path):
    """Long audio that is full of commands is refused, because no threshold keeps them out."""
    samples = soundfile.read(demo_stream, dtype="int16")[0]
    many = np.tile(samples, -(-200 * RATE // len(samples)))
    soundfile.write(tmp_path / "many.wav", many, RATE)
    refused = run_cli("calibrate", "many.wav")
    assert_one_line_error(refused, "keywords in 3.", "sound like commands", "--force", "stop ")
    assert not config_home.exists()
    forced = run_cli("calibrate", "many.wav", "--force", "--json", "--keywords", "up,no")
    assert forced.returncode == 0, forced.stderr
    assert set(json.loads(forced.stdout)["thresholds"]) == {"up", "no"}
    # A budget that allows this many is accepted.
    assert run_cli("calibrate", "many.wav", "--budget", "2000").returncode == 0


def test_reset_sets_the_room_profile_aside(run_cli, room, config_home):
    path, aside = config_home / "room-commands12.json", config_home / "room-commands12.json.bak"
    none = run_cli("calibrate", "--reset")
    assert none.returncode == 0
    assert b"there is none" in none.stdout
    assert run_cli("calibrate", room).returncode == 0
    first = path.read_text()
    again = run_cli("calibrate", room, "--budget", "2")
    assert f"what was there before is {aside}".encode() in again.stdout
    assert aside.read_text() == first
    second = path.read_text()
    assert json.loads(second)["budget"] == 2
    done = run_cli("calibrate", "--reset")
    assert done.returncode == 0
    assert f"{path} is now {aside}".encode() in done.stdout
    assert aside.read_text() == second
    assert not path.exists()
    assert_usage_error(run_cli("calibrate", room, "--reset"), "--reset")
    aside.unlink()
    os.mkfifo(path)
    assert_one_line_error(run_cli("calibrate", room), "is no regular file", "--reset")
    assert run_cli("calibrate", "--reset").returncode == 0
    assert not os.path.lexists(path)


def test_what_is_no_profile_is_set_aside_beside_the_former_one(run_cli, room, config_home):
    """A damaged profile does not replace the last readable one."""
    path = config_home / "room-commands12.json"
    for _ in range(2):
        assert run_cli("calibrate", room).returncode == 0
    former = (config_home / f"{path.name}.bak").read_text()
    path.write_text("torn {")
    assert f"{path} is now {path}.bad".encode() in run_cli("calibrate", "--reset").stdout
    assert (config_home / f"{path.name}.bak").read_text() == former
    assert (config_home / f"{path.name}.bad").read_text() == "torn {"


def test_reset_renames_no_device(run_cli, tmp_path):
    """As root that would break the system: /dev/null is a device, and /dev/stdout is a link."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "folder").mkdir()
    before = sorted(os.listdir(tmp_path))
    for name in ("pipe", "link", "folder"):
        assert_one_line_error(run_cli("calibrate", "--reset", "-o", name), "is no regular file")
    assert sorted(os.listdir(tmp_path)) == before
    assert run_cli("calibrate", "--reset", "-o", "file").returncode == 0
    assert (tmp_path / "file.bad").exists()


def test_what_keeps_the_former_room_profile_from_being_kept_is_said_first(run_cli, room, tmp_path):
    """A name too long for its ending, or a folder in its place, is refused before the minutes are spent."""
    name = "x" * 253
    assert run_cli("calibrate", room, "-o", name).returncode == 0
    refused = run_cli("calibrate", room, "-o", name)
    assert_one_line_error(refused, "File name too long")
    assert not refused.stdout
    (tmp_path / name).rename(tmp_path / "room.json")
    (tmp_path / "room.json.bak").mkdir()
    assert_one_line_error(run_cli("calibrate", room, "-o", "room.json"), "is a folder")


@pytest.mark.parametrize("options", [(), ("--reset",)])
def test_where_there_is_no_home(run_cli, tmp_path, options):
    """Thresholds in the folder where calibrate was started would be used by no other program."""
    environment = {**os.environ, "HOME": "none", "XDG_CONFIG_HOME": ""}
    done = run_cli("calibrate", *options, env=environment)
    assert_one_line_error(done, "no home folder", "--output")
    assert not os.listdir(tmp_path)


def test_an_empty_name_is_no_default(run_cli, room):
    """An empty name may come from an unset variable."""
    assert_one_line_error(run_cli("detect", room, "--room", ""), "'': names no room profile")
    for command in (["detect", room, "--plot", ""], ["calibrate", room, "-o", ""]):
        assert_usage_error(run_cli(*command), "'' names no file")


def test_what_is_no_profile_is_not_kept(run_cli, room, config_home):
    config_home.mkdir(parents=True)
    path = config_home / "room-commands12.json"
    path.write_text("torn {")
    path.chmod(0o600)
    assert run_cli("calibrate", room).returncode == 0
    assert json.loads(path.read_text())["budget"] == 1
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(config_home) == [path.name]


def test_the_choice_is_printed_before_it_is_saved(run_cli, room, tmp_path, config_home):
    """A choice that cannot be saved is printed, so you can give it as options. One that cannot be printed is saved."""
    disk = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "from kws_edge.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", disk, "calibrate", str(room), "-o", str(tmp_path / "room.json")]
    (tmp_path / "room.json").write_text("before")
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"room.json: cannot be written" in done.stderr
    assert b"chosen for a budget" in done.stdout
    assert b"--threshold yes=0." in done.stdout
    assert b"wrote" not in done.stdout
    assert (tmp_path / "room.json").read_text() == "before"
    as_json = subprocess.run([*command, "--json"], capture_output=True, check=False, timeout=60)
    assert json.loads(as_json.stdout)["thresholds"]
    with open("/dev/full", "w") as full:
        subprocess.run(
            [sys.executable, "-m", "kws_edge", "calibrate", room, "-o", tmp_path / "room.json"],
            stdout=full, stderr=subprocess.DEVNULL, check=False, timeout=60,
        )  # fmt: skip
    assert json.loads((tmp_path / "room.json").read_text())["detector_config"]["thresholds"]


@pytest.mark.parametrize(("number", "minutes"), [(signal.SIGINT, 29), (signal.SIGTERM, 4), (signal.SIGHUP, 4)])
def test_a_stop_after_29_of_30_minutes_keeps_what_was_heard(config_home, number, minutes):
    process = subprocess.Popen(
        [sys.executable, "-m", "kws_edge", "calibrate", "-", "--minutes", "30"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    noise = np.random.default_rng(0).normal(0, 20, minutes * 60 * RATE).astype(np.int16)
    process.stdin.write(noise.tobytes())
    process.stdin.flush()
    assert b"for 30 min" in process.stderr.readline()
    time.sleep(2)  # the pipe holds 2 s, and most of it has been heard
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert f"stopped; what was heard in {minutes}.0 min counts".encode() in err
    assert out.index(b"chosen for a budget") < out.index(b"wrote ")
    assert json.loads((config_home / "room-commands12.json").read_text())["hours"] == pytest.approx(
        minutes / 60, rel=0.02
    )


def test_calibration_interrupted_early_writes_nothing(config_home, tmp_path):
    """Ctrl-C ends with status 130 and keeps the earlier profile, because six seconds are too few."""
    config_home.mkdir(parents=True)
    (config_home / "room-commands12.json").write_text("before")
    process = subprocess.Popen(
        [sys.executable, "-m", "kws_edge", "calibrate", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    process.stdin.write(bytes(6 * RATE))
    process.stdin.flush()
    assert b"listening to standard input for 5 min" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 130
    assert process.stdout.read() == b""
    assert process.stderr.read() == b"kws-edge: interrupted\n"
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()
    assert (config_home / "room-commands12.json").read_text() == "before"
    assert os.listdir(config_home) == ["room-commands12.json"]


def test_a_wake_word_is_calibrated_with_its_commands(run_cli, short, config_home):
    done = run_cli(
        "calibrate", short, "--wake-word", "left", "--keywords", "stop", "--budget", "900", "--json", "--force"
    )
    assert list(json.loads(done.stdout)["thresholds"]) == ["left", "stop"]
    same = run_cli("detect", short, "--wake-word", "left", "--keywords", "stop")
    assert b"calibrated with another" not in same.stderr
    assert b"calibrated with another keywords, wake_word" in run_cli("detect", short).stderr


def test_profile_round_trip(model, tmp_path):
    detector = DetectorConfig(thresholds={"yes": 0.8}, keywords=("yes", "no"), wake_word="no", armed_s=3)
    values = {"date": "2026-01-02", "hours": 0.5, "false_accepts": 1, "budget": 2.0, "detector_config": detector}
    RoomProfile.of(model, **values).save(tmp_path / "room.json")
    again = RoomProfile.load(tmp_path / "room.json", model)
    assert again == RoomProfile.of(model, **values)
    assert again.detector_config.differences(detector) == []
    for name, wrong in (("date", 5), ("date", "a\nb"), ("hours", "1"), ("false_accepts", -1), ("detector_config", {})):
        with pytest.raises(ConfigError, match=f"{name} must be"):  # and not when it is read again
            RoomProfile.of(model, **{**values, name: wrong})
    with pytest.raises(ConfigError, match="another model"):
        RoomProfile.load(tmp_path / "room.json", Model("micro12"))
