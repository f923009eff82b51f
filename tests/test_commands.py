"""Help, usage and messages of the three programs' commands, for people who use them for the first time."""

import argparse
import dataclasses
import datetime
import importlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

import kws_edge
import kws_edge.diagnostics.benchmark
import kws_edge.diagnostics.live_benchmark
from kws_edge import Detector, DetectorConfig, Model, RoomProfile, Spotter, shipped_models
from kws_edge.audio.capture import InputDevice
from kws_edge.audio.devices import find_device
from kws_edge.cli import devices, doctor, options
from kws_edge.cli.parser import Parser
from kws_edge.cli.say import say
from kws_edge.diagnostics.signal_quality import Finding
from kws_edge.errors import AudioError, KwsError, UsageError
from kws_edge.files import check_writable
from kws_edge.model.runtime import KERNELS, installed
from kws_edge.text import counted
from tests.conftest import assert_one_line_error, assert_usage_error

ROOT = Path(__file__).parent.parent
RATE = 16000
PROGRAMS = {"kws-edge": "kws_edge.cli", "kws-host": "host_tools.cli", "kws-firmware": "firmware_export.cli"}


def parsers(name, parser):
    """The parsers of a program, of its commands and of their commands, by name."""
    found = {name: parser}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command, one in action.choices.items():
                found |= parsers(f"{name} {command}", one)
    return found


def program(name):
    return importlib.import_module(PROGRAMS[name]).make_parser()


EVERY = {name: parser for one in PROGRAMS for name, parser in parsers(one, program(one)).items()}


@pytest.fixture
def short(tmp_path, demo_stream):
    """Twelve seconds of the demo: yes, left, hello, stop, right, up."""
    path = tmp_path / "short.wav"
    soundfile.write(path, soundfile.read(demo_stream, dtype="int16", frames=12 * RATE)[0], RATE)
    return path


@pytest.fixture
def config_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg" / "kws-edge"


def help_of(args, capsys, name="kws-edge"):
    """The help of a command, on one line."""
    with pytest.raises(SystemExit) as end:
        program(name).parse_args(args)
    assert end.value.code == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", EVERY)
def test_help_says_what_each_option_does_and_its_default(name, capsys):
    first, *command = name.split()
    shown = help_of([*command, "--help"], capsys, first)
    assert isinstance(EVERY[name], Parser)
    for word in ("None", "[]", "()", "(default: )", "False"):
        assert word not in shown, word
    for action in EVERY[name]._actions:
        assert action.help or isinstance(action, argparse._SubParsersAction), action
        if action.default and action.default != argparse.SUPPRESS and action.option_strings:
            assert "default" in EVERY[name]._get_formatter()._get_help_string(action), action


def test_help_groups_options():
    titles = {name: [g.title for g in parser._action_groups if g._group_actions] for name, parser in EVERY.items()}
    for name in ("detect", "listen"):
        assert {"model", "detection", "calibrated thresholds"} < set(titles[f"kws-edge {name}"])
    for name in ("listen", "calibrate", "bench", "doctor"):
        assert "audio" in titles[f"kws-edge {name}"]
    for name in ("kws-host stream-eval", "kws-firmware export", "kws-firmware report"):
        assert "detection" in titles[name]


@pytest.mark.parametrize(
    "args",
    [
        ["detect", "--help"],
        ["detect", "--model", "words36", "--help"],
        ["listen", "--help", "--model=micro12"],
        ["bench", "--model", "MINE", "-h"],
        ["listen", "--model", "words36", "--model", "MINE", "-h"],  # the last one counts
        ["demo", "--model", "gone.tflite", "-h"],
    ],
)
def test_help_gives_the_model_s_own_values_as_defaults(args, capsys, tmp_path):
    mine = tmp_path / "mine.tflite"
    mine.write_bytes(Path(shipped_models()["micro12"]).read_bytes())
    args = [str(mine) if word == "MINE" else word for word in args]
    shown = help_of(args, capsys)
    named = next((w for w in shipped_models() if any(a.endswith(w) for a in args)), "commands12")
    name, model = ("mine.tflite", Model(mine)) if str(mine) in args else (named, Model(named))
    d = model.detector_config
    assert f"The defaults below are those of {name}." in shown
    for setting in ("smoothing_ms", "speech_margin"):
        assert f"{d.about(setting)['help']} (default: {getattr(d, setting):g})" in shown
    thresholds = " ".join([f"{d.threshold:g}", *(f"{word}={value:g}" for word, value in d.thresholds.items())])
    assert f"repeatable (default: {thresholds})" in shown
    keywords = ", ".join(Detector(model.labels, d, step_s=0.1, clip_s=1.0).keywords)
    assert f"the others count as unknown (default: {keywords})" in shown


