"""The self-test of an export on emulated Cortex-M cores: features, detections, and their instructions."""

import re
import subprocess

import pytest

from firmware_export.export import prepare
from firmware_export.manifest import write
from kws_edge import Model
from tests.conftest import need_program

pytestmark = [pytest.mark.host, pytest.mark.firmware]

pytest.importorskip("tflite_micro", exc_type=ImportError, reason="tflite-micro is not installed here")

CORES = {"m3": "fixed point", "m4": "single precision", "m7": "single precision", "m55": "single precision"}


@pytest.fixture(scope="module", autouse=True)
def programs():
    for program in ("make", "arm-none-eabi-gcc", "qemu-system-arm"):
        need_program(program)


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    folder = tmp_path_factory.mktemp("micro12")
    write(prepare(Model("micro12", kernels="builtin")), folder)
    return folder


def self_test(export, core):
    """Build with every warning an error, and run, as the example's README says."""
    return subprocess.run(
        ["make", "-s", "run", f"CORE={core}"],
        cwd=export / "examples" / "cortex_m",
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize("core", CORES)
def test_self_test_passes(export, core):
    done = self_test(export, core)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "self-test of front end and detector passed" in done.stdout
    assert f"front end ({CORES[core]})" in done.stdout
    frontend, transforms = map(int, re.search(r"front end: (\d+) cycles .* audio, (\d+)", done.stdout).groups())
    detector = int(re.search(r"detector: (\d+) cycles", done.stdout).group(1))
    total = frontend + detector
    print(f"{core}: {total:,} instructions per second of audio, {total / transforms:.2f} times its transforms alone")
    # These are 100 transforms of 512 points. The counter counts instructions, not ticks or microseconds.
    assert 1_000_000 < transforms < frontend
    if core == "m4":
        assert total <= 8_000_000


def test_nothing_constant_lies_in_ram(export):
    build = export / "examples" / "cortex_m" / "build-m4"
    if not build.is_dir():
        assert self_test(export, "m4").returncode == 0
    sizes = subprocess.check_output(["arm-none-eabi-size", *sorted(build.glob("kws_*.o"))], text=True)
    rows = [line.split() for line in sizes.splitlines()[1:]]
    assert len(rows) >= 8
    assert all(int(data) == 0 for _, data, *_ in rows), sizes


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ("kws_vector_features", "the front end does not compute what the host computed"),
        ("kws_vector_stream", "unlike the host"),
    ],
)
def test_self_test_notices(tmp_path, export, array, message):
    """If a board computes something else, the self-test fails and says so."""
    write(prepare(Model("micro12", kernels="builtin")), tmp_path)
    source = tmp_path / "src" / "kws_vectors.c"
    before, values = source.read_text().split(f"{array}[", 1)
    values, after = values.split("};\n", 1)
    head, body = values.split("{", 1)
    source.write_text(f"{before}{array}[{head}{{{_reversed_rows(body)}}};\n{after}")
    done = self_test(tmp_path, "m4")
    assert done.returncode != 0
    assert message in done.stdout
    assert "self-test FAILED" in done.stdout


def _reversed_rows(body):
    rows = re.findall(r"\{[^{}]*\}", body)
    return ",\n".join([*rows[1:], rows[0]][::-1]) + ","
