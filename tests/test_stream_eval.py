"""The shipped file on streams, with the real chain, replays, reports, and the command."""

import csv
import dataclasses
import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from host_tools.data.annotations import Word, labels_beside, read_labels, write_labels
from host_tools.errors import DatasetError
from host_tools.evaluation.scoring import CONFUSION, FALSE_ACCEPT, HIT, MISS
from host_tools.evaluation.stream_audio import Condition, Stream, find_streams, samples_of
from host_tools.evaluation.stream_inference import hear, hear_all
from host_tools.evaluation.stream_replay import replay, score_replayed
from host_tools.evaluation.stream_reports import evaluate_streams
from kws_edge import AudioFile, ConfigError, DetectorConfig, Model, Spotter, shipped_models, unpack
from tests.conftest import assert_one_line_error, assert_usage_error, peak_mb
from tests.tones import RATE

pytestmark = pytest.mark.host

SETTINGS = {
    "the model's own": {},
    "quick": {"smoothing_ms": 0, "threshold": 0.4, "refractory_ms": 0, "hysteresis": 0.0},
    "slow": {"smoothing_ms": 700, "threshold": 0.5, "refractory_ms": 1500},
    "by keyword": {"threshold": 0.9, "thresholds": {"stop": 0.3, "yes": 0.4}},
    "fewer keywords": {"keywords": ("stop", "yes"), "threshold": 0.3},
}


@pytest.fixture(scope="module")
def demo_track(model, demo_stream):
    with AudioFile(demo_stream, sample_rate=RATE) as audio:
        return hear(model, audio, model.detector_config).track


@pytest.fixture
def short(tmp_path, demo_stream):
    """Twelve seconds of the demo that end within its seventh word, with labels of the words before."""
    path = tmp_path / "short.flac"
    soundfile.write(path, soundfile.read(demo_stream, dtype="int16", frames=12 * RATE)[0], RATE)
    said = [(0.5, 0.92, "yes"), (2.19, 2.59, "left"), (5.87, 6.35, "stop"), (7.63, 8.1, "right"), (9.3, 9.59, "up")]
    write_labels(path.with_suffix(".csv"), [Word(*word) for word in said])
    return path


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_replay_equals_the_live_run(model, demo_stream, demo_track, settings):
    """Posteriors that were heard with other settings give the same detections to the last bit."""
    config = dataclasses.replace(model.detector_config, **settings)
    with AudioFile(demo_stream, sample_rate=RATE) as audio:
        live = list(Spotter(model, detector_config=config).detections(audio))
    assert len(live) >= 3
    assert replay(demo_track, config) == live


def test_replay_equals_the_live_run_at_the_end(model, short):
    """The stream ends in a word. Detections in the silence after the end count at its end."""
    samples = soundfile.read(short, dtype="int16", frames=round(9.6 * RATE))[0]
    config = dataclasses.replace(model.detector_config, threshold=0.5)
    heard = hear(model, [samples], config)
    assert heard.detections[-1].end_s == heard.track.duration_s == 9.6
    assert tuple(replay(heard.track, config)) == heard.detections


def test_posteriors_are_kept_exactly_and_small(model, demo_stream, demo_track):
    with AudioFile(demo_stream, sample_rate=RATE) as audio:
        steps = list(Spotter(model).steps(audio))
    np.testing.assert_array_equal(demo_track.posteriors(), [step.posteriors for step in steps])
    assert demo_track.times_s.tolist() == [step.time_s for step in steps]
    assert demo_track.outputs.dtype == np.int8
    assert demo_track.duration_s == soundfile.info(demo_stream).duration


def test_replay_refuses_another_step(demo_track, model):
    with pytest.raises(ConfigError, match=r"step_ms=50.*every 100 ms"):
        replay(demo_track, dataclasses.replace(model.detector_config, step_ms=50))


def test_chunked_equals_whole(model, short):
    samples = soundfile.read(short, dtype="int16")[0]
    whole = hear(model, [samples], model.detector_config)
    for size in (160, 7001):
        cut = hear(model, (samples[i : i + size] for i in range(0, len(samples), size)), model.detector_config)
        np.testing.assert_array_equal(cut.track.outputs, whole.track.outputs)
        assert cut.detections == whole.detections


