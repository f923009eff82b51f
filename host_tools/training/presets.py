"""Options of ``kws-host train`` that go together, by the name that ``--preset`` takes."""

from __future__ import annotations

from types import MappingProxyType

__all__ = ["PRESETS"]

PRESETS = MappingProxyType(
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
    }
)
"""``own``: a few words of one's own, from some dozens of recordings each. A shipped network, which has learnt what
streams are full of, learns to tell words apart, and then these from all others; benchmarks/own_words.py measures it."""
