"""Joins two model files: a network with state, and a network of clips that confirms its answers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from kws_edge.config import ConfirmConfig
from kws_edge.errors import ModelError
from kws_edge.files import write_atomically
from kws_edge.model.check import check_confirming
from kws_edge.model.file import pack
from kws_edge.model.model import Model

__all__ = ["confirmed"]


def confirmed(first: str | Path, second: str | Path, path: str | Path, config: ConfirmConfig) -> None:
    """Write the model file of a network with state, whose answers another network confirms.

    Its labels, detector settings and metadata are those of the first. What was measured of the first alone is left out.

    Parameters
    ----------
    first : str or path
        Model file of a network with state.
    second : str or path
        Model file of a network of clips with the same front end and keywords.
    path : path
    config : ConfirmConfig

    Raises
    ------
    ModelError
        If the two do not fit together.
    """
    one, other = Model(first, kernels="builtin"), Model(second, kernels="builtin")
    if one.step is None:
        raise ModelError(f"{one.path}: hears whole clips; answers of a network with state can be confirmed")
    check_confirming(one.metadata, other.metadata, other.path)
    left = ("miss_curve", "operating_points", "calibration")
    metadata = dataclasses.replace(
        one.metadata,
        confirm=config,
        confirming=pack(other.flat.data, other.metadata),
        metrics={name: value for name, value in one.metadata.metrics.items() if name not in left},
    )
    write_atomically(path, pack(one.flat.data, metadata), durable=True)
