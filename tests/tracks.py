"""Posteriors made by hand, like those of a stream that was heard."""

import numpy as np

from host_tools.evaluation.stream_replay import Track
from kws_edge import DetectorConfig

LABELS = ("silence", "unknown", "yes", "no")
INSTANT = DetectorConfig(smoothing_ms=0, threshold=0.6, hysteresis=0.0, refractory_ms=500)
"""Detects each window alone."""


def track_of(peaks, *, n=60, duration_s=None):
    """Windows of silence every 100 ms from 1 s on. `peaks` has others: ``{window: label or (label, posterior)}``."""
    posteriors = np.zeros((n, len(LABELS)), np.float32)
    posteriors[:, 0] = 1
    for window, peak in peaks.items():
        label, posterior = (peak, 0.9) if isinstance(peak, str) else peak
        posteriors[window] = (1 - posterior) / 3
        posteriors[window, LABELS.index(label)] = posterior
    times_s = 1 + 0.1 * np.arange(n)
    duration_s = float(times_s[-1]) if duration_s is None else duration_s
    return Track(LABELS, times_s, posteriors, None, 0, INSTANT.step_ms, 0.1, 1.0, duration_s)
