"""``kws-firmware export`` and ``report``: errors, notes on rounding, and whether a board keeps up."""

import json
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from firmware_export.export import Export, prepare
from firmware_export.folder import sole_writer, write_files
from firmware_export.manifest import MANIFEST, write
from firmware_export.settings import DetectorSettings
from firmware_export.speed import estimate, on_board
from kws_edge import ConfigError, DetectorConfig, Model, Spotter, preset
from tests.conftest import ROOT, assert_one_line_error

pytestmark = [pytest.mark.host, pytest.mark.firmware]

pytest.importorskip("tflite_micro", exc_type=ImportError, reason="tflite-micro is not installed here")


@pytest.fixture
def run(run_cli):
    return lambda *arguments, **options: run_cli(*arguments, package="firmware_export", **options)


@pytest.fixture(scope="module")
def micro12():
    return Model("micro12", kernels="builtin")


@pytest.mark.parametrize(
    ("step_ms", "choices"), [("15", "give 10 or 20"), ("104", "100 or 110"), ("9999", "9990 or 10000")]
)
def test_step_that_is_no_whole_number_of_hops(run, tmp_path, step_ms, choices):
    failed = run("export", "micro12", "-o", "out", "--step-ms", step_ms)
    assert_one_line_error(failed, f"--step-ms {step_ms}", "hops of 10 ms", choices, program="kws-firmware")
    assert not (tmp_path / "out").exists()


def test_step_below_a_hop_is_wrong_usage(run, tmp_path):
    failed = run("export", "micro12", "-o", "out", "--step-ms", "7")
    assert failed.returncode == 2
    assert b"--step-ms" in failed.stderr and b"'7'" in failed.stderr
    assert not (tmp_path / "out").exists()


def test_other_times_that_are_rounded_are_said(run, tmp_path):
    done = run("export", "micro12", "-o", "out", "--step-ms", "200", "--smoothing-ms", "500", "--refractory-ms", "650")
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert "smoothing_ms 500 becomes 400: whole inferences" in text
    assert "refractory_ms 650 becomes 600: whole inferences" in text
    assert len(json.loads((tmp_path / "out" / MANIFEST).read_text())["notes"]) == 2
    done = run("export", "micro12", "-o", "out")
    assert b"becomes" not in done.stdout
    assert json.loads((tmp_path / "out" / MANIFEST).read_text())["notes"] == []


def test_steps_that_words_fall_between_are_said(micro12):
    notes = prepare(micro12, detector_config=DetectorConfig(step_ms=600, smoothing_ms=0, refractory_ms=600)).summary[
        "notes"
    ]
    assert [note for note in notes if "words may fall between" in note]


@pytest.mark.parametrize(
    ("threshold", "word"), [("1", "yes"), ("up=0.9970", "up"), ("0.99999", "yes")], ids=["all", "one", "nearly"]
)
def test_threshold_that_is_never_reached(run, tmp_path, threshold, word):
    failed = run("export", "micro12", "-o", "out", "--threshold", threshold)
    assert_one_line_error(failed, f"for {word!r} is never reached", "0.996", "--threshold", program="kws-firmware")
    assert not (tmp_path / "out").exists()


def test_threshold_that_is_just_reached(micro12):
    detector = DetectorConfig(threshold=255 / 256, smoothing_ms=300)
    spotter = Spotter(micro12, detector_config=detector)
    settings = DetectorSettings(spotter.detector, step_frames=spotter.step_frames)
    assert settings.sums(spotter.detector.thresholds).max() == 255 * spotter.detector.smoothing_steps


def recording(path, samples):
    soundfile.write(path, np.asarray(samples, np.int16), 16000)
    return path.name


SILENCES = {
    "digital": np.zeros(80000),
    "constant": np.full(80000, 1000),
    "hiss below the floor": np.random.default_rng(0).integers(-1, 2, 80000),
    "hum": np.tile([50] * 80 + [-50] * 80, 500),
}


@pytest.mark.parametrize("kind", SILENCES)
def test_golden_vectors_of_silence_are_refused(run, tmp_path, kind):
    name = recording(tmp_path / "quiet.wav", SILENCES[kind])
    failed = run("export", "micro12", "-o", "out", "--golden", name)
    assert_one_line_error(failed, "quiet.wav", "prove nothing", "keywords", program="kws-firmware")
    assert not (tmp_path / "out").exists()