def test_help_of_the_firmware_gives_its_model_s_values(capsys):
    assert "those of words36." in help_of(["export", "words36", "--help"], capsys, "kws-firmware")


def test_parsing_reads_no_model_for_help(monkeypatch):
    monkeypatch.setattr(options, "_model_of", lambda words: pytest.fail("help was not asked for"))
    EVERY["kws-edge"].parse_args(["detect", "a.wav", "--threshold", "0.5"])


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_says_its_version(name, capsys):
    assert help_of(["--version"], capsys, name) == f"{name} {kws_edge.__version__}"


def test_kernels_have_one_default_everywhere():
    """This holds for every command that runs a model here. kws-firmware's kernels are those of the board."""
    actions = [action for parser in EVERY.values() for action in parser._actions if action.choices == KERNELS]
    assert len(actions) > 8
    ((default, about),) = {(action.default, action.help) for action in actions}
    assert default == "fast"
    assert all(f"{name}:" in about for name in KERNELS)


# Each option that kws-edge bench and listen share, with a value other than its default.
SHARED = {
    "model": "micro12", "labels": "a,b", "frontend": "logmel40", "runtime": "litert", "threads": 2,
    "kernels": "builtin", "keywords": "yes,no", "wake_word": "stop", "threshold": [("", 0.5), ("yes", 0.6)],
    "sensitivity": 0.25, "armed_s": 3.5, "smoothing_ms": 300.0, "speech_margin": 0.25, "refractory_ms": 500.0,
    "step_ms": 50.0,
}  # fmt: skip


def test_bench_passes_every_option_on_to_its_live_half():
    """This includes --speech-margin. Without it, another detector would be measured."""
    shared = {a.dest for a in EVERY["kws-edge listen"]._actions} & {a.dest for a in EVERY["kws-edge bench"]._actions}
    assert shared - {"help", "json", "seconds", "device", "rate", "channels"} == set(SHARED)
    given = options.given(argparse.Namespace(**SHARED))
    parsed = EVERY["kws-edge"].parse_args(["listen", *given])
    assert {name: getattr(parsed, name) for name in SHARED} == SHARED


def test_speech_margin_reaches_the_live_half_of_bench(monkeypatch):
    """The command lines of running processes show the options that listen is started with."""
    started = []
    monkeypatch.setattr(
        kws_edge.diagnostics.live_benchmark.subprocess, "Popen", lambda command, **_: started.append(command) or stop()
    )

    def stop():
        raise KwsError("seen")

    args = EVERY["kws-edge"].parse_args(["bench", "--speech-margin", "0.3", "--inferences", "1", "--seconds", "1"])
    with pytest.raises(KwsError, match="seen"):
        args.run(args)
    assert "--speech-margin=0.3" in started[0]


