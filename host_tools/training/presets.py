"""Options of a training that go together, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

__all__ = ["PRESETS", "QAT"]

_SEQUENCES = {
    "keep": "last",
    "epochs": 60,
    "batch_size": 32,
    "learning_rate": 1.3e-3,
    "weight_decay": 1e-3,
    "mined": 0.45,
    "variety": 0.5,
    "stretch": 0.15,
    "gain_db": (-22.0, 8.0),
    "noise_share": 0.62,
    "snr_db": (-4.0, 30.0),
    "reverberation": 0.4,
    "equalisation_db": 7.0,
    "gated": 0.12,
}
"""What networks with state train on, and how long."""

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "own": {
            "start": "commands12",
            "keep": "last",
            "minutes": 15.0,
            "steps": 150,
            "words_first": 0.85,
            "learning_rate": 1e-3,
            "unknown_share": 0.4,
            "silence_share": 0.12,
            "speech_share": 0.5,
            "hard_negatives": 0.1,
            "mined": 0.35,
            "variety": 0.25,
            "hiss": 0.12,
            "babble": 0.04,
            "augmentation": 1.0,
            "reverberation": 0.3,
            "equalisation_db": 3.0,
            "noise_share": 0.75,
            "snr_db": (0.0, 38.0),
            "shift_ms": 140.0,
            "gated": 0.3,
        },
        "stream": {**_SEQUENCES, "model": "stream_residual", "start": "commands12"},
        "microwakeword": {
            **_SEQUENCES,
            "model": "stream_word",
            "frontend": "microfrontend",
            "epochs": 40,
            "speech_behind": 0.5,
            "after_speech": 3.0,
        },
    }
)
"""The presets of ``kws-host train --preset``.

``own`` is for a few words of your own, from some dozens of recordings each. A shipped network has learnt the sounds of
streams. It first learns to tell many words apart, and then your words from all others. benchmarks/own_words.py measures
it. ``stream`` is for commands in streams, by a network with state that goes on from a network of clips.
``microwakeword`` is for one word on a microcontroller: ``kws-host export-microwakeword`` takes its run. It hears more
words over speech than ``stream`` does, and speech before a word lowers its score less. benchmarks/microwakeword.py
measures it.
"""

QAT: Mapping[str, Any] = MappingProxyType(
    {
        "epochs": 2,
        "lengthened": (),
        "minutes": 0.0,
        "steps": 150,
        "learning_rate": 2e-4,
        "weight_decay": 0.0,
        "words_first": 0.0,
        "keep": "best",
        "start": "",
        "blend": "",
        "log_prior": "",
        "seed": 1,
    }
)
"""How fine-tuning with fake quantisation differs from the training of the run that is fine-tuned."""
