"""Model cards: what a model is for, what it was made of, and what was measured (after Mitchell et al., 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from host_tools.convert.lock_section import lock_section
from host_tools.data.origins import SPEECH_COMMANDS, origins_of
from host_tools.markdown import table
from kws_edge.config import DetectorConfig
from kws_edge.labels import is_keyword
from kws_edge.model.model import Model

__all__ = ["model_card"]


def model_card(
    model: Model,
    evaluations: Sequence[Mapping[str, Any]],
    *,
    arena: Mapping[str, Any] | None = None,
    report: Mapping[str, Any] | None = None,
    lock: Mapping[str, Any] | None = None,
) -> str:
    """A model card in Markdown.

    Parameters
    ----------
    model : Model
    evaluations : sequence of mapping
        What ``kws-host evaluate -o FILE`` wrote.
    arena : mapping, optional
        What ``kws-firmware arena --json`` printed.
    report : mapping, optional
        The ``report.json`` of ``kws-host report``.
    lock : mapping, optional
        The ``.lock.json`` of the model.
    """
    licence = model.metadata.licence or "None is stated."
    sections = [
        _heading(model, arena),
        _use(model),
        _input(model),
        _training(model),
        *([lock_section(lock)] if lock is not None else []),
        _results(model, evaluations, report),
        ["## Licence", "", licence, ""],
    ]
    return "\n\n".join("\n".join(lines) for lines in sections)


def _heading(model: Model, arena: Mapping[str, Any] | None) -> list[str]:
    sizes = f"{model.size:,} bytes, {model.flat.macs:,} multiply-accumulates an inference"
    if arena is not None:
        sizes += f", {arena['total']:,} bytes of arena in TFLite Micro"
    return [f"# {model.metadata.name}", "", f"{model.metadata.description}. {sizes}.{_confirming(model)}"]


def _confirming(model: Model) -> str:
    """What the second network is, if the file has one."""
    second = model.confirming
    if second is None:
        return ""
    return (
        f" A second network in the file, {second.metadata.name}, confirms what the first almost hears: "
        f"{second.flat.macs:,} multiply-accumulates each time it is asked."
    )


def _use(model: Model) -> list[str]:
    data = model.metadata.provenance.get("data", {})
    official = SPEECH_COMMANDS in origins_of(data, model.labels)
    keywords = [label for label in model.labels if is_keyword(label)]
    others = [label for label in model.labels if not is_keyword(label)]
    return [
        "## Use",
        "",
        f"Hears {len(keywords)} {'English ' if official else ''}{'words' if len(keywords) > 1 else 'word'}"
        f"{', beside ' * bool(others)}{' and '.join(others)}: {', '.join(keywords)}.",
        "",
        f"It listens to {_heard(model)} on the device, without a network.",
        "",
        f"{_limits(data, official=official)} In continuous "
        f"speech a window may resemble a word: {_calibrated(model.metadata.metrics.get('calibration'))}."
        + _after_speech(model.detector_config),
    ]


def _heard(model: Model) -> str:
    """What the model takes at a time."""
    c = model.frontend_config
    if model.step is None:
        return f"{c.clip_ms / 1000:g} s of mono audio at {c.sample_rate} Hz at a time,"
    return f"mono audio at {c.sample_rate} Hz as it comes, and answers every {model.step.frames * c.hop_ms:g} ms,"


def _input(model: Model) -> list[str]:
    c = model.frontend_config
    return [
        "## Input",
        "",
        f"{c.contents} from {c.f_min_hz:g} to {c.f_max_hz:g} Hz, "
        f"frame {c.frame_ms:g} ms, hop {c.hop_ms:g} ms, FFT {c.n_fft}; shape {model.input.shape}, "
        f"{model.input.dtype} of scale {model.input.scale:g} and zero point {model.input.zero_point}; "
        f"front-end hash `{c.hash}`. The file carries all of it.",
    ]


def _training(model: Model) -> list[str]:
    m, provenance = model.metadata, model.metadata.provenance
    data = provenance.get("data", {})
    made = {k: v for k, v in provenance.get("training", {}).items() if v not in ("", 0, 0.0)}
    made |= {"best": provenance["best"]} if "best" in provenance else {}
    made |= {"quantisation": provenance.get("quantisation", m.description.rsplit(", ", 1)[-1])}
    made |= {"calibration": provenance["calibration"]} if "calibration" in provenance else {}
    return [
        "## Training",
        "",
        f"{sum(data.get('training', {}).values()):,} training examples of "
        f"{', '.join(origins_of(data, model.labels)) or 'unknown origin'}, "
        f"{data.get('speech_minutes', 0):g} minutes of speech without the keywords, "
        f"{data.get('synthetic_minutes', 0):g} of synthetic speech, "
        f"{data.get('noise_minutes', 0):g} minutes of noise; {data.get('split', 'official')} split.",
        "",
        *table(["setting", "value"], made.items()),
    ]


def _results(model: Model, evaluations: Sequence[Mapping[str, Any]], report: Mapping[str, Any] | None) -> list[str]:
    results = [result for evaluation in evaluations for result in evaluation["results"]]
    names = [Path(_folder(one["data"])).name for one in results]
    accuracies = [_accuracy(name, one) for name, one in zip(names, results, strict=True)]
    lines = ["## Results", "", "INT8 file, as shipped:", ""]
    lines += table(["data", "clips", "accuracy", "95 % interval", "lowest recall"], accuracies)
    heard = {label for one in results for label in one["recall"]}
    if recalls := [
        (label, *(f"{one['recall'][label]:.1%}" if label in one["recall"] else "" for one in results))
        for label in model.labels
        if label in heard
    ]:
        lines += ["", *table(["recall of", *names], recalls)]
    return lines if report is None else [*lines, "", *_forms(report)]


def _accuracy(name: str, result: Mapping[str, Any]) -> tuple[str, ...]:
    lowest = min(result["recall"], key=result["recall"].get)
    low, high = result["interval_95"]
    return (
        name + result["data"].removeprefix(_folder(result["data"])),
        f"{result['clips']:,}",
        f"{result['accuracy']:.2%}",
        f"{low:.2%} to {high:.2%}",
        f"{lowest} {result['recall'][lowest]:.2%}",
    )


def _forms(report: Mapping[str, Any]) -> list[str]:
    rows = (
        (form, f"{v['accuracy']:.2%}", f"{v['drop_points']:+.2f}", f"{v['agreement_with_fp32']:.2%}")
        for form, v in report["forms"].items()
    )
    return [
        f"Forms on {report['clips']:,} clips of {Path(_folder(report['data'])).name}:",
        "",
        *table(["form", "accuracy", "drop, points", "agrees with FP32"], rows),
    ]


def _folder(data: str) -> str:
    """The folder in an evaluation's name for its data, without the remark in brackets."""
    return data.split(" (")[0]


