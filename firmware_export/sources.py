"""The sources in an exported folder: those of ``csrc``, and what is generated from the model beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from firmware_export.arena import by_kernels
from firmware_export.c_array import model_data, plain, provenance
from firmware_export.c_source import number
from firmware_export.firmware import Firmware
from firmware_export.names import generated, renamed

__all__ = ["CSRC", "config_header", "source_files"]

CSRC = Path(__file__).parent / "csrc"


def source_files(firmware: Firmware) -> dict[str, str]:
    """The texts of the folder ``src``, by name, sorted."""
    model, prefix = firmware.model, firmware.prefix
    made = provenance(model.flat.data, Path(model.path).name, model.metadata)
    tables, settings, vectors = firmware.tables, firmware.settings, firmware.vectors
    macros = tables.macros() | settings.macros() | {"KWS_ARENA_SIZE": firmware.arena.size} | vectors.macros()
    needs = by_kernels(firmware.arena.measured.kernels)
    from_model = {
        "kws_config.h": config_header(made, macros),
        "kws_model_ops.h": _ops(made, firmware.calls, model.flat.version, needs),
        "kws_tables.c": f"/* {made} */\n{tables.source()}",
        "kws_vectors.c": f"/* {made} Golden recording: {plain(vectors.recording)}. */\n{vectors.source()}",
        **model_data(model.flat.data, made),
    }
    sources = {
        **{renamed(path.name, prefix): renamed(path.read_text(), prefix) for path in CSRC.iterdir()},
        **generated(from_model, prefix),
        f"{prefix}_detector_config.c": f"/* {made} */\n{settings.source(lambda text: renamed(text, prefix))}",
    }
    return dict(sorted(sources.items()))


def config_header(made: str, macros: Mapping[str, float]) -> str:
    """The text of ``kws_config.h``."""
    lines = []
    for name, value in macros.items():
        text = number(value)
        lines.append(f"#define {name} ({text})" if text.startswith("-") else f"#define {name} {text}")
    return "\n".join(
        [f"/* {made} */", "#ifndef KWS_CONFIG_H_", "#define KWS_CONFIG_H_\n", *lines, "\n#endif /* KWS_CONFIG_H_ */\n"]
    )


def _ops(made: str, calls: list[str], schema: int, needs: str) -> str:
    lines = "".join(f"    if (resolver.{call}() != kTfLiteOk) return kTfLiteError;\n" for call in calls)
    return (
        f"// {made}\n#ifndef KWS_MODEL_OPS_H_\n#define KWS_MODEL_OPS_H_\n\n"
        '#include "tensorflow/lite/micro/micro_interpreter.h"\n'
        '#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"\n\n'
        "// TFLM's names are in the namespace tflite, or global, or, in newer sources, in tflite::micro.\n"
        "namespace tflite {\nnamespace micro {}\n}  // namespace tflite\n"
        "namespace kws_tflm {\nusing namespace tflite;\nusing namespace tflite::micro;\n\n"
        "// Operators of the model, and the version of its file format.\n"
        f"constexpr int kKwsModelOps = {len(calls)};\nconstexpr int kKwsModelSchema = {schema};\n\n"
        "// Bytes of the arena that the model takes, by the kernels that TFLM was built with.\n"
        f'constexpr char kKwsArenaByKernels[] = "{needs}";\n\n'
        f"inline TfLiteStatus kws_register_ops(MicroMutableOpResolver<kKwsModelOps> &resolver) {{\n{lines}"
        "    return kTfLiteOk;\n}\n\n}  // namespace kws_tflm\n\n#endif  // KWS_MODEL_OPS_H_\n"
    )
