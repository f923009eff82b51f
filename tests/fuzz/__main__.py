"""Run targets: ``python -m tests.fuzz [TARGET ...] [--seconds S] [--seed N] [--output DIR] [--input FILE]``."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests import fuzz

_PATIENCE_S = 120  # seconds more, for imports and seeds


def run(name: str, seconds: float, output: Path, *, seed: int = 1) -> tuple[bool, str]:
    """Whether nothing was found, and a line that says so."""
    folder = output / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch, open(folder / "log", "wb") as log:
        command = [sys.executable, "-W", "error::RuntimeWarning", "-m", "tests.fuzz.run", name, folder, seconds, seed]
        environment = {**os.environ, "TMPDIR": scratch, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
        try:
            status = subprocess.run(
                list(map(str, command)), stdout=log, stderr=log, env=environment, timeout=seconds + _PATIENCE_S
            ).returncode
        except subprocess.TimeoutExpired:
            status = "no end"
    log = (folder / "log").read_text(errors="replace")
    found = [line for line in log.splitlines() if line.startswith(f"{name}: ")]
    if status:
        found.append(f"{name}: ended with {status}: {folder}/log; crash-* and timeout-* beside it are the input")
    inputs = re.search(r"number_of_executed_units: (\d+)", log)
    said = f"{name}: {int(inputs[1]) if inputs else 0:,} inputs in {seconds:g} s, {len(found)} found"
    return not found, "\n".join([said, *found])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Hostile input for every parser.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(fuzz.TARGETS)}; default: all")
    parser.add_argument("--seconds", type=float, default=20, help="for each target; default 20")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="another one tries other inputs; default 1")
    parser.add_argument("--output", type=Path, default=Path(".cache/fuzz"), metavar="DIR", help="for what is found")
    parser.add_argument(
        "--input", type=Path, metavar="FILE", help="give the target this file, once, and show the error"
    )
    args = parser.parse_args()
    if unknown := set(args.targets) - set(fuzz.TARGETS):
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(fuzz.TARGETS)}")
    if args.input:
        (name,) = args.targets
        importlib.import_module(f"tests.fuzz.targets.{name}").consume(args.input.read_bytes())
        return 0
    if importlib.util.find_spec("atheris") is None:
        print("SKIPPED: atheris is not installed: it has wheels for Linux on x86-64, pip install atheris")
        return 0
    passed = True
    for name in args.targets or fuzz.TARGETS:
        ok, said = run(name, args.seconds, args.output, seed=args.seed)
        print(said, flush=True)
        passed &= ok
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
