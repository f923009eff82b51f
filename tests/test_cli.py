"""The commands, in processes of their own, as a user runs them."""

import dataclasses
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

from kws_edge import AudioFile, ConfigError, Model, Spotter, shipped_models, unpack
from kws_edge.cli.plot import Recorder, compared
from tests.conftest import assert_one_line_error, assert_usage_error

RATE = 16000


@pytest.fixture
def short(tmp_path, demo_stream):
    """Twelve seconds of the demo."""
    path = tmp_path / "short.wav"
    soundfile.write(path, soundfile.read(demo_stream, dtype="int16", frames=12 * RATE)[0], RATE)
    return path


def test_usage(run_cli):
    for wrong in ([], ["sing"], ["detect"], ["detect", "a.wav", "--threads", "0"]):
        failed = run_cli(*wrong)
        assert failed.returncode == 2
        assert b"usage: " in failed.stderr


def test_detect(run_cli, short):
    as_json = run_cli("detect", short, "--json")
    assert as_json.returncode == 0, as_json.stderr
    rows = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert len(rows) >= 2
    for row in rows:
        assert list(row) == ["file", "keyword", "score", "start_s", "end_s"]
        assert row["file"] == str(short)
        assert 0 <= row["start_s"] < row["end_s"] <= 12
    text = run_cli("detect", short).stdout.decode().splitlines()
    assert [line.split()[4] for line in text] == [row["keyword"] for row in rows]


def test_detect_options(run_cli, short):
    everything = run_cli("detect", short, "--json").stdout.splitlines()
    first = json.loads(everything[0])["keyword"]
    only = run_cli("detect", short, "--json", "--keywords", first).stdout.splitlines()
    assert {json.loads(line)["keyword"] for line in only} == {first}
    assert run_cli("detect", short, "--threshold", "1", "--json").stdout == b""
    none = run_cli("detect", short, "--threshold", "1")
    assert none.stdout.split() == [b"no", b"keyword"]
    assert run_cli("detect", short, "--threshold", "1", "--threshold", f"{first}=0.5", "--json").stdout
    assert_usage_error(run_cli("detect", short, "--threshold", "high"), "high")
    assert_usage_error(run_cli("detect", short, "--threshold", "7"), "--threshold", "from 0.001 to 1, got '7'")
    assert_usage_error(run_cli("detect", short, "--step-ms", "0"), "--step-ms")


def test_wake_word(run_cli, short):
    """Twelve seconds of the demo: yes, left, hello, stop, right, up."""
    options = ("--wake-word", "left", "--armed-s", "5", "--keywords", "stop,right", "--json")
    rows = [json.loads(line) for line in run_cli("detect", short, *options).stdout.splitlines()]
    assert [(row["keyword"], row.get("wake")) for row in rows] == [("left", True), ("stop", None)]
    options = ("--wake-word", "left", "--armed-s", "3")
    text = run_cli("detect", short, *options).stdout.decode().splitlines()
    assert [line.split()[4:] for line in text] == [["left", text[0].split()[5], "wake"]]
    live = run_cli("listen", "-", *options, input=short.read_bytes())
    assert live.stdout.decode().splitlines() == text
    assert b"for left, and 3 s after it for yes, no" in live.stderr
    assert_usage_error(run_cli("detect", short, "--armed-s", "3"), "--wake-word")
    own = Model().detector_config
    takes = f"{(own.refractory_ms + own.smoothing_ms) / 1000:g} s"
    assert_usage_error(run_cli("detect", short, "--wake-word", "up", "--armed-s", "1"), "armed_s=1", takes)
    assert_usage_error(run_cli("detect", short, "--wake-word", "up", "--keywords", "up"), "'up'")
    assert run_cli("detect", short, "--wake-word", "").stdout == run_cli("detect", short).stdout


