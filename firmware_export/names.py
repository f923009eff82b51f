"""What an export calls its files, functions, types, macros and build targets: all begin with one prefix."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kws_edge.errors import ConfigError
from kws_edge.text import shown

__all__ = ["DEFAULT_PREFIX", "check_prefix", "generated", "renamed"]

DEFAULT_PREFIX = "kws"
"""What the sources of this package begin their names with."""

_PREFIX = re.compile(r"(?:(?<![A-Za-z0-9])|(?<=-D))(kws|KWS)(?![A-Za-z0-9-]|_edge|_export)")
_FORM = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_LONGEST = 31
_ERRORS = "_err"
"""With ``kws_err``, ``KWS_SELF_TEST`` would be called like the error ``KWS_ERR_SELF_TEST`` of ``kws``."""


def check_prefix(prefix: str) -> str:
    """`prefix`, if names can begin with it.

    Raises
    ------
    ConfigError
        If not.
    """
    if not _FORM.fullmatch(prefix) or len(prefix) > _LONGEST or prefix.endswith(_ERRORS):
        raise ConfigError(
            f"--prefix {shown(prefix)}: names in C begin with it, so give up to {_LONGEST} lower-case letters and "
            f"digits, a letter first, with single underscores between them, and no {_ERRORS} at the end"
        )
    return prefix


def renamed(text: str, prefix: str) -> str:
    """`text` with every name that begins with ``kws`` beginning with `prefix`; macros in capitals.

    ``kws-edge`` and ``kws_edge`` are this program, and stay.
    """
    if prefix == DEFAULT_PREFIX:
        return text
    return _PREFIX.sub(lambda found: prefix.upper() if found[0].isupper() else prefix, text)


def generated(texts: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Generated files by their names, renamed but for their first lines, which say what they were made from."""
    parts = {name: text.partition("\n") for name, text in texts.items()}
    return {renamed(name, prefix): f"{made}\n{renamed(body, prefix)}" for name, (made, _, body) in parts.items()}
