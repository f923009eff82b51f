"""Measures the exported firmware: instructions per second of audio on emulated Cortex-M cores, RAM and flash.

    python benchmarks/firmware.py [MODEL] [--json FILE]

The floor is the transform alone, counted in the same run. You need ``make``, the Arm cross compiler and QEMU (Debian:
``gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm``).
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from firmware_export.export import prepare
from firmware_export.manifest import write
from firmware_export.report import render, report
from kws_edge import Model
from kws_edge.errors import KwsError

_CORES = ("m3", "m4", "m7", "m55")


def run(folder: Path, core: str) -> dict[str, int | str]:
    """Instructions that front end and detector of an export take on a core."""
    command = ["make", "-s", "run", f"CORE={core}"]
    done = subprocess.run(command, cwd=folder / "examples/cortex_m", capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    frontend, transforms = map(int, re.search(r"front end: (\d+) cycles .*?, (\d+)", done.stdout).groups())
    detector = int(re.search(r"detector: (\d+) cycles", done.stdout).group(1))
    form = re.search(r"front end \((.*?)\)", done.stdout).group(1)
    return {"core": core, "form": form, "front_end": frontend, "detector": detector, "transforms": transforms}


def main() -> None:
    parser = argparse.ArgumentParser(description="Count instructions, RAM and flash of a model's exported firmware.")
    parser.add_argument("model", nargs="?", default="micro12", help="shipped model or .tflite file; default: micro12")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    args = parser.parse_args()
    try:
        model = Model(args.model, kernels="builtin")
        export = prepare(model)
    except KwsError as error:
        sys.exit(f"firmware.py: {error}")
    with tempfile.TemporaryDirectory() as folder:
        write(export, folder)
        rows = [run(Path(folder), core) for core in _CORES]
    sizes = report(export)
    if args.json:
        args.json.write_text(json.dumps({"cores": rows, "sizes": sizes}, indent=1))
    print(render(sizes))
    print("\n| core | form | front end | detector | both, times the transforms alone |\n|---|---|---|---|---|")
    for row in rows:
        both = row["front_end"] + row["detector"]
        print(
            f"| Cortex-{row['core'].upper()} | {row['form']} | {row['front_end'] / 1e6:.2f} M | "
            f"{row['detector'] / 1e6:.4f} M | {both / row['transforms']:.2f} |"
        )
    print("\nInstructions per second of audio, counted by QEMU.")


if __name__ == "__main__":
    main()