def test_wake_word_in_the_demo(run_cli):
    """Of the 13 commands, only the two wake words and the commands that follow in time count."""
    done = run_cli("demo", "--fast", "--wake-word", "stop", "--json")
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "commands": 4, "heard": 4, "other_words": 13, "ignored": 13, "false": 0, "dropped": 0, "stopped": False
    }  # fmt: skip


def test_detect_goes_on_after_a_bad_file(run_cli, short, tmp_path):
    (tmp_path / "empty.wav").touch()
    failed = run_cli("detect", "empty.wav", short, "--json")
    assert_one_line_error(failed, "empty.wav: is empty")
    assert len(failed.stdout.splitlines()) >= 2


def test_plot(run_cli, short, tmp_path):
    pytest.importorskip("matplotlib", exc_type=ImportError, reason="matplotlib is not installed here")
    done = run_cli("detect", short, "--plot", "out.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.png", "short.wav"]
    assert_one_line_error(run_cli("detect", short, "--plot", "short.wav/out.png"), "--plot short.wav/out.png")
    assert_usage_error(run_cli("detect", short, short, "--plot", "out.png"), "one FILE")


def test_demo_says_by_its_status_whether_all_is_right(run_cli):
    assert run_cli("demo", "--fast").returncode == 0
    wrong = run_cli("demo", "--fast", "--threshold", "0.999", "--json")
    assert wrong.returncode == 1
    assert json.loads(wrong.stdout.splitlines()[-1])["heard"] < 13


def test_a_keywords_own_threshold_counts_in_whatever_order(run_cli, short):
    one, other = (
        run_cli("detect", short, *order).stdout
        for order in (
            ("--threshold", "0.99", "--threshold", "stop=0.3"),
            ("--threshold", "stop=0.3", "--threshold", "0.99"),
        )
    )
    assert one == other
    assert b"stop" in one


def test_stopping_the_demo_counts_no_unplayed_word(tmp_path):
    command = [sys.executable, "-m", "kws_edge", "demo", "--json"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline().startswith(b'{"file"')  # the first word
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=30)
    counted = json.loads(out.splitlines()[0])
    assert counted["stopped"] and counted["heard"] == counted["commands"] <= 2, counted
    assert process.returncode == 130, error


def test_plot_shows_what_the_detector_compares(model, demo_stream):
    """Detections are exactly where a smoothed posterior reaches the threshold of that time."""
    spotter = Spotter(model, detector_config=dataclasses.replace(model.detector_config, speech_margin=0.2))
    with AudioFile(demo_stream, sample_rate=16000) as audio:
        steps = list(spotter.steps(audio))
    smoothed, needed = compared(spotter, steps)
    reached = (smoothed >= needed)[:, np.array(spotter.detector.active)].any(axis=1)
    found = [step.detection is not None for step in steps]
    assert sum(found) > 5
    assert np.array_equal(reached, found)  # in this stream no other rule holds a detection back
    raw = np.array([step.posteriors for step in steps])
    assert (raw >= needed)[:, np.array(spotter.detector.active)].any(axis=1).sum() > sum(found)
    assert len(np.unique(needed)) > 1


def test_plot_of_a_long_recording_is_refused_before_it_is_heard(run_cli, short, tmp_path):
    """If the length is known, nothing is detected. A pipe is heard until it is too long."""
    pytest.importorskip("matplotlib", exc_type=ImportError, reason="matplotlib is not installed here")
    samples = np.tile(soundfile.read(short, dtype="int16")[0], 51)
    for name in ("long.flac", "long.wav"):
        soundfile.write(tmp_path / name, samples, RATE)
        failed = run_cli("detect", name, "--plot", "out.png")
        assert failed.stdout == b""
        assert_one_line_error(failed, f"{name}: 612 s are too much to draw", "at most 600 s")
    assert not (tmp_path / "out.png").exists()
    soundfile.write(tmp_path / "streamed.flac", samples[: 2 * RATE], RATE)
    data = bytearray((tmp_path / "streamed.flac").read_bytes())
    data[21] &= 0xF0  # the samples in all are 36 bits of STREAMINFO; 0 is unknown, as where a stream was recorded
    data[22:26] = bytes(4)
    (tmp_path / "streamed.flac").write_bytes(data)
    with AudioFile(tmp_path / "streamed.flac", sample_rate=RATE) as audio:
        assert audio.seconds is None
    recorder = Recorder("a pipe", RATE)
    with pytest.raises(ConfigError, match="a pipe: 601 s are too much to draw"):
        list(recorder.tap([samples[: 600 * RATE], samples[:1]]))


