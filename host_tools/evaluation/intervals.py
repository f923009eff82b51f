"""Intervals of confidence of what is counted."""

from kws_edge.detection.calibration import poisson_interval, wilson

__all__ = ["poisson_interval", "wilson"]
