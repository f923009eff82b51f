"""Changes the values of JSON instead of its bytes, so that inputs pass the JSON parser."""

from __future__ import annotations

import copy
import json
import random
import re
from typing import Any

import atheris

_HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 0.5, 1e-300, 5e-324, 1e9, 1e300, 10**400, 2**31, -(2**31), 2**63, 2**64,
    float("nan"), float("inf"), -float("inf"), "", "yes", "silence", "\x1b[31m\n", "\u202e\ud800", "a" * 5000,
    "../../x", [], {}, [[]], {"": {}}, ["yes", "yes"], [None], "2026-01-01T00:00:00",
)  # fmt: skip


def mutate(data: bytes, size: int, seed: int) -> bytes:
    """JSON with another value, one member more, or one less. Now and then bytes change, too."""
    rng = random.Random(seed)
    try:
        values = json.loads(data) if data.count(b"[") < 100 else None
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, (dict, list)) or rng.random() < 0.2:
        return atheris.Mutate(data, size)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        _change(values, rng)
    text = json.dumps(values)
    if rng.random() < 0.02:
        text = re.sub(r"null|true|false", lambda match: "[" * 100_000, text, count=1)
    return text.encode()[:size]


def _change(values: dict | list, rng: random.Random) -> None:
    inner = [part for part in _parts(values) if part]
    part = rng.choice(inner or [values])
    keys = list(part) if isinstance(part, dict) else list(range(len(part)))
    if not keys:
        return
    key, how = rng.choice(keys), rng.random()
    if how < 0.08:
        del part[key]
    elif how < 0.12 and isinstance(part, dict):
        part["unheard of"] = copy.deepcopy(rng.choice(_HOSTILE))
    elif how < 0.5 and isinstance(part[key], (int, float)):
        part[key] = rng.choice((-1, 0.5, 2, 1000, 1e-6)) * part[key] if abs(part[key]) < 1e300 else 1
    else:
        part[key] = copy.deepcopy(rng.choice(_HOSTILE))


def _parts(values: Any) -> list[dict | list]:
    """Every object and list, the outermost first."""
    found, open_ = [], [values]
    while open_:
        part = open_.pop()
        if isinstance(part, (dict, list)):
            found.append(part)
            open_ += part.values() if isinstance(part, dict) else part
    return found
