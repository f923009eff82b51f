"""The test suite itself: tests that hang are shown and ended with their processes, and markers are right."""

import ast
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT

HANGING = """
import ctypes, subprocess, sys, threading, time
from pathlib import Path

def test_hangs():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    Path("child").write_text(str(child.pid))
    {hang}

def test_next():
    pass
"""


def run_pytest(folder, hang, *options):
    """Run pytest on a test that starts a process and hangs, and on a second test. Returns the output."""
    (folder / "test_it.py").write_text(HANGING.format(hang=hang))
    command = [sys.executable, "-m", "pytest", "-c", ROOT / "setup.cfg", "--rootdir", folder, "-p", "tests.conftest"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KWS_TEST_RUN", "PYTEST"))}
    done = subprocess.run(
        [*map(str, command), "-W", "ignore", *options, "test_it.py"],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def assert_ended(pid):
    deadline = time.monotonic() + 10
    status = Path(f"/proc/{pid}/stat")
    while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found as Linux shows them")
@pytest.mark.parametrize(
    ("hang", "options", "shown"),
    [
        ("time.sleep(1000)", ("--timeout", "1"), ("Failed: Timeout (>1.0s)", "1 failed, 1 passed")),
        (
            "ctypes.PyDLL(None).sleep(1000)",
            ("-n", "1", "-o", "faulthandler_timeout=1"),
            ("in test_hangs", "worker 'gw0' crashed while running"),
        ),
    ],
    ids=["in Python", "in native code"],
)
def test_make_test_ends_what_hangs(tmp_path, hang, options, shown):
    """The stack of the test is shown, and the process that it started has ended."""
    code, text = run_pytest(tmp_path, hang, *options)
    assert code == 1, text
    for part in (*shown, "test_it.py", "ended"):
        assert part in text
    assert_ended((tmp_path / "child").read_text())


def test_a_module_stays_in_one_worker(request):
    """pytest-xdist 3.8 puts the group in a test's name. Under pytest 9.2 it does not, and groups nothing."""
    if not hasattr(request.config, "workerinput"):
        pytest.skip("without pytest-xdist's workers there are no groups")
    assert request.node.nodeid.endswith("@test_suite")


def test_what_needs_a_sound_server_is_marked():
    """Without the mark the test would run beside others, whose load disturbs it."""
    for path in Path(__file__).parent.glob("test_*.py"):
        text = path.read_text()
        if "SoundServer(" in text:
            assert "pytest.mark.sound" in text, f"{path.name} has no pytest.mark.sound"


def at_module_level(tree):
    """Packages that a module imports, or without which it skips all of its tests."""
    for statement in tree.body:
        if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.module
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.importorskip":
                yield node.args[0].value


def is_marked(tree, name):
    """Whether all of a module's tests have a mark."""
    marks = [node.value for node in tree.body if isinstance(node, ast.Assign) and "pytestmark" in ast.unparse(node)]
    return any(re.search(rf"\bpytest\.mark\.{name}\b", ast.unparse(mark)) for mark in marks)


def test_what_cannot_run_under_the_older_runtime_is_marked():
    """The older runtime has only the packages that the Makefile installs. `make older-tests` runs unmarked tests."""
    makefile = (ROOT / "Makefile").read_text()
    (line,) = re.findall(r"\.venv-tflite/bin/python \$\(PIP\) '(.*?)\n\t\.venv-tflite", makefile, re.DOTALL)
    installed = set(re.findall(r"[a-z][a-z0-9-]+", line.replace("paho-mqtt", "paho"))) | {
        "kws_edge",
        "host_tools",
        "firmware_export",
        "tests",
    }
    assert {"numpy", "pytest", "soundfile"} <= installed
    assert "scipy" not in installed
    trees = {path.name: ast.parse(path.read_text()) for path in Path(__file__).parent.glob("test_*.py")}
    for name, tree in trees.items():
        needed = {package.partition(".")[0] for package in at_module_level(tree)}
        missing = needed - installed - set(sys.stdlib_module_names)
        assert not missing or is_marked(tree, "host"), f"{name} needs {missing}, and is not marked host"
    assert sum(is_marked(tree, "host") for tree in trees.values()) > 20