def test_bench_of_all_runtimes_leaves_out_what_does_not_load(run_cli, tmp_path):
    """TensorFlow is installed here but broken. The other runtimes are measured, and a line says why."""
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("raise ImportError('libfoo.so.1 is missing')")
    (tmp_path / "tensorflow-9.9.9.dist-info").mkdir()
    broken = {**os.environ, "PYTHONPATH": str(tmp_path)}
    quick = ("--inferences", "1", "--seconds", "0", "--json")
    done = run_cli("bench", "--runtime", "all", *quick, env=broken)
    assert done.returncode == 0, done.stderr
    measured = [result["runtime"] for result in json.loads(done.stdout)["results"]]
    assert measured == [name for name in installed() if name != "tensorflow"]
    why = "tensorflow 9.9.9 cannot be loaded (libfoo.so.1 is missing)"
    assert f"kws-edge: tensorflow is left out: {why}" in done.stderr.decode().splitlines()
    assert_one_line_error(run_cli("bench", "--runtime", "tensorflow", *quick, env=broken), why)
    assert_usage_error(run_cli("bench", "--runtime", "all,none"), "'none'")


def test_detect_plot_draws_the_raised_threshold(model, demo_stream, tmp_path, monkeypatch):
    """The line shows the threshold of each step. It is higher right after other speech."""
    pytest.importorskip("matplotlib", exc_type=ImportError, reason="matplotlib is not installed here")
    from kws_edge.cli import plot

    figures = []
    monkeypatch.setattr(plot, "save_figure", lambda figure, path: figures.append(figure))
    config = dataclasses.replace(model.detector_config, speech_margin=0.15)
    spotter, recorder = Spotter(model, detector_config=config), plot.Recorder("demo", RATE)
    with kws_edge.AudioFile(demo_stream, sample_rate=RATE) as audio:
        for step in spotter.steps(recorder.tap(audio)):
            recorder.step(step)
    plot.write_plot("demo.png", recorder, spotter, [], title="demo")
    ((*_, axes),) = (figure.axes for figure in figures)
    lines = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert lines
    for line in lines:
        low, high = np.unique(np.round(line.get_ydata(), 6))
        assert high - low == pytest.approx(0.15)
        assert round(float(low), 2) in {config.threshold_of(word) for word in spotter.detector.keywords}


def test_live_detections_have_the_wall_clock_time(run_cli, short):
    """Live detections have the local time with its offset. A recording's time of day is unknown, so it has none."""
    zone = {**os.environ, "TZ": "XXX-05:45"}
    before = time.time()
    for command in (["listen", "-"], ["demo", "--fast"]):
        done = run_cli(*command, "--json", input=short.read_bytes(), env=zone)
        rows = [row for row in map(json.loads, done.stdout.splitlines()) if "keyword" in row]
        assert len(rows) >= 2
        for row in rows:
            assert list(row)[:2] == ["file", "time"]
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+05:45", row["time"])
            assert before - 1 < datetime.datetime.fromisoformat(row["time"]).timestamp() < time.time() + 1
            assert row["start_s"] < row["end_s"]
    assert b'"time"' not in run_cli("detect", short, "--json").stdout
    assert datetime.datetime.fromisoformat(json.loads(run_cli("doctor", short, "--json").stdout)["date"]).tzinfo


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (["--threshold", "stp=0.5"], "'stp' is no keyword of this model; its keywords are yes, no"),
        (["--keywords", "yes,maybe"], "'maybe' is no keyword"),
        (["--keywords", "yes,yes"], "keywords: 'yes' occurs twice"),
        (["--keywords", ""], "keywords: a name has 1 to 100 characters"),
        (["--keywords", "silence"], "'silence' is no keyword"),
        (["--wake-word", "marvin"], "'marvin' is no keyword"),
        (["--keywords", "stop", "--wake-word", "stop"], "no keyword is left"),
        (["--armed-s", "3"], "there is no wake word"),
    ],
)
def test_words_that_the_model_does_not_know_are_wrong_usage(args, part, model):
    for command in ("detect a.wav", "listen -", "demo", "bench"):
        parsed = EVERY["kws-edge"].parse_args([*command.split(), *args])
        with pytest.raises(UsageError, match=re.escape(part)):
            options.detector_config(parsed, model)


def test_wrong_usage_exits_2(run_cli, short):
    for command in (["detect", short], ["calibrate", short, "--force"]):
        failed = run_cli(*command, "--keywords", "maybe", input=b"")
        assert_usage_error(failed, "'maybe' is no keyword of this model")
        assert failed.stderr.count(b"\n") == 1