def test_plot_without_matplotlib(run_cli, short, tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not here')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    failed = run_cli("detect", short, "--plot", "out.png", env=environment)
    assert_one_line_error(failed, "pip install matplotlib")


def test_classify(run_cli, validation_paths):
    paths = validation_paths[:20]
    done = run_cli("classify", *paths, "--json", "--top", "2")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["file"] for row in rows] == [str(path) for path in paths]
    assert all(len(row["top"]) == 2 and row["top"][0][1] >= row["top"][1][1] for row in rows)
    right = sum(row["top"][0][0] == path.parent.name for row, path in zip(rows, paths, strict=True))
    assert right >= 17
    text = run_cli("classify", paths[0]).stdout.decode()
    assert text.startswith(f"{paths[0]}: {rows[0]['top'][0][0]} ")


def test_classify_says_what_it_leaves_out(run_cli, short):
    done = run_cli("classify", short)
    assert done.returncode == 0
    assert b"12.0 s; only the middle 1 s" in done.stderr


def test_info(run_cli, model):
    values = json.loads(run_cli("info", "--json").stdout)
    assert values["labels"] == list(model.labels)
    assert values["frontend"]["hash"] == model.frontend_config.hash
    assert values["frontend"]["feature_shape"] == [98, 40]
    assert values["quantisation"]["input"] == {
        "shape": [1, 98, 40, 1],
        "dtype": "int8",
        "scale": 1.0,
        "zero_point": -128,
    }
    assert values["runtime"]["name"] == model.interpreter.runtime
    assert values["sizes"]["file_bytes"] == Path(shipped_models()["commands12"]).stat().st_size
    assert values["provenance"]["training"]["seed"] is not None
    text = run_cli("info", "commands12").stdout.decode()
    assert "made best           epoch 0, val_loss 0.20754, val_accuracy 0.9637\n" in text
    assert "{" not in text
    for expected in ("yes, no, up", "40 htk mels", model.interpreter.version, "CC BY 4.0"):
        assert expected in text


def test_demo(run_cli, tmp_path):
    done = run_cli("demo", "--fast")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    summary = lines[-1].split()
    assert int(summary[2]) == 13  # commands in the script
    assert int(summary[0]) >= 10
    assert "0 samples dropped" in done.stderr.decode()
    counts = json.loads(run_cli("demo", "--fast", "--json").stdout.splitlines()[-1])
    assert counts["heard"] == int(summary[0])


@pytest.mark.sound
def test_demo_in_real_time(run_cli):
    """At its own pace the demo drops nothing. At twice the length of a step, nothing waits."""
    started = time.monotonic()
    done = run_cli("demo", "--json")
    assert 30 < time.monotonic() - started < 60
    assert json.loads(done.stdout.splitlines()[-1])["dropped"] == 0


def test_listen_to_standard_input(run_cli, short):
    samples = soundfile.read(short, dtype="int16")[0]
    expected = [json.loads(line) for line in run_cli("detect", short, "--json").stdout.splitlines()]
    for row in expected:
        row["file"] = "-"
    stereo = np.repeat(samples, 2).tobytes()
    for options, audio in (([], samples.tobytes()), ([], short.read_bytes()), (["--channels", "2"], stereo)):
        heard = run_cli("listen", "-", "--json", *options, input=audio)
        assert [row for row in map(json.loads, heard.stdout.splitlines()) if row.pop("time")] == expected
    plain = run_cli("listen", "-", input=samples.tobytes())
    assert b"\r" not in plain.stdout
    assert b"heard 12.0 s" in plain.stderr


