"""Report what a model's firmware needs: flash, RAM, operators, and time if it can be estimated."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from firmware_export.arena import by_kernels
from firmware_export.export import Export
from firmware_export.parity import describe
from firmware_export.speed import describe_board, describe_need
from kws_edge.errors import ConfigError

__all__ = ["board_lines", "code_size", "ethos_u", "render", "report", "speed_lines"]

_COMPILER = "arm-none-eabi-gcc"
_CODE = ("frontend", "fft", "levels_float", "levels_fixed", "detector", "app")
_CORES = {
    "cortex-m4": ["-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"],
    "cortex-m3": ["-mfloat-abi=soft"],
}
"""Cores to compile the code for, one for each form of the front end."""

_NPU = "ethos-u55-128"


def report(export: Export) -> dict[str, Any]:
    """The summary of `export`, with measurements by the tools on this machine.

    ``code`` is None if there is no cross compiler or it fails. ``ethos_u`` is None if there is no Vela (``pip install
    ethos-u-vela``) or it fails. ``unmeasured`` says why.
    """
    added: dict[str, Any] = {}
    unmeasured: dict[str, str] = {}
    for name, measure in (("code", lambda: code_size(export)), ("ethos_u", lambda: ethos_u(export.flatbuffer))):
        try:
            added[name] = measure()
        except ConfigError as error:
            added[name], unmeasured[name] = None, str(error)
    return {**export.summary, **added, "unmeasured": unmeasured}


def code_size(export: Export) -> dict[str, int]:
    """Bytes of machine code of front end, detector and application for each Arm core.

    Raises
    ------
    ConfigError
        If there is no compiler, or it fails.
    """
    if shutil.which(_COMPILER) is None:
        raise ConfigError(f"{_COMPILER} is not installed")
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        for path, text in export.files.items():
            if path.startswith("src/"):
                (Path(folder) / Path(path).name).write_bytes(text.encode())
        for core, flags in _CORES.items():
            objects = []
            for name in _CODE:
                objects.append(Path(folder) / f"{core}-{name}.o")
                source = Path(folder) / f"{export.summary['prefix']}_{name}.c"
                _run(_COMPILER, "-std=c99", "-O2", "-mthumb", f"-mcpu={core}", *flags, "-c", source, "-o", objects[-1])
            # `text` includes the few constants of the functions. The tables are in another file.
            lines = _run("arm-none-eabi-size", *objects).splitlines()[1:]
            sizes[core] = sum(int(line.split()[0]) for line in lines)
    return sizes


def ethos_u(flatbuffer: bytes) -> dict[str, float | str]:
    """Vela's estimate of an inference on an Ethos-U55 with 128 multipliers.

    Raises
    ------
    ConfigError
        If Vela is not installed, or fails.
    """
    vela = shutil.which("vela") or shutil.which("vela", path=str(Path(sys.executable).parent))
    if vela is None:
        raise ConfigError("pip install ethos-u-vela")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model.tflite").write_bytes(flatbuffer)
        said = _run(vela, "model.tflite", "--accelerator-config", _NPU, "--output-dir", ".", cwd=folder)
        (summary,) = Path(folder).glob("*_summary_*.csv")
        with summary.open(newline="") as file:
            (row,) = csv.DictReader(file)
    on_cpu = re.search(r"CPU operators = (\d+)", said)
    return {
        "accelerator": _NPU,
        "clock_hz": float(row["core_clock"]),
        "inference_ms": 1000 * float(row["inference_time"]),
        "sram_bytes": round(1024 * float(row["sram_memory_used"])),
        "operators_on_cpu": int(on_cpu.group(1)) if on_cpu else 0,
    }


def render(values: dict[str, Any]) -> str:
    """The `values` of :func:`report` as lines for people."""
    arena, ram, flash = values["arena"], values["ram"], values["flash"]
    code, npu, unmeasured = values["code"], values["ethos_u"], values["unmeasured"]
    lines = [
        f"{values['model']}: {len(values['keywords'])} keywords, {values['macs']:,} multiply-accumulates an inference"
        + (f", {values['macs_a_second']:,} a second" if "states" in values else ""),
        f"operators   {', '.join(values['operators'])}",
        f"arena       {arena['size']:,} bytes, for the kernels {arena['kernels']}; TFLite Micro takes, by kernels, "
        + by_kernels(arena["by_kernels"]),
        f"RAM         front end {ram['front_end']:,} bytes ({ram['front_end_fixed']:,} in fixed point), "
        f"detector {ram['detector']:,}" + (f", states {values['state_bytes']:,}" if "states" in values else ""),
        f"flash       model {flash['model']:,} bytes, tables {flash['tables']:,} ({flash['tables_fixed']:,} in fixed "
        f"point), golden vectors {flash['golden']:,} (self-test only)",
    ]
    if values["taught"]:
        lines.append(f"taught      {', '.join(values['taught'])}: {flash['taught']:,} bytes of flash beside the model")
    if code is None:
        lines.append(f"code        not measured: {unmeasured['code']}")
    else:
        sizes = ", ".join(f"{size:,} bytes on {core}" for core, size in code.items())
        lines.append(f"code        front end, detector and application {sizes} (-O2), without TFLite Micro")
    if npu is None:
        lines.append(f"Ethos-U     not estimated: {unmeasured['ethos_u']}")
    else:
        lines.append(
            f"Ethos-U     {npu['accelerator']} at {npu['clock_hz'] / 1e6:.0f} MHz: {npu['inference_ms']:.2f} ms an "
            f"inference, {npu['sram_bytes']:,} bytes of SRAM, {npu['operators_on_cpu']} operators left to the CPU "
            "(Vela's estimate)"
        )
    return "\n".join([*lines, *speed_lines(values), describe(values["parity"]), *board_lines(values)])


def speed_lines(values: dict[str, Any]) -> list[str]:
    """Lines on the speed, and on settings that were changed."""
    lines = [f"speed       {describe_need(values['speed'], values['step_ms'])}"]
    if "at_mhz" in values:
        lines += [f"            {line}" for line in describe_board(values["at_mhz"], values["step_ms"])]
    return lines + [f"note        {note}" for note in values["notes"]]


def board_lines(values: dict[str, Any]) -> list[str]:
    """A line for each board in `values`."""
    return [
        f"{row['core'] + ' ' + row['kernels']:<14} self-test passed: arena {row['arena']:,} bytes, flash "
        f"{row['flash']:,} bytes with TFLite Micro, {row['inference'] / 1e6:.1f} million instructions an inference and "
        f"{(row['front_end'] + row['detector']) / 1e6:.1f} million for the rest of a second of audio"
        for row in values.get("boards", ())
    ]


def _run(*command: object, cwd: str | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, errors="replace", check=False, cwd=cwd
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        reason = next((line for line in lines if "error:" in line), lines[-1])
        raise ConfigError(f"{command[0]} failed with status {done.returncode}: {reason.strip()}")
    return done.stdout