def test_the_demo(demo_stream):
    """Every command is heard once, soon after it is said, and nothing else is. The sweep has the live run's point."""
    threshold = 0.55
    config = dataclasses.replace(Model().detector_config, threshold=threshold, thresholds={})
    report = evaluate_streams(
        "commands12", find_streams([demo_stream]), config=config, thresholds=(0.3, threshold, 1.0), kernels="builtin"
    )
    (result,) = report.results
    values = result.score.to_dict()
    assert values["false_rejects"]["count"] == 0
    assert values["false_rejects"]["words"] == 13
    assert values["false_accepts"]["count"] == values["confusions"] == values["duplicates"]["count"] == 0
    assert 0 < values["delay_ms"]["p50"] < 500
    by_threshold = dict(result.sweep)
    assert by_threshold[threshold] == result.score
    assert by_threshold[1.0].false_rejects == 13
    assert by_threshold[0.3].false_rejects == 0
    assert 0 < report.rtf < 1


def test_wrong_labels_give_every_kind_of_error(short, tmp_path):
    """The labels are changed to contradict correct detections."""
    said = [(0.5, 0.92, "yes"), (2.19, 2.59, "go"), (4.0, 4.6, "stop"), (7.63, 8.1, "right"), (9.3, 9.59, "up")]
    streams = [Stream(short, tuple(Word(*word) for word in said))]
    report = evaluate_streams("commands12", streams, thresholds=(0.5,))
    kinds = {(e.kind, e.said, e.keyword) for e in report.results[0].score.events}
    assert {(HIT, "yes", "yes"), (CONFUSION, "go", "left"), (MISS, "go", None), (MISS, "stop", None)} < kinds
    assert (FALSE_ACCEPT, None, "stop") in kinds
    report.write(tmp_path / "report")
    (clip,) = (tmp_path / "report" / "false_accepts").glob("*.wav")
    event = next(e for e in report.results[0].score.of_kind(FALSE_ACCEPT))
    assert clip.name == f"0000_short_{event.time_s:.2f}s_stop_{event.score:.2f}.wav"
    samples = soundfile.read(clip, dtype="int16")[0]
    at = round((event.time_s - 1.4) * RATE)
    np.testing.assert_array_equal(samples, soundfile.read(short, dtype="int16", start=at, frames=RATE * 3 // 2)[0])
    report.write(tmp_path / "report")
    assert len(list((tmp_path / "report" / "false_accepts").iterdir())) == 1


def test_gains_and_rooms(short):
    plain = np.concatenate(list(samples_of(Stream(short), RATE, Condition())))
    quiet = np.concatenate(list(samples_of(Stream(short), RATE, Condition(-20))))
    np.testing.assert_allclose(quiet, plain / 10, atol=0.51)
    loud = np.concatenate(list(samples_of(Stream(short), RATE, Condition(40))))
    assert loud.max() == 32767 and loud.min() == -32768
    room = np.concatenate(list(samples_of(Stream(short), RATE, Condition(room=True), seed=1)))
    assert len(room) == len(plain)
    np.testing.assert_array_equal(
        room, np.concatenate(list(samples_of(Stream(short), RATE, Condition(room=True), seed=1)))
    )
    assert (room != np.concatenate(list(samples_of(Stream(short), RATE, Condition(room=True), seed=2)))).any()
    heard = [
        hear_all("commands12", [Stream(short)], Model().detector_config, conditions=[c])
        for c in (Condition(), Condition(-100))
    ]
    assert len(heard[0][0].detections) >= 4
    assert not heard[1][0].detections


def test_a_room_is_one_convolution_however_the_blocks_are_cut(short):
    """The convolution by blocks equals that of the whole stream."""
    from host_tools.config import AugmentConfig
    from host_tools.sampling.augment import room_response

    rng, ranges = np.random.default_rng(7), AugmentConfig()
    response = room_response(rng, RATE, rng.uniform(*ranges.rt60_ms), rng.uniform(*ranges.direct_db))
    samples = soundfile.read(short, dtype="int16")[0]
    expected = np.clip(np.convolve(samples, response)[: len(samples)], -32768, 32767)
    room = np.concatenate(list(samples_of(Stream(short), RATE, Condition(room=True), seed=7)))
    np.testing.assert_allclose(room, expected, atol=0.51)


def test_processes_give_what_one_does(tmp_path, demo_stream):
    """Five streams of half a minute go to several processes."""
    streams = find_streams([demo_stream] * 5)
    config = dataclasses.replace(Model().detector_config, threshold=0.5)
    several = hear_all("commands12", streams, config, thresholds=(0.4,), workers=2)
    one = hear_all("commands12", streams[:1], config, thresholds=(0.4,), workers=1)
    for heard in several:
        assert heard.detections == one[0].detections
        assert heard.swept == one[0].swept
        np.testing.assert_array_equal(heard.track.outputs, one[0].track.outputs)
    tracks = [heard.track for heard in several]
    assert score_replayed(streams, tracks, config).words == 5 * 13


def test_find_streams(tmp_path, short):
    folder = tmp_path / "negatives"
    folder.mkdir()
    for speaker in range(8):
        soundfile.write(folder / f"{speaker}-1-0001.wav", np.zeros(RATE), RATE)
    halves = [find_streams([folder], half=half) for half in ("training", "reporting")]
    assert sorted(s.path for half in halves for s in half) == sorted(folder.iterdir())
    assert all(halves) and not any(s.words for s in halves[0])
    assert len(find_streams([short, folder])) == 9
    assert len(find_streams([short])[0].words) == 5
    other = tmp_path / "other.txt"
    other.write_text("1\t2\tyes\n")
    assert find_streams([short], truth=[other])[0] == Stream(short, (Word(1, 2, "yes"),), other)
    for paths, options, complaint in (
        ([short, short], {"truth": [other]}, "1 label files for 2 recordings"),
        ([folder], {"truth": [other]}, "is a folder"),
        ([tmp_path / "none.wav"], {}, "none.wav: no such file"),
    ):
        with pytest.raises(DatasetError, match=complaint):
            find_streams(paths, **options)


def test_keywords_that_are_also_said_do_not_count(run_cli, short, tmp_path):
    """Without labels every keyword of the stream is a false accept. With the list of optional words, none is."""
    words = read_labels(labels_beside(short))
    soundfile.write(tmp_path / "speech.flac", *soundfile.read(short, dtype="int16"))
    rows = [f"speech,{w.start_s},{w.end_s},{w.label}" for w in words]
    (tmp_path / "said.csv").write_text("\n".join(["recording,start_s,end_s,label", *rows]))
    run = functools.partial(run_cli, "stream-eval", "commands12", "speech.flac", "--json", package="host_tools")
    counted = json.loads(run().stdout)["conditions"][0]
    excused = json.loads(run("--also-said", "said.csv").stdout)["conditions"][0]
    assert counted["genuine"] == 0 < counted["false_accepts"]["count"] == excused["genuine"]
    assert excused["false_accepts"]["count"] == excused["false_rejects"]["words"] == 0
    (tmp_path / "said.csv").write_text("start_s,end_s,label\n1,2,yes\n")
    assert_one_line_error(run("--also-said", "said.csv"), "no column 'recording'", program="kws-host")


def test_stream_eval_takes_a_foreign_model(run_cli, short, tmp_path):
    """A bare flatbuffer works with given labels and front end, also in several processes."""
    flatbuffer, metadata = unpack(Path(shipped_models()["micro12"]).read_bytes(), "micro12")
    (tmp_path / "foreign.tflite").write_bytes(flatbuffer)
    (tmp_path / "frontend.json").write_text(json.dumps(metadata.frontend_config.to_dict()))
    detector = ("--threshold", "0.5", "--smoothing-ms", "300", "--json")
    foreign = ("--labels", ",".join(metadata.labels), "--frontend", "frontend.json")
    run = functools.partial(run_cli, "stream-eval", package="host_tools")
    own = json.loads(run("micro12", short, *detector).stdout)["conditions"]
    other = json.loads(run("foreign.tflite", short, *foreign, *detector).stdout)["conditions"]
    assert own == other
    assert own[0]["false_rejects"]["words"] == 5
    arguments = {"labels": metadata.labels, "frontend_config": metadata.frontend_config, "workers": 2}
    streams = find_streams([short] * 3)
    heard = hear_all(tmp_path / "foreign.tflite", streams, metadata.detector_config, **arguments)
    expected = hear_all("micro12", streams, metadata.detector_config, workers=1)
    assert [h.detections for h in heard] == [h.detections for h in expected]
    failed = run("foreign.tflite", short)
    assert_one_line_error(failed, "--labels and --frontend", program="kws-host")
    moved = short.with_suffix(".csv").rename(tmp_path / "said.csv")
    truth = json.loads(run("foreign.tflite", short, *foreign, *detector, "--truth", moved).stdout)["conditions"]
    assert truth[0]["false_rejects"] == own[0]["false_rejects"]


def test_labels_of_another_recording_are_refused(short):
    with pytest.raises(DatasetError, match=r"labels.csv: 'go' at 13 s, but .*short.flac ends at 12.00 s"):
        evaluate_streams("commands12", [Stream(short, (Word(13, 14, "go"),), "labels.csv")], thresholds=())


def test_command(run_cli, tmp_path, short):
    done = run_cli("stream-eval", "commands12", short, "--gains", -12, 0, "--rooms", "-o", "out", package="host_tools")
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    for part in ("5 keywords", "RTF", "-12 dB, in rooms", "  stop", "  0.95", "wrote out/report.json"):
        assert part in text
    values = json.loads((tmp_path / "out" / "report.json").read_text())
    ways = ("", ", in rooms", ", gated")
    assert [c["name"] for c in values["conditions"]] == [f"{gain} dB{way}" for way in ways for gain in ("-12", "+0")]
    assert values["conditions"][1]["false_rejects"]["count"] == 0
    assert len(values["conditions"][1]["det"]) == 14
    assert DetectorConfig.from_dict(values["detector"]) == Model().detector_config
    for name in ("det.png", "timeline.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")

    deaf = ("stream-eval", "commands12", short, "--threshold", "1", "--json")
    as_json = json.loads(run_cli(*deaf, package="host_tools").stdout)
    assert as_json["detector"]["threshold"] == 1
    assert as_json["conditions"][0]["false_rejects"]["count"] == 5


def test_command_errors(run_cli, tmp_path, short):
    run = lambda *args: run_cli("stream-eval", *args, package="host_tools")  # noqa: E731
    (tmp_path / "empty.wav").touch()
    assert_one_line_error(run("commands12", "none.wav"), "none.wav: no such file or folder", program="kws-host")
    assert_one_line_error(run("none.tflite", short), "none.tflite", program="kws-host")
    assert_one_line_error(run("commands12", short, "-o", "empty.wav"), "empty.wav: no folder", program="kws-host")
    assert_usage_error(run("commands12", short, "--workers", 0), "--workers", program="kws-host")
    assert_usage_error(run("commands12", short, "--gains", "nan"), "--gains", program="kws-host")
    empty = run("commands12", "empty.wav")
    assert empty.returncode == 1 and b"kws-host: empty.wav: is empty" in empty.stderr
    assert b"Traceback" not in empty.stderr
    wrong = run("commands12", short, "--keywords", "maybe")
    assert wrong.returncode == 2 and b"'maybe' is no" in wrong.stderr and b"Traceback" not in wrong.stderr
    (tmp_path / "short.csv").write_text("start_s,end_s,label\n1,2\n")
    assert_one_line_error(run("commands12", "short.flac"), "short.csv, line 2", program="kws-host")


def test_an_error_in_a_process_is_one_line(run_cli, tmp_path):
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(100 * RATE, np.int16), RATE)
    (tmp_path / "c.wav").write_bytes(b"RIFF nonsense")
    failed = run_cli("stream-eval", "commands12", "a.wav", "b.wav", "c.wav", package="host_tools")
    assert failed.returncode == 1
    assert b"Traceback" not in failed.stderr
    assert failed.stderr.splitlines()[-1].startswith(b"kws-host: c.wav: is RIFF of another kind, not audio")


@pytest.mark.parametrize("after_s", [0.3, 3])
def test_ctrl_c(tmp_path, after_s):
    """Ctrl-C ends everything at once without a traceback, while processes start or work."""
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.flac", np.zeros(3600 * RATE, np.int16), RATE)
    command = [sys.executable, "-m", "host_tools", "stream-eval", "commands12", "a.flac", "b.flac"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=tmp_path, start_new_session=True, **pipes)
    assert process.stderr.read(8) == b"\rhearing"
    time.sleep(after_s)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)  # to all processes, as a terminal does
    start = time.monotonic()
    _, error = process.communicate(timeout=60)  # ends when every process has closed the pipe
    assert process.returncode == 130, error
    assert b"Traceback" not in error
    assert error.rstrip().endswith(b"kws-host: interrupted")
    assert time.monotonic() - start < 5


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux gives it")
def test_memory_does_not_grow_with_the_stream(tmp_path):
    """An hour takes at most 2 MB more than ten minutes, though its samples alone are 96 MB more."""
    noise = (np.random.default_rng(0).standard_normal(60 * RATE) * 300).astype(np.int16)
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from host_tools.evaluation.stream_audio import Condition, Stream\n"
        "from host_tools.evaluation.stream_inference import hear_all\n"
        "from kws_edge import Model\n"
        "stream, options = Stream(Path(sys.argv[1])), {'thresholds': (0.5,), 'conditions': [Condition(3, True)]}\n"
        "hear_all('commands12', [stream], Model().detector_config, workers=1, **options)\n"
    )
    peaks = []
    for minutes in (10, 60):
        path = tmp_path / f"{minutes}.wav"
        soundfile.write(path, np.tile(noise, minutes), RATE)
        peaks.append(peak_mb(script, path))
    assert peaks[1] - peaks[0] < 2, peaks


