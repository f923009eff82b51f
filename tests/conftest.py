"""Fixtures: real recordings where KWS_TEST_DATA points to them, and the shipped model."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws_edge import Model
from tests.tones import write_dataset

ROOT = Path(__file__).parent.parent

# A shell starts background jobs with SIGINT ignored, and they pass it on: the commands under test must hear Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def no_site_file(tmp_path_factory):
    """No command under test sees thresholds that were calibrated for this machine."""
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path_factory.mktemp("xdg"))


@pytest.fixture(scope="session")
def data() -> Path:
    """The unpacked recordings; tests that need them are skipped, and say so, where there are none."""
    folder = os.environ.get("KWS_TEST_DATA")
    if not folder:
        pytest.skip("KWS_TEST_DATA is not set: no real recordings")
    assert Path(folder).is_dir(), f"KWS_TEST_DATA={folder} is no folder"
    return Path(folder)


@pytest.fixture(scope="session")
def validation_paths(data) -> list[Path]:
    """Validation clips of the commands, in an order that mixes words and speakers."""
    names = (data / "speech_commands" / "validation_list.txt").read_text().split()
    words = ("yes", "no", "up", "down", "left", "right", "stop", "go")
    chosen = [name for name in names if name.split("/")[0] in words]
    chosen = [chosen[i] for i in np.random.default_rng(0).permutation(len(chosen))]
    return [data / "speech_commands" / name for name in chosen]


@pytest.fixture(scope="session")
def clips(validation_paths) -> list[np.ndarray]:
    """200 validation clips, int16."""
    return [soundfile.read(path, dtype="int16")[0] for path in validation_paths[:200]]


@pytest.fixture(scope="session")
def model() -> Model:
    """The shipped model without delegates, so that results do not depend on the machine."""
    return Model("commands12", kernels="builtin")


@pytest.fixture(scope="session")
def demo_stream() -> Path:
    import kws_edge

    return Path(kws_edge.__file__).parent / "demo" / "stream.flac"


@pytest.fixture(scope="session")
def built_wheel(tmp_path_factory) -> Path:
    """The package's wheel, built from the tracked files."""
    pytest.importorskip("setuptools", exc_type=ImportError)
    out = tmp_path_factory.mktemp("wheel")
    copy = out / "source"
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, check=True, text=True).stdout.split()
    for name in files:
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", out, copy]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The dataset of tones; see tests/tones.py."""
    root = tmp_path_factory.mktemp("tones")
    write_dataset(root)
    return root


def train_command(folder, run, *options):
    """Arguments of a small training on the dataset of tones."""
    return [
        "train", folder / "clips", "-o", run, "--features", folder / "features", "--speech", folder / "speech",
        "--cache", folder / "cache", "--epochs", "4", "--steps", "40", "--batch-size", "48", "--width", "0.34",
        *options,
    ]  # fmt: skip


@pytest.fixture(scope="session")
def run_folder(folder, tmp_path_factory):
    """A finished run, through the command line; its training is killed in the second epoch and started again."""
    pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")
    run = tmp_path_factory.mktemp("runs") / "first"
    command = [sys.executable, "-m", "host_tools", *map(str, train_command(folder, run))]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (run / "last.keras").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert ", from epoch" in done.stdout
    return run


@pytest.fixture
def run_cli(tmp_path):
    """Run ``python -m PACKAGE ARGS`` as a user would, in an empty folder; returns the finished process."""

    def run(*args: object, package: str = "kws_edge", **options) -> subprocess.CompletedProcess:
        options.setdefault("cwd", tmp_path)
        options.setdefault("timeout", 300)
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(
            [sys.executable, "-m", package, *map(str, args)], capture_output=True, check=False, **options
        )

    return run


def peak_mb(script: str, *args: object) -> float:
    """Peak memory of a Python process that runs `script`, in MB. (Linux: `getrusage` would count its parent's, too.)"""
    script += "\nimport re\nprint(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1])"
    command = [sys.executable, "-c", script, *map(str, args)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    return int(done.stdout.split()[-1]) / 1024


def need_program(name: str) -> None:
    """Skip, visibly, where a program is not installed."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")


def assert_one_line_error(process: subprocess.CompletedProcess, *parts: str, program: str = "kws-edge") -> None:
    """The process failed with one clear line on standard error, which names `parts`, and nothing else."""
    error = process.stderr.decode()
    assert process.returncode == 1, error
    assert error.startswith(f"{program}: "), error
    assert error.count("\n") == 1, error
    for part in parts:
        assert part in error, error


def assert_usage_error(process: subprocess.CompletedProcess, *parts: str, program: str = "kws-edge") -> None:
    """The command was used wrongly: its last line says how, naming `parts`, and its status is 2."""
    error = process.stderr.decode()
    assert process.returncode == 2, error
    assert "Traceback" not in error
    line = error.splitlines()[-1]
    assert line.startswith(program), error
    for part in parts:
        assert part in line, error
