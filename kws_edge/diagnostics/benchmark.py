"""Measure what keyword spotting costs on this machine: each stage back to back, and the program at live pace."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from kws_edge.audio.file import AudioFile
from kws_edge.audio.pipe import PcmStream
from kws_edge.config import DetectorConfig
from kws_edge.diagnostics.latency import STAGES, Stopwatch, percentiles
from kws_edge.errors import ConfigError, ModelError
from kws_edge.model.interpreter import Interpreter
from kws_edge.model.model import Model
from kws_edge.model.tflite import FlatModel
from kws_edge.ranges import number, whole
from kws_edge.spotter import Spotter
from kws_edge.text import counted, parse_json, printable, read_text, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FORMAT", "STREAM", "compare", "configuration", "load", "measure", "measure_foreign", "recording"]

FORMAT = 1
"""Version of the results that ``kws-edge bench`` writes. It changes when a name is removed or changes its meaning."""
KIND = "kws-edge bench"
STREAM = Path(__file__).parents[1] / "demo" / "stream.flac"
"""The bundled recording, which is heard again and again."""

_WARM_UP = 20
_MOST_BYTES = 2**28
_FIGURE = number(0, 1e18)
_PARTS = ("board", "model", "audio")

Samples = dict[str, np.ndarray]
"""Seconds of each inference, float64, by name of the stage."""
Row = tuple[str, str, float, float]
"""Configuration, name of the figure, old value, new value."""


def recording(seconds: float, *, rate: int, channels: int = 1) -> bytes:
    """Return `seconds` of the bundled recording as a microphone delivers it: interleaved 16-bit PCM.

    Raises
    ------
    ConfigError
        If the PCM is larger than 256 MiB.
    """
    if 2 * seconds * rate * channels > _MOST_BYTES:
        raise ConfigError(
            f"{seconds:,.0f} s of {channels} channels at {rate} Hz are more audio than the {_MOST_BYTES // 2**20} MiB "
            "that are kept in memory; measure less of it"
        )
    with AudioFile(STREAM, sample_rate=rate) as file:
        samples = file.read_all()
    return np.repeat(np.resize(samples, math.ceil(seconds * rate)), channels).astype("<i2").tobytes()


def _bare(interpreter: Interpreter, values: NDArray[Any]) -> Callable[[int], list[float]]:
    """Return a loop around the runtime's own interpreter, without this package. It returns the seconds of each turn."""
    native = interpreter.native
    source, target = native.get_input_details()[0]["index"], native.get_output_details()[0]["index"]

    def loop(n: int) -> list[float]:
        spent = []
        for _ in range(n):
            started = perf_counter()
            native.set_tensor(source, values)
            native.invoke()
            native.get_tensor(target)
            spent.append(perf_counter() - started)
        return spent

    return loop