def _limits(data: dict, *, official: bool) -> str:
    """What a model is not for. If its words are `official`, the text says how they were recorded."""
    text = "Not for: safety, identification of speakers"
    if official:
        text += (
            ", other languages. Words were recorded singly, mostly by adults, with laptop and phone microphones; "
            "children, far speech and loud rooms are less well covered"
        )
    if words := data.get("same_voices"):
        text += f". Voices that validated {', '.join(words)} may have trained, too: expect worse for strangers"
    return f"{text}."


def _after_speech(detector: DetectorConfig) -> str:
    if not detector.speech_margin:
        return ""
    return (
        f" A keyword right after other speech must reach {detector.speech_margin:g} more; over other people's speech "
        "most are missed."
    )


def _calibrated(found: dict | None) -> str:
    if not found:
        return "how often has not been calibrated yet"
    own = "".join(f", {word} {value:g}" for word, value in found.get("thresholds", {}).items())
    own = own and f" ({own[2:]})"
    return (
        f"{found['false_accepts']} places in {found['hours']:.1f} hours of development streams did at its threshold"
        f" of {found['threshold']:g}{own} and smoothing of {found['smoothing_ms']:g} ms, so that"
        f" {found['expected_per_hour']:.1f} an hour are to be expected elsewhere, at {found['false_reject_rate']:.1%}"
        " misses"
    )
