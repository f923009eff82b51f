"""The version of ``kws_edge`` as constants for C."""

from __future__ import annotations

import re

import kws_edge

__all__ = ["version_macros"]


def version_macros() -> dict[str, float | str]:
    """``KWS_VERSION``, a string, and its numbers. ``KWS_VERSION_NUMBER`` combines them: 10203 is 1.2.3."""
    major, minor, patch = map(int, re.findall(r"\d+", kws_edge.__version__)[:3])
    return {
        "KWS_VERSION": kws_edge.__version__,
        "KWS_VERSION_MAJOR": major,
        "KWS_VERSION_MINOR": minor,
        "KWS_VERSION_PATCH": patch,
        "KWS_VERSION_NUMBER": (100 * major + minor) * 100 + patch,
    }
