"""Detectors of a model at all sensitivities, for a setting that changes while the firmware runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kws_edge.detection.detector import Detector
from kws_edge.detection.sensitivity import point_at
from kws_edge.spotter import Spotter

__all__ = ["NO_SENSITIVITIES", "Sensitivities"]

_STEPS = 20
"""Steps from a sensitivity of 0 to one of 1."""


@dataclass(frozen=True)
class Sensitivities:
    """Detectors with the thresholds of sensitivities in equal steps, as the host interpolates them."""

    detectors: tuple[Detector, ...]
    """From a sensitivity of 0 to one of 1; none, if there are no such thresholds."""
    initial: float | None
    """The sensitivity of the firmware's own thresholds."""

    @classmethod
    def of(cls, spotter: Spotter) -> Sensitivities:
        """The detectors of `spotter`'s model.

        There are none where the model file has no operating points, or where thresholds were set otherwise.
        """
        points, config = spotter.model.metadata.operating_points, spotter.detector_config
        if not points:
            return NO_SENSITIVITIES
        configs = [point_at(points, step / _STEPS).applied(config) for step in range(_STEPS + 1)]
        if config not in configs:
            return NO_SENSITIVITIES
        spotters = [Spotter(spotter.model, detector_config=each) for each in configs]
        return cls(tuple(each.detector for each in spotters), configs.index(config) / _STEPS)

    @property
    def steps(self) -> int:
        """Number of steps; 0 without sensitivities."""
        return max(len(self.detectors) - 1, 0)

    def summary(self) -> dict[str, Any] | None:
        """The values for the manifest, or None."""
        return {"steps": self.steps, "initial": self.initial} if self.detectors else None


NO_SENSITIVITIES = Sensitivities((), None)
