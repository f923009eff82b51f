"""What an exported folder says of its licences: those of the code and of the model."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import kws_edge
from firmware_export.c_array import plain
from firmware_export.names import DEFAULT_PREFIX
from kws_edge.errors import ConfigError
from kws_edge.model.model import Model

__all__ = ["expression", "licence_files"]

_CODE = "Apache-2.0"
_ROOT = Path(__file__).parent.parent


def expression(model: Model) -> str:
    """The SPDX expression for code and model together, for package managers."""
    same = re.match(rf"{re.escape(_CODE)}(?![\w+-])", model.metadata.licence)
    return _CODE if same else f"{_CODE} AND LicenseRef-model"


def licence_files(model: Model, prefix: str = DEFAULT_PREFIX) -> dict[str, str]:
    """The texts of ``LICENSE`` and ``NOTICE``, by name.

    What the shipped weights were made from is named where the licence that the model file carries refers to NOTICE.
    """
    terms = model.metadata.licence.strip() or "its file names no licence; ask who made it."
    notice = (
        f"Keyword spotting firmware, exported by kws-edge {kws_edge.__version__}.\n\n"
        "Code, build files and examples: part of kws-edge, under the Apache License 2.0, see LICENSE.\n\n"
        f"The model {plain(model.metadata.name or model.stem)}, in src/{prefix}_model_data.cc (LicenseRef-model): "
        f"{terms}\n"
    )
    if re.search(r"\bNOTICE\b", model.metadata.licence):
        notice += f"\nNOTICE of kws-edge:\n\n{_text('NOTICE')}"
    return {"LICENSE": _text("LICENSE"), "NOTICE": notice}


def _text(name: str) -> str:
    """A file of the repository, or of what was installed from it."""
    if (_ROOT / "pyproject.toml").exists():
        return (_ROOT / name).read_text()
    try:
        text = metadata.distribution("kws-edge").read_text(f"licenses/{name}")
    except metadata.PackageNotFoundError:
        text = None
    if text is None:
        raise ConfigError(
            f"kws-edge was installed without its {name}, which the firmware must hold; install it with pip"
        )
    return text