def test_unknown_words_are_wrong_usage_of_the_other_programs(run_cli, short):
    wrong = ("--threshold", "stp=0.5")
    failed = run_cli("stream-eval", "commands12", short, *wrong, package="host_tools")
    assert_usage_error(failed, "'stp'", program="kws-host")
    failed = run_cli("calibrate", "commands12", short, *wrong, package="host_tools")
    assert_usage_error(failed, "'stp'", program="kws-host")
    failed = run_cli("export", "micro12", "-o", "out", *wrong, package="firmware_export")
    assert_usage_error(failed, "'stp'", program="kws-firmware")


def test_nothing_is_written_to_a_file_named_minus():
    """This holds for all files that commands write."""
    found = 0
    for name, parser in EVERY.items():
        for action in parser._actions:
            if {"-o", "--output", "--plot"} & set(action.option_strings):
                found += 1
                for wrong in ("-", ""):
                    with pytest.raises(argparse.ArgumentTypeError, match="names no file or folder"):
                        action.type(wrong)
                assert action.type("./-") == Path("./-"), name
    assert found > 15


def test_output_named_minus(run_cli, tmp_path):
    assert_usage_error(run_cli("bench", "-o", "-"), "--output", "'-' names no file")
    assert not os.listdir(tmp_path)


def test_calibrate_shows_each_keyword_s_thresholds(run_cli, short, config_home):
    """The model file's threshold and the chosen one are shown, with the false accepts of each."""
    done = run_cli("calibrate", short, "--force", "--budget", "900", "--json")
    result = json.loads(done.stdout)
    lines = run_cli("calibrate", short, "--force", "--budget", "900").stdout.decode().splitlines()
    start = next(i for i, line in enumerate(lines) if line.split()[:1] == ["keyword"])
    own = Model().detector_config
    for line, (word, chosen) in zip(lines[start + 1 :], result["thresholds"].items(), strict=False):
        assert line.split()[:3] == [word, f"{own.threshold_of(word):.2f}", f"{chosen:.2f}"]
        assert result["defaults"][word] == own.threshold_of(word)
    assert sum(int(line.split()[3]) for line in lines[start + 1 : start + 11]) == result["false_accepts"]
    (as_it_is,) = (line for line in lines if line.strip().startswith("as it is "))
    assert int(as_it_is.split()[3]) >= 2
    assert sum("the model file" in line for line in lines) <= 3


def test_doctor_tells_the_time_of_an_inference(run_cli, short):
    shown = re.search(r"([\d.]+) ms an inference", run_cli("doctor", short).stdout.decode())
    assert float(shown[1]) > 0


def test_info_is_readable(run_cli):
    """It prints JSON only with --json, and shows all facts that people ask for."""
    text = run_cli("info").stdout.decode()
    assert not re.search(r'[{}"]|\[\[', text)
    for part in ("commands missed, by threshold: 0.3: ", "metric validation clips 1653, float_accuracy 0.96"):
        assert part in " ".join(text.split())
    assert "miss_curve" in json.loads(run_cli("info", "--json").stdout)["metrics"]


def test_info_fits_a_terminal(tmp_path):
    """In a terminal of 90 columns, long lines continue below their text."""
    import pty

    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "90"}
    command = [sys.executable, "-m", "kws_edge", "info"]
    with subprocess.Popen(command, stdout=theirs, stdin=subprocess.DEVNULL, cwd=tmp_path, env=environment) as process:
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 4096):
                shown += data
        except OSError:  # the end of a terminal
            pass
        assert process.wait(timeout=30) == 0
    os.close(ours)
    lines = shown.decode().splitlines()
    assert max(map(len, lines)) <= 90
    assert sum(line.startswith(" " * 19) for line in lines) > 5


def test_one_is_not_plural(run_cli, short):
    assert (counted(1, "word"), counted(0, "word"), counted(1000, "word")) == ("1 word", "0 words", "1,000 words")
    done = run_cli("listen", "-", "--keywords", "left", input=short.read_bytes())
    assert b"heard 12.0 s, 1 detection\n" in done.stderr


