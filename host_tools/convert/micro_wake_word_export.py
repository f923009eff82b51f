"""Exports one word of a run to microWakeWord: the model, and the manifest that ESPHome and pymicro-wakeword read."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from host_tools.convert.micro_wake_word import to_micro_wake_word
from host_tools.convert.quantize import quantized_steps
from host_tools.convert.step_graph import step_of
from host_tools.errors import TrainingError
from host_tools.evaluation.calibration import Calibration, calibrate
from host_tools.evaluation.stream_audio import Condition, Stream
from host_tools.networks.streaming import SCORE_OFFSET, answer_frames
from host_tools.training.run import Run
from kws_edge.config import DetectorConfig
from kws_edge.errors import RuntimeUnavailableError
from kws_edge.files import check_writable, write_atomically
from kws_edge.labels import is_keyword
from kws_edge.model.file import Metadata, pack
from kws_edge.presets import preset

__all__ = ["Exported", "check_exportable", "check_output", "export_run"]

_FRONT_END = "microfrontend"
_ENDING = ".json"
_ESPHOME = "2024.7.0"
"""The first version of ESPHome that reads such manifests."""
_KERNELS, _UNIT = "esp-nn", 1024
"""The kernels that ESPHome builds with, and the unit of the arena in bytes."""


@dataclass(frozen=True)
class Exported:
    """What :func:`export_run` wrote."""

    manifest: Path
    model: Path
    probability_cutoff: float
    sliding_window_size: int
    """Answers whose probabilities are averaged."""
    tensor_arena_size: int
    """Bytes."""
    calibration: Calibration | None
    """How cutoff and window were chosen; None if they were given."""


def check_output(manifest: str | Path) -> tuple[Path, Path]:
    """The paths of the manifest and of the model beside it, which are both new.

    Raises
    ------
    TrainingError
        If the manifest does not end in ``.json``, or one of the two is there already.
    WriteError
        If they cannot be written.
    """
    manifest = Path(manifest)
    if manifest.suffix != _ENDING:
        raise TrainingError(f"{manifest}: ESPHome takes manifests that end in {_ENDING}: name it {manifest}{_ENDING}")
    both = manifest, manifest.with_suffix(".tflite")
    for path in both:
        if path.exists() or path.is_symlink():
            raise TrainingError(f"{path}: is there already; name another file, or remove it first")
        check_writable(path)
    return both


def check_exportable(run: Run, word: str) -> None:
    """Check that microWakeWord's devices can hear by this run.

    Raises
    ------
    TrainingError
        If the run is one of clips, has another front end, or does not know the word.
    """
    network, wanted = run.config.network, "train with --preset microwakeword"
    if not network.streams:
        raise TrainingError(f"{run.folder}: {network.model} hears clips, and microWakeWord hears streams: {wanted}")
    if run.frontend_config != preset(_FRONT_END):
        raise TrainingError(
            f"{run.folder}: hears by {network.frontend}, and microWakeWord's devices compute {_FRONT_END}: {wanted}"
        )
    words = [label for label in run.labels if is_keyword(label)]
    if word not in words:
        raise TrainingError(f"{run.folder}: has no word {word!r}; it has {', '.join(words)}")


def export_run(
    run: Run,
    word: str,
    manifest: str | Path,
    *,
    streams: Sequence[Stream] = (),
    conditions: Sequence[Condition] = (Condition(),),
    budget: float = 1.0,
    detector_config: DetectorConfig | None = None,
    author: str = "kws-edge",
    languages: Sequence[str] = ("en",),
    n: int = 200,
    seed: int = 0,
    workers: int | None = None,
    say: Callable[[str], None] = print,
) -> Exported:
    """Write a word's model and its manifest.

    Parameters
    ----------
    run : Run
        Of a network with state that hears by ``microfrontend``.
    word : str
        One of its labels.
    manifest : path
        Must end in ``.json``. The model is beside it and ends in ``.tflite``.
    streams, conditions, budget, workers, say
        As for :func:`host_tools.evaluation.calibration.calibrate`, which chooses cutoff and window. The word counts
        alone. Without streams they are those of `detector_config`.
    detector_config : DetectorConfig, optional
        Threshold and smoothing without streams.
    author : str
        Name in the manifest.
    languages : sequence of str
        Codes of the languages in which the word was recorded.
    n, seed : int
        As for :func:`host_tools.convert.quantize.quantize_run`.

    Raises
    ------
    TrainingError
        If the run cannot be exported, or a file is there already.
    DatasetError
        If no setting keeps to the budget.
    """
    manifest, path = check_output(manifest)
    check_exportable(run, word)
    network = run.model()
    flatbuffer = quantized_steps(run, network, n=n, seed=seed, hop_frames=answer_frames(network))
    model = to_micro_wake_word(flatbuffer, run.labels.index(word), SCORE_OFFSET, str(run.folder))
    answer_ms = answer_frames(network) * run.frontend_config.hop_ms
    config, calibration = detector_config or DetectorConfig(), None
    if streams:
        metadata = Metadata(
            labels=run.labels,
            frontend_config=run.frontend_config,
            detector_config=DetectorConfig(keywords=(word,), step_ms=answer_ms),
            name=word,
            step=step_of(network),
        )
        with tempfile.TemporaryDirectory() as folder:
            heard = Path(folder) / f"{word}.tflite"
            write_atomically(heard, pack(flatbuffer, metadata))
            calibration = calibrate(heard, streams, budget=budget, conditions=conditions, workers=workers, say=say)
        config = calibration.after.config
    exported = Exported(
        manifest,
        path,
        probability_cutoff=config.threshold_of(word),
        sliding_window_size=max(1, round(config.smoothing_ms / answer_ms)),
        tensor_arena_size=_arena_bytes(model),
        calibration=calibration,
    )
    write_atomically(path, model, durable=True)
    content = _manifest(exported, word, author, languages, run.frontend_config.hop_ms)
    write_atomically(manifest, json.dumps(content, indent=2, ensure_ascii=False) + "\n", durable=True)
    return exported


def _manifest(exported: Exported, word: str, author: str, languages: Sequence[str], hop_ms: float) -> dict:
    """The second version of microWakeWord's manifest."""
    return {
        "type": "micro",
        "wake_word": word,
        "author": author,
        "model": exported.model.name,
        "trained_languages": list(languages),
        "version": 2,
        "micro": {
            "probability_cutoff": exported.probability_cutoff,
            "feature_step_size": round(hop_ms),
            "sliding_window_size": exported.sliding_window_size,
            "tensor_arena_size": exported.tensor_arena_size,
            "minimum_esphome_version": _ESPHOME,
        },
    }


def _arena_bytes(model: bytes) -> int:
    """Bytes that TFLite Micro needs with ESPHome's kernels, as kws-firmware measures them on this machine.

    Raises
    ------
    RuntimeUnavailableError
        If it cannot measure them.
    """
    with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
        file.write(model)
        file.flush()
        command = [sys.executable, "-m", "firmware_export", "arena", file.name, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise RuntimeUnavailableError(f"kws-firmware arena does not tell how much memory the model needs: {said[-1]}")
    return -(-json.loads(done.stdout)["kernels"][_KERNELS] // _UNIT) * _UNIT
