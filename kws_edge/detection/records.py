"""A detection as values, as a line of JSON, and as a line for people."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from kws_edge.detection.detector import Detection

__all__ = ["as_json", "as_text", "as_values"]


def as_values(found: Detection) -> dict[str, Any]:
    """The values of a detection to print, by name."""
    values = dataclasses.asdict(found)
    for key in ("score", "start_s", "end_s"):
        values[key] = round(values[key], 4)
    if not found.wake:
        del values["wake"]
    return values


def as_json(name: str, found: Detection, *, time: str | None = None) -> str:
    """A detection in the source `name` as one line of JSON, with its wall-clock time if there is one."""
    return json.dumps({"file": name, **({"time": time} if time else {}), **as_values(found)})


def as_text(found: Detection) -> str:
    """A detection as a line for people."""
    text = f"{found.start_s:8.2f} - {found.end_s:6.2f} s  {found.keyword:<12} {found.score:.2f}"
    return f"{text}  wake" if found.wake else text
