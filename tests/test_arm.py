"""Emulated Raspberry Pis, set up as docs/install.md says, hear what this machine hears."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from kws_edge import Model
from kws_edge.diagnostics.latency import STAGES
from tests.conftest import OF_CLIPS, ROOT
from tests.emulated import BOARDS, Emulated, UnavailableError

# The first test of a board downloads and installs what it needs.
TIMEOUT_S = 0 if os.environ.get("KWS_ARM_SECONDS") else 900
pytestmark = [pytest.mark.host, pytest.mark.arm, pytest.mark.timeout(TIMEOUT_S)]

# LiteRT's kernels without delegates round differently on 64-bit Arm. There only the reference kernels are exact.
_EXACT = {"litert": "reference", "tflite-runtime": "builtin"}

_STEP_S = Model().detector_config.step_ms / 1000

_OUTPUTS = """
import sys, numpy as np
from kws_edge import AudioFile, Frontend, Model
stream, kernels, out, *names = sys.argv[1:]
found = {}
for name in names:
    model = Model(name, kernels=kernels)
    rate = model.frontend_config.sample_rate
    with AudioFile(stream, sample_rate=rate) as audio:
        samples = audio.read_all()
    frontend = Frontend(model.frontend_config)
    inputs = [model.quantize(frontend(samples[second * rate :][:rate])) for second in range(0, 30, 3)]
    found |= {f"{name} inputs": inputs, f"{name} outputs": [model.interpreter.invoke(x) for x in inputs]}
np.savez(out, **found)
"""


def _group(board):
    """Set boards up one after the other if they share packages of apt."""
    return pytest.mark.xdist_group(f"arm {board.suite} {board.arch}")


@pytest.fixture(scope="module", params=[pytest.param(board, marks=_group(board), id=board.name) for board in BOARDS])
def emulated(request, built_wheel):
    try:
        return Emulated(request.param, built_wheel)
    except UnavailableError as error:
        pytest.skip(f"cannot emulate {request.param.name}: {error}")


@pytest.fixture(scope="module")
def stream(request, demo_stream, tmp_path_factory):
    """The bundled stream, or KWS_ARM_SECONDS seconds of commands among other speech."""
    seconds = os.environ.get("KWS_ARM_SECONDS")
    if not seconds:
        return demo_stream
    data, path = request.getfixturevalue("data"), tmp_path_factory.mktemp("stream") / "speech.flac"
    command = [
        sys.executable, "-m", "host_tools", "make-stream", data / "speech_commands", "-o", path, "--seconds", seconds,
        "--others", int(float(seconds) / 15), "--background", data / "negatives" / "speech", "--snr-db", 10, 30,
        "--seed", 6,
    ]  # fmt: skip
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return path


def test_what_pip_installs(emulated):
    board = emulated.board
    runtime = json.loads(emulated.kws_edge("info", "--json"))["runtime"]
    assert (runtime["name"], runtime["machine"]) == (board.runtime, board.machine)
    assert runtime["python"].startswith(f"{board.python}.")
    assert set(runtime["installed"]) == {board.runtime}
    assert runtime["numpy"].startswith("2." if board.runtime == "litert" else "1.")


def test_the_page_says_how(emulated):
    lines = (ROOT / "docs" / "install.md").read_text().splitlines()
    assert f"sudo apt install {emulated.board.packages}" in [line.partition("#")[0].strip() for line in lines]
    assert f"python3 -m venv {'--system-site-packages ' * emulated.board.system_site}~/kws" in lines


def test_system_python_is_externally_managed(emulated):
    pip = [*emulated.system_python, "-m", "pip"]
    done = emulated.run(pip, "install", "--no-index", "kws-edge", PYTHONPATH=emulated.site)
    assert done.returncode == 1
    assert "externally-managed-environment" in done.stderr


def test_devices(emulated):
    """PortAudio and all that it needs load from apt's packages. There may be no microphone here."""
    done = emulated.run(emulated.command, "devices")
    assert done.returncode == 0 or done.stderr.startswith("kws-edge: no device that can record"), done.stderr


def test_same_bits(emulated, demo_stream, tmp_path):
    """Front end and network compute the same integers, on real speech."""
    names = OF_CLIPS
    script = ["-c", _OUTPUTS, demo_stream, _EXACT[emulated.board.runtime]]
    for done in (
        emulated.run([sys.executable], *script, tmp_path / "here.npz", *names, PYTHONPATH=ROOT),
        emulated.run(emulated.python, *script, tmp_path / "there.npz", *names),
    ):
        assert done.returncode == 0, done.stderr
    here, there = np.load(tmp_path / "here.npz"), np.load(tmp_path / "there.npz")
    for name in names:
        assert len(set(here[f"{name} outputs"].reshape(10, -1).argmax(axis=1))) >= 5
        for part in ("inputs", "outputs"):
            assert np.array_equal(here[f"{name} {part}"], there[f"{name} {part}"]), f"{name}: {part}"


def test_same_detections(emulated, stream):
    """Detections agree by the kernels of live listening, whose outputs may differ by a step.

    So a decision may move by one inference. tflite-runtime may be missing here, so its kernels give the same bits.
    """
    exact = emulated.board.runtime == "tflite-runtime"
    detect = ["detect", "--json", "--kernels", "builtin" if exact else "fast", stream]
    done = emulated.run([sys.executable, "-m", "kws_edge"], *detect, PYTHONPATH=ROOT)
    assert done.returncode == 0, done.stderr
    here, there = (
        [json.loads(line) for line in text.splitlines()] for text in (done.stdout, emulated.kws_edge(*detect))
    )
    same = sum(a == b for a, b in zip(here, there, strict=False))
    print(f"{emulated.board.name}: {len(here)} detections here, {len(there)} there, {same} equal to every digit")
    assert len(here) > 10
    assert [found["keyword"] for found in there] == [found["keyword"] for found in here]
    for a, b in zip(here, there, strict=True):
        if exact:
            assert a == b
        elif a["start_s"] == b["start_s"]:
            assert b["score"] == pytest.approx(a["score"], abs=0.02)
        else:
            assert b["start_s"] == pytest.approx(a["start_s"], abs=_STEP_S * 1.01)


def test_bench(emulated):
    """``bench`` runs completely, also at live pace. Its times are those of the emulator."""
    values = json.loads(emulated.kws_edge("bench", "--inferences", 10, "--seconds", 1, "--json"))
    assert values["board"]["emulated"]
    assert values["board"]["machine"] == emulated.board.machine
    assert any(text.startswith("emulated") for text in values["warnings"])
    (result,) = values["results"]
    assert result["runtime"] == emulated.board.runtime
    assert all(result["stages"][stage]["p50_s"] > 0 for stage in (*STAGES, "end_to_end"))
    assert result["bare_invoke"]["p50_s"] > 0
    live = result["live"]
    assert len(live["startup_s"]) == 3
    assert live["inferences"] >= 7
    assert live["cpu_share"] > 0
    assert live["peak_bytes"] > 20e6
