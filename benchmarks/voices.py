"""Measures how well `--only-me` tells people apart, on speakers that trained nothing in it.

    python -m benchmarks.voices DATA -o benchmarks/voices

DATA holds `speech_commands` and `negatives`. Ten utterances of each validation speaker with twelve or more make the
voice known. The further ones, and those of all other validation speakers, are compared with it. Speakers of Speech
Commands are known by their file names.

- voice: what `--only-me` does.
- embedding of words: the cosine of the embedding with which words are taught.

"As recorded" has everyone's own microphone and room, which help to tell people apart. "Varied" gives each utterance an
equaliser and noise of its own, so that they help less. Intervals are of a bootstrap over speakers, at 95 %.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from host_tools.data.dataset import index_clips
from host_tools.data.features import clip_features, raw_to_levels, recording_features
from host_tools.data.recordings import find_audio
from host_tools.training.voices import apart, varied
from kws_edge import Model
from kws_edge.teach.encoder import Encoder, normalised
from kws_edge.voice.me import OTHERS, UTTERANCES
from kws_edge.voice.voices import Voices

_DRAWS, _SHARES, _MOST_OTHERS = 400, (0.05, 0.01), 250


def equal_error(own: np.ndarray, others: np.ndarray) -> float:
    """The share at which as many own utterances are refused as others' pass."""
    thresholds = np.quantile(others, np.linspace(0.3, 1, 1001))
    refused = np.searchsorted(np.sort(own), thresholds) / len(own)
    passed = 1 - np.searchsorted(np.sort(others), thresholds) / len(others)
    return float(np.maximum(refused, passed).min())


def refused_at(share: float) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda own, others: float((own < np.quantile(others, 1 - share)).mean())


def interval(figure: Callable, own: list, others: list) -> str:
    """A figure in percent, with its interval."""
    rng, n = np.random.default_rng(0), len(own)
    drawn = []
    for _ in range(_DRAWS):
        chosen = rng.integers(n, size=n)
        drawn.append(figure(np.concatenate([own[i] for i in chosen]), np.concatenate([others[i] for i in chosen])))
    low, high = np.quantile(drawn, [0.025, 0.975])
    value = figure(np.concatenate(own), np.concatenate(others))
    return f"{100 * value:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def rows(name: str, found: np.ndarray, speakers: np.ndarray, words: np.ndarray, device: float | None) -> list[str]:
    """Lines of the table for embeddings."""
    good = ~np.isnan(found[:, 0])
    found, speakers, words = found[good], speakers[good], words[good]
    rng = np.random.default_rng(1)
    own, others, chosen = apart(found, speakers, rng)
    others = [rng.choice(one, _MOST_OTHERS, replace=False) for one in others]
    same = [np.isin(words[one[UTTERANCES:]], words[one[:UTTERANCES]]) for one in chosen]
    figures = [equal_error, *map(refused_at, _SHARES)]
    if device is not None:
        figures += [lambda own, _: float((own < device).mean()), lambda _, others: float((others >= device).mean())]
    lines = []
    for which, part in (("all words", None), ("the same words", True), ("other words", False)):
        some = own if part is None else [one[mask == part] for one, mask in zip(own, same, strict=True)]
        cells = [interval(figure, some, others) for figure in figures] + [""] * (5 - len(figures))
        lines.append(f"| {name} | {which} | {sum(map(len, some))} | " + " | ".join(cells) + " |")
    return lines


def measure(data: Path) -> list[str]:
    model, rng = Model(), np.random.default_rng(1)
    config, voices, encoder = model.frontend_config, Voices(model), Encoder(model)
    clips = [clip for clip in index_clips(data / "speech_commands").clips if clip.split == "validation"]
    speakers, words = (np.array([getattr(clip, name) for clip in clips]) for name in ("speaker", "word"))
    raw = np.asarray(clip_features([clip.path for clip in clips], config).levels).astype(np.float32)
    sounds = recording_features(find_audio(data / "negatives" / "noise").paths, config)[0]
    sounds = [one for one in sounds if len(one) > 2 * config.n_frames]
    levels = [raw_to_levels(one.copy(), config) for one in raw]
    plain = np.array([nothing(voices) if (one := voices.embed(each)) is None else one for each in levels])
    changed = normalised((varied(raw, sounds, config, rng) - voices._mean) @ voices._projection)
    of_words = np.empty((len(levels), encoder.dimensions), np.float32)
    for i, one in enumerate(levels):
        encoder.interpreter.invoke(model.quantize(one))
        of_words[i] = encoder.embedding()
    device = voices.threshold(OTHERS)
    return [
        *rows("voice, as recorded", plain, speakers, words, device),
        *rows("voice, varied", changed, speakers, words, device),
        *rows("embedding of words", of_words, speakers, words, None),
    ]


def nothing(voices: Voices) -> np.ndarray:
    return np.full(voices.dimensions, np.nan, np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    columns = ("way", "words", "utterances", "equal error, %")
    columns += tuple(f"refused at {100 * share:g} % of others, %" for share in _SHARES)
    columns += ("refused by the device, %", "others that pass the device, %")
    lines = [f"| {' | '.join(columns)} |", "|---|---|" + "---:|" * (len(columns) - 2), *measure(args.data)]
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
