"""Generate the folder that a firmware engineer compiles."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from firmware_export.arena import ArenaPlan, MicroInterpreter
from firmware_export.boards import estimate_boards
from firmware_export.build_files import build_files
from firmware_export.firmware import Firmware
from firmware_export.kernels import KERNELS
from firmware_export.licences import licence_files
from firmware_export.names import DEFAULT_PREFIX, check_prefix
from firmware_export.ops import resolver_calls
from firmware_export.parity import Parity
from firmware_export.sensitivities import Sensitivities
from firmware_export.settings import DetectorSettings
from firmware_export.sources import source_files
from firmware_export.speed import longest_step_ms
from firmware_export.states import States, at_hop
from firmware_export.tables import FrontendTables
from firmware_export.target import DEFAULT_TARGET, TARGETS, Target
from firmware_export.taught import NO_TAUGHT, Taught
from firmware_export.vectors import GoldenVectors
from kws_edge.config import DetectorConfig
from kws_edge.errors import ConfigError, ModelError
from kws_edge.model.interpreter import Interpreter
from kws_edge.model.model import Model
from kws_edge.spotter import Spotter
from kws_edge.text import printable

__all__ = ["Export", "exported", "measured", "prepare"]


@dataclass(frozen=True)
class Export:
    """A model's firmware, ready to be written."""

    files: dict[str, str]
    """Text of each file by its path in the folder."""
    summary: dict[str, Any]
    """Sizes and settings; see :func:`prepare`."""
    flatbuffer: bytes = b""
    """The model in it."""


def prepare(model: Model, *, target: str = DEFAULT_TARGET, **settings: Any) -> Export:
    """Generate the firmware of a model for one system.

    Parameters
    ----------
    model : Model
        Loaded with ``kernels="builtin"``.
    target : str
        The system that builds the firmware, of :data:`firmware_export.target.TARGETS`.
    **settings
        As for :func:`measured`.

    Raises
    ------
    ModelError, ConfigError, AudioError, RuntimeUnavailableError
        If the firmware cannot run this model. The message says why.
    """
    if target not in TARGETS:
        raise ConfigError(f"target {target!r}: there are {', '.join(TARGETS)}")
    if target == "esphome" and settings.get("prefix", DEFAULT_PREFIX) != DEFAULT_PREFIX:
        raise ConfigError(f"--prefix {settings['prefix']}: an ESPHome component has names of its own; leave it out")
    return exported(measured(model, **settings), TARGETS[target])


def measured(
    model: Model,
    *,
    detector_config: DetectorConfig | None = None,
    recording: Path | None = None,
    arena_size: int | None = None,
    kernels: str | None = None,
    exact: bool = False,
    prefix: str = DEFAULT_PREFIX,
    taught: Taught = NO_TAUGHT,
    progress: Callable[[str], None] = lambda line: None,
) -> Firmware:
    """Check that TFLite Micro answers as the host does, and measure all that the firmware of a model takes.

    The golden posteriors and detections come from TFLite Micro's own interpreter.

    Parameters
    ----------
    model : Model
        Loaded with ``kernels="builtin"``.
    detector_config : DetectorConfig, optional
        Settings to use instead of the model's own.
    recording : path, optional
        Audio for the golden vectors; by default the stream that comes with ``kws_edge``.
    arena_size : int, optional
        Size of the arena in bytes; by default the memory that TFLite Micro needs with `kernels`, plus
        :data:`firmware_export.arena.ARENA_MARGIN`.
    kernels : str, optional
        Kernels that TFLite Micro will be built with, of :data:`firmware_export.kernels.KERNELS`; by default those with
        the largest arena.
    exact : bool
        Refuse a model if any posterior differs between TFLite Micro and LiteRT.
    prefix : str
        Prefix of all files, functions, types, macros and build targets. Give each model of a program its own.
    taught : Taught
        Words that the firmware hears beside the model's own.
    progress : callable, optional
        Called with a line of text before each long step.

    Raises
    ------
    ModelError, ConfigError, AudioError, RuntimeUnavailableError
        If the firmware cannot run this model. The message says why.
    """
    check_prefix(prefix)
    if kernels not in (None, *KERNELS):
        raise ConfigError(f"kernels {kernels!r}: there are {', '.join(KERNELS)}")
    if model.confirming is not None:
        raise ConfigError(
            f"{model.path}: a second network confirms its answers, and firmware runs one; export a file of one network,"
            " such as commands12 or micro12"
        )
    scale = _input_scale(model)
    spotter = Spotter(model, detector_config=detector_config)
    notes = _rounded(spotter, model.detector_config)
    hop_frames = None if model.step is None else spotter.step_frames
    if hop_frames is not None:
        model = at_hop(model, hop_frames)
        spotter = Spotter(model, detector_config=detector_config)
    model = taught.model(model)
    tables = _tables(model, scale, hop_frames)
    settings = DetectorSettings(
        spotter.detector,
        step_frames=spotter.step_frames,
        values=States(model).values,
        sensitivities=Sensitivities.of(spotter),
    )
    calls = resolver_calls(model.flat, model.path)
    progress("measuring the arena in TFLite Micro's interpreter")
    arena = ArenaPlan.of(MicroInterpreter(model.flat, model.path).arena(), model.path, size=arena_size, kernels=kernels)
    progress("computing golden vectors")
    vectors = GoldenVectors.of(Spotter(_on_board(model, arena), detector_config=detector_config), recording)
    vectors = taught.heard_in(vectors)
    parity = Parity.of(vectors, model, spotter.detector)
    parity.check(model.path, exact=exact)
    notes += _unheard(vectors)
    return Firmware(model, prefix, kernels, spotter, tables, settings, calls, arena, vectors, parity, taught, notes)


