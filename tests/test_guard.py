"""Commands that are closed, filled or interrupted give one line and a status of their own, never a traceback."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from kws_edge import shipped_models, unpack
from tests.conftest import assert_one_line_error

RATE = 16000
DEMO = "{demo}"
COMMANDS = {
    "detect": ("kws_edge", "detect", DEMO),
    "detect-json": ("kws_edge", "detect", DEMO, "--json"),
    "classify": ("kws_edge", "classify", DEMO),
    "info": ("kws_edge", "info"),
    "demo": ("kws_edge", "demo", "--fast"),
    "doctor": ("kws_edge", "doctor", DEMO),
    "bench": ("kws_edge", "bench", "--seconds", "0", "--inferences", "10"),
    "help": ("kws_edge", "--help"),
    "version": ("kws_edge", "--version"),
    "host-help": ("host_tools", "--help"),
    "firmware-help": ("firmware_export", "--help"),
}
PROGRAMS = {"kws_edge": "kws-edge", "host_tools": "kws-host", "firmware_export": "kws-firmware"}


def shell(arguments, redirection, demo, **options):
    """Run a command under a shell's redirection."""
    command = [sys.executable, "-m", *(str(demo) if argument == DEMO else argument for argument in arguments)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"} | options.pop("env", {})
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *command],
        capture_output=True,
        timeout=120,
        check=False,
        env=environment,
        **options,
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_output_that_cannot_be_written(name, demo_stream):
    """An output that is full or closed gives one line and status 74."""
    for redirection in (">/dev/full", ">&-"):
        done = shell(COMMANDS[name], redirection, demo_stream)
        *notices, last = done.stderr.decode().splitlines()
        assert done.returncode == 74, (redirection, last)
        assert last.startswith(f"{PROGRAMS[COMMANDS[name][0]]}: standard output: cannot be written (")
        assert all(line.startswith("kws-edge: ") for line in notices)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_reader_of_the_output_is_gone(unbuffered, demo_stream):
    """A reader such as ``head`` may end early, which is no error. An unbuffered output is no different."""
    environment = {"PYTHONUNBUFFERED": unbuffered}
    for name in ("detect-json", "help"):
        gone = shell(COMMANDS[name], "| true", demo_stream, env=environment)
        assert (gone.returncode, gone.stdout, gone.stderr) == (0, b"", b"")
        assert shell(COMMANDS[name], ">/dev/full", demo_stream, env=environment).returncode == 74


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "<&-", "<&- 2>&-"])
def test_notices_that_cannot_be_printed(redirection, demo_stream):
    """A command works without notices, and without a standard input that it does not read."""
    expected = shell(COMMANDS["detect"], "", demo_stream).stdout
    done = shell(COMMANDS["detect"], redirection, demo_stream)
    assert (done.returncode, done.stdout) == (0, expected)


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "3>&- 2>&-"])
def test_listening_goes_on_without_notices(redirection, demo_stream):
    """No detection is missing, and no notice comes out among them."""
    pcm = bytes(22 * RATE) + soundfile.read(demo_stream, dtype="int16")[0].tobytes()  # the zeros cause a notice, too
    listen = ("kws_edge", "listen", "-", "--json")
    rows = [json.loads(line) for line in shell(listen, redirection, demo_stream, input=pcm).stdout.splitlines()]
    assert len(rows) >= 10
    assert all("keyword" in row for row in rows)
    failed = shell(listen, ">/dev/full", demo_stream, input=pcm)
    assert failed.returncode == 74
    assert failed.stderr.decode().splitlines()[-1].startswith("kws-edge: standard output: cannot be written")


def test_listening_goes_on_where_nobody_reads_the_notices():
    """The pipe of standard error is full."""
    reader, writer = os.pipe()
    size = fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)
    os.write(writer, bytes(size))
    command = [sys.executable, "-m", "kws_edge", "listen", "-", "--json", "--stats"]
    done = subprocess.run(
        command, input=bytes(40 * RATE), stdout=subprocess.PIPE, stderr=writer, timeout=60, check=True
    )
    os.close(writer)
    assert json.loads(done.stdout)["stats"]["inferences"] > 100
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == bytes(size)


def test_a_long_notice_where_nobody_reads():
    """The pipe of standard error takes only the notice's beginning."""
    reader, writer = os.pipe()
    os.write(writer, bytes(fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ) - 4096))
    code = "import sys; from kws_edge.cli.guard import guarded; guarded('', lambda: print('x' * 9000, file=sys.stderr))"
    subprocess.run([sys.executable, "-c", code], stderr=writer, timeout=30, check=True)
    os.close(reader)
    os.close(writer)