def test_the_package_s_extras_are_installed_as_it_is_installed(run_cli):
    """The text names a checkout or a wheel. The package is on no index, where others may take its name."""
    for package in ("kws_edge", "host_tools", "firmware_export"):
        for path in (ROOT / package).rglob("*.py"):
            assert not re.search(r"install '?kws[-_]edge", path.read_text()), path
    shown = " ".join(EVERY["kws-host"].format_help().split())
    assert "pip install '.[host]' in a checkout" in shown


def test_python_keeps_the_model_s_settings_and_uses_room_profiles(model, short, config_home):
    """README shows this: one setting is changed, and the calibrated thresholds are used."""
    detector = dataclasses.replace(model.detector_config, wake_word="left", armed_s=5)
    changed = {
        f.name
        for f in dataclasses.fields(detector)
        if getattr(detector, f.name) != getattr(model.detector_config, f.name)
    }
    assert changed == {"wake_word", "armed_s"}
    assert DetectorConfig(wake_word="left").thresholds != detector.thresholds
    assert RoomProfile.find(model) is None
    raised = {"yes": 0.9, "left": 0.95}
    profile = RoomProfile.of(
        model, date="2026-01-02", hours=1.0, false_accepts=0, budget=1.0,
        detector_config=dataclasses.replace(model.detector_config, thresholds=raised),
    )  # fmt: skip
    config_home.mkdir(parents=True)
    profile.save(config_home / "room-commands12.json")
    found = RoomProfile.find(model)
    assert found == profile
    applied = found.applied(detector)
    assert applied == dataclasses.replace(detector, thresholds={**detector.thresholds, **raised})
    assert found.detector_config.differences(applied) == ["wake_word", "armed_s"]
    assert Spotter(model, detector_config=applied).detector.thresholds[model.labels.index("left")] == np.float32(0.95)
    (config_home / "room-commands12.json").write_text("torn {")
    with pytest.raises(kws_edge.ConfigError, match="calibrate anew"):
        RoomProfile.find(model)
    for name in ("gone.json", "no\0name"):
        with pytest.raises(kws_edge.ConfigError, match="no such room profile"):
            RoomProfile.load(name, model)


@pytest.mark.parametrize("args", [["detect"], ["detect", "a.wav", "--threads", "0"], ["listen", "--runtime", "x"]])
def test_wrong_usage_is_said_in_two_lines(args, capsys):
    """The lines say what must be given, and what is wrong. The rest is for --help."""
    with pytest.raises(SystemExit) as end:
        EVERY["kws-edge"].parse_args(args)
    assert end.value.code == 2
    usage, error = capsys.readouterr().err.splitlines()
    assert usage in ("usage: kws-edge detect [options] FILE [FILE ...]", "usage: kws-edge listen [options] [-]")
    assert error.startswith(f"kws-edge {args[0]}: error: ")


def test_bench_keeps_its_results_where_nobody_reads_the_tables(tmp_path):
    """A reader such as `head` may end early, but the results took minutes."""
    command = f"{sys.executable} -m kws_edge bench --inferences 1 --seconds 0 -o out.json | true"
    subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, check=True, timeout=120)
    assert json.loads((tmp_path / "out.json").read_text())["kind"] == kws_edge.diagnostics.benchmark.KIND


def test_demo_writes_nothing_but_json_with_json(run_cli):
    pytest.importorskip("matplotlib", exc_type=ImportError, reason="matplotlib is not installed here")
    done = run_cli("demo", "--fast", "--json", "--plot", "out.png")
    assert [json.loads(line) for line in done.stdout.splitlines()][-1]["heard"] == 13
    assert done.stderr.endswith(b"kws-edge: wrote out.png\n")


