"""The standard conditions: strangers' words alone, streams that are made once, intervals, table, picture, command."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("scipy", reason="SciPy is not installed here")

from benchmarks.streams import known
from host_tools.data.annotations import Word, read_labels
from host_tools.data.recordings import recordings
from host_tools.errors import DatasetError
from host_tools.evaluation.intervals import by_group, of_mean
from host_tools.evaluation.scoring import Heard, score
from host_tools.evaluation.standard.conditions import CONDITIONS, Folders
from host_tools.evaluation.standard.independent import alone, find_independent, hear_independent, known_to
from host_tools.evaluation.standard.measure import macs_per_second, measure
from host_tools.evaluation.standard.report import plot_det, table
from host_tools.evaluation.standard.streams import standard_streams
from kws_edge import Model, pack
from kws_edge.detection.calibration import wilson
from kws_edge.detection.detector import Detection
from tests.conftest import assert_one_line_error, assert_usage_error
from tests.test_step_stream import GRAPH, METADATA
from tests.tones import RATE, word

pytestmark = pytest.mark.host

EXACT = pytest.approx
LOADING = ("commands12", "builtin")


def silently(iterable=(), **options):
    """A progress bar that shows nothing."""

    class Bar:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def update(self, n):
            pass

    return iterable if "unit" in options and options["unit"] == "recording" else Bar()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, demo_stream) -> Path:
    """Data of every kind: the demo's commands as clips of six speakers and as independent words; hums; music."""
    root = tmp_path_factory.mktemp("data")
    samples = soundfile.read(demo_stream, dtype="int16")[0]
    said = read_labels(demo_stream.with_suffix(".csv"))

    def cut(path: str, said: Word) -> None:
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        start = round((said.start_s - 0.2) * RATE)
        soundfile.write(target, samples[start : start + RATE], RATE)

    clips = []
    for number, one in enumerate(said):
        if one.label in ("yes", "left", "stop", "right", "up", "go", "down", "no", "off", "on"):
            clips.append(f"{one.label}/{number % 6:08x}_nohash_{number}.wav")
            cut(f"speech_commands/{clips[-1]}", one)
    (root / "speech_commands" / "validation_list.txt").write_text("".join(f"{clip}\n" for clip in clips))
    by_label = {one.label: one for one in said}
    for path, label in (
        ("commands/a/yes/1.wav", "yes"),
        ("commands/b/left/1.wav", "left"),
        ("commands/b/left/2.wav", "stop"),
        ("commands/b/cat/1.wav", "stop"),
        ("other_words/a/other/1.wav", "yes"),
        ("other_words/c/other/1.wav", "seven"),
    ):
        cut(f"independent/{path}", by_label[label])
    rng = np.random.default_rng(0)
    for kind in ("speech", "noise", "music"):
        place = root / "negatives" / kind
        place.mkdir(parents=True)
        for number in range(6):
            soundfile.write(place / f"{kind}{number}.wav", rng.normal(0, 0.02, 2 * RATE), RATE)
    soundfile.write(place / "fires.wav", samples[: 3 * RATE], RATE)
    return root


@pytest.fixture(scope="module")
def heard(folder):
    found = known_to(find_independent(folder / "independent"), Model("commands12").labels)
    config = dataclasses.replace(Model("commands12").detector_config, threshold=0.4, thresholds={})
    return hear_independent(found, LOADING, config, thresholds=(0.4, 1.0), seeds=(1, 2), progress=silently)


def test_strangers(heard):
    """A command counts as heard by its own word, as wrong by another, and other words fire by any."""
    assert len(heard.recordings) == 5  # a command that the model does not know is left out
    values = heard.to_dict()
    for where in ("hiss", "gated"):
        measures = values[where]
        assert {name: share["rate"] for name, share in measures["heard"]["collections"].items()} == {"a": 1, "b": 0.5}
        assert measures["heard"]["mean"]["rate"] == 0.75
        assert measures["heard"]["all"]["rate"] == EXACT(2 / 3)
        assert measures["wrong"]["collections"]["b"]["rate"] == 0.5
        assert {name: share["rate"] for name, share in measures["fires"]["collections"].items()} == {"a": 1, "c": 0}
    assert len(values["hiss"]["heard"]["all"]["by_seed"]) == 2
    assert heard.at_threshold(0) == {"heard": 0.75, "fires": 0.5}
    assert heard.at_threshold(1) == {"heard": 0.0, "fires": 0.0}
    assert json.loads(json.dumps(values)) == values


