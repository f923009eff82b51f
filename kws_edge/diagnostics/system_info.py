"""Describe the machine, and what spoils a measurement on it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import kws_edge
from kws_edge.diagnostics.temperature import temperature_c
from kws_edge.model.runtime import installed

__all__ = ["Load", "describe", "state", "warnings"]

_THROTTLED = {  # bits of the Raspberry Pi firmware's get_throttled
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
}
_DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "asimddp"}
"""Instructions that add four INT8 products at a time, as /proc/cpuinfo names them."""
_HOT_C = 80.0
_OTHERS = 0.1
_STOLEN = 0.02


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def _cpu_info(root: Path) -> dict[str, str]:
    """The first value of each field of /proc/cpuinfo."""
    found: dict[str, str] = {}
    for line in (_read(root / "proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    return found


def describe(root: str | Path = "/") -> dict[str, Any]:
    """The board and the versions of its software. Unknown values are None.

    Parameters
    ----------
    root : path
        Folder that holds ``proc``, ``sys`` and ``etc``.
    """
    root = Path(root)
    cpu = _cpu_info(root)
    release = dict(
        line.partition("=")[::2] for line in (_read(root / "etc/os-release") or "").splitlines() if "=" in line
    )
    memory = (_read(root / "proc/meminfo") or "").partition("MemTotal:")[2].split()
    machine = platform.machine()
    instructions = (cpu.get("flags") or cpu.get("Features") or "").split()
    arm_on_x86 = machine.startswith(("arm", "aarch64")) and cpu.get("vendor_id") in ("GenuineIntel", "AuthenticAMD")
    return {
        "model": _read(root / "proc/device-tree/model") or _read(root / "sys/class/dmi/id/product_name"),
        "cpu": cpu.get("model name") or cpu.get("Model") or cpu.get("Hardware"),
        "machine": machine,
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": 1024 * int(memory[0]) if memory else None,
        "int8_dot_products": not _DOT_PRODUCTS.isdisjoint(instructions) if instructions else None,
        "virtual_machine": "hypervisor" in instructions,
        "emulated": arm_on_x86,
        "system": release.get("PRETTY_NAME", "").strip('"') or platform.platform(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "runtimes": installed(),
        "kws_edge": kws_edge.__version__,
    }


def state(root: str | Path = "/") -> dict[str, Any]:
    """Values that change while a program runs: governor, frequency, temperature, throttling, power; None if unknown."""
    root = Path(root)
    cpufreq = root / "sys/devices/system/cpu/cpu0/cpufreq"
    frequency = {name: _read(cpufreq / f"{name}_freq") for name in ("scaling_cur", "scaling_max", "cpuinfo_max")}
    supplies = [path.parent for path in root.glob("sys/class/power_supply/*/type") if _read(path) == "Battery"]
    return {
        "governor": _read(cpufreq / "scaling_governor"),
        "driver": _read(cpufreq / "scaling_driver"),
        **{f"{name}_hz": 1000 * int(text) if text else None for name, text in frequency.items()},
        "temperature_c": temperature_c(root),
        "throttled": _throttled(root),
        "on_battery": any(_read(path / "status") == "Discharging" for path in supplies) if supplies else None,
        "nice": os.getpriority(os.PRIO_PROCESS, 0) if hasattr(os, "getpriority") else None,
    }


def _throttled(root: Path) -> int | None:
    """The throttling bits of a Raspberry Pi's firmware: 0 to 3 are the present state, 16 to 19 that since power-on."""
    for path in root.glob("sys/devices/platform/soc*/*firmware*/get_throttled"):
        if text := _read(path):
            return int(text, 16)
    if "Raspberry Pi" in (_read(root / "proc/device-tree/model") or ""):
        try:
            said = subprocess.run(["vcgencmd", "get_throttled"], capture_output=True, text=True, check=True, timeout=5)
            return int(said.stdout.partition("=")[2], 16)
        except (OSError, ValueError, subprocess.SubprocessError):
            pass
    return None


