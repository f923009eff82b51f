"""The folder that a firmware engineer compiles."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kws_edge
from firmware_export.arena import MicroInterpreter
from firmware_export.c_array import model_data, plain, provenance
from firmware_export.c_source import number
from firmware_export.folder import sole_writer, write_files
from firmware_export.kernels import KERNELS
from firmware_export.licences import expression, licence_files
from firmware_export.names import DEFAULT_PREFIX, check_prefix, generated, renamed
from firmware_export.ops import kernel_sources, resolver_calls
from firmware_export.parity import Parity, describe
from firmware_export.settings import DetectorSettings
from firmware_export.speed import describe_board, describe_need, estimate, longest_step_ms, on_board
from firmware_export.tables import FrontendTables
from firmware_export.vectors import GoldenVectors
from kws_edge.config import DetectorConfig
from kws_edge.errors import ConfigError, ModelError
from kws_edge.files import explained
from kws_edge.model.model import Model
from kws_edge.spotter import Spotter
from kws_edge.text import decode, parse_json, printable

__all__ = ["ARENA_MARGIN", "CSRC", "MANIFEST", "Export", "config_header", "prepare", "write"]

ARENA_MARGIN = 0.1
"""Part of the measured arena that is added to it, before rounding up to whole KiB."""

MANIFEST = "kws_export.json"
"""The file in an exported folder that says what was written there."""

CSRC = Path(__file__).parent / "csrc"
_PACKAGE = Path(__file__).parent / "package"


@dataclass(frozen=True)
class Export:
    """A model's firmware, ready to be written."""

    files: dict[str, str]
    """Text of each file, by its path in the folder."""
    summary: dict[str, Any]
    """Sizes and settings; see :func:`prepare`."""