def measure(
    model: Model, *, detector_config: DetectorConfig, inferences: int, rate: int, channels: int = 1
) -> tuple[dict[str, Any], Samples]:
    """Hear a recording through the whole chain as fast as possible, in the blocks of a microphone.

    Parameters
    ----------
    model : Model
    detector_config : DetectorConfig
    inferences : int
        Number of inferences to measure.
    rate, channels : int
        Rate in Hz and number of channels of the recording as the microphone delivers it.

    Returns
    -------
    result : dict
        Figures of each stage and of the whole chain, JSON-ready.
    samples : dict
        Seconds of each inference, by stage.
    """
    spotter = Spotter(model, detector_config=detector_config)
    watch = Stopwatch(spotter.step_s, kept=inferences)
    pcm = recording((inferences + _WARM_UP + 1) * spotter.step_s + 1, rate=rate, channels=channels)
    source = PcmStream(
        io.BytesIO(pcm),
        sample_rate=model.frontend_config.sample_rate,
        source_rate=rate,
        channels=channels,
        name="the recording",
    )
    answers = round(spotter.step_s / spotter.answer_s)  # of each inference
    blocks = iter(source)
    whole: list[float] = []
    bare: list[float] = []
    busy = 0.0
    warm = 0
    while len(whole) < inferences:
        # This measures from outside with another clock than the stages use. So time between the stages shows.
        started = perf_counter()
        steps = sum(1 for _ in spotter.process_steps(next(blocks))) // answers
        spent = perf_counter() - started
        if warm < _WARM_UP:
            warm += steps
            if warm >= _WARM_UP:
                loop = _bare(spotter.interpreter, np.array(spotter.input))
                loop(_WARM_UP)
                source.stopwatch = spotter.stopwatch = watch
            continue
        busy += spent
        whole += steps * [spent / max(1, steps)]
        bare += loop(steps)  # in turns, so that any disturbance and cold caches affect both
    samples = {name: seconds.astype(float) for name, seconds in watch.samples().items()}
    samples["end_to_end"], samples["bare_invoke"] = np.array(whole[:inferences]), np.array(bare)
    stages = {name: percentiles(samples[name]) for name in (*STAGES, "end_to_end")}
    result = {
        "inferences": inferences,
        "step_s": spotter.step_s,
        "stages": stages,
        "bare_invoke": percentiles(samples["bare_invoke"]),
        "stages_share": float(np.median(sum(samples[name] for name in STAGES) / samples["end_to_end"])),
        "real_time_factor": busy / (len(whole) * spotter.step_s),
    }
    return result, samples


def measure_foreign(
    flat: FlatModel, interpreter: Interpreter, *, inferences: int, name: str
) -> tuple[dict[str, Any], Samples]:
    """Invoke a model of which only the tensors are known, on random values of their types and shapes.

    Parameters
    ----------
    flat : FlatModel
    interpreter : Interpreter
    inferences : int
        How often to invoke the model.
    name : str
        Name of the model in errors.

    Raises
    ------
    ModelError
        If an input is of a type that has no random values, or the model does not run on them.
    """
    rng = np.random.default_rng(0)
    native = interpreter.native
    first = None
    try:
        for tensor in native.get_input_details():
            values = _random(rng, tuple(tensor["shape"]), np.dtype(tensor["dtype"]))
            native.set_tensor(tensor["index"], values)
            first = values if first is None else first
        if first is None:
            raise ValueError("it has no input")
        loop = _bare(interpreter, first)
        loop(_WARM_UP)
        spent: list[float] = []
        bare: list[float] = []
        for _ in range(inferences):
            started = perf_counter()
            interpreter.invoke(first)
            spent.append(perf_counter() - started)
            bare += loop(1)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ModelError(f"{name}: cannot be run on random values: {error}") from None
    samples = {"invoke": np.array(spent), "bare_invoke": np.array(bare)}
    result = {
        "inferences": inferences,
        "step_s": None,
        "stages": {"invoke": percentiles(samples["invoke"])},
        "bare_invoke": percentiles(samples["bare_invoke"]),
        "stages_share": None,
        "real_time_factor": None,
    }
    return result, samples