def test_golden_vectors_without_a_keyword_are_said(run, tmp_path):
    name = recording(tmp_path / "noise.wav", np.random.default_rng(0).normal(0, 2000, 80000))
    done = run("export", "micro12", "-o", "out", "--golden", name)
    assert done.returncode == 0, done.stderr
    assert b"no keyword is detected in noise.wav" in done.stdout
    assert b"no keyword" not in run("export", "micro12", "-o", "default").stdout


def test_report_says_whether_a_board_keeps_up(run):
    """At the 64 MHz of a Nano 33 BLE, micro12 cannot keep up with an inference every 100 ms."""
    values = json.loads(run("report", "micro12", "--mhz", "64", "--json").stdout)
    assert not values["at_mhz"]["kernels"]["cmsis-nn"]["keeps_up"]
    assert values["at_mhz"]["kernels"]["reference"]["least_step_ms"] is None
    least = values["at_mhz"]["kernels"]["cmsis-nn"]["least_step_ms"]
    assert 200 <= least <= 400
    text = run("report", "micro12", "--mhz", "64").stdout.decode()
    assert f"64 MHz with cmsis-nn kernels: loses samples at a step of 100 ms; export with --step-ms {least:g}" in text
    assert "an estimate" in text
    done = run("export", "micro12", "-o", "out", "--mhz", "64", "--step-ms", least)
    assert f"64 MHz with cmsis-nn kernels: keeps up at a step of {least:g} ms" in done.stdout.decode()
    assert (
        b"480 MHz with cmsis-nn kernels: keeps up at a step of 100 ms"
        in run("report", "micro12", "--mhz", "480").stdout
    )


def test_speed_of_the_kernels_that_were_asked_for(run, tmp_path):
    """Other kernels are not shown. Those of an ESP32-S3 were not counted."""
    text = run("report", "micro12", "--mhz", "64", "--kernels", "cmsis-nn").stdout.decode()
    assert "64 MHz with cmsis-nn kernels" in text
    assert not re.search("(reference|-mve) kernels", text)
    done = run("export", "commands12", "--for", "arduino", "-o", "out", "--mhz", "240", "--kernels", "esp-nn")
    text = done.stdout.decode()
    assert "speed       not estimated for these kernels: the self-test prints" in text
    assert "240 MHz: not estimated for these kernels" in text
    assert "keeps up" not in text and "loses samples" not in text
    readme = (tmp_path / "out" / "README.md").read_text()
    assert "- not estimated for these kernels" in readme
    assert "64 MHz with cmsis-nn kernels: loses samples" in readme  # of the Nano 33 BLE, whatever was asked for


def test_export_says_what_clock_it_takes(run, tmp_path):
    done = run("export", "micro12", "--for", "arduino", "-o", "out")
    assert b"a step of 100 ms takes about" in done.stdout and b"an estimate" in done.stdout
    readme = (tmp_path / "out" / "README.md").read_text()
    assert "MHz with cmsis-nn kernels" in readme and "an estimate" in readme
    sketch = (tmp_path / "out" / "examples" / "nano33ble_pdm" / "nano33ble_pdm.ino").read_text()
    assert "64 MHz with cmsis-nn kernels: loses samples at a step of 100 ms" in sketch


@pytest.mark.parametrize("mhz", [16, 64, 168, 480])
@pytest.mark.parametrize("name", ["logmel40", "reference"])
def test_the_least_step_is_the_least(micro12, name, mhz):
    """The board keeps up with the least step, but not with one hop less."""
    frontend_config = preset(name)
    speed = estimate(frontend_config, micro12.flat, step_ms=100)
    for kernels, found in on_board(speed, mhz=mhz, step_ms=100)["kernels"].items():
        least = found["least_step_ms"]
        if least is not None:
            shorter = [(least - speed["hop_ms"], False)] if least > speed["hop_ms"] else []
            for step_ms, keeps_up in [(least, True), *shorter]:
                again = on_board(speed, mhz=mhz, step_ms=step_ms)["kernels"][kernels]
                assert again["keeps_up"] == keeps_up
            need = estimate(frontend_config, micro12.flat, step_ms=least)["kernels"][kernels]["mhz"]
            assert need <= math.ceil(mhz)


