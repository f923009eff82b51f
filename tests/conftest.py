"""Fixtures: real recordings where KWS_TEST_DATA points to them, and the shipped model."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import soundfile

from kws_edge import Model
from tests import forked
from tests.tones import write_dataset

ROOT = Path(__file__).parent.parent

# A shell starts background jobs with SIGINT ignored, which they pass on. The commands under test must hear Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it

# A suite takes the same few examples each time, and does not search for a smaller example that fails, too.
# KWS_TEST_EXAMPLES asks for more.
hypothesis.settings.register_profile(
    "suite",
    max_examples=int(os.environ.get("KWS_TEST_EXAMPLES", "25")),
    derandomize=True,
    deadline=None,
    database=None,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("suite")

RUN = os.environ.setdefault("KWS_TEST_RUN", secrets.token_hex(8))
"""Marks every process that this run of pytest starts, including its workers."""

# The longest modules begin first, so that no worker is left with one at the end.
OF_CLIPS = ["commands12", "micro12", "words36"]
"""The shipped models of one network that hears whole clips, which firmware runs."""

LONGEST = ("sound", "arm", "training")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """With ``-n auto``: a worker for each core, and one that mostly waits for live audio."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else None


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items):
    """Run a module's tests in one worker, which makes the module's fixtures once.

    Tests marked ``sound`` run in another worker, one after the other. `xdist_group` joins modules.
    """
    groups = {}
    for item in items:
        name = "sound" if item.get_closest_marker("sound") else item.module.__name__.rpartition(".")[2]
        if (mark := item.get_closest_marker("xdist_group")) is None:
            item.add_marker(mark := pytest.mark.xdist_group(name))
        groups.setdefault(mark.args[0], []).append(item)
    first = {name: LONGEST.index(name.split()[0]) for name in groups if name.split()[0] in LONGEST}
    items[:] = [
        item for name in sorted(groups, key=lambda name: first.get(name, len(LONGEST))) for item in groups[name]
    ]


def pytest_runtest_setup(item):
    """Beside other tests, what is not marked sound makes way for what is, which is over before its worker is slowed."""
    if hasattr(item.config, "workerinput") and not item.get_closest_marker("sound"):
        os.setpriority(os.PRIO_PROCESS, 0, max(10, os.getpriority(os.PRIO_PROCESS, 0)))


def end_processes(test: str = "") -> list[str]:
    """End processes that this run's tests, or one test's body, started and left running. Returns their commands.

    Processes are known by the environment that they were started with, as Linux shows it.
    """
    ended = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().split(b"\0")
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            if (
                f"KWS_TEST_RUN={RUN}".encode() in environment
                and any(value.startswith(f"PYTEST_CURRENT_TEST={test}".encode()) for value in environment)
                # Python keeps this process for others that later tests start.
                and "resource_tracker" not in command
                and "forkserver" not in command
            ):
                os.kill(int(process.name), signal.SIGKILL)
                ended.append(command)
        except OSError:  # the process has ended, or is another user's
            continue
    return ended


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """End the processes of a test that failed, for lack of time or otherwise."""
    report = yield
    if report.when == "call" and report.failed:
        for command in end_processes(f"{item.nodeid} (call)"):
            report.sections.append(("Still running, and ended", command))
    return report


def pytest_unconfigure(config):
    """End all processes of the run. A test may have ended its worker."""
    if not hasattr(config, "workerinput"):
        for command in end_processes():
            print(f"still running, and ended: {command}")


@pytest.fixture(scope="session", autouse=True)
def no_room_profile(tmp_path_factory):
    """Hide what was calibrated or saved on this machine from commands under test."""
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        os.environ[name] = str(tmp_path_factory.mktemp("xdg"))


@pytest.fixture(scope="session")
def data() -> Path:
    """The unpacked recordings. Without them, tests that need them are skipped with the reason."""
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
def repository() -> list[str]:
    """Files of the repository by git, with links to folders followed. Or files of a source distribution by its list."""
    if (ROOT / ".git").exists():
        command = ["git", "-c", "core.quotepath=off", "ls-files"]
        names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout.splitlines()
        links = {name: (ROOT / name).resolve().relative_to(ROOT) for name in names if (ROOT / name).is_dir()}
        linked = [
            f"{name}{one[len(str(to)) :]}" for name, to in links.items() for one in names if one.startswith(f"{to}/")
        ]
        return sorted({*names, *linked} - {*links})
    return (ROOT / "kws_edge.egg-info" / "SOURCES.txt").read_text().splitlines()


def copied(names: list[str], folder: Path) -> Path:
    """The folder, with these files of the repository."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def built_sdist(repository, tmp_path_factory) -> Path:
    """The source distribution, built from a copy of the repository."""
    pytest.importorskip("setuptools", exc_type=ImportError)
    out = tmp_path_factory.mktemp("sdist")
    copy = copied(repository, out / "source")
    build = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(out)], cwd=copy, check=True, capture_output=True)
    (path,) = out.glob("*.tar.gz")
    return path


def build_wheel(source: Path, out: Path) -> Path:
    """The wheel of a folder or a source distribution."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", out, source]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def built_wheel(built_sdist, tmp_path_factory) -> Path:
    """The package's wheel, built from its source distribution."""
    return build_wheel(built_sdist, tmp_path_factory.mktemp("wheel"))


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
    """A finished run of the command line. Its training is killed in the second epoch and started again."""
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
    """Run ``python -m PACKAGE ARGS`` as a user would, in an empty folder. Returns the finished process."""

    def run(*args: object, package: str = "kws_edge", **options) -> subprocess.CompletedProcess:
        if package == "host_tools" and str(args[0]) in forked.COMMANDS and not options:
            return forked.run(list(map(str, args)), tmp_path, timeout=300)
        options.setdefault("cwd", tmp_path)
        options.setdefault("timeout", 300)
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(
            [sys.executable, "-m", package, *map(str, args)], capture_output=True, check=False, **options
        )

    return run


def peak_mb(script: str, *args: object) -> float:
    """Peak memory in MB of a Python process that runs `script`. On Linux, `getrusage` would include its parent's."""
    script += "\nimport re\nprint(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1])"
    command = [sys.executable, "-c", script, *map(str, args)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    return int(done.stdout.split()[-1]) / 1024


def wait_until(condition, seconds=10.0):
    """Wait for something that happens in a moment."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_gone(pid):
    """Whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def need_program(name: str) -> None:
    """Skip a test visibly if a program is not installed."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")


def assert_one_line_error(process: subprocess.CompletedProcess, *parts: str, program: str = "kws-edge") -> None:
    """Assert that the process failed with one clear line on standard error, which names `parts`, and nothing else."""
    error = process.stderr.decode()
    assert process.returncode == 1, error
    assert error.startswith(f"{program}: "), error
    assert error.count("\n") == 1, error
    for part in parts:
        assert part in error, error


def assert_one_line_error_at_end(process, *parts):
    """Assert as assert_one_line_error does, but allow progress bars before the line."""
    assert process.returncode == 1
    error = process.stderr.decode()
    assert "Traceback" not in error
    last = error.replace("\r", "\n").splitlines()[-1]
    assert last.startswith("kws-host: "), error
    assert all(part in last for part in parts), error


def assert_usage_error(process: subprocess.CompletedProcess, *parts: str, program: str = "kws-edge") -> None:
    """Assert that the command refused its usage: its last line names `parts`, and its status is 2."""
    error = process.stderr.decode()
    assert process.returncode == 2, error
    assert "Traceback" not in error
    line = error.splitlines()[-1]
    assert line.startswith(program), error
    for part in parts:
        assert part in line, error
