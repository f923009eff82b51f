"""The files around the sources: build files, examples and a README. Their ``@TOKENS@`` are replaced."""

from __future__ import annotations

import json
import re
from typing import Any

import kws_edge
from firmware_export.arena import by_kernels
from firmware_export.c_source import plain
from firmware_export.firmware import Firmware
from firmware_export.names import DEFAULT_PREFIX, renamed
from firmware_export.ops import kernel_sources
from firmware_export.parity import describe
from firmware_export.speed import describe_board, describe_need, on_board
from firmware_export.target import TARGETS, Target

__all__ = ["build_files"]

_TOKEN = re.compile(r"@([A-Z0-9_]+)@")
_M4_MHZ = 64
_STATES = """

## A network with state

This network takes the frames of {STEP_MS} ms at a time. It remembers earlier ones in {COUNT} states of {BYTES} bytes in
all. `kws_model` holds them. It copies them to TFLM's inputs before an inference, and the next ones from its outputs. An
inference gives {ANSWERS} answers, one for each {ANSWER_MS} ms. The detector hears all of them.

- `kws_model_invoke` continues a stream. `kws_model_reset` begins one, and so do `kws_app_reset` and `kws_app_lost`.
- The outputs are scores. The table `kws_posteriors` turns them into posteriors.
- The self-test hears the golden audio twice, as a stream. For the host's features, the scores must be equal. For the
  board's own, posteriors may differ by 16 of 256 steps (fixed point: 32), and in a tenth of the inferences by more.
- For another hop, export again with `--step-ms`. With a longer one the answers come later."""


def build_files(firmware: Firmware, target: Target, summary: dict[str, Any]) -> dict[str, str]:
    """Return the texts around the sources by their paths in the exported folder; `summary` belongs to `firmware`."""
    tokens = _tokens(firmware, summary)
    tokens["TARGET"] = target.about
    tokens["OTHER_TARGETS"] = ", ".join(f"`{name}`" for name in TARGETS if name != target.name)

    def filled(text: str) -> str:
        return _TOKEN.sub(lambda token: tokens.get(token[1], token[0]), text)

    tokens["BUILD"] = filled(renamed(target.build(), firmware.prefix))
    files = {path: filled(renamed(text, firmware.prefix)) for path, text in target.files()}
    if target.name == "esphome":
        files[target.source("model.json")] = _model_json(summary)
    return files


def _model_json(summary: dict[str, Any]) -> str:
    """What the Python code of the ESPHome component reads."""
    values = {name: summary[name] for name in ("tool", "keywords", "sample_rate", "sensitivity")}
    return json.dumps({"name": summary["model"], **values}, indent=1, ensure_ascii=False) + "\n"


def _tokens(firmware: Firmware, summary: dict[str, Any]) -> dict[str, str]:
    board = describe_board(on_board(firmware.speed, mhz=_M4_MHZ, step_ms=firmware.step_ms), firmware.step_ms)
    return {
        "VERSION": kws_edge.__version__,
        "SUFFIX": "" if summary["prefix"] == DEFAULT_PREFIX else f"_{summary['prefix']}",
        "NAME": plain(summary["model"]),
        "LICENCE": summary["licence"],
        "KEYWORDS": plain(", ".join(summary["keywords"])),
        "ARENA": f"{summary['arena']['size']:,}",
        "ARENA_KERNELS": summary["arena"]["kernels"],
        "ARENA_BY_KERNELS": by_kernels(summary["arena"]["by_kernels"]),
        "MODEL_BYTES": f"{summary['flash']['model']:,}",
        "TABLE_BYTES": f"{summary['flash']['tables']:,}",
        "GOLDEN_BYTES": f"{summary['flash']['golden']:,}",
        "FRONTEND_RAM": f"{summary['ram']['front_end']:,}",
        "DETECTOR_RAM": f"{summary['ram']['detector']:,}",
        "OPS": ", ".join(firmware.calls),
        "KERNEL_SOURCES": " ".join(kernel_sources(firmware.model.flat)),
        "SAMPLE_RATE": str(summary["sample_rate"]),
        "STEP_MS": f"{summary['step_ms']:g}",
        "SPEED": describe_need(summary["speed"], summary["step_ms"]),
        "AT_64_MHZ": "; ".join(line for line in board if "-mve" not in line),  # a Cortex-M4 has no vector unit
        "HASH": summary["frontend_hash"],
        "MACS": f"{summary['macs']:,}",
        "PARITY": describe(summary["parity"]),
        **_of_states(firmware, summary),
        **_of_esphome(summary),
    }


def _of_esphome(summary: dict[str, Any]) -> dict[str, str]:
    """Tokens of the ESPHome component's example."""
    number = "\nnumber:\n  - platform: kws_edge\n    sensitivity:\n      name: Sensitivity"
    return {
        "FIRST_KEYWORD": json.dumps(summary["keywords"][0], ensure_ascii=False),
        "NUMBER": number if summary["sensitivity"] else "",
    }


def _of_states(firmware: Firmware, summary: dict[str, Any]) -> dict[str, str]:
    """Tokens that are empty, unless the network has state."""
    if firmware.model.step is None:
        return dict.fromkeys(("STATES", "STATES_ROW", "MACS_A_SECOND"), "")
    answer_ms = f"{1000 * firmware.spotter.answer_s:g}"
    counts = {"COUNT": summary["states"], "BYTES": f"{summary['state_bytes']:,}", "ANSWERS": summary["answers"]}
    names = {name: str(value) for name, value in counts.items()}
    text = _STATES.format(**names, STEP_MS=f"{summary['step_ms']:g}", ANSWER_MS=answer_ms)
    return {
        "STATES": renamed(text, firmware.prefix),
        "STATES_ROW": renamed(f"\n| states of the network | {names['BYTES']} | RAM, in `kws_model` |", firmware.prefix),
        "MACS_A_SECOND": f" ({summary['macs_a_second']:,} a second)",
    }
