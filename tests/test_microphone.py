"""The real path of a microphone: from PulseAudio's null sink through ALSA and PortAudio into kws-edge.

Each test has a sound server of its own. Without PulseAudio or PortAudio the tests are skipped with the reason.
"""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from kws_edge import AudioFile
from tests.conftest import assert_one_line_error
from tests.sound import RATE, Listener, SoundServer, only_48_khz, run_on_busy_device

pytestmark = pytest.mark.sound


@pytest.fixture
def server(tmp_path):
    server = SoundServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def speech(tmp_path_factory, validation_paths, model):
    """Real commands with a second and a half between them, at 16 kHz."""
    rng = np.random.default_rng(3)
    chosen = [p for p in validation_paths[:80] if model.classify(soundfile.read(p, dtype="int16")[0]).score > 0.9][:8]
    assert len(chosen) == 8
    parts = [rng.normal(0, 20, RATE // 2)]
    for path in chosen:
        parts += [soundfile.read(path, dtype="int16")[0], rng.normal(0, 20, RATE // 2)]
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    soundfile.write(path, np.concatenate(parts).round().astype(np.int16), RATE)
    return path


def keywords(rows):
    return [row["keyword"] for row in rows]


def spacing(rows):
    """Times between detections."""
    return np.diff([row["start_s"] for row in rows])


def test_microphone_file_and_pipe_agree(server, speech, run_cli):
    """A stream gives the same detections by file, standard input and microphone, without a lost sample."""
    by_file = [
        json.loads(line) for line in run_cli("detect", speech, "--json", "--kernels", "builtin").stdout.splitlines()
    ]
    assert len(by_file) >= 7
    raw = soundfile.read(speech, dtype="int16")[0].tobytes()
    piped = run_cli("listen", "-", "--json", "--kernels", "builtin", input=raw)
    by_pipe = [json.loads(line) for line in piped.stdout.splitlines()]
    assert [{**row, "file": str(speech)} for row in by_pipe if row.pop("time")] == by_file

    listener = Listener(server, "--device", "pulse")
    assert "listening to pulse" in listener.greeting
    server.play(speech)
    time.sleep(1.5)
    by_microphone, summary = listener.finish(signal.SIGINT)
    assert "0 samples dropped, 0 overruns" in summary
    # The microphone was open before the stream began, so its clock and its steps differ by a constant.
    assert keywords(by_microphone) == keywords(by_file)
    assert np.abs(spacing(by_microphone) - spacing(by_file)).max() <= 0.11
    assert all(row["file"] == "microphone" for row in by_microphone)


@pytest.mark.parametrize("device", ["pulse", "vmic.monitor"])
def test_every_sample_arrives_unchanged(server, speech, tmp_path, device):
    """PortAudio, and the sound server by a source's name, deliver the stream sample for sample."""
    code = (
        "import numpy as np, sys; from kws_edge import Microphone\n"
        f"with Microphone({device!r}, sample_rate=16000) as m:\n"
        "    got, n = [], 0\n"
        "    for block in m:\n"
        "        if not got: print('ready', flush=True)\n"
        "        got.append(block); n += len(block)\n"
        "        if n > int(sys.argv[1]): break\n"
        "    np.save(sys.argv[2], np.concatenate(got)); print(m.queue.dropped, m.queue.overruns, m.source_rate)\n"
    )
    with AudioFile(speech, sample_rate=RATE) as audio:
        expected = audio.read_all()
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(len(expected) + 2 * RATE), str(tmp_path / "got.npy")],
        env=server.environment,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"ready\n"
    server.play(speech)
    out, _ = process.communicate(timeout=60)
    assert out.split() == [b"0", b"0", b"16000"]
    got = np.load(tmp_path / "got.npy")
    # PulseAudio begins to mix within its first block, after the monitor has sent the block's beginning.
    expected = expected[RATE // 10 :]
    pieces = np.lib.stride_tricks.sliding_window_view(got, 64)
    (start,) = np.flatnonzero((pieces == expected[:64]).all(axis=1))
    assert np.array_equal(got[start : start + len(expected)], expected)


@pytest.mark.parametrize("asked", [True, False])
def test_48_khz_microphone(tmp_path, speech, run_cli, asked):
    """A microphone at 48 kHz, by request or because it takes nothing else, is converted as it streams."""
    server = SoundServer(tmp_path, rate=48000)
    try:
        if asked:
            listener = Listener(server, "--device", "pulse", "--rate", "48000")
        else:
            listener = Listener(server, "--device", "pulse", environment=only_48_khz(tmp_path, server.environment))
        server.play(speech)
        time.sleep(1.5)
        heard, summary = listener.finish(signal.SIGTERM)
    finally:
        server.stop()
    assert "0 samples dropped, 0 overruns" in summary
    by_file = run_cli("detect", speech, "--json", "--kernels", "builtin").stdout.splitlines()
    expected = keywords(map(json.loads, by_file))
    assert len(set(enumerate(expected)) - set(enumerate(keywords(heard)))) <= 1


def test_calibrate(server, speech, tmp_path):
    """Commands from the microphone, as if nobody had meant them, give a room profile."""
    options = "--kernels builtin --device pulse --json --minutes 0.15 --budget 1000 --force"
    process = subprocess.Popen(
        [sys.executable, "-m", "kws_edge", "calibrate", *options.split(), "-o", str(tmp_path / "room.json")],
        env=server.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    greeting = process.stderr.readline().decode()
    assert "listening to pulse for 0.15 min" in greeting
    assert "speak none of yes, no" in greeting
    server.play(speech)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    result = json.loads(out)
    assert result["hours"] == pytest.approx(9 / 3600, rel=0.03)
    assert result["table"][0]["false_accepts"] >= 4
    assert result["false_accepts"] <= 2
    assert json.loads((tmp_path / "room.json").read_text())["detector_config"]["thresholds"] == result["thresholds"]


def test_seconds_ends_by_itself(server):
    listener = Listener(server, "--device", "pulse", "--seconds", "1.5")
    rows, summary = listener.finish()
    assert rows == []
    assert "heard 1.5 s, 0 detections, 0 samples dropped" in summary


def test_terminal_shows_a_level_meter(server, speech):
    """A terminal shows a meter, redrawn in place, and a line for each detection."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "kws_edge", "listen", "--device", "pulse", "--seconds", "6"],
        env=server.environment,
        stdout=follower,
        stderr=subprocess.PIPE,
    )
    os.close(follower)
    with process.stderr:
        assert b"listening to pulse" in process.stderr.readline()
    player = subprocess.Popen(["paplay", "--device=vmic", str(speech)], env=server.environment)
    shown = b""
    while select.select([leader], [], [], 20)[0]:
        try:
            piece = os.read(leader, 4096)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    assert process.wait(timeout=20) == 0
    player.wait(timeout=60)
    os.close(leader)
    assert shown.count(b"dBFS") > 20
    assert b"#" in shown
    lines = shown.decode().replace("\r", "\n").splitlines()
    assert sum(" s  " in line and " - " in line for line in lines) >= 2


@pytest.mark.parametrize("module", ["devices", "microphone"])
def test_the_examples_run(server, module):
    code = f"import doctest; from kws_edge.audio import {module}; failed, n = doctest.testmod({module})"
    code += "; assert n > 1 and not failed"
    done = subprocess.run(
        [sys.executable, "-c", code], env=server.environment, capture_output=True, check=False, text=True, timeout=60
    )
    assert not done.returncode, done.stdout + done.stderr


def test_devices(server, run_cli):
    listed = run_cli("devices", "--json", env=server.environment)
    names = [json.loads(line)["name"] for line in listed.stdout.splitlines()]
    assert "pulse" in names
    text = run_cli("devices", env=server.environment).stdout.decode()
    assert "pulse" in text
    assert "Hz" in text


YETI = "alsa_input.usb-Blue_Yeti-00.analog-stereo"


@pytest.fixture
def yeti(server):
    """The server with a second and a third microphone, which are not the default."""
    server.pactl("load-module", "module-null-sink", "sink_name=Blue_Yeti", "rate=48000")
    for name, description in ((YETI, "Yeti_Stereo"), ("alsa_input.usb-Webcam-00.mono", "Webcam")):
        source = [f"source_name={name}", f"source_properties=device.description={description}"]
        server.pactl("load-module", "module-remap-source", "master=Blue_Yeti.monitor", *source)
    return server


def test_devices_lists_sources_of_the_sound_server(yeti, run_cli):
    """Sources have pactl's names and descriptions. The doctor names them, too."""
    listed = run_cli("devices", "--json", env=yeti.environment).stdout.splitlines()
    sources = {row["name"]: row for row in map(json.loads, listed) if row["host_api"] == "PulseAudio"}
    command = ["pactl", "list", "short", "sources"]
    short = subprocess.run(command, env=yeti.environment, capture_output=True, text=True, check=True).stdout
    assert set(sources) == {line.split("\t")[1] for line in short.splitlines()} == {
        "vmic.monitor", "Blue_Yeti.monitor", YETI, "alsa_input.usb-Webcam-00.mono"
    }  # fmt: skip
    assert sources[YETI] == {
        "index": None, "name": YETI, "host_api": "PulseAudio", "channels": 2, "rate": 48000, "default": False,
        "description": "Yeti_Stereo", "monitor": False,
    }  # fmt: skip
    assert sources["vmic.monitor"]["monitor"]
    assert (
        f"-  {YETI}  (PulseAudio, 2 in, 48000 Hz)  Yeti_Stereo\n"
        in run_cli("devices", env=yeti.environment).stdout.decode()
    )
    report = run_cli("doctor", "--seconds", "0.2", "--json", env=yeti.environment).stdout
    assert set(json.loads(report)["devices"]["names"]) > set(sources)


@pytest.mark.parametrize("device", [YETI, "yeti", "Yeti_Stereo"])
def test_source_of_the_sound_server_by_name(yeti, demo_stream, tmp_path, device):
    """The source is heard although it is not the default. A part of a name never matches a monitor."""
    path = tmp_path / "left_stop.wav"
    soundfile.write(path, soundfile.read(demo_stream, dtype="int16", frames=7 * RATE)[0][round(1.7 * RATE) :], RATE)
    yeti.clients.append(subprocess.Popen(["pacat", "--device=Blue_Yeti", "/dev/zero"], env=yeti.environment))
    listener = Listener(yeti, "--threshold", "0.5", "--device", device)
    assert f"listening to {YETI} for" in listener.greeting
    subprocess.run(["paplay", "--device=Blue_Yeti", path], env=yeti.environment, check=True, timeout=60)
    heard = [listener.detection(), listener.detection()]
    rest, summary = listener.finish(signal.SIGINT)
    assert keywords([*heard, *rest]) == ["left", "stop"]
    assert "0 samples dropped, 0 overruns" in summary


def test_unknown_device_names_near_ones(yeti, run_cli):
    for wanted in ("yetti", "blue yeti", YETI.replace("Yeti", "Yetty")):
        failed = run_cli("listen", "--device", wanted, env=yeti.environment)
        assert_one_line_error(failed, f"no input device {wanted!r}", f"near it: {YETI}", "kws-edge devices")
    several = run_cli("listen", "--device", "alsa_input", env=yeti.environment)
    assert_one_line_error(several, "several input devices match 'alsa_input'", YETI, "Webcam", "Give the whole name")


def test_missing_device(server, run_cli):
    failed = run_cli("listen", "--device", "no such thing", env=server.environment)
    assert_one_line_error(failed, "no input device 'no such thing'", "kws-edge devices")
    assert_one_line_error(run_cli("listen", "--device", "999", env=server.environment), "999")


def test_no_device_at_all(tmp_path, run_cli):
    pytest.importorskip("sounddevice", exc_type=(ImportError, OSError), reason="PortAudio is missing")
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    if run_cli("devices", "--json", env=environment).stdout:
        pytest.skip("this machine has a microphone")
    assert_one_line_error(run_cli("listen", env=environment), "no microphone found")
    assert_one_line_error(run_cli("devices", env=environment), "no device that can record")


def test_busy_device(tmp_path):
    """Another program holds the device."""
    failed = run_on_busy_device(tmp_path, "listen")
    assert_one_line_error(failed, "microphone 'usbmic': busy", "kws-edge devices")
