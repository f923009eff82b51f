"""The detector of a model as C constants for ``csrc``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from firmware_export.c_source import array, number, string
from kws_edge.detection.detector import Detector
from kws_edge.errors import ConfigError
from kws_edge.labels import is_keyword
from kws_edge.model.quantization import POSTERIOR_STEPS

__all__ = ["DetectorSettings"]

_SOFTMAX_STEPS = 256
"""Steps of a posterior from 0 to 1, as TFLite's INT8 softmax has them."""
_MOST_SMOOTHING, _MOST_SMOOTHING_SCORES = 1000, 100
"""Most posteriors that are averaged, so that sums fit into 32 bits; the second, if they have POSTERIOR_STEPS."""


class DetectorSettings:
    """The detector's settings in the form that ``csrc`` needs.

    Parameters
    ----------
    detector : kws_edge.Detector
    step_frames : int
        Frames from one inference to the next.
    values : numpy.ndarray, shape (256,), float32, optional
        The posterior of each score, from -128 on, of a network with state. By default outputs are posteriors.

    Raises
    ------
    ConfigError
        If ``csrc`` cannot run this detector.
    """

    def __init__(self, detector: Detector, *, step_frames: int, values: NDArray[np.floating] | None = None) -> None:
        self.detector, self.step_frames = detector, step_frames
        self._values = None if values is None else np.rint(values * POSTERIOR_STEPS).astype(int)
        self._unit = _SOFTMAX_STEPS if values is None else POSTERIOR_STEPS
        most = _SOFTMAX_STEPS - 1 if self._values is None else int(self._values.max())
        longest = _MOST_SMOOTHING if self._values is None else _MOST_SMOOTHING_SCORES
        if len(detector.labels) > 255:
            raise ConfigError(f"the firmware's detector has up to 255 labels, got {len(detector.labels)}")
        if detector.smoothing_steps > longest:
            raise ConfigError(
                f"the firmware's detector averages up to {longest} posteriors, got {detector.smoothing_steps}; "
                "shorten smoothing_ms or lengthen step_ms"
            )
        deaf = np.flatnonzero(self.sums(detector.thresholds) > most * detector.smoothing_steps)
        if len(deaf):
            raise ConfigError(
                f"a threshold of {detector.thresholds[deaf[0]]:.4g} for {detector.labels[deaf[0]]!r} is never reached: "
                f"posteriors in INT8 end at {most / self._unit:.3f}; give a lower --threshold, or leave the word out "
                "with --keywords"
            )

    def macros(self) -> dict[str, float]:
        """Constants for ``kws_config.h``, by name."""
        return {
            "KWS_N_LABELS": len(self.detector.labels),
            "KWS_STEP_FRAMES": self.step_frames,
            "KWS_SMOOTHING_STEPS": self.detector.smoothing_steps,
            "KWS_SPOKEN_STEPS": self.detector.spoken_steps,
        }

    def sums(self, thresholds: NDArray[np.floating]) -> NDArray[np.int64]:
        """For each label, the smallest sum of posteriors whose average reaches the threshold in ``kws_edge``.

        Posteriors are in steps of 1/256, or of :data:`kws_edge.model.quantization.POSTERIOR_STEPS`.

        Labels that are not active keywords get 0.
        """
        n = self.detector.smoothing_steps
        averages = np.arange(self._unit * n + 1, dtype=np.float32) / np.float32(self._unit) / np.float32(n)
        return np.where(self.detector.active, np.searchsorted(averages, thresholds), 0)

    def state_bytes(self) -> int:
        """Size of ``kws_detector_state`` in bytes."""
        n = len(self.detector.labels)
        d = self.detector
        head, width = (14, 2) if self._values is None else (16, 4)
        return -(-(head + width * (d.smoothing_steps * n + d.spoken_steps) + n) // 4) * 4

    def source(self, names: Callable[[str], str] = str) -> str:
        """The text of ``kws_detector_config.c`` without its heading; `names` renames code, but not labels."""
        d = self.detector
        none = len(d.labels)
        unknown = none if d.unknown is None else d.unknown
        counts_for = np.arange(none)
        counts_for[d.inactive] = unknown
        if self._values is not None:  # independent posteriors: only words compete
            counts_for[[not is_keyword(label) for label in d.labels]] = none
        releases = np.ceil(d.releases.astype(np.float64) * self._unit).astype(int)
        values = (
            ("thresholds", self.sums(d.thresholds)),
            ("thresholds_in_speech", self.sums(d.thresholds_in_speech)),
            ("releases", releases),
            ("counts_for", counts_for),
        )
        table = [] if self._values is None else [array(names("const uint16_t kws_posteriors[256]"), self._values)]
        members = [f".{name} = {{{', '.join(map(number, row))}}}" for name, row in values]
        return "\n".join(
            [
                names('#include "kws_detector.h"\n'),
                array(names("const char *const kws_labels[KWS_N_LABELS]"), map(string, d.labels)),
                *table,
                names("const kws_detector_config kws_detector_defaults = {"),
                *(f"    {member}," for member in members),
                f"    .unknown_label = {unknown},",
                f"    .refractory_steps = {d.refractory_steps},",
                f"    .wake_label = {none if d.wake is None else d.wake},",
                f"    .armed_steps = {0 if d.wake is None else d.armed_steps},",
                "};\n",
            ]
        )
