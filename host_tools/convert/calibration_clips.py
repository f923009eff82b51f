"""Recordings that set the ranges of a float network from elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from host_tools.data.features import read_clip, span_range
from host_tools.data.recordings import find_audio
from host_tools.errors import DatasetError
from kws_edge.config import FrontendConfig
from kws_edge.features.frontend import Frontend
from kws_edge.text import counted

__all__ = ["CalibrationClips"]

_FEW_CLIPS = 50


class CalibrationClips:
    """Recordings in a folder, read when they are asked for.

    Parameters
    ----------
    folder : path or None
        Searched at any depth.
    n : int
        Number of recordings to read.
    seed : int
        Seed of their choice.

    Attributes
    ----------
    used : int
        Number of recordings that were read.
    """

    def __init__(self, folder: str | Path | None, n: int, seed: int) -> None:
        self.folder, self.n, self.seed = folder, n, seed
        self.used = 0

    def inputs(self, path: Path | str, frontend_config: FrontendConfig) -> NDArray[np.float32]:
        """Features, float32 (n, *frontend_config.feature_shape), that span the range of the front end's levels."""
        if self.folder is None:
            raise DatasetError(
                f"{path}: is in floating point; give --clips DIR, recordings such as it will hear, to quantise it"
            )
        found = find_audio(self.folder).paths
        frontend, features, problem = Frontend(frontend_config), [], "no recordings in it"
        for i in np.random.default_rng(self.seed).permutation(len(found)):
            try:
                features.append(frontend(read_clip(found[i], frontend_config)))
            except DatasetError as error:
                problem = str(error)
            if len(features) == self.n:
                break
        if not features:
            raise DatasetError(f"{self.folder}: nothing to quantise {path} on ({problem})")
        self.used = len(features)
        return span_range(np.stack(features).astype(np.float32), frontend_config)

    def notes(self, floating: NDArray[np.float32], quantised: NDArray[np.float32]) -> list[str]:
        """Lines on what quantisation changed, from the posteriors before and after it."""
        agreement = float((floating.argmax(axis=1) == quantised.argmax(axis=1)).mean())
        lines = [f"quantised on {counted(self.used, 'clip')}: INT8 and float agree on {agreement:.1%} of them"]
        if self.used < _FEW_CLIPS:
            lines.append(f"{counted(self.used, 'clip')} are few to set ranges by; give {_FEW_CLIPS} or more")
        return lines