def test_listen_errors(run_cli):
    assert_one_line_error(run_cli("listen", "-", input=b""), "no audio arrived")
    assert_usage_error(run_cli("listen", "file.wav"), "kws-edge detect")
    assert_usage_error(run_cli("listen", "-", "--rate", "0", input=b""), "--rate")


def test_bad_models(run_cli, tmp_path, short):
    flatbuffer, _ = unpack(Path(shipped_models()["commands12"]).read_bytes(), "shipped")
    (tmp_path / "page.tflite").write_text("<html>404</html>")
    (tmp_path / "cut.tflite").write_bytes(flatbuffer[:100_000])
    (tmp_path / "foreign.tflite").write_bytes(flatbuffer)
    for name, words in {
        "page.tflite": "web page",
        "cut.tflite": "truncated",
        "foreign.tflite": "--labels and --frontend",
        "missing.tflite": "no such file",
        ".": "is a folder",
    }.items():
        assert_one_line_error(run_cli("detect", short, "--model", name), words)
        if name != "foreign.tflite":  # which info describes
            assert_one_line_error(run_cli("info", name), words)


def test_foreign_model_on_the_command_line(run_cli, tmp_path, short):
    flatbuffer, metadata = unpack(Path(shipped_models()["commands12"]).read_bytes(), "shipped")
    (tmp_path / "foreign.tflite").write_bytes(flatbuffer)
    (tmp_path / "labels.txt").write_text("\n".join(metadata.labels) + "\n")
    (tmp_path / "front.json").write_text(json.dumps(metadata.frontend_config.to_dict()))
    expected = run_cli("classify", short, "--json").stdout
    for labels in ("labels.txt", ",".join(metadata.labels)):
        for frontend in ("logmel40", "front.json"):
            options = ["--model", "foreign.tflite", "--labels", labels, "--frontend", frontend]
            assert run_cli("classify", short, "--json", *options).stdout == expected
    good = metadata.frontend_config.to_dict()
    for name, text in {
        "deep.json": "[" * 200_000,
        "nan.json": json.dumps({**good, "hop_ms": float("nan")}),
        "huge.json": json.dumps({**good, "n_fft": 10**400}),
        "list.json": "[1]",
        "twice.json": '{"hop_ms": 10, "hop_ms": 10}',
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "mark.json").write_text(json.dumps(good), encoding="utf-8-sig")
    options = ["--model", "foreign.tflite", "--labels", "labels.txt", "--frontend", "mark.json"]
    assert run_cli("classify", short, "--json", *options).stdout == expected
    for frontend, words in {
        "melspec": "preset",
        "labels.txt": "not JSON",
        "deep.json": "nested",
        "nan.json": "NaN",
        "huge.json": "n_fft must be",
        "list.json": "dict of settings",
        "twice.json": "'hop_ms' occurs twice",
        ".": "preset",
    }.items():
        options[-1] = frontend
        assert_one_line_error(run_cli("classify", short, *options), words, frontend)


