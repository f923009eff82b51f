"""Run an export with TensorFlow Lite Micro's own sources on Cortex-M cores emulated by QEMU."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from kws_edge.errors import ConfigError

__all__ = ["boards_for", "run_chain"]

_BOARDS = {
    "reference": (("m4", "reference"), ("m55", "reference")),
    "cmsis-nn": (("m4", "cmsis-nn"),),
    "cmsis-nn-mve": (("m55", "cmsis-nn"),),
    "esp-nn": (),
}
"""Pairs of core and kernels, as the example's Makefile calls them, for the kernels of an export."""

_PROGRAMS = {
    "make": "make",
    "arm-none-eabi-g++": "gcc-arm-none-eabi libnewlib-arm-none-eabi libstdc++-arm-none-eabi-newlib",
    "qemu-system-arm": "qemu-system-arm",
}
"""The programs needed, and the Debian packages that have them."""

_REMEDIES = (
    (
        "Non-compatible flatbuffers version",
        "tensorflow/lite/schema/schema_generated.h says which flatbuffers it takes; check out that tag",
    ),
    ("No such file or directory", f"of Debian's packages it takes {_PROGRAMS['arm-none-eabi-g++']}"),
)
_FIGURES = {
    "front_end": r"front end: (\d+) cycles per second",
    "detector": r"detector: (\d+) cycles per second",
    "inference": r"model: (\d+) cycles an inference",
    "arena": r"arena: (\d+) of \d+ bytes",
}
_LONGEST_S = 1800


def boards_for(tflm: Path, kernels: str | None) -> list[tuple[str, str]]:
    """Return the emulated boards for `kernels`, or all boards for None, after a check of the TFLM checkout.

    Parameters
    ----------
    tflm : path
        The checkout of TensorFlow Lite Micro.
    kernels : str, optional
        A kind of :data:`firmware_export.kernels.KERNELS`.

    Raises
    ------
    ConfigError
        If there is no board for `kernels`, `tflm` is not a checkout, or a program is missing.
    """
    boards = [board for name, boards in _BOARDS.items() if kernels in (None, name) for board in boards]
    if not boards:
        raise ConfigError(f"--with-tflm: QEMU has no board for the kernels {kernels}; give --kernels of an Arm core")
    if not (tflm / "tensorflow/lite/micro/micro_interpreter.h").is_file():
        raise ConfigError(
            f"--with-tflm: {tflm} is no checkout of TensorFlow Lite Micro (it has no tensorflow/lite/micro); "
            "git clone https://github.com/tensorflow/tflite-micro"
        )
    if len(str(tflm.resolve()).split()) > 1:
        raise ConfigError(f"--with-tflm: {tflm}: make cannot work with a path that has spaces; move it")
    for program, packages in _PROGRAMS.items():
        if shutil.which(program) is None:
            raise ConfigError(f"--with-tflm: {program} is not installed; of Debian's packages it takes {packages}")
    return boards


def run_chain(
    folder: Path,
    tflm: Path,
    boards: Iterable[tuple[str, str]],
    *,
    golden: int,
    progress: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Build an exported folder with a checkout of TensorFlow Lite Micro, and run its self-test.

    Parameters
    ----------
    folder : path
        Folder that :func:`firmware_export.manifest.write` wrote. The build runs in ``examples/cortex_m``.
    tflm : path
        The checkout, with its third-party sources.
    boards : iterable of (str, str)
        Result of :func:`boards_for`.
    golden : int
        Size of the golden vectors in bytes, which does not count as flash.

    Returns
    -------
    list of dict
        For each board: bytes of arena used and of flash, and instructions of an inference. The instructions of front
        end and detector are for a second of audio.

    Raises
    ------
    ConfigError
        If the build or the self-test fails.
    """
    rows = []
    for core, kernels in boards:
        progress(f"building TensorFlow Lite Micro for {core} with the kernels {kernels}, and running the self-test")
        figures = _figures(folder / "examples" / "cortex_m", tflm, core, kernels)
        figures["flash"] -= golden
        rows.append({"core": core, "kernels": kernels, **figures})
    return rows


def _figures(example: Path, tflm: Path, core: str, kernels: str) -> dict[str, int]:
    build = f"build-{core}-{kernels}"
    settings = [f"CORE={core}", f"KERNELS={kernels}", f"TFLM={tflm.resolve()}", f"BUILD={build}"]
    where = f"{tflm} with the kernels {kernels} on {core}"
    built = _make(["-s", f"-j{os.cpu_count()}", "build", *settings], example)
    if built.returncode:
        lines = built.stderr.splitlines()
        said = next((line for line in lines if "error:" in line or "***" in line), lines[-1] if lines else "no reason")
        remedy = next((f"; {remedy}" for text, remedy in _REMEDIES if text in said), "")
        raise ConfigError(f"{where}: cannot be built: {said.strip()}{remedy}")
    ran = _make(["-s", "run", *settings], example)
    if ran.returncode or "self-test passed" not in ran.stdout:
        lines = (ran.stderr + ran.stdout).splitlines()
        said = "; ".join(line for line in lines if re.search("[Ff]ailed|FAILED|TFLM gave up", line))
        raise ConfigError(f"{where}: the self-test does not pass: {said or 'it ended early'}")
    size = subprocess.run(
        ["arm-none-eabi-size", example / build / "self_test.elf"], capture_output=True, text=True, check=True
    )
    text, data, *_ = map(int, size.stdout.splitlines()[1].split()[:2])
    return {"flash": text + data, **{name: _figure(pattern, ran.stdout) for name, pattern in _FIGURES.items()}}


def _figure(pattern: str, printed: str) -> int:
    """A number that a passing self-test prints."""
    found = re.search(pattern, printed)
    assert found is not None
    return int(found[1])


def _make(arguments: list[str], example: Path) -> subprocess.CompletedProcess[str]:
    """Run make. If this ends early, such as by Ctrl-C, the processes of make are ended, too."""
    with subprocess.Popen(
        ["make", *arguments],
        cwd=example,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=_LONGEST_S)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise ConfigError(f"--with-tflm: make {' '.join(arguments)} took more than {_LONGEST_S} s") from None
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
