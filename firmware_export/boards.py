"""Estimate what a model's firmware takes of boards that makers have: the share of the processor, and memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from firmware_export.firmware import Firmware
from firmware_export.speed import (
    FRONT_END,
    Costs,
    front_end_cycles,
    inference_cycles,
    kernel_costs,
    least_step_ms,
)

__all__ = ["BOARDS", "Board", "describe_boards", "estimate_boards"]

_SAME = Costs(1.0, 1.0)
_M0 = Costs(3.5, 4.6)
"""Factors of a Cortex-M0+, which has neither a wide multiplication nor two at a time. Three layers of CMSIS-NN's were
compiled for it and for a Cortex-M4, and counted in QEMU."""
_FRONT_END_M0 = 259_000
"""Instructions of a frame on a Cortex-M0+, counted in QEMU, too."""
_ESP32, _ESP32_S3 = Costs(1.35, 1.35), Costs(0.80, 0.80)
"""Factors that give Espressif's figures for ESP-NN. Person detection, of 7.2 million multiply-accumulates, takes 380 ms
on an ESP32 and 54 ms on an ESP32-S3, both at 240 MHz."""

_AROUND = 16384 + 8192
"""Bytes of RAM for the samples that wait during an inference, and for the stack."""


@dataclass(frozen=True)
class Board:
    """A board, and what its core takes."""

    name: str
    core: str
    mhz: int
    ram_kib: int
    """RAM of the chip."""
    arena: str
    """Kernels that decide the arena, of :data:`firmware_export.kernels.KERNELS`."""
    counted: str
    """Kernels whose counts are taken."""
    factors: Costs = _SAME
    """Factors on these counts."""
    front_end: float = FRONT_END
    """Instructions of a frame of the front end."""


BOARDS = (
    Board("ESP32", "Xtensa LX6", 240, 520, "reference", "cmsis-nn", _ESP32),
    Board("ESP32-S3", "Xtensa LX7", 240, 512, "esp-nn", "cmsis-nn-mve", _ESP32_S3),
    Board("RP2040", "Cortex-M0+", 133, 264, "cmsis-nn", "cmsis-nn", _M0, _FRONT_END_M0),
    Board("RP2350", "Cortex-M33", 150, 520, "cmsis-nn", "cmsis-nn"),
    Board("nRF52840", "Cortex-M4F", 64, 256, "cmsis-nn", "cmsis-nn"),
    Board("STM32F4", "Cortex-M4F", 168, 192, "cmsis-nn", "cmsis-nn"),
    Board("STM32H7", "Cortex-M7", 480, 1024, "cmsis-nn", "cmsis-nn"),
)
"""STM32F4 is an STM32F407, and STM32H7 an STM32H743. ESP-NN takes no more than the reference arena on an ESP32."""


def estimate_boards(firmware: Firmware, summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Estimate the share of the core's time and the RAM for each of :data:`BOARDS`.

    Parameters
    ----------
    firmware : Firmware
    summary : dict
        Its summary.

    Returns
    -------
    list of dict
        For each board: ``cpu``, the share of one core's cycles (more than 1: it loses samples), ``least_step_ms``, with
        which it loses none (None: there is no such step that hears every word), and ``ram_bytes`` of ``ram_kib``.
    """
    config, flat, rows = firmware.model.frontend_config, firmware.model.flat, []
    longest = firmware.speed["longest_step_ms"]
    state = summary["ram"]["front_end"] + summary["ram"]["detector"] + summary.get("state_bytes", 0)
    for board in BOARDS:
        fixed, growing = inference_cycles(flat, kernel_costs(flat, board.counted).times(board.factors))
        steady = front_end_cycles(config, board.front_end) + growing * 1000 / firmware.step_ms
        least = least_step_ms(fixed, 1e6 * board.mhz - steady, firmware.speed["hop_ms"])
        rows.append(
            {
                "board": board.name,
                "core": board.core,
                "mhz": board.mhz,
                "kernels": board.arena,
                "inference_ms": (fixed + growing) / board.mhz / 1000,
                "cpu": (steady + fixed * 1000 / firmware.step_ms) / board.mhz / 1e6,
                "least_step_ms": least if least is not None and (longest is None or least <= longest) else None,
                "ram_bytes": summary["arena"]["by_kernels"][board.arena] + state + _AROUND,
                "ram_kib": board.ram_kib,
            }
        )
    return rows


def describe_boards(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Lines of a table for people on the result of :func:`estimate_boards`."""
    lines = ["board     core        clock    inference  CPU    RAM"]
    for row in rows:
        need = -(-row["ram_bytes"] // 1024)
        remark = "" if need <= row["ram_kib"] else ", too little"
        if row["cpu"] > 1:
            least = row["least_step_ms"]
            remark += ", too slow" + (f": export with --step-ms {least:g}" if least else " for any step")
        lines.append(
            f"{row['board']:<9} {row['core']:<11} {row['mhz']:>3} MHz {row['inference_ms']:>7.0f} ms {row['cpu']:>6.0%}"
            f"    {need} of {row['ram_kib']} KiB{remark}"
        )
    return lines