def test_label_files_of_other_tools(run_cli, tmp_path, short):
    """The same keywords are heard with a mark, UTF-16, CRLF, blank lines, or other names for silence."""
    flatbuffer, metadata = unpack(Path(shipped_models()["commands12"]).read_bytes(), "shipped")
    (tmp_path / "foreign.tflite").write_bytes(flatbuffer)
    shared = ["detect", short, "--json", "--model", "foreign.tflite", "--frontend", "logmel40"]
    expected = run_cli(*shared, "--labels", ",".join(metadata.labels)).stdout
    assert expected
    plain = "\n".join(metadata.labels)
    other = "\r\n\r\n".join(["0 Background Noise", "1 Unknown", *metadata.labels[2:], ""])
    for data in (
        b"\xef\xbb\xbf" + plain.replace("\n", "\r\n").encode(),
        plain.encode("utf-16"),
        b"\xfe\xff" + plain.encode("utf-16-be"),
        f"\n  {plain}  \n\n".encode(),
        other.encode("utf-8-sig"),
    ):
        (tmp_path / "labels.txt").write_bytes(data)
        assert run_cli(*shared, "--labels", "labels.txt").stdout == expected
    # In digital silence, which this model calls the first label with certainty.
    soundfile.write(tmp_path / "silence.wav", np.zeros(5 * RATE, np.int16), RATE)
    shared[1] = "silence.wav"
    assert run_cli(*shared, "--labels", "labels.txt").stdout == b""
    hush = ("--labels", ",".join(["hush", *metadata.labels[1:]]), "--threshold", "0.5")
    assert run_cli(*shared, *hush).stdout


def test_labels_that_are_none(run_cli, tmp_path, short):
    flatbuffer, metadata = unpack(Path(shipped_models()["commands12"]).read_bytes(), "shipped")
    (tmp_path / "foreign.tflite").write_bytes(flatbuffer)
    (tmp_path / "twice.txt").write_text("yes\n" * 12)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    (tmp_path / "evil.txt").write_text("\x1b[2J\n" + "\n".join(metadata.labels[1:]))
    (tmp_path / "large.txt").write_text("yes\n" * 300_000)
    (tmp_path / "empty.txt").touch()
    for labels, part in {
        "marvin": "12 outputs, but 1 label: marvin",  # a word: the label of a model with one output
        "hey-jarvis": "1 label: hey-jarvis",
        "missing.txt": "No such file",
        "no/labels": "No such file",
        ".": "neither labels with commas nor a file",
        "": "neither labels",
        "a,,b": "a name has 1 to 100 characters",
        "twice.txt": "'yes' occurs twice",
        "latin.txt": "no list of labels",
        "evil.txt": r"\x1b",
        "large.txt": "more than 1,048,576 bytes",
        "empty.txt": "1 to 1000 names",
    }.items():
        command = ("classify", short, "--model", "foreign.tflite", "--frontend", "logmel40", "--labels", labels)
        assert_one_line_error(run_cli(*command), part)


def test_muted_microphone_is_said(run_cli, demo_stream):
    """A constant input of any value is reported once, and its end, too. Detections do not change."""
    speech = soundfile.read(demo_stream, dtype="int16", frames=12 * RATE)[0]
    expected = len(run_cli("listen", "-", "--json", input=speech.tobytes()).stdout.splitlines())
    for value, what in ((0, "10 s of digital silence"), (-3, "10 s of the one value -3")):
        muted = np.full(25 * RATE, value, np.int16)
        pcm = np.concatenate([speech, muted[: 9 * RATE], speech, muted, speech]).tobytes()
        done = run_cli("listen", "-", "--json", input=pcm)
        assert len(done.stdout.splitlines()) == 3 * expected
        notices = [
            line for line in done.stderr.decode().splitlines() if "value" in line or "sil" in line or "ther" in line
        ]
        assert len(notices) == 2
        assert notices[0].startswith(f"kws-edge: {what}")
        assert "kws-edge doctor" in notices[0]
        assert notices[1] == "kws-edge: there is sound again"


def test_interrupt(short, tmp_path):
    """Ctrl-C ends listening at once, with a summary and success."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kws_edge", "listen", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    process.stdin.write(bytes(2 * RATE))
    process.stdin.flush()
    assert b"listening to standard input" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 0
    assert b"kws-edge: heard " in process.stderr.read()
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()


def test_closed_pipe_is_no_error(short):
    command = f"{sys.executable} -m kws_edge detect {short} {short} {short} --json | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, check=True)
    assert done.stdout.count(b"\n") == 1
    assert done.stderr == b""