def test_streams_beyond_the_first_1024_files(demo_stream):
    """A supervisor may pass on this many files."""
    code = (
        "import os, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (1500, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
        "for _ in range(1200): os.set_inheritable(os.dup(0), True)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'kws_edge', 'listen', '-'])\n"
    )
    pcm = soundfile.read(demo_stream, dtype="int16", frames=5 * RATE)[0].tobytes()
    done = subprocess.run([sys.executable, "-c", code], input=pcm, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert b"heard 5.0 s" in done.stderr


def test_listening_to_a_closed_standard_input(demo_stream):
    assert_one_line_error(shell(("kws_edge", "listen", "-"), "<&-", demo_stream), "standard input: cannot be read")


def test_listening_to_a_pipe_that_does_not_block(demo_stream):
    """Another process may have made the pipe so. An empty pipe between two writes is no end."""
    reader, writer = os.pipe()
    fcntl.fcntl(reader, fcntl.F_SETFL, os.O_NONBLOCK)
    command = [sys.executable, "-m", "kws_edge", "listen", "-"]
    process = subprocess.Popen(command, stdin=reader, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    os.close(reader)
    with process, os.fdopen(writer, "wb") as pipe:
        pipe.write(bytes(RATE))
        pipe.flush()
        assert "listening" in process.stderr.readline()
        pipe.write(bytes(3 * RATE))
        pipe.close()
        assert "heard 2.0 s" in process.stderr.read()


def test_a_keyword_that_the_terminal_cannot_show(run_cli, tmp_path, demo_stream):
    """The terminal has PYTHONIOENCODING=ascii or a bare locale."""
    flatbuffer, metadata = unpack(Path(shipped_models()["commands12"]).read_bytes(), "shipped")
    (tmp_path / "foreign.tflite").write_bytes(flatbuffer)
    (tmp_path / "front.json").write_text(json.dumps(metadata.frontend_config.to_dict()))
    labels = ",".join("größe" if label == "left" else label for label in metadata.labels)
    options = ("--model", "foreign.tflite", "--frontend", "front.json", "--labels", labels)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for command in ("detect", "classify"):
        done = run_cli(command, demo_stream, *options, env=environment)
        assert done.returncode == 0, done.stderr
    assert rb"gr\xf6\xdfe" in run_cli("detect", demo_stream, *options, env=environment).stdout
    pcm = soundfile.read(demo_stream, dtype="int16", frames=5 * RATE)[0].tobytes()
    live = run_cli("listen", "-", *options, env=environment, input=pcm)
    assert rb"gr\xf6\xdfe" in live.stdout
    assert rb"gr\xf6\xdfe" in live.stderr
    assert_one_line_error(run_cli("detect", "größe.wav", env=environment), "no such file")


INTERRUPT = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)\n"


@pytest.mark.parametrize("package", PROGRAMS)
def test_interrupted_while_it_loads(package, run_cli, tmp_path):
    """Ctrl-C comes during the import of NumPy, which may lose or print the exception."""
    (tmp_path / "numpy.py").write_text(
        f"try:\n    {INTERRUPT.replace(chr(10), chr(10) + '    ')}\nexcept BaseException: pass"
    )
    command = {"kws_edge": ["info"], "host_tools": ["index", "."], "firmware_export": ["arena", "commands12"]}[package]
    done = run_cli(*command, package=package, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 130
    assert done.stderr.decode() == f"{PROGRAMS[package]}: interrupted\n"


def test_interrupted_while_the_model_loads(run_cli, tmp_path):
    (tmp_path / "ai_edge_litert").mkdir()
    (tmp_path / "ai_edge_litert" / "__init__.py").touch()
    (tmp_path / "ai_edge_litert" / "interpreter.py").write_text(INTERRUPT)
    (tmp_path / "ai_edge_litert-1.3.0.dist-info").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = run_cli("listen", "-", "--runtime", "litert", env=environment)
    assert (done.returncode, done.stderr) == (130, b"kws-edge: interrupted\n")


def test_interrupted_where_nothing_can_be_raised(run_cli, tmp_path):
    """The interrupt comes in a destructor, or while Python ends."""
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, os, signal\natexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
    )
    done = run_cli("--version", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stderr) == (130, b"kws-edge: interrupted\n")
    code = (
        "import os, signal, time; from kws_edge.cli.guard import guarded\n"
        "class Late:\n    def __del__(self):\n        os.kill(os.getpid(), signal.SIGINT); time.sleep(9)\n"
        "print(guarded('kws-edge', lambda: Late() and None))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"kws-edge: interrupted\n")


def test_guard_restores_what_it_found():
    """Programs may call a command in their own process."""
    code = (
        "import signal, sys; from kws_edge.cli import main\n"
        "before = sys.stdin, sys.stdout, sys.stderr, signal.getsignal(signal.SIGINT), sys.unraisablehook\n"
        "assert main(['info', 'missing.tflite']) == 1\n"
        "assert before == (sys.stdin, sys.stdout, sys.stderr, signal.getsignal(signal.SIGINT), sys.unraisablehook)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False, text=True)
    assert done.returncode == 0, done.stderr


def test_interrupt_is_ignored_where_it_was(demo_stream):
    """A shell without job control starts background processes this way."""
    command = f'trap "" INT; exec {sys.executable} -m kws_edge listen -'
    process = subprocess.Popen(["sh", "-c", command], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        process.stdin.write(bytes(RATE))
        process.stdin.flush()
        assert b"listening" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        process.stdin.write(bytes(RATE))
        process.stdin.close()
        assert b"heard 1.0 s" in process.stderr.read()
    assert process.returncode == 0