def _tables(model: Model, scale: float, hop_frames: int | None) -> FrontendTables:
    """The front end's tables, or a refusal that names the model."""
    try:
        return FrontendTables(model.frontend_config, scale, model.input.zero_point, hop_frames)
    except ConfigError as error:
        raise ConfigError(f"{model.path}: {error}") from None


def _on_board(model: Model, arena: ArenaPlan) -> Model:
    """`model` with TFLite Micro's interpreter and this arena."""
    board = copy.copy(model)
    micro = MicroInterpreter(model.flat, model.path, arena_size=arena.size)
    board.interpreter = cast(Interpreter, micro)  # it has the same methods
    return board


def exported(firmware: Firmware, target: Target) -> Export:
    """The files of a firmware for one system."""
    summary = {"target": target.name, **firmware.summary()}
    summary["board_estimates"] = estimate_boards(firmware, summary)
    sources = {target.source(name): text for name, text in source_files(firmware).items()}
    licences = licence_files(firmware.model, target.source(f"{firmware.prefix}_model_data.cc"))
    files = sources | licences | build_files(firmware, target, summary)
    return Export(files, summary, firmware.model.flat.data)


def _unheard(vectors: GoldenVectors) -> list[str]:
    """Notes on what the self-test does not cover."""
    if vectors.detections:
        return []
    return [
        f"no keyword is detected in {printable(vectors.recording)}, so the self-test sees the detector find nothing;"
        " --golden names a recording with keywords in it"
    ]


def _rounded(spotter: Spotter, own: DetectorConfig) -> list[str]:
    """Notes on times that were rounded to whole hops or inferences.

    Raises
    ------
    ConfigError
        If the user gave the step that would be rounded, unlike the model's `own`.
    """
    asked, step_ms, answer_ms = spotter.detector_config, 1000 * spotter.step_s, 1000 * spotter.answer_s
    clips = spotter.model.step is None
    unit, hop_ms = ("hops", step_ms / spotter.step_frames) if clips else ("answers", answer_ms)
    if not math.isclose(asked.step_ms, step_ms) and asked.step_ms != own.step_ms:
        below = math.floor(asked.step_ms / hop_ms) * hop_ms
        choices = " or ".join(f"{x:g}" for x in (below, below + hop_ms) if x in DetectorConfig.range_of("step_ms"))
        raise ConfigError(f"--step-ms {asked.step_ms:g}: is no whole number of {unit} of {hop_ms:g} ms; give {choices}")
    detector = spotter.detector
    what = "inferences" if clips else f"answers, one each {answer_ms:g} ms"
    times = [
        ("step_ms", asked.step_ms, step_ms, f"{unit} of {hop_ms:g} ms"),
        ("smoothing_ms", asked.smoothing_ms or answer_ms, detector.smoothing_steps * answer_ms, what),
        ("refractory_ms", asked.refractory_ms, detector.refractory_steps * answer_ms, what),
    ]
    if asked.wake_word is not None:
        times.append(("armed_s", asked.armed_s, detector.armed_steps * answer_ms / 1000, what))
    notes = [
        f"{name} {value:g} becomes {got:g}: whole {what}"
        for name, value, got, what in times
        if not math.isclose(value, got)
    ]
    longest = longest_step_ms(spotter.model.frontend_config)
    if clips and step_ms > longest:
        notes.append(f"step_ms {step_ms:g} is more than {longest:g}: words may fall between two windows")
    return notes


def _input_scale(model: Model) -> float:
    """The scale of the model's input.

    Raises
    ------
    ModelError
        If the firmware cannot work with the model's input or output.
    """
    for what, tensor in (("input", model.input), ("output", model.output)):
        if tensor.dtype != "int8":
            raise ModelError(
                f"{model.path}: {what} is {tensor.dtype}; the firmware's front end and detector work in int8"
            )
    if model.step is None and (model.output.scale, model.output.zero_point) != (1 / 256, -128):
        raise ModelError(
            f"{model.path}: posteriors of scale {model.output.scale:g} and zero point {model.output.zero_point}; the "
            "firmware's detector needs those of TFLite's softmax or logistic function, 1/256 and -128"
        )
    assert model.input.scale is not None  # every INT8 model has a scale
    return model.input.scale
