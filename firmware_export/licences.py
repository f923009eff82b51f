"""Licence texts of an exported folder, for the code and for the model."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import kws_edge
from firmware_export.c_source import plain
from kws_edge.errors import ConfigError
from kws_edge.model.model import Model

__all__ = ["SPDX", "SPDX_RECORDING", "expression", "licence_files", "spdx_of_model"]

_CODE = "Apache-2.0"
_MODEL = "LicenseRef-model"
_LINE = "/* SPDX-License-Identifier: {} */\n"

SPDX = _LINE.format(_CODE)
"""The SPDX line of every C file except the model."""
SPDX_RECORDING = _LINE.format(f"{_CODE} AND LicenseRef-recording")
"""The SPDX line of golden vectors that come from a user's recording."""

_ROOT = Path(__file__).parent.parent


def expression(licence: str) -> str:
    """The SPDX expression for code and model together, for package managers; `licence` is the model's."""
    return _CODE if _of_model(licence) == _CODE else f"{_CODE} AND {_MODEL}"


def spdx_of_model(licence: str) -> str:
    """The SPDX line of files that hold the model."""
    return _LINE.format(_of_model(licence))


def _of_model(licence: str) -> str:
    return _CODE if re.match(rf"{re.escape(_CODE)}(?![\w+-])", licence) else _MODEL


def licence_files(model: Model, model_source: str) -> dict[str, str]:
    """The texts of ``LICENSE`` and ``NOTICE`` by name. The model lies in the file `model_source`.

    If the licence in the model file refers to NOTICE, the text names the data from which the shipped weights were made.
    """
    terms = model.metadata.licence.strip() or "its file names no licence; ask who made it."
    notice = (
        f"Keyword spotting firmware, exported by kws-edge {kws_edge.__version__}.\n\n"
        "Code, build files and examples: part of kws-edge, under the Apache License 2.0, see LICENSE.\n\n"
        f"The model {plain(model.metadata.name or model.stem)}, in {model_source} ({_MODEL}): "
        f"{terms}\n"
    )
    if re.search(r"\bNOTICE\b", model.metadata.licence):
        notice += f"\nNOTICE of kws-edge:\n\n{_text('NOTICE')}"
    return {"LICENSE": _text("LICENSE"), "NOTICE": notice}


def _text(name: str) -> str:
    """The text of a file in the repository or in the installed package."""
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
