"""Each program of examples/ works as described on the bundled stream."""

import os
import shutil
import subprocess
import sys

import pytest

from kws_edge import Model, shipped_models
from kws_edge.model.file import unpack
from tests.conftest import ROOT

EXAMPLES = ROOT / "examples"
HEARD = ["yes", "left", "stop", "right", "up", "go", "down", "no", "off", "on", "yes", "stop", "up"]


def run(*command, **options):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=100, check=False, **options)
    assert not done.returncode, done.stderr
    return done.stdout


def test_all_are_named_in_their_readme():
    text = (EXAMPLES / "README.md").read_text()
    assert all(f"]({path.name})" in text for path in EXAMPLES.iterdir() if path.name != "README.md")


def test_lamp(demo_stream):
    pytest.importorskip("gpiozero")
    said = run(sys.executable, EXAMPLES / "lamp.py", demo_stream, env={**os.environ, "GPIOZERO_PIN_FACTORY": "mock"})
    assert said.splitlines() == ["lamp off: pin 17 is 0", "lamp on: pin 17 is 1"]


def test_commands(demo_stream, tmp_path):
    if not shutil.which("jq"):
        pytest.skip("needs jq")
    (tmp_path / "kws-edge").write_text(f'#!/bin/sh\nexec {sys.executable} -m kws_edge "$@"\n')
    (tmp_path / "kws-edge").chmod(0o755)
    said = run(EXAMPLES / "commands.sh", demo_stream, env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert [line.split()[0] for line in said.splitlines()] == ["silence", "louder", "quieter", "silence", "louder"]


def test_service(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("needs systemd-analyze")
    unit = tmp_path / "kws-edge.service"
    text = (EXAMPLES / "kws-edge.service").read_text()
    assert "%h/kws/bin/kws-edge" in text
    unit.write_text(text.replace("%h/kws/bin/kws-edge", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", "--user", unit], capture_output=True, text=True, check=False)
    assert not [line for line in done.stderr.splitlines() if "kws-edge.service" in line], done.stderr


def test_dashboard(demo_stream):
    lines = run(sys.executable, "-m", "kws_edge", "detect", demo_stream, "--json")
    last = run(sys.executable, EXAMPLES / "dashboard.py", input=lines).split("\033[2J\033[H")[-1]
    counts = {line.split()[0]: int(line.split()[1]) for line in last.splitlines()}
    assert counts == {word: HEARD.count(word) for word in set(HEARD)}


def test_own_network(demo_stream, tmp_path):
    """The network of a shipped file, without its metadata, stands for one that was trained elsewhere."""
    with open(shipped_models()["micro12"], "rb") as file:
        (tmp_path / "theirs.tflite").write_bytes(unpack(file.read(), "micro12")[0])
    labels = ",".join(Model("micro12").labels)
    said = run(sys.executable, EXAMPLES / "own_network.py", tmp_path / "theirs.tflite", labels, demo_stream)
    words = [line.split()[2] for line in said.splitlines()]
    assert len(set(words) & set(HEARD)) >= 8


def test_in_asyncio(demo_stream):
    said = run(sys.executable, EXAMPLES / "in_asyncio.py", demo_stream)
    assert [line.split()[2] for line in said.splitlines()] == HEARD