class Load:
    """The load of other programs during a measurement. Make this object before the measurement, and ask it after."""

    def __init__(self, root: str | Path = "/") -> None:
        self._root = Path(root)
        self._before = self._times()

    def _times(self) -> tuple[float, float, float, float] | None:
        """CPU seconds: busy, stolen and total ones of all cores; and those of this process and its ended children."""
        line = (_read(self._root / "proc/stat") or "").partition("\n")[0].split()
        if not line or line[0] != "cpu" or len(line) < 9:
            return None
        user, nice, system, idle, wait, irq, soft, steal = (int(n) / os.sysconf("SC_CLK_TCK") for n in line[1:9])
        own = os.times()
        mine = own.user + own.system + own.children_user + own.children_system
        return user + nice + system + irq + soft, steal, user + nice + system + idle + wait + irq + soft + steal, mine

    def shares(self) -> dict[str, float | None]:
        """Shares of the time of all cores that other programs used, and that the hypervisor gave to other machines."""
        after = self._times()
        if after is None or self._before is None or after[2] <= self._before[2]:
            return {"others_share": None, "stolen_share": None}
        busy, stolen, whole, mine = (b - a for a, b in zip(self._before, after, strict=True))
        return {"others_share": max(0.0, busy - mine) / whole, "stolen_share": stolen / whole}


def warnings(system: dict[str, Any], before: dict[str, Any], after: dict[str, Any], load: dict[str, Any]) -> list[str]:
    """Warnings about conditions that make the figures of a measurement worse or less certain.

    Parameters
    ----------
    system, before, after, load : dict
        Results of :func:`describe`, of :func:`state` before and after the measurement, and of :meth:`Load.shares`.
    """
    found = []
    if system["emulated"]:
        found.append("emulated: these times say nothing of a board's; run it on the board")
    # The drivers of Intel and AMD call a governor "powersave" that adapts to the load.
    dynamic = (after["driver"] or "").startswith(("intel_pstate", "amd-pstate"))
    if after["governor"] == "powersave" and not dynamic:
        found.append(
            "the governor is powersave, the lowest frequency always: "
            "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
        )
    if after["scaling_max_hz"] and after["cpuinfo_max_hz"] and after["scaling_max_hz"] < after["cpuinfo_max_hz"]:
        found.append(
            f"the frequency is limited to {after['scaling_max_hz'] / 1e6:.0f} MHz "
            f"of {after['cpuinfo_max_hz'] / 1e6:.0f} MHz"
        )
    bits = after["throttled"] or 0
    now = [text for bit, text in _THROTTLED.items() if bits >> bit & 1]
    before_that = [text for bit, text in _THROTTLED.items() if bits >> (bit + 16) & 1 and text not in now]
    if now:
        found.append(f"the firmware reports {', '.join(now)}: check power supply and cooling")
    if before_that:
        found.append(f"the firmware has reported {', '.join(before_that)} since it was switched on")
    hottest = max((s["temperature_c"] for s in (before, after) if s["temperature_c"] is not None), default=0.0)
    if hottest >= _HOT_C:
        found.append(f"{hottest:.0f} degrees: the processor may slow down; cool it")
    if after["on_battery"]:
        found.append("running on battery, which may save power")
    if load["others_share"] is not None and load["others_share"] > _OTHERS:
        found.append(f"other programs used {100 * load['others_share']:.0f} % of the cores meanwhile; end them")
    if load["stolen_share"] is not None and load["stolen_share"] > _STOLEN:
        found.append(f"the hypervisor gave {100 * load['stolen_share']:.0f} % of the time to other machines")
    if (after["nice"] or 0) > 0:
        found.append(f"runs at nice {after['nice']}: others come first")
    if system["cores_usable"] < system["cores"]:
        found.append(f"may use {system['cores_usable']} of {system['cores']} cores only")
    if sys.flags.dev_mode or sys.gettrace() is not None or sys.getprofile() is not None:
        found.append("Python runs in development mode or is traced, which slows it down")
    return found