@pytest.mark.parametrize(
    ("args", "name"),
    [
        (["detect", "talk", "--plot", "talk"], "--plot talk"),
        (["detect", "short.wav", "--plot", "link.png"], "--plot link.png"),
        (["calibrate", "talk", "--force", "-o", "./talk"], "--output talk"),
        (["calibrate", "short.wav", "--force", "--model", "m.tflite", "-o", "m.tflite"], "--output m.tflite"),
        (["bench", "--model", "m.tflite", "-o", "m.tflite"], "--output m.tflite"),
        (["bench", "-o", "new.png", "--plot", "./new.png"], "--plot new.png"),
        (["demo", "--fast", "--labels", "talk", "--plot", "talk"], "--plot talk"),
    ],
)
def test_no_output_takes_the_place_of_an_input(run_cli, short, tmp_path, args, name):
    """An input is recognised under any name, because a lost recording does not come again. It is wrong usage."""
    if "--plot" in args:
        pytest.importorskip("matplotlib", exc_type=ImportError, reason="matplotlib is not installed here")
    (tmp_path / "talk").write_bytes(short.read_bytes())
    (tmp_path / "link.png").symlink_to(short)
    (tmp_path / "m.tflite").write_bytes(Path(shipped_models()["micro12"]).read_bytes())
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    failed = run_cli(*args)
    assert_usage_error(failed, f"{name}: is what this command reads, or writes already")
    assert failed.stdout == b""
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_output_may_be_a_device_that_is_read(tmp_path):
    check_writable(os.devnull, apart=[os.devnull])
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_writable(pipe, apart=[pipe, None, tmp_path / "missing"])


@pytest.mark.parametrize("command", [["detect", "short.wav"], ["demo"], ["bench"]])
def test_a_picture_that_cannot_be_written_is_known_before_the_work(run_cli, short, tmp_path, command):
    pytest.importorskip("matplotlib", exc_type=ImportError, reason="matplotlib is not installed here")
    failed = run_cli(*command, "--plot", "out.foo")
    assert_usage_error(failed, "--plot out.foo: no picture has the ending 'foo'", "png")
    (tmp_path / "file").touch()
    failed = run_cli(*command, "--plot", "file/out.png")
    assert_one_line_error(failed, "--plot file/out.png")
    assert failed.stdout == b""


def test_plot_of_what_is_too_short_for_a_frame(run_cli, tmp_path):
    """The error is not one of Matplotlib's."""
    pytest.importorskip("matplotlib", exc_type=ImportError, reason="matplotlib is not installed here")
    soundfile.write(tmp_path / "click.wav", np.zeros(100, np.int16), RATE)
    assert run_cli("detect", "click.wav", "--plot", "OUT.PNG").stderr == b"kws-edge: wrote OUT.PNG\n"


def test_a_microphone_is_chosen_only_where_one_is_heard(run_cli, short):
    for command in (["listen", "-"], ["calibrate", "-"], ["calibrate", short, "--force"], ["doctor", short]):
        assert_usage_error(run_cli(*command, "--device", "usb", input=b""), "--device usb: ", "no microphone")


def test_a_terminal_obeys_no_name_of_a_device(monkeypatch, capsys):
    """USB devices choose their names, and every program may name a source."""
    odd = InputDevice(None, "a\x1b[2Jb", "PulseAudio", 1, 16000, False, "c\nd\x9b2J")
    monkeypatch.setattr(devices, "input_devices", lambda: [odd])
    devices.run(argparse.Namespace(json=False))
    shown = capsys.readouterr().out
    assert "a\\x1b[2Jb" in shown
    assert shown.endswith("c d\\x9b2J\n")
    say(f"microphone {odd.name} is back")
    report = doctor.Report(shown=True)
    report.found(doctor.DEVICE, Finding("wrong-input", f"{odd.name} has sound", f"--device {odd.name}"))
    report.print()
    told = capsys.readouterr()
    assert (told.out + told.err).count("a\\x1b[2Jb") == 3
    assert "\x1b" not in told.out + told.err


def test_no_name_names_no_device():
    """An empty name may come from an unset variable of a script."""
    for wanted in ("", " "):
        with pytest.raises(AudioError, match=f"no input device '{wanted}'"):
            find_device(wanted, [InputDevice(0, "only one", "ALSA", 1, 16000, True)])
