"""Measures data-parallel training: samples a second, efficiency, and whether the loss follows that of one device.

    python benchmarks/devices.py DATA [--processes 2] [options of kws-host train]

DATA is what `kws-host train` takes. Each way of training is the command itself, with the same seed and so the same
batches: one device; all devices of this machine; processes over loopback that share the devices. On a CPU, devices are
virtual. Give `--epochs 2 --steps 100` and more.

Several devices add up in another order than one does, and training makes such differences grow: the faster, the larger
the learning rate. As a scale, one device also trains at a rate that is larger by the smallest step of its precision.
The ways train in float64, too, where small differences last longer. On GPUs there is mixed precision as well.
Processor time is that of all processes, and hardly depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from host_tools.cli import parse

WARM_UP = 5
"""Steps that do not count, of each epoch: compilation, and batches that are not made ahead."""
ROUNDING = {"float32": 2.0**-23, "float64": 2.0**-52}
"""The smallest step of a number, as a share of it."""


def in_float64() -> None:
    """Let Keras on JAX compute in float64, from now on."""
    import jax
    import keras
    from keras.src.backend.common import dtypes

    jax.config.update("jax_enable_x64", True)
    keras.config.set_floatx("float64")
    # On JAX, Keras gives the results of some operations as float32, those of batch norm among them.
    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"


def record(out: str, precision: str, nudge: float, argv: Sequence[str]) -> int:
    """Run ``kws-host`` with `argv`, and write the loss and the times of each step to `out`, as JSON."""
    from host_tools.__main__ import main
    from host_tools.devices.one import OneDevice

    if precision == "float64":
        in_float64()
    found: dict[str, list[float]] = {"losses": [], "began": [], "ended": [], "processor": []}
    step = OneDevice.step

    def recorded(self: OneDevice, *args: Any, learning_rate: Any) -> dict[str, float]:
        found["began"].append(time.perf_counter())
        logs = step(self, *args, learning_rate=learning_rate * (1 + nudge) if nudge else learning_rate)
        found["ended"].append(time.perf_counter())
        found["processor"].append(time.process_time())
        found["losses"].append(float(logs["loss"]))
        return logs

    OneDevice.step = recorded  # type: ignore[method-assign]
    status = main(argv)
    Path(out).write_text(json.dumps(found))
    return status


@dataclass(frozen=True)
class Way:
    """A way to train.

    Attributes
    ----------
    devices : int
        How many share a batch.
    each : sequence of sequence of str
        Options of each process.
    envs : sequence of dict
        Environment of each process, besides this one's.
    nudge : float
        How much the learning rate is larger, as a share of it.
    """

    devices: int
    each: Sequence[Sequence[str]]
    envs: Sequence[dict[str, str]]
    nudge: float = 0.0


def run(folder: Path, train: Sequence[str], precision: str, way: Way) -> list[dict[str, list[float]]]:
    """Train in a new folder. Returns what each process recorded."""
    folder.mkdir()
    options = [*train, "--precision", "mixed" if precision == "mixed" else "float32", "-o", folder / "run"]
    outs = [folder / f"steps{i}.json" for i in range(len(way.each))]
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "record", out, precision, str(way.nudge), "train", *options, *own],
            env={**os.environ, "KERAS_BACKEND": "jax", **env},
            stdout=subprocess.DEVNULL,
        )
        for out, own, env in zip(outs, way.each, way.envs, strict=True)
    ]
    if statuses := [status for process in processes if (status := process.wait())]:
        raise SystemExit(f"a process ended with status {statuses[0]}")
    return [json.loads(out.read_text()) for out in outs]


def hosts(processes: int) -> list[list[str]]:
    """Options of processes that train together over loopback."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(processes)]
    names = ",".join(f"127.0.0.1:{one.getsockname()[1]}" for one in sockets)
    for one in sockets:
        one.close()
    return [["--hosts", names, "--rank", str(rank)] for rank in range(processes)]


def virtual(devices: int) -> dict[str, str]:
    """The environment in which a CPU is several devices."""
    flags = os.environ.get("XLA_FLAGS", "")
    return {"XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={devices}"}


def ways(kind: str, devices: int, processes: int, precision: str) -> dict[str, Way]:
    """Ways to train on `devices` of a kind, by name."""
    alone, everything = [["--devices", "1"]], [["--devices", "all"]]
    found = {"1 device": Way(1, alone, [{}])}
    if precision in ROUNDING:
        found["1 device, rounding"] = Way(1, alone, [{}], ROUNDING[precision])
    if kind == "cpu":
        found[f"{processes} virtual devices"] = Way(processes, everything, [virtual(processes)])
        found[f"{processes} processes"] = Way(processes, hosts(processes), [{}] * processes)
    elif devices >= processes:
        share = devices // processes
        visible = [",".join(map(str, range(i * share, (i + 1) * share))) for i in range(processes)]
        found[f"{devices} devices"] = Way(devices, everything, [{}])
        found[f"{processes} processes"] = Way(
            share * processes, hosts(processes), [{"CUDA_VISIBLE_DEVICES": one} for one in visible]
        )
    return found