def prepare(
    model: Model,
    *,
    detector_config: DetectorConfig | None = None,
    recording: Path | None = None,
    arena_size: int | None = None,
    kernels: str | None = None,
    exact: bool = False,
    prefix: str = DEFAULT_PREFIX,
    progress: Callable[[str], None] = lambda line: None,
) -> Export:
    """Generate the firmware of a model, having checked that TFLite Micro answers as the host does.

    Golden posteriors and detections are those of TFLite Micro's own interpreter.

    Parameters
    ----------
    model : Model
        Loaded with ``kernels="builtin"``.
    detector_config : DetectorConfig, optional
        In place of the model's own.
    recording : path, optional
        Audio to make golden vectors from; by default the stream that comes with ``kws_edge``.
    arena_size : int, optional
        Bytes; by default what TFLite Micro takes with `kernels` and :data:`ARENA_MARGIN`.
    kernels : str, optional
        Those that TFLite Micro will be built with, of :data:`firmware_export.kernels.KERNELS`; by default those that
        take the largest arena.
    exact : bool
        Refuse a model whose posteriors differ between TFLite Micro and LiteRT at all.
    prefix : str
        What all names begin with, of files, functions, types, macros and build targets; another for each model of a
        program.
    progress : callable, optional
        Called with a line before each step that takes long.

    Raises
    ------
    ModelError, ConfigError, AudioError, RuntimeUnavailableError
        If the firmware could not do what this model needs; the message says why.
    """
    check_prefix(prefix)
    if kernels not in (None, *KERNELS):
        raise ConfigError(f"kernels {kernels!r}: there are {', '.join(KERNELS)}")
    _check_tensors(model)
    name = model.path
    tables = FrontendTables(model.frontend_config, model.input.scale, model.input.zero_point)
    spotter = Spotter(model, detector_config=detector_config)
    step_ms = 1000 * spotter.step_s
    notes = _rounded(spotter, model.detector_config)
    settings = DetectorSettings(spotter.detector, step_frames=spotter.step_frames)
    calls = resolver_calls(model.flat, name)
    progress("measuring the arena in TFLite Micro's interpreter")
    arena = MicroInterpreter(model.flat, name).arena()
    chosen = kernels or max(arena.kernels, key=arena.kernels.__getitem__)
    need = arena.kernels[chosen]
    size = arena_size if arena_size is not None else -(-round(need * (1 + ARENA_MARGIN)) // 1024) * 1024
    if size < need:
        others = "" if kernels else f"; --kernels names those of your board: {_by_kernels(arena.kernels)}"
        raise ConfigError(
            f"{name}: an arena of {size:,} bytes is too small; TFLite Micro takes {need:,} for this model with the "
            f"kernels {chosen}{others}"
        )
    progress("computing golden vectors")
    board = copy.copy(model)
    board.interpreter = MicroInterpreter(model.flat, name, arena_size=size)
    vectors = GoldenVectors.of(Spotter(board, detector_config=detector_config), recording)
    parity = Parity.of(vectors, model, spotter.detector)
    parity.check(name, exact=exact)
    if not vectors.detections:
        notes.append(
            f"no keyword is detected in {printable(vectors.recording)}, so the self-test sees the detector find "
            "nothing; --golden names a recording with keywords in it"
        )
    speed = estimate(model.frontend_config, model.flat, step_ms=step_ms)
    summary = {
        "tool": f"kws-edge {kws_edge.__version__}",
        "prefix": prefix,
        "model": model.metadata.name or model.stem,
        "model_sha256": hashlib.sha256(model.flat.data).hexdigest(),
        "front_end": model.frontend_config.hash,
        "sample_rate": model.frontend_config.sample_rate,
        "licence": expression(model),
        "labels": list(model.labels),
        "keywords": list(spotter.detector.keywords),
        "wake_word": spotter.detector_config.wake_word,
        "golden": vectors.recording,
        "parity": parity.to_dict(),
        "notes": notes,
        "step_ms": step_ms,
        "speed": _of_kernels(speed, kernels),
        "operators": list(model.flat.operators),
        "macs": model.flat.macs,
        "arena": {
            "size": size,
            "kernels": chosen,
            "by_kernels": arena.kernels,
            "measured": arena.total,
            "tensors": arena.tensors,
            "persistent": arena.persistent,
        },
        "ram": {
            "front_end": tables.state_bytes(fixed=False),
            "front_end_fixed": tables.state_bytes(fixed=True),
            "detector": settings.state_bytes(),
        },
        "flash": {
            "model": len(model.flat.data),
            "tables": tables.table_bytes(fixed=False),
            "tables_fixed": tables.table_bytes(fixed=True),
            "golden": vectors.bytes,
        },
    }
    made = provenance(model.flat.data, Path(model.path).name, model.metadata)
    macros = tables.macros() | settings.macros() | {"KWS_ARENA_SIZE": size} | vectors.macros()
    copied = {path.name: path.read_text() for path in CSRC.iterdir()}
    made_here = {
        "kws_config.h": config_header(made, macros),
        "kws_model_ops.h": _ops(made, calls, model.flat.version, _by_kernels(arena.kernels)),
        "kws_tables.c": f"/* {made} */\n{tables.source()}",
        "kws_vectors.c": f"/* {made} Golden recording: {plain(vectors.recording)}. */\n{vectors.source()}",
        **model_data(model.flat.data, made),
    }
    sources = {
        **{renamed(file, prefix): renamed(text, prefix) for file, text in copied.items()},
        **generated(made_here, prefix),
        f"{prefix}_detector_config.c": f"/* {made} */\n{settings.source(lambda text: renamed(text, prefix))}",
    }
    files = {f"src/{file}": text for file, text in sorted(sources.items())}
    package = _package(summary, speed, calls, kernel_sources(model.flat))
    return Export(files | licence_files(model, prefix) | package, summary)


def _of_kernels(speed: dict[str, Any], kernels: str | None) -> dict[str, Any]:
    """Of an estimate for each kind of kernels that of those that were asked for, if any were."""
    return speed | {"kernels": {name: need for name, need in speed["kernels"].items() if kernels in (None, name)}}


def _rounded(spotter: Spotter, own: DetectorConfig) -> list[str]:
    """What times become that are no whole number of hops or inferences.

    Raises
    ------
    ConfigError
        If the step was asked for, in place of the model's `own`.
    """
    asked, step_ms, hop_ms = spotter.detector_config, 1000 * spotter.step_s, 1000 * spotter.step_s / spotter.step_frames
    if not math.isclose(asked.step_ms, step_ms) and asked.step_ms != own.step_ms:
        below = math.floor(asked.step_ms / hop_ms) * hop_ms
        choices = " or ".join(f"{x:g}" for x in (below, below + hop_ms) if x in DetectorConfig.range_of("step_ms"))
        raise ConfigError(f"--step-ms {asked.step_ms:g}: is no whole number of hops of {hop_ms:g} ms; give {choices}")
    detector = spotter.detector
    times = [
        ("step_ms", asked.step_ms, step_ms, f"hops of {hop_ms:g} ms"),
        ("smoothing_ms", asked.smoothing_ms or step_ms, detector.smoothing_steps * step_ms, "inferences"),
        ("refractory_ms", asked.refractory_ms, detector.refractory_steps * step_ms, "inferences"),
    ]
    if asked.wake_word is not None:
        times.append(("armed_s", asked.armed_s, detector.armed_steps * step_ms / 1000, "inferences"))
    notes = [
        f"{name} {value:g} becomes {got:g}: whole {what}"
        for name, value, got, what in times
        if not math.isclose(value, got)
    ]
    if step_ms > (longest := longest_step_ms(spotter.model.frontend_config)):
        notes.append(f"step_ms {step_ms:g} is more than {longest:g}: words may fall between two windows")
    return notes


def write(export: Export, folder: str | Path, *, force: bool = False) -> None:
    """Write the files of `export`, and a manifest of them, into a folder.

    An earlier export there is replaced; other files in the folder stay.

    Raises
    ------
    ConfigError
        If something would be overwritten that was not exported there, or has been changed since, and not `force`; or
        another process exports there.
    WriteError
        If the folder cannot be written; it is as it was.
    """
    folder = Path(folder)
    written = {path: _sha256(text.encode()) for path, text in export.files.items()}
    texts = export.files | {MANIFEST: json.dumps({**export.summary, "files": written}, indent=1) + "\n"}
    with sole_writer(folder) as new:
        known = _exported(folder / MANIFEST)
        changed = sorted(
            path
            for path in {*export.files, *known}
            if _checksum(folder / path) not in (None, known.get(path), written.get(path))
        )
        if changed and not force:
            others = f" and {len(changed) - 3} others" if len(changed) > 3 else ""
            raise ConfigError(
                f"{folder}: {', '.join(changed[:3])}{others} would be replaced or removed, and were changed since "
                "their export or not exported; move them away, or give --force"
            )
        write_files(folder, texts, new=new)
        for path in known.keys() - export.files.keys():
            with explained(folder / path):
                (folder / path).unlink(missing_ok=True)


def _exported(manifest: Path) -> dict[str, str]:
    """The files that an earlier export wrote, with their checksums."""
    data = _content(manifest)
    if data is None:
        return {}
    try:
        files = parse_json(decode(data))["files"]
        if any(Path(path).is_absolute() or ".." in Path(path).parts or not path.isprintable() for path in files):
            raise ValueError("a file outside the folder")
        return {str(path): str(checksum) for path, checksum in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{manifest}: is no manifest of an export; move it away, or export elsewhere") from None


def _checksum(path: Path) -> str | None:
    """Of a file; None if there is none."""
    data = _content(path)
    return None if data is None else _sha256(data)


def _content(path: Path) -> bytes | None:
    """Of a file; None if there is none.

    Raises
    ------
    ConfigError, WriteError
        If what is there is no file, or cannot be read.
    """
    with explained(path):
        if not path.exists():
            return None
        if not (path.is_file() or path.is_dir()):
            raise ConfigError(f"{path}: is a pipe or a device; move it away")
        return path.read_bytes()


def _check_tensors(model: Model) -> None:
    for what, tensor in (("input", model.input), ("output", model.output)):
        if tensor.dtype != "int8":
            raise ModelError(
                f"{model.path}: {what} is {tensor.dtype}; the firmware's front end and detector work in int8"
            )
    if (model.output.scale, model.output.zero_point) != (1 / 256, -128):
        raise ModelError(
            f"{model.path}: posteriors of scale {model.output.scale:g} and zero point {model.output.zero_point}; the "
            "firmware's detector needs those of TFLite's softmax or logistic function, 1/256 and -128"
        )


def config_header(made: str, macros: dict[str, object]) -> str:
    """The text of ``kws_config.h``."""
    lines = []
    for name, value in macros.items():
        text = number(value)
        lines.append(f"#define {name} ({text})" if text.startswith("-") else f"#define {name} {text}")
    return "\n".join(
        [f"/* {made} */", "#ifndef KWS_CONFIG_H_", "#define KWS_CONFIG_H_\n", *lines, "\n#endif /* KWS_CONFIG_H_ */\n"]
    )


def _by_kernels(needs: dict[str, int]) -> str:
    return ", ".join(f"{kernels} {need:,}" for kernels, need in needs.items())


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


def _package(summary: dict[str, Any], speed: dict[str, Any], calls: list[str], sources: list[str]) -> dict[str, str]:
    """The files of ``package``, with their ``@TOKENS@`` replaced."""
    tokens = {
        "VERSION": kws_edge.__version__,
        "SUFFIX": "" if summary["prefix"] == DEFAULT_PREFIX else f"_{summary['prefix']}",
        "NAME": plain(summary["model"]),
        "LICENCE": summary["licence"],
        "KEYWORDS": plain(", ".join(summary["keywords"])),
        "ARENA": f"{summary['arena']['size']:,}",
        "ARENA_KERNELS": summary["arena"]["kernels"],
        "ARENA_BY_KERNELS": _by_kernels(summary["arena"]["by_kernels"]),
        "MODEL_BYTES": f"{summary['flash']['model']:,}",
        "TABLE_BYTES": f"{summary['flash']['tables']:,}",
        "GOLDEN_BYTES": f"{summary['flash']['golden']:,}",
        "FRONTEND_RAM": f"{summary['ram']['front_end']:,}",
        "DETECTOR_RAM": f"{summary['ram']['detector']:,}",
        "OPS": ", ".join(calls),
        "KERNEL_SOURCES": " ".join(sources),
        "SAMPLE_RATE": str(summary["sample_rate"]),
        "STEP_MS": f"{summary['step_ms']:g}",
        "SPEED": describe_need(summary["speed"], summary["step_ms"]),
        "AT_64_MHZ": "; ".join(
            line
            for line in describe_board(on_board(speed, mhz=64, step_ms=summary["step_ms"]), summary["step_ms"])
            if "-mve" not in line  # no Cortex-M4 has vectors
        ),
        "HASH": summary["front_end"],
        "MACS": f"{summary['macs']:,}",
        "PARITY": describe(summary["parity"]),
    }
    files = {}
    for path in sorted(p for p in _PACKAGE.rglob("*") if p.is_file()):
        text = renamed(path.read_text(), summary["prefix"])
        files[path.relative_to(_PACKAGE).as_posix()] = re.sub(
            r"@([A-Z0-9_]+)@", lambda token: tokens.get(token[1], token[0]), text
        )
    return files


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
