"""The detector of a model as C constants for ``csrc``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from firmware_export.c_source import array, number, string
from firmware_export.sensitivities import NO_SENSITIVITIES, Sensitivities
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
    sensitivities : Sensitivities
        Detectors of other sensitivities; by default none.

    Raises
    ------
    ConfigError
        If ``csrc`` cannot run this detector.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        step_frames: int,
        values: NDArray[np.floating] | None = None,
        sensitivities: Sensitivities = NO_SENSITIVITIES,
    ) -> None:
        self.detector, self.step_frames, self.sensitivities = detector, step_frames, sensitivities
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
            "KWS_SENSITIVITY_STEPS": self.sensitivities.steps,
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
        table = [] if self._values is None else [array(names("const uint16_t kws_posteriors[256]"), self._values)]
        return "\n".join(
            [
                names('#include "kws_detector.h"\n'),
                array(names("const char *const kws_labels[KWS_N_LABELS]"), map(string, self.detector.labels)),
                *table,
                names(f"const kws_detector_config kws_detector_defaults = {self._config(self.detector)};\n"),
            ]
        )

    def sensitivities_source(self) -> str:
        """The text of ``kws_sensitivities.c`` without its heading."""
        rows = [f"    {self._config(detector)}," for detector in self.sensitivities.detectors]
        return "\n".join(
            [
                '#include "kws_detector.h"\n',
                "#if KWS_SENSITIVITY_STEPS",
                "const kws_detector_config kws_detector_sensitivities[KWS_SENSITIVITY_STEPS + 1] = {",
                *rows,
                "};",
                "#endif\n",
            ]
        )

    def _config(self, d: Detector) -> str:
        """The settings of a detector as a ``kws_detector_config``."""
        none = len(d.labels)
        unknown = none if d.unknown is None else d.unknown
        counts_for = np.arange(none)
        counts_for[d.inactive] = unknown
        if self._values is not None:  # independent posteriors: only words compete
            counts_for[[not is_keyword(label) for label in d.labels]] = none
        members = (
            ("thresholds", self.sums(d.thresholds)),
            ("thresholds_in_speech", self.sums(d.thresholds_in_speech)),
            ("releases", np.ceil(d.releases.astype(np.float64) * self._unit).astype(int)),
            ("counts_for", counts_for),
        )
        lines = [
            *(f"    .{name} = {{{', '.join(map(number, row))}}}," for name, row in members),
            f"    .unknown_label = {unknown},",
            f"    .refractory_steps = {d.refractory_steps},",
            f"    .wake_label = {none if d.wake is None else d.wake},",
            f"    .armed_steps = {0 if d.wake is None else d.armed_steps},",
        ]
        return "\n".join(["{", *lines, "}"])
