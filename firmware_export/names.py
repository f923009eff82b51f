"""Names of an export's files, functions, types, macros and build targets. All of them begin with one prefix."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kws_edge.errors import ConfigError
from kws_edge.text import shown

__all__ = ["DEFAULT_PREFIX", "check_prefix", "generated", "renamed"]

DEFAULT_PREFIX = "kws"
"""Prefix of the names in the sources of this package."""

_PREFIX = re.compile(r"(?:(?<![A-Za-z0-9])|(?<=-D))(kws|KWS)(?![A-Za-z0-9-]|_edge|_export)")
_FORM = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_LONGEST = 31
_ERRORS = "_err"
"""Forbidden ending: with the prefix ``kws_err``, ``KWS_SELF_TEST`` would get the name of an error of ``kws``."""


def check_prefix(prefix: str) -> str:
    """Return `prefix` if names can begin with it.

    Raises
    ------
    ConfigError
        If names cannot begin with it.
    """
    if not _FORM.fullmatch(prefix) or len(prefix) > _LONGEST or prefix.endswith(_ERRORS):
        raise ConfigError(
            f"--prefix {shown(prefix)}: names in C begin with it, so give up to {_LONGEST} lower-case letters and "
            f"digits, a letter first, with single underscores between them, and no {_ERRORS} at the end"
        )
    return prefix


def renamed(text: str, prefix: str) -> str:
    """Replace the prefix ``kws`` of all names in `text` by `prefix`, in capitals for macros.

    ``kws-edge`` and ``kws_edge`` name this program, and stay.
    """
    if prefix == DEFAULT_PREFIX:
        return text
    return _PREFIX.sub(lambda found: prefix.upper() if found[0].isupper() else prefix, text)


def generated(texts: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Rename generated files and the names in them. Their first lines, which name the origin, stay unchanged."""
    parts = {name: text.partition("\n") for name, text in texts.items()}
    return {renamed(name, prefix): f"{made}\n{renamed(body, prefix)}" for name, (made, _, body) in parts.items()}