def test_strangers_are_alone_in_hiss_or_in_silence(tmp_path):
    samples = np.pad(word(3, np.random.default_rng(0)), (0, 3200))
    soundfile.write(tmp_path / "a.wav", samples, RATE)
    hiss, again, other, gated = (alone(tmp_path / "a.wav", RATE, seed=seed) for seed in (1, 1, 2, None))
    assert np.array_equal(hiss, again) and not np.array_equal(hiss, other)
    assert np.array_equal(hiss[16000:35200], samples)
    assert 2.5 < hiss[:16000].std() < 3.5 and len(hiss) == 16000 + 19200 + 32000
    assert not gated[:16000].any() and not gated[35200:].any()
    inside = np.flatnonzero(gated)
    assert np.array_equal(gated[inside], hiss[inside]) and 3000 < len(inside) < 15000


def test_independent_recordings_that_cannot_be_used(tmp_path, folder):
    (tmp_path / "commands" / "yes").mkdir(parents=True)
    soundfile.write(tmp_path / "commands" / "yes" / "1.wav", np.zeros(RATE), RATE)
    with pytest.raises(DatasetError, match="<collection>/<word>"):
        find_independent(tmp_path)
    found = find_independent(folder / "independent")
    assert [r.word for r in known_to(found, ("left", "cat"))] == ["cat", "left", "left", "other", "other"]
    assert known_to(found, ("hello", "unknown")) == []


def test_intervals_by_group():
    """Groups of one are Wilson's; groups that agree are as many trials as there are groups."""
    assert by_group([(1, 1)] * 3 + [(0, 1)] * 7) == EXACT(wilson(3, 10), abs=0.02)
    assert by_group([(5, 5)] * 30 + [(0, 5)] * 70) == EXACT(wilson(30, 100), abs=0.01)
    assert by_group([(0, 4), (0, 6)]) == wilson(0, 10)
    assert by_group([(3, 10)]) == wilson(3, 10)
    assert by_group([]) == (0, 1)


def test_interval_by_group_holds_the_share():
    """In 95 % of drawings of people with shares of their own the interval holds the share of all people."""
    rng = np.random.default_rng(0)
    held = plain = 0
    for _ in range(1000):
        n = rng.integers(1, 12, 60)
        missed = rng.binomial(n, rng.beta(0.3, 2.7, 60))  # mean 0.1
        low, high = by_group(list(zip(missed.tolist(), n.tolist(), strict=True)))
        held += low <= 0.1 <= high
        low, high = wilson(int(missed.sum()), int(n.sum()))
        plain += low <= 0.1 <= high
    assert 925 <= held <= 985
    assert plain < 850


def test_interval_of_a_mean_over_collections():
    """It is Wilson's for one collection, follows the smallest, and holds the mean of the collections' shares."""
    assert of_mean([(80, 100)]) == EXACT(wilson(80, 100), abs=0.005)
    narrow, wide = of_mean([(800, 1000)] * 2), of_mean([(1580, 1960), (32, 40)])
    assert narrow[0] > wide[0] and narrow[1] < wide[1]
    rng, sizes, shares = np.random.default_rng(1), np.array([447, 240, 100, 80]), np.array([0.9, 0.65, 1.0, 0.6])
    bounds = [of_mean(list(zip(rng.binomial(sizes, shares), sizes, strict=True))) for _ in range(1000)]
    assert 925 <= sum(low <= shares.mean() <= high for low, high in bounds) <= 985


def test_misses_are_counted_by_speaker():
    """Misses of one speaker tell less than misses of several."""

    def interval(speakers):
        words = [Word(2 * i, 2 * i + 0.5, "yes", speaker=speaker) for i, speaker in enumerate(speakers)]
        found = [Detection("yes", 0.9, 2 * i, 2 * i + 0.7) for i in range(12)]
        return score([Heard("a", 99.0, words, found)], ["yes"]).to_dict()["false_rejects"]["interval_95"]

    alike, mixed = interval("aaaabbbbccccdddd"), interval("abcdabcdabcdabcd")
    assert mixed == [round(x, 5) for x in wilson(4, 16)] == interval([""] * 16)
    assert alike[0] < mixed[0] and alike[1] > mixed[1]