def times(steps: Mapping[str, Sequence[float]], per_epoch: int) -> dict[str, float]:
    """Medians of steps without the first of each epoch.

    They are the seconds from one step to the next, those within a step, and the processor's from one to the next.
    """
    began, ended, processor = (np.array(steps[name]) for name in ("began", "ended", "processor"))
    counted = np.arange(len(ended)) % per_epoch >= min(WARM_UP, per_epoch - 1)
    all_steps = {
        "between": np.diff(ended, prepend=np.nan),
        "within": ended - began,
        "processor": np.diff(processor, prepend=np.nan),
    }
    return {name: float(np.median(seconds[counted])) for name, seconds in all_steps.items()}


def apart(losses: Sequence[float], of: Sequence[float]) -> np.ndarray:
    """How far each loss is from another run's, as a share of it."""
    a, b = np.array(losses), np.array(of)
    return np.abs(a - b) / np.abs(b)


def measure(
    train: list[str], *, kind: str, devices: int, processes: int, precision: str, at_once: bool
) -> list[dict[str, Any]]:
    """The figures of each way in a precision, those of one device first."""
    given = parse(["train", *train, "-o", "run"])
    found = ways(kind, devices, processes, precision)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(len(found) if at_once else 1) as pool:
        made = pool.map(lambda name: run(Path(scratch) / name, train, precision, found[name]), found)
        for (name, way), recorded in zip(found.items(), made, strict=True):
            rows.append(figures(recorded, given, devices=way.devices, way=name, precision=precision))
            compare(rows[-1], rows[0])
            print(told(rows[-1]), flush=True)
    return rows


def figures(recorded: list[dict[str, list[float]]], given: argparse.Namespace, **row: Any) -> dict[str, Any]:
    """What processes that trained together recorded, as a row of figures."""
    each = [times(one, given.steps) for one in recorded]
    return {
        **row,
        "samples_s": given.batch_size / each[0]["between"],
        "within_step_samples_s": given.batch_size / each[0]["within"],
        "processor_s": sum(one["processor"] for one in each),
        "losses": recorded[0]["losses"],
    }


def compare(row: dict[str, Any], first: dict[str, Any]) -> None:
    """Add to a row how it is beside that of one device."""
    row["efficiency"] = row["samples_s"] / (row["devices"] * first["samples_s"])
    row["processor"] = row["processor_s"] / first["processor_s"]
    row["apart"] = apart(row["losses"], first["losses"]).tolist()


HEAD = (
    "| way | precision | samples a second | in the step alone | efficiency | processor time of a batch, times one"
    " device's | losses apart, first 20 steps | all steps |\n|---|---|---|---|---|---|---|---|"
)


def told(row: dict[str, Any]) -> str:
    return (
        f"| {row['way']} | {row['precision']} | {row['samples_s']:,.0f} | {row['within_step_samples_s']:,.0f} |"
        f" {row['efficiency']:.2f} | {row['processor']:.2f} | {max(row['apart'][:20]):.1e} | {max(row['apart']):.1e} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder laid out <word>/<speaker>_nohash_<n>.wav")
    parser.add_argument(
        "--processes", type=int, default=2, help="processes over loopback, and virtual devices of a CPU"
    )
    parser.add_argument("--at-once", action="store_true", help="all ways at the same time: for the losses alone")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args, options = parser.parse_known_args()
    count = "import jax; print(jax.default_backend(), jax.device_count())"
    kind, devices = subprocess.run(
        [sys.executable, "-c", count], capture_output=True, check=True, text=True
    ).stdout.split()
    print(HEAD, flush=True)
    given = [args.data, *options]
    rows = [
        row
        for precision in ("float32", "float64", *["mixed"] * (kind != "cpu"))
        for row in measure(
            given,
            kind=kind,
            devices=int(devices),
            processes=args.processes,
            precision=precision,
            at_once=args.at_once,
        )
    ]
    if args.json:
        args.json.write_text(json.dumps({"kind": kind, "options": options, "ways": rows}, indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["record"]:
        sys.exit(record(sys.argv[2], sys.argv[3], float(sys.argv[4]), sys.argv[5:]))
    main()
