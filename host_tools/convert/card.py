"""Model cards: what a model is for, what it was made of, and what was measured (after Mitchell et al., 2019)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from host_tools.data.origins import SPEECH_COMMANDS, origins_of
from kws_edge.config import DetectorConfig
from kws_edge.labels import is_keyword
from kws_edge.model.model import Model
from kws_edge.text import listed

__all__ = ["model_card"]


def model_card(
    model: Model, evaluations: Sequence[dict], *, arena: dict | None = None, report: dict | None = None
) -> str:
    """A model card in Markdown.

    Parameters
    ----------
    model : Model
    evaluations : sequence of dict
        What ``kws-host evaluate -o FILE`` wrote.
    arena : dict, optional
        What ``kws-firmware arena --json`` printed.
    report : dict, optional
        The ``report.json`` of ``kws-host report``.
    """
    m, c = model.metadata, model.frontend_config
    keywords = [label for label in model.labels if is_keyword(label)]
    others = [label for label in model.labels if not is_keyword(label)]
    provenance = m.provenance
    training, data = provenance.get("training", {}), provenance.get("data", {})
    origins = origins_of(data, model.labels)
    official = SPEECH_COMMANDS in origins
    made = {k: v for k, v in training.items() if v not in ("", 0, 0.0)}
    made |= {"best": provenance["best"]} if "best" in provenance else {}
    made |= {"quantisation": provenance.get("quantisation", m.description.rsplit(", ", 1)[-1])}
    made |= {"calibration": provenance["calibration"]} if "calibration" in provenance else {}
    lines = [
        f"# {m.name}",
        "",
        f"{m.description}. {model.size:,} bytes, {model.flat.macs:,} multiply-accumulates an inference"
        + (f", {arena['total']:,} bytes of arena in TFLite Micro" if arena is not None else "")
        + ".",
        "",
        "## Use",
        "",
        f"Hears {len(keywords)} {'English ' if official else ''}{'words' if len(keywords) > 1 else 'word'}, beside "
        f"{' and '.join(others) or 'nothing'}: {', '.join(keywords)}.",
        "",
        f"It listens to {c.clip_ms / 1000:g} s of mono audio at {c.sample_rate} Hz at a time, on the device, without a"
        " network.",
        "",
        f"{_limits(data, official=official)} In continuous "
        f"speech a window may resemble a word: {_calibrated(m.metrics.get('calibration'))}."
        + _after_speech(model.detector_config),
        "",
        "## Input",
        "",
        f"{c.n_mels} {c.mel_scale} mels of {c.spectrum} from {c.f_min_hz:g} to {c.f_max_hz:g} Hz, "
        f"frame {c.frame_ms:g} ms, hop {c.hop_ms:g} ms, FFT {c.n_fft}; shape {model.input.shape}, "
        f"{model.input.dtype} of scale {model.input.scale:g} and zero point {model.input.zero_point}; "
        f"front-end hash `{c.hash}`. The file carries all of it.",
        "",
        "## Training",
        "",
    ]
    counts = data.get("training", {})
    lines += [
        f"{sum(counts.values()):,} training examples of {', '.join(origins) or 'unknown origin'}, "
        f"{data.get('speech_minutes', 0):g} minutes of speech without the keywords, "
        f"{data.get('synthetic_minutes', 0):g} of synthetic speech, "
        f"{data.get('noise_minutes', 0):g} minutes of noise; {data.get('split', 'official')} split.",
        "",
        *_table(["setting", "value"], made.items()),
        "",
        "## Results",
        "",
        "INT8 file, as shipped:",
        "",
    ]
    results = [r for evaluation in evaluations for r in evaluation["results"]]
    names = [Path(r["data"].split(" (")[0]).name for r in results]
    rows = []
    for name, r in zip(names, results, strict=True):
        lowest = min(r["recall"], key=r["recall"].get)
        low, high = r["interval_95"]
        rows.append(
            (
                name + r["data"][len(r["data"].split(" (")[0]) :],
                f"{r['clips']:,}",
                f"{r['accuracy']:.2%}",
                f"{low:.2%} to {high:.2%}",
                f"{lowest} {r['recall'][lowest]:.2%}",
            )
        )
    lines += _table(["data", "clips", "accuracy", "95 % interval", "lowest recall"], rows)
    heard = {label for r in results for label in r["recall"]}
    rows = [
        (label, *(f"{r['recall'][label]:.1%}" if label in r["recall"] else "" for r in results))
        for label in model.labels
        if label in heard
    ]
    if rows:
        lines += ["", *_table(["recall of", *names], rows)]
    if report is not None:
        lines += ["", f"Forms on {report['clips']:,} clips of {Path(report['data'].split(' (')[0]).name}:", ""]
        lines += _table(
            ["form", "accuracy", "drop, points", "agrees with FP32"],
            (
                (form, f"{v['accuracy']:.2%}", f"{v['drop_points']:+.2f}", f"{v['agreement_with_fp32']:.2%}")
                for form, v in report["forms"].items()
            ),
        )
    lines += ["", "## Licence", "", m.licence or "None is stated.", ""]
    return "\n".join(lines)


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a table in Markdown."""
    lines = (" | ".join(listed(cell).replace("|", "\\|") for cell in row) for row in (heads, *rows))
    head, *body = (f"| {line} |" for line in lines)
    return [head, "|" + "---|" * len(heads), *body]


def _limits(data: dict, *, official: bool) -> str:
    """What a model is not for; of `official` words it is known how they were recorded."""
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