def test_multiply_accumulates_of_a_second(tmp_path):
    """A network of clips hears a window at each inference. A network with state takes each frame once."""
    clip = Model("commands12")
    assert macs_per_second(clip, 100) == 10 * clip.flat.macs
    assert macs_per_second(clip, 200) == 5 * clip.flat.macs
    (tmp_path / "step.tflite").write_bytes(pack(GRAPH, METADATA))
    step = Model(tmp_path / "step.tflite")
    frames = step.flat.inputs[0].shape[1]
    assert macs_per_second(step, 100) == macs_per_second(step, 20) == EXACT(step.flat.macs * 100 / frames)


def test_streams_are_made_once_of_the_reporting_half(folder, tmp_path):
    def made():
        return standard_streams(Folders(folder), tmp_path, clips=5, progress=silently)

    streams = made()
    assert list(streams.words) == ["quiet", "gated", "noise", "babble", "music"]
    assert {kind: len(some) for kind, some in streams.negatives.items()} == {
        kind: len(recordings(folder / "negatives" / name, "reporting").paths)
        for kind, name in (("speech", "speech"), ("sounds", "noise"), ("music", "music"))
    }
    assert streams.not_measured == {}
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(times) == 10
    again = made()
    assert again == streams and again.names == streams.names
    assert set(again.names) == {
        *streams.words,
        "negatives, speech",
        "negatives, sounds",
        "negatives, music",
        "independent",
    }
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == times
    longer = standard_streams(Folders(folder), tmp_path, conditions=["quiet"], clips=6, progress=silently)
    assert len(longer.words["quiet"].words) == 6 and len(list(tmp_path.iterdir())) == 12
    quiet, gated = (soundfile.read(streams.words[name].path, dtype="int16")[0] for name in ("quiet", "gated"))
    assert streams.words["quiet"].words == streams.words["gated"].words
    assert (quiet != 0).mean() > 0.7 > 0.45 > (gated != 0).mean()


def test_conditions_without_recordings(folder, tmp_path):
    (tmp_path / "speech_commands").symlink_to(folder / "speech_commands")
    measured, reasons = Folders(tmp_path).chosen()
    assert measured == ("quiet", "gated")
    assert list(reasons) == [name for name in CONDITIONS if name not in measured]
    assert "collect --from music" in reasons["music"]
    with pytest.raises(DatasetError, match=r"music: .*no such folder; `kws-host collect --from music"):
        Folders(tmp_path).chosen(["quiet", "music"])
    assert "music" in Folders(tmp_path, folder / "negatives" / "music").chosen()[0]
    with pytest.raises(DatasetError, match="tunes: no such folder"):
        Folders(tmp_path, tmp_path / "tunes").chosen()
    with pytest.raises(DatasetError, match="nothing to measure on"):
        Folders(tmp_path / "nowhere").chosen()


@pytest.fixture(scope="module")
def values(folder, tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    streams = standard_streams(Folders(folder), work, clips=12, progress=silently)
    return measure("commands12", streams, kernels="builtin", workers=1, progress=silently)


def test_what_is_measured(values):
    assert list(values["words"]) == ["quiet", "gated", "noise", "babble", "music"]
    assert values["words"]["quiet"]["false_rejects"]["words"] == 12
    assert list(values["negatives"]) == ["speech", "sounds", "music"]
    noise = values["negatives"]["sounds"]
    assert noise["count"] == 0 and len(noise["conditions"]) == 6
    assert noise["hours"] == EXACT(6 * noise["recorded_hours"], abs=1e-3)
    at = {point["threshold"]: point for point in values["det"]}
    assert at[0.3]["missed"]["quiet"] <= at[0.95]["missed"]["quiet"]
    assert at[0.3]["independent"]["heard"] >= at[0.99]["independent"]["heard"]
    assert json.loads(json.dumps(values)) == values


def test_places_are_counted_once(folder, tmp_path):
    """What fires in one place under several conditions has the interval of one event, times the conditions."""
    music = tmp_path / "negatives" / "music"
    music.mkdir(parents=True)
    for number in range(20):  # names of both halves
        (music / f"m{number}.wav").symlink_to(folder / "negatives" / "music" / "fires.wav")
    streams = standard_streams(Folders(tmp_path), tmp_path / "work", progress=silently)
    config = dataclasses.replace(Model("commands12").detector_config, threshold=0.4, thresholds={})
    found = measure("commands12", streams, config=config, workers=1, progress=silently)["negatives"]["music"]
    assert 2 <= found["places"] < found["count"]
    assert sum(one["count"] for one in found["conditions"].values()) == found["count"]
    low, high = found["interval_95"]
    assert low < found["per_hour"] < high


def test_table_has_a_column_for_each_model(values):
    text = table(
        {"old": values, "new": {**values, "independent": None, "test12": {"rate": 0.9, "interval_95": [0, 1]}}}
    )
    lines = text.splitlines()
    assert lines[0].split("|")[2].strip() == "old" and len({line.count("|") for line in lines}) == 1
    cells = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:4]] for line in lines}
    (heard,) = (
        row for name, row in cells.items() if "hiss: mean over 2 collections" in name and "commands heard," in name
    )
    assert heard[0].startswith(f"{100 * values['independent']['hiss']['heard']['mean']['rate']:.1f} % (")
    assert heard[1] == "not measured"
    assert cells["test12, INT8"] == ["not measured", "90.00 % (0.00 to 100.00)"]
    assert cells["multiply-accumulates a second of audio"][0] == f"{10 * Model('commands12').flat.macs / 1e6:.1f} M"
    assert "missed of 12 words over music 10 dB below" in cells