@pytest.mark.parametrize(
    ("name", "counted"),
    [
        ("micro12", {"reference": 24.5e6, "cmsis-nn": 7.32e6, "cmsis-nn-mve": 1.697e6}),
        ("commands12", {"reference": 77.88e6, "cmsis-nn": 23.19e6, "cmsis-nn-mve": 3.061e6}),
        ("words36", {"reference": 77.91e6, "cmsis-nn": 23.21e6, "cmsis-nn-mve": 3.076e6}),
    ],
)
def test_estimates_are_what_was_counted(name, counted):
    """QEMU counted the instructions of an inference with a checkout of TensorFlow Lite Micro."""
    model = Model(name, kernels="builtin")
    speed = estimate(model.frontend_config, model.flat, step_ms=100)
    cycles = {kernels: need["inference_cycles"] for kernels, need in speed["kernels"].items()}
    assert cycles == pytest.approx({kernels: 2 * count for kernels, count in counted.items()}, rel=0.01)
    assert speed["front_end_cycles"] == pytest.approx(2 * 4.45e6)


@pytest.mark.parametrize("mhz", ["0", "-1", "fast", "1e9", "nan"])
def test_clocks_that_are_none(run, mhz):
    assert run("report", "micro12", "--mhz", mhz).returncode == 2


SMALL = {"src/a.h": "int a;\n", "README.md": "read\n"}

_HOLDS = """
import sys
from firmware_export.folder import sole_writer
with sole_writer(sys.argv[1]) as new:
    print(new, flush=True)
    sys.stdin.read()
"""


def test_two_exports_into_one_folder(run, tmp_path):
    """The second export is refused while the first writes. It leaves the folder as it is."""
    out = tmp_path / "out"
    write(Export(SMALL, {}), out)
    before = sorted(out.rglob("*"))
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDS, out], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        try:
            assert other.stdout.readline() == b"False\n"
            with pytest.raises(ConfigError, match="out: another process exports there"):
                write(Export(SMALL, {"made": 2}), out, force=True)
            for command in ("export", "c-array"):
                failed = run(command, "micro12", "-o", "out")
                assert_one_line_error(failed, "out: another process exports there", program="kws-firmware")
            assert sorted(out.rglob("*")) == before
        finally:
            other.stdin.close()
            other.wait(timeout=30)
    write(Export(SMALL, {"made": 2}), out)


def test_a_folder_that_appears_meanwhile(tmp_path):
    """Both exports began without the folder. The second one finds it and does not mix both."""
    out = tmp_path / "out"
    with sole_writer(out) as new:
        assert new
        write_files(out, {"theirs.c": "theirs\n"})
        with pytest.raises(ConfigError, match="another process exports there"):
            write_files(out, SMALL, new=new)
    assert os.listdir(out) == ["theirs.c"]
    assert os.listdir(tmp_path) == ["out"]


def test_many_exports_at_once_leave_one_whole(tmp_path):
    script = (
        "import sys\nfrom firmware_export.export import Export\nfrom firmware_export.manifest import write\n"
        "from kws_edge import ConfigError\n"
        "n = sys.argv[2]\n"
        "files = {f'src/{i}.c': n for i in range(100)} | {f'own{n}.c': n}\n"
        "try:\n    write(Export(files, {}), sys.argv[1], force=True)\n"
        "except ConfigError as error:\n    print(error)\n"
    )
    for _ in range(3):
        processes = [
            subprocess.Popen([sys.executable, "-c", script, tmp_path / "out", str(n)], cwd=ROOT, stdout=subprocess.PIPE)
            for n in range(4)
        ]
        said = [process.communicate(timeout=60)[0].decode() for process in processes]
        assert all(process.returncode == 0 for process in processes)
        assert all(text == "" or "another process exports there" in text for text in said)
        assert "" in said
        texts = {path.read_text() for path in (tmp_path / "out" / "src").iterdir()}
        assert len(texts) == 1
        own = sorted(path.name for path in (tmp_path / "out").glob("own*"))
        assert own == [f"own{texts.pop()}.c"]


@pytest.mark.parametrize(
    "arguments",
    [("export", "micro12", "-o", ""), ("c-array", "micro12", "-o", ""), ("report", "micro12", "--golden", "")],
)
def test_empty_paths_are_wrong_usage(run, tmp_path, arguments):
    """An empty path may come from an unset variable of a shell. It does not mean the current folder."""
    failed = run(*arguments)
    assert failed.returncode == 2
    assert b"'' names no file or folder" in failed.stderr
    assert os.listdir(tmp_path) == []