def test_errors_of_streams_to_hear(run_cli, short, tmp_path):
    """Missed words, confusions and false accepts are cut out with a second around each. A table has the posteriors."""
    said = [(0.5, 0.92, "yes"), (2.19, 2.59, "go"), (4.0, 4.6, "stop"), (7.63, 8.1, "right"), (9.3, 9.59, "up")]
    streams = [Stream(short, tuple(Word(*word) for word in said))]
    conditions = [Condition(), Condition(gated=True)]
    report = evaluate_streams("commands12", streams, conditions=conditions, thresholds=())
    line = report.write_errors(tmp_path / "errors")
    with open(tmp_path / "errors" / "errors.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["file"] for row in rows} | {"errors.csv"} == {p.name for p in (tmp_path / "errors").iterdir()}
    plain = [row for row in rows if row["condition"] == "+0 dB"]
    kinds = {(row["kind"], row["said"], row["heard"]) for row in plain}
    assert kinds == {("missed", "go", ""), ("missed", "stop", ""), ("confused", "go", "left"),
                     ("false accept", "", "stop")}  # fmt: skip
    missed = [float(row[f"p({row['said']})"]) for row in rows if row["kind"] == "missed"]
    assert missed == sorted(missed)
    assert "missed words" in line and f"of {len(rows)} of them" in line

    (event,) = (e for e in report.results[0].score.of_kind(FALSE_ACCEPT))
    row = next(row for row in plain if row["kind"] == "false accept")
    assert float(row["p(stop)"]) == pytest.approx(event.score, abs=1e-4)
    assert row["file"] == f"false_accept_0001_as_stop_{event.score:.2f}_short_{event.time_s:.2f}s.wav"
    samples = soundfile.read(tmp_path / "errors" / row["file"], dtype="int16")[0]
    start = round((event.start_s - 1) * RATE)
    expected = soundfile.read(short, dtype="int16", start=start, stop=round((event.time_s + 1) * RATE))[0]
    np.testing.assert_array_equal(samples, expected)
    gated = next(row for row in rows if row["said"] == "stop" and "gated" in row["condition"])
    assert not soundfile.read(tmp_path / "errors" / gated["file"], dtype="int16")[0][: RATE // 2].any()

    with pytest.raises(DatasetError, match="errors: is there already"):
        report.write_errors(tmp_path / "errors")
    report.write_errors(tmp_path / "few", most=1)
    assert len(list((tmp_path / "few").glob("*.wav"))) == 3
    assert len((tmp_path / "few" / "errors.csv").read_text().splitlines()) == 1 + len(rows)
    run = functools.partial(run_cli, "stream-eval", "commands12", short, package="host_tools")
    refused = run("--errors", "few")
    assert_one_line_error(refused, "few: is there already; name a new folder", program="kws-host")
    assert_usage_error(run("--errors", "new", "-o", "new/report"), "holds the folder of -o", program="kws-host")
    done = run("--errors", "new", "--threshold", "0.95", "--no-gated")
    assert done.returncode == 0, done.stderr
    assert b"wrote new: 5 missed words, 0 confusions, 0 false accepts" in done.stdout


def test_false_accepts_of_streams_without_words_are_given_too(run_cli, short, tmp_path):
    """Words leave less room for false accepts, so the rate over all hours is lower than without words."""
    soundfile.write(tmp_path / "speech.flac", *soundfile.read(short, dtype="int16"))
    run = functools.partial(run_cli, "stream-eval", "commands12", short, package="host_tools")
    done = run("speech.flac", "-o", "out")
    assert done.returncode == 0, done.stderr
    plain, gated = json.loads((tmp_path / "out" / "report.json").read_text())["conditions"]
    hours = 12 / 3600
    assert (plain["hours"], plain["hours_without_words"]) == pytest.approx((2 * hours, hours), abs=1e-4)
    everywhere, wordless = plain["false_accepts"], plain["false_accepts_without_words"]
    assert everywhere["count"] == wordless["count"] > 0
    assert wordless["per_hour"] == pytest.approx(2 * everywhere["per_hour"], rel=1e-3)
    assert plain["det"][5]["false_accepts_without_words"]["count"] > 0
    assert sum(w["false_accepts_without_words"]["count"] for w in plain["keywords"].values()) == wordless["count"]
    assert (gated["hours_without_words"], gated["false_accepts_without_words"]["per_hour"]) == (0, None)
    text = done.stdout.decode()
    assert "in the 0.00333 h without words" in text
    assert f"{wordless['per_hour']:7.2f} (" in text
    assert "without words" not in run().stdout.decode()