@pytest.mark.parametrize("lacking", [(), ("negatives",), ("words", "independent"), ("words",)])
def test_picture(values, tmp_path, lacking):
    """It is drawn of whatever was measured."""
    less = {**values, **{name: None if name == "independent" else {} for name in lacking}}
    plot_det({"old": less, "new": less}, tmp_path / "det.png")
    assert (tmp_path / "det.png").read_bytes().startswith(b"\x89PNG")


def test_known_results(tmp_path):
    old = {"streams": {"quiet": "quiet-1", "gated": "gated-1"}}
    (tmp_path / "r.json").write_text(json.dumps({"old": old}))
    assert known("old", tmp_path / "r.json", {"quiet": "quiet-1", "music": "music-1"}) == old
    with pytest.raises(SystemExit, match="has no new; it has old"):
        known("new", tmp_path / "r.json", {})
    with pytest.raises(SystemExit, match="old heard another stream for gated"):
        known("old", tmp_path / "r.json", {"gated": "gated-2"})


def test_command(run_cli, folder, tmp_path):
    common = ("stream-eval", "commands12", folder, "--standard", "--words", 4)
    done = run_cli(*common, "--conditions", "gated", "music", "-o", "out", package="host_tools")
    assert done.returncode == 0, done.stderr
    assert b"missed of 4 words over music 10 dB below" in done.stdout
    assert (tmp_path / "out" / "table.md").read_bytes() in done.stdout
    written = json.loads((tmp_path / "out" / "report.json").read_text())["commands12"]
    assert list(written["words"]) == ["gated", "music"] and written["negatives"] == {}
    assert (tmp_path / "out" / "det.png").stat().st_size > 10_000
    done = run_cli(*common, "--conditions", "independent", "--threshold", 0.4, "--json", package="host_tools")
    printed = json.loads(done.stdout)
    assert printed["detector"]["threshold"] == 0.4 and printed["independent"]["hiss"]["heard"]["mean"]["rate"] == 0.75


def test_command_refuses(run_cli, folder, tmp_path):
    common = ("stream-eval", "commands12", folder, "--standard")
    for wrong, told in (
        (("--conditions", "loud"), "invalid choice: 'loud'"),
        (("--rooms",), "--rooms does not go with --standard"),
        (("--errors", "x"), "--errors does not go with --standard"),
        (("--words", 0), "must be a whole number from 1"),
        (("--half", "reporting"), "--half does not go with --standard"),
    ):
        assert_usage_error(run_cli(*common, *wrong, package="host_tools"), told, program="kws-host")
    two = run_cli("stream-eval", "commands12", folder, folder, "--standard", package="host_tools")
    assert_usage_error(two, "more than one folder does not go with --standard", program="kws-host")
    alone = run_cli("stream-eval", "commands12", folder, "--conditions", "quiet", package="host_tools")
    assert_usage_error(alone, "--conditions goes with --standard", program="kws-host")
    missing = run_cli("stream-eval", "commands12", tmp_path, "--standard", package="host_tools")
    assert_one_line_error(missing, "speech_commands: no such folder", program="kws-host")