def _random(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    if dtype in (np.int8, np.uint8, np.int16):
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    if dtype.kind in "iub":  # counts and indices: large ones could be out of range
        return rng.integers(0, 2, shape).astype(dtype)
    raise ValueError(f"there are no random values of type {dtype}")


def load(path: str | Path, option: str) -> dict[str, Any]:
    """Read the results that an option names.

    Parameters
    ----------
    path : path
        File that ``kws-edge bench`` wrote.
    option : str
        Option that named the file, for the message.

    Raises
    ------
    ConfigError
        If the file cannot be read, holds something else, or has another format. If a result lacks a figure that every
        result has, or has an impossible figure.
    """
    try:
        values = parse_json(read_text(path))
    except OSError as error:
        raise ConfigError(f"{option} {path}: cannot be read ({error.strerror or error})") from None
    except ValueError as error:
        raise ConfigError(f"{option} {path}: not JSON ({error}); give what kws-edge bench -o wrote") from None
    if not isinstance(values, dict) or values.get("kind") != KIND or not isinstance(values.get("results"), list):
        raise ConfigError(f"{option} {path}: holds no results of kws-edge bench; give what kws-edge bench -o wrote")
    if values.get("format") != FORMAT:
        raise ConfigError(
            f"{option} {path}: format {shown(values.get('format'))}, this version reads {FORMAT}; measure anew"
        )
    warnings = values.get("warnings")
    if not isinstance(warnings, list) or not all(isinstance(text, str) for text in warnings):
        raise ConfigError(f"{option} {path}: its warnings must be a list of texts, got {shown(warnings)}")
    try:
        _ = [{**(values[part] or {})} for part in _PARTS]
        _ = [(configuration(result), _figures(result)) for result in values["results"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{option} {path}: results that lack {error}; measure anew") from None
    except ConfigError as error:
        raise ConfigError(f"{option} {path}: {error}; measure anew") from None
    return values


def _middle(values: list[float]) -> float:
    """The median, so that one disturbed start does not count."""
    if not values:
        raise KeyError("startup_s")
    return float(np.median([_FIGURE.check("startup_s", value) for value in values]))


def _figures(result: dict[str, Any]) -> dict[str, float]:
    """The figures of a result to compare: seconds, bytes and shares, of which less is better.

    Raises
    ------
    ConfigError
        If a figure is not a number, or is impossible.
    """
    found: dict[str, Any] = {}
    for where, stages in (("", result["stages"]), ("live ", (result["live"] or {}).get("stages") or {})):
        for stage, values in stages.items():
            name = printable(stage.replace("_", " "), most=60)
            for key in ("p50_s", "p95_s"):
                found[f"{where}{name} {key[:-2]}, ms"] = 1000, values[key]
    if result["real_time_factor"] is not None:
        found["real-time factor"] = 1, result["real_time_factor"]
    if result["live"]:
        found["live CPU, % of a core"] = 100, result["live"]["cpu_share"]
        found["live start-up, s"] = 1, _middle(result["live"]["startup_s"])
        if result["live"]["peak_bytes"]:
            found["live memory, MB"] = 1e-6, result["live"]["peak_bytes"]
    return {name: factor * _FIGURE.check(name, value) for name, (factor, value) in found.items()}


def compare(old: dict[str, Any], new: dict[str, Any]) -> tuple[list[str], list[Row]]:
    """Compare two results.

    Parameters
    ----------
    old, new : dict
        Contents of two result files, see :func:`load`.

    Returns
    -------
    differences : list of str
        Names of what differs besides the measurements: board, versions, model, audio.
    rows : list of (configuration, figure, old, new)
        One row for every configuration and figure that both results have.

    Raises
    ------
    ConfigError
        If the results have no configuration in common.
    """
    differences = []
    for part in _PARTS:
        a, b = old[part] or {}, new[part] or {}
        changed = (key for key in {**a, **b} if a.get(key) != b.get(key))
        differences += [printable(f"{key}: {a.get(key)} -> {b.get(key)}", most=200) for key in changed]
    before = {configuration(result): _figures(result) for result in old["results"]}
    rows = [
        (configuration(result), figure, before[configuration(result)][figure], value)
        for result in new["results"]
        if configuration(result) in before
        for figure, value in _figures(result).items()
        if figure in before[configuration(result)]
    ]
    if not rows:
        raise ConfigError(
            f"nothing to compare: {', '.join(before)} before, "
            f"{', '.join(map(configuration, new['results']))} now; give the same --runtime, --threads and --kernels"
        )
    return differences, rows


def configuration(result: dict[str, Any]) -> str:
    """The measured configuration in words, without versions."""
    threads = whole(1, 1024).check("threads", result["threads"])
    text = f"{result['runtime']}, {counted(threads, 'thread')}, {result['kernels']} kernels"
    return printable(text, most=200)
