"""The sources in an exported folder: those of ``csrc``, and those generated from the model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from firmware_export.arena import by_kernels
from firmware_export.c_array import model_data, provenance
from firmware_export.c_source import number, plain, string
from firmware_export.firmware import Firmware
from firmware_export.licences import SPDX, SPDX_RECORDING
from firmware_export.names import generated, renamed
from firmware_export.version import version_macros

__all__ = ["CSRC", "code", "config_header", "source_files"]

CSRC = Path(__file__).parent / "csrc"
_FORMS = re.compile(r"^#if KWS_STATES\n(.*?)(?:^#else\n(.*?))?^#endif /\* KWS_STATES \*/\n", re.DOTALL | re.MULTILINE)
"""Lines of ``csrc`` for a network with state, and those for one of clips. No other condition there has an ``#else``."""
_TAUGHT = "kws_taught."


def code(*, states: bool, taught: bool = False) -> dict[str, str]:
    """The texts of ``csrc`` by name, for a network with state or for one of clips, with taught words or without."""
    form = 1 if states else 2
    paths = [path for path in CSRC.iterdir() if taught or not path.name.startswith(_TAUGHT)]
    return {path.name: _FORMS.sub(lambda found: found[form] or "", path.read_text()) for path in paths}


def source_files(firmware: Firmware) -> dict[str, str]:
    """The texts of the folder ``src`` by name, sorted."""
    model, prefix = firmware.model, firmware.prefix
    made = provenance(model.flat.data, Path(model.path).name, model.metadata)
    tables, settings, vectors = firmware.tables, firmware.settings, firmware.vectors
    of_model = {"KWS_ARENA_SIZE": firmware.arena.size, "KWS_MODEL_OPS": len(firmware.calls)}
    of_taught = firmware.taught.macros(model, firmware.spotter.step_s)
    macros = tables.macros() | settings.macros() | of_model | firmware.states.macros() | of_taught | vectors.macros()
    needs = by_kernels(firmware.arena.measured.kernels)
    spdx = SPDX if vectors.bundled else SPDX_RECORDING
    from_model = {
        "kws_config.h": config_header(made, macros),
        "kws_model_ops.h": _ops(made, firmware.calls, model.flat.version, needs),
        "kws_tables.c": f"/* {made} */\n{SPDX}{tables.source()}",
        "kws_vectors.c": f"/* {made} Golden recording: {plain(vectors.recording)}. */\n{spdx}{vectors.source()}",
        "kws_sensitivities.c": f"/* {made} */\n{SPDX}{settings.sensitivities_source()}",
        **model_data(model.flat.data, made, model.metadata.licence),
    }
    hears_taught = firmware.taught.words is not None
    hand_written = code(states=model.step is not None, taught=hears_taught)
    if hears_taught:
        from_model["kws_taught_data.c"] = f"/* {made} */\n{SPDX}{firmware.taught.source()}"
    sources = {
        **{renamed(name, prefix): renamed(text, prefix) for name, text in hand_written.items()},
        **generated(from_model, prefix),
        f"{prefix}_detector_config.c": f"/* {made} */\n{SPDX}{settings.source(lambda text: renamed(text, prefix))}",
    }
    return dict(sorted(sources.items()))


def config_header(made: str, macros: Mapping[str, float | str]) -> str:
    """The text of ``kws_config.h``."""
    lines = []
    for name, value in {**version_macros(), **macros}.items():
        text = string(value) if isinstance(value, str) else number(value)
        lines.append(f"#define {name} ({text})" if text.startswith("-") else f"#define {name} {text}")
    guard = f"{SPDX}#ifndef KWS_CONFIG_H_\n#define KWS_CONFIG_H_\n"
    return "\n".join([f"/* {made} */", guard, *lines, "\n#endif /* KWS_CONFIG_H_ */\n"])


def _ops(made: str, calls: list[str], schema: int, needs: str) -> str:
    lines = "".join(f"    if (resolver.{call}() != kTfLiteOk) return kTfLiteError;\n" for call in calls)
    return (
        f"// {made}\n{SPDX}#ifndef KWS_MODEL_OPS_H_\n#define KWS_MODEL_OPS_H_\n\n"
        '#include "kws_config.h"\n'
        '#include "tensorflow/lite/micro/micro_interpreter.h"\n'
        '#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"\n\n'
        "// TFLM's names are in the namespace tflite, or global, or, in newer sources, in tflite::micro.\n"
        "namespace tflite {\nnamespace micro {}\n}  // namespace tflite\n"
        "namespace kws_tflm {\nusing namespace tflite;\nusing namespace tflite::micro;\n\n"
        f"// Version of the model's file format.\nconstexpr int kKwsModelSchema = {schema};\n\n"
        "// Bytes of the arena that the model takes, by the kernels that TFLM was built with.\n"
        f'constexpr char kKwsArenaByKernels[] = "{needs}";\n\n'
        f"inline TfLiteStatus kws_register_ops(MicroMutableOpResolver<KWS_MODEL_OPS> &resolver) {{\n{lines}"
        "    return kTfLiteOk;\n}\n\n}  // namespace kws_tflm\n\n#endif  // KWS_MODEL_OPS_H_\n"
    )
