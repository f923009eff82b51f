"""``kws-edge doctor`` finds planted faults. Faults of the signal are planted in a real sound server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws_edge import shipped_models
from kws_edge.cli.doctor import DEVICE, SIGNAL, SOFTWARE, _holders, _permission
from kws_edge.diagnostics.signal_quality import SignalQuality, findings
from tests.conftest import assert_one_line_error, assert_usage_error, need_program
from tests.sound import RATE, SoundServer, only_48_khz, run_on_busy_device

pytestmark = pytest.mark.sound


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server whose default source is a stereo microphone, not a monitor."""
    server = SoundServer(tmp_path_factory.mktemp("sound"), channels=2)
    server.pactl("load-module", "module-remap-source", "master=vmic.monitor", "source_name=mic")
    server.pactl("set-default-source", "mic")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def speech(demo_stream):
    """Words over noise at a good level, shape (n, 2), int16."""
    return np.repeat(soundfile.read(demo_stream, dtype="int16", always_2d=True)[0], 2, axis=1)


@pytest.fixture
def examine(server, speech, tmp_path):
    """Have the doctor listen while samples are played into the microphone. Returns its report."""
    players = []

    def run(samples=speech, environment=None):
        np.ascontiguousarray(samples).tofile(tmp_path / "played.raw")
        players.append(server.start_playing(tmp_path / "played.raw"))
        done = subprocess.run(
            [sys.executable, "-m", "kws_edge", "doctor", "--device", "pulse", "--seconds", "3", "--json"],
            env=environment or server.environment,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert not done.stderr, done.stderr.decode()
        report = json.loads(done.stdout)
        assert report["status"] == done.returncode
        return report

    yield run
    for player in players:
        player.kill()
        player.wait()


def codes(report, level="fault"):
    return {finding["code"] for finding in report["findings"] if finding["level"] == level}


def text_of(report, code):
    (found,) = (finding for finding in report["findings"] if finding["code"] == code)
    assert found["remedy"]
    return found["what"]


def test_nothing_is_wrong(examine):
    report = examine()
    assert (report["status"], report["findings"]) == (0, [])
    assert report["device"]["source"] == "mic"
    assert report["device"]["channels"] == 2
    assert report["signal"]["rate"] == pytest.approx(RATE, rel=0.06)
    for channel in report["signal"]["channels"]:
        assert -30 < channel["level_db"] < -15
        assert -60 < channel["floor_db"] < -40


def test_48_khz_only(server, examine, tmp_path):
    report = examine(environment=only_48_khz(tmp_path, server.environment))
    assert report["status"] == 0
    assert codes(report, "remark") == {"converted"}
    assert "does not take 16000 Hz; opened at 48000" in text_of(report, "converted")


def test_gain_40_db_too_low(server, examine):
    server.pactl("set-source-volume", "mic", "-40dB")
    try:
        report = examine()
    finally:
        server.pactl("set-source-volume", "mic", "100%")
    assert report["status"] == SIGNAL
    assert codes(report) == {"gain"}
    assert "too quiet: the loudest sound is at -6" in text_of(report, "gain")


def test_clipping(examine, speech):
    report = examine(np.clip(speech * 3.5, -32768, 32767).astype(np.int16))
    assert report["status"] == SIGNAL
    assert {"clipping"} <= codes(report) <= {"clipping", "noise"}  # the demo's noise became louder by the same gain
    assert all(channel["clipped"] > 2e-4 for channel in report["signal"]["channels"])


def test_offset(examine, speech):
    report = examine(speech + np.int16(5000))
    assert (report["status"], codes(report)) == (SIGNAL, {"offset"})
    assert all("the mean is +15." in f["what"] for f in report["findings"])


def test_silence_on_one_channel(examine, speech):
    """One channel is silent for 60 % of the time, in pieces of 0.3 s."""
    samples = speech.copy()
    samples[np.arange(len(samples)) // 1600 % 5 < 3, 1] = 0
    report = examine(samples)
    assert (report["status"], codes(report)) == (SIGNAL, {"dropouts"})
    what = text_of(report, "dropouts")
    assert what.startswith("channel 2 of 2: silent ")
    assert 0.5 < report["signal"]["channels"][1]["silent"] < 0.7
    assert report["signal"]["channels"][0]["silent"] < 0.05


def test_monitor(server, examine):
    """The source that is recorded from is the monitor of what the machine plays."""
    server.environment["PULSE_SOURCE"] = "vmic.monitor"
    try:
        report = examine()
    finally:
        del server.environment["PULSE_SOURCE"]
    assert (report["status"], codes(report)) == (DEVICE, {"monitor"})
    assert "vmic.monitor is a monitor" in text_of(report, "monitor")
    assert "pactl set-default-source mic" in report["findings"][0]["remedy"]


def test_wrong_input(server, examine):
    """The default source is muted, while another has sound."""
    server.pactl("load-module", "module-remap-source", "master=vmic.monitor", "source_name=muted")
    server.pactl("set-source-mute", "muted", "1")
    server.environment["PULSE_SOURCE"] = "muted"
    try:
        report = examine()
    finally:
        del server.environment["PULSE_SOURCE"]
    assert (report["status"], codes(report)) == (DEVICE, {"silent", "muted", "wrong-input"})
    assert "mic has sound" in text_of(report, "wrong-input")


def test_wrong_rate(server, examine, tmp_path):
    """The source gives 48,000 samples a second, but the configuration says 16,000."""
    source = ["source_name=liar", f"file={tmp_path / 'fifo'}", "rate=16000", "channels=1", "format=s16le"]
    server.pactl("load-module", "module-pipe-source", *source)
    command = ["parec", "--device=mic", "--rate=48000", "--channels=1", "--format=s16le", "--latency-msec=50", "--raw"]
    with open(tmp_path / "fifo", "wb") as fifo:
        recorder = subprocess.Popen(command, stdout=fifo, env=server.environment)
    server.environment["PULSE_SOURCE"] = "liar"
    try:
        report = examine()
    finally:
        del server.environment["PULSE_SOURCE"]
        recorder.kill()
        recorder.wait()
    assert "rate" in codes(report)
    assert report["status"] == SIGNAL
    assert "where the device promised 16000" in text_of(report, "rate")
    assert report["signal"]["rate"] > 1.5 * RATE


def test_no_device(tmp_path, run_cli):
    pytest.importorskip("sounddevice", exc_type=(ImportError, OSError), reason="PortAudio is missing")
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    if run_cli("devices", "--json", env=environment).stdout:
        pytest.skip("this machine has a microphone")
    done = run_cli("doctor", env=environment)
    assert done.returncode == DEVICE
    assert b"FAULT no-device: no microphone found" in done.stdout
    assert b"\n  do: " in done.stdout


def test_busy_device(tmp_path):
    done = run_on_busy_device(tmp_path, "doctor", "--json")
    assert done.returncode == DEVICE, done.stderr
    report = json.loads(done.stdout)
    assert codes(report) == {"busy"}
    assert "'usbmic': busy or gone" in text_of(report, "busy")


def test_numpy_2_with_tflite_runtime(tmp_path, run_cli, demo_stream):
    """A plain ``pip install tflite-runtime`` gives this combination.

    If another Python has the package, the real one is used. Otherwise its record suffices, because only that is read.
    """
    if int(np.__version__.split(".")[0]) < 2:
        pytest.skip(f"NumPy {np.__version__} is installed here")
    site = tmp_path / "site"
    site.mkdir()
    if python := os.environ.get("KWS_TFLITE_PYTHON"):
        code = "import pathlib, tflite_runtime; print(pathlib.Path(tflite_runtime.__file__).parent.parent)"
        found = Path(subprocess.run([python, "-c", code], capture_output=True, check=True, text=True).stdout.strip())
        for path in found.glob("tflite_runtime*"):
            (site / path.name).symlink_to(path)
    else:
        (site / "tflite_runtime-2.14.0.dist-info").mkdir()
        record = "Metadata-Version: 2.1\nName: tflite-runtime\nVersion: 2.14.0\n"
        (site / "tflite_runtime-2.14.0.dist-info" / "METADATA").write_text(record)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    done = run_cli("doctor", demo_stream, "--runtime", "tflite-runtime", "--json", env=environment)
    report = json.loads(done.stdout)
    assert (done.returncode, codes(report)) == (SOFTWARE, {"runtime"})
    assert "cannot work with NumPy" in report["findings"][0]["what"]
    assert "pip install 'numpy<2'" in report["findings"][0]["what"]
    assert report["signal"]["seconds"] > 30  # the rest is examined nevertheless


def test_truncated_model(tmp_path, run_cli, demo_stream):
    whole = Path(shipped_models()["commands12"]).read_bytes()
    (tmp_path / "cut.tflite").write_bytes(whole[: len(whole) // 2])
    done = run_cli("doctor", demo_stream, "--model", "cut.tflite", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, codes(report)) == (SOFTWARE, {"model"})
    assert "cut.tflite" in text_of(report, "model")
    assert "truncated" in text_of(report, "model")


def test_recording(tmp_path, run_cli, demo_stream, speech):
    done = run_cli("doctor", demo_stream)
    assert done.returncode == 0, done.stdout
    assert done.stdout.decode().endswith("nothing is wrong\n")
    assert b"31.0 s at 16000 Hz" in done.stdout
    soundfile.write(tmp_path / "bad.wav", np.clip(speech * 30.0, -8000, 8000).astype(np.int16), 44100)
    done = run_cli("doctor", "bad.wav")
    assert done.returncode == SIGNAL
    assert b"FAULT clipping: channel 1 of 2: " in done.stdout
    assert b"\n  do: turn the gain down" in done.stdout
    (tmp_path / "text.wav").write_text("not audio")
    failed = run_cli("doctor", "text.wav", "--json")
    assert_one_line_error(failed, "text.wav: is a text, not audio")
    soundfile.write(tmp_path / "click.wav", np.zeros(100, np.int16), RATE)
    assert_one_line_error(run_cli("doctor", "click.wav", "--json"), "click.wav: is too short to examine")
    assert_usage_error(run_cli("doctor", "--seconds", "0"), "--seconds")


def health_of(samples):
    quality = SignalQuality(RATE, 1 if samples.ndim == 1 else samples.shape[1])
    for block in np.array_split(samples.reshape(len(samples), -1), 37):
        quality.add(block)
    return quality.channels()


def found(samples):
    return [finding.code for finding in findings(health_of(samples))]


def test_measurements():
    """Measurements agree with their definitions, whatever the blocks are."""
    rng = np.random.default_rng(0)
    noise = rng.normal(300, 100, (10 * RATE, 2)).round().astype(np.int16)
    noise[4 * RATE : 5 * RATE, 0] += np.tile([8000, -8000], RATE // 2).astype(np.int16)
    noise[7 * RATE :, 1] = 7
    first, second = health_of(noise)
    assert first.peak_db == pytest.approx(20 * np.log10(np.abs(noise[:, 0].astype(int)).max() / 32768))
    assert first.offset == pytest.approx(noise[:, 0].mean() / 32768)
    assert first.floor_db == pytest.approx(20 * np.log10(100 / 32768), abs=0.5)
    assert first.level_db == pytest.approx(20 * np.log10(8000 / 32768), abs=0.1)
    assert (first.silent, second.silent) == (0, pytest.approx(0.3))
    assert first.clipped == second.clipped == 0
    assert health_of(noise / 32768) == [first, second]


def test_thresholds():
    rng = np.random.default_rng(0)
    room = rng.normal(0, 30, 6 * RATE)
    words = room.copy()
    for at in (1, 3, 5):
        words[at * RATE : at * RATE + RATE // 2] += rng.normal(0, 3000, RATE // 2)
    word = words.round().astype(np.int16)
    assert found(word) == []
    assert found(room.round().astype(np.int16)) == ["no-speech"]
    assert found(np.clip(words, -2500, 2500).astype(np.int16)) == ["clipping"]
    assert found(np.clip(words, -2500, 2500).astype(np.int16) * np.int16(3)) == ["clipping"]
    assert found(word + np.int16(500)) == ["offset"]
    assert found(rng.normal(0, 1, 6 * RATE).round().astype(np.int16)) == ["gain"]
    assert found((words + rng.normal(0, 1000, len(words))).round().astype(np.int16))[0] == "noise"
    assert found(np.stack([word, word // 50], axis=1)) == ["weak-channel"]
    assert found(np.zeros(RATE, np.int16)) == ["silent"]
    assert found(np.full(RATE, -4000, np.int16)) == ["stuck"]
    # These waves do not clip, though each has a largest sample.
    for hz, amplitude in ((50, 20000), (50, 2500), (440, 30000)):
        tone = amplitude * np.sin(2 * np.pi * hz * np.arange(4 * RATE) / RATE)
        assert "clipping" not in found(tone.round().astype(np.int16)), (hz, amplitude)


def test_permission(tmp_path):
    """Only others may open this sound device of the kernel."""
    (tmp_path / "pcmC0D0c").touch(mode=0o600)
    tmp_path.chmod(0o755)
    assert _permission(tmp_path) is None
    (tmp_path / "pcmC0D0c").chmod(0)
    if os.geteuid():
        assert "audio" in _permission(tmp_path).remedy
        return
    need_program("setpriv")  # root may open everything, unless it lacks the capability
    code = "import sys, pathlib; from kws_edge.cli.doctor import _permission as p; print(p(pathlib.Path(sys.argv[1])))"
    drop = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-all"]
    done = subprocess.run(
        [*drop, sys.executable, "-c", code, str(tmp_path)], capture_output=True, check=True, text=True
    )  # fmt: skip
    assert "may not open" in done.stdout
    assert "pcmC0D0c" in done.stdout


def test_who_holds_a_device(tmp_path):
    """A status file of the kernel names the process."""
    status = tmp_path / "card1" / "pcm0c" / "sub0" / "status"
    status.parent.mkdir(parents=True)
    status.write_text(f"state: RUNNING\nowner_pid   : {os.getpid()}\ntrigger_time: 1.5\n")
    (tmp_path / "card1" / "pcm1c" / "sub0").mkdir(parents=True)
    (tmp_path / "card1" / "pcm1c" / "sub0" / "status").write_text("closed\n")
    (held,) = _holders(tmp_path)
    assert f"process {os.getpid()}, holds card1" in held
