"""Quantisation: a Keras model to an INT8 TFLite flatbuffer, post-training or from quantisation-aware training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

import kws_edge
from host_tools.convert.clip_graph import to_int8
from host_tools.convert.comparison import compared_clips, compared_sequences
from host_tools.convert.step_graph import step_of, to_step_int8
from host_tools.data.origins import SPEECH_COMMANDS, SYNTHETIC
from host_tools.networks.models import MODELS, build
from host_tools.networks.qat import is_quantisation_aware
from host_tools.training.run import Run
from kws_edge.config import DetectorConfig
from kws_edge.files import write_atomically
from kws_edge.model.file import Metadata, pack

__all__ = ["default_licence", "quantize_run", "quantized_steps"]


def quantize_run(
    run: Run,
    path: str | Path,
    *,
    name: str,
    n: int = 200,
    seed: int = 0,
    detector_config: DetectorConfig | None = None,
    description: str | None = None,
    licence: str | None = None,
) -> Metadata:
    """Quantise the best weights of `run` and write a self-describing model file.

    The file records the accuracy of the run's network and of the INT8 network on the run's validation examples.

    Parameters
    ----------
    run : Run
    path : path
        File to write.
    name : str
        What the model is called.
    n, seed : int
        Number of calibration examples, and the seed of their choice. A quantisation-aware run needs none.
    detector_config : DetectorConfig, optional
        Defaults that the file carries.
    description : str, optional
        What the file says of itself; by default the network's kind and size.
    licence : str, optional
        Licence of the weights; by default that of :func:`default_licence`.
    """
    model = run.model()
    aware, streams = is_quantisation_aware(model), run.config.network.streams
    if streams:
        flatbuffer = quantized_steps(run, model, n=n, seed=seed)
    else:
        flatbuffer = to_int8(model, None if aware else run.calibration(n, seed=seed))
    quantisation = "INT8 by " + ("quantisation-aware training" if aware else "post-training quantisation")
    calibration = {} if aware else {"calibration": {"examples": n, "seed": seed}}
    metadata = Metadata(
        labels=run.labels,
        frontend_config=run.frontend_config,
        detector_config=detector_config or DetectorConfig(),
        name=name,
        description=_description(run, quantisation) if description is None else description,
        licence=default_licence(run.origins) if licence is None else licence,
        provenance={**_provenance(run), "quantisation": quantisation, **calibration},
        step=step_of(model),
    )
    compared = compared_sequences if streams else compared_clips
    metadata = dataclasses.replace(metadata, metrics={"validation": compared(run, model, pack(flatbuffer, metadata))})
    write_atomically(path, pack(flatbuffer, metadata), durable=True)
    return metadata


def quantized_steps(
    run: Run, model: keras.Model, *, n: int = 200, seed: int = 0, hop_frames: int | None = None
) -> bytes:
    """The step graph of a run with state.

    Parameters
    ----------
    run : Run
    model : keras.Model
        Its network.
    n, seed : int
        As for :func:`quantize_run`.
    hop_frames : int, optional
        As for :func:`host_tools.convert.step_graph.to_step_int8`.
    """
    heard = [] if is_quantisation_aware(model) else list(run.calibration(n, seed=seed)[:, :, 0])
    return to_step_int8(model, heard, run.frontend_config, hop_frames=hop_frames)


def _description(run: Run, quantisation: str) -> str:
    """Kind and size of the network."""
    t = run.config.network
    width = f" of width {t.width:g}" if t.model in MODELS or t.width != 1 else ""
    n = build(t.model, run.frontend_config, len(run.labels), width=t.width).count_params()
    return f"{t.model}{width}, {n:,} parameters, {quantisation}"


def _provenance(run: Run) -> dict[str, Any]:
    """What made the weights. Other runs are given by their names alone."""
    training = {
        k: ",".join(Path(p).name for p in v.split(",")) if k in ("start", "blend", "teacher", "qat") else v
        for k, v in run.config.summary().items()
    }
    return {
        "tool": f"kws-edge {kws_edge.__version__}",
        "training": training,
        "data": run.record["data"],
        "best": run.record.get("best", {}),
        "versions": run.record["versions"],
    }


def default_licence(origins: Sequence[str]) -> str:
    """Licence and attribution of weights that were trained on words of these origins.

    The text states what the licences of others ask for. It says nothing about the user's own recordings.

    Parameters
    ----------
    origins : sequence of str
        See :attr:`host_tools.training.run.Run.origins`.
    """
    if SPEECH_COMMANDS in origins and {*origins} <= {SPEECH_COMMANDS, SYNTHETIC}:
        return f"Apache-2.0. Trained on {SPEECH_COMMANDS}; see NOTICE for all sources."
    return f"Trained on {', '.join(origins)}. No licence is stated." if origins else ""
