"""The data from which the firmware of a model is generated."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import kws_edge
from firmware_export.arena import ArenaPlan
from firmware_export.licences import expression
from firmware_export.parity import Parity
from firmware_export.settings import DetectorSettings
from firmware_export.speed import estimate
from firmware_export.states import States
from firmware_export.tables import FrontendTables
from firmware_export.taught import Taught
from firmware_export.vectors import GoldenVectors
from kws_edge.model.model import Model
from kws_edge.spotter import Spotter

__all__ = ["Firmware"]


@dataclass(frozen=True)
class Firmware:
    """A model with everything that was computed and measured for its firmware."""

    model: Model
    prefix: str
    """Prefix of all names."""
    kernels: str | None
    """Kernels that TFLite Micro will be built with, if the user named them."""
    spotter: Spotter
    tables: FrontendTables
    settings: DetectorSettings
    calls: list[str]
    """Methods of TFLite Micro's resolver that register the operators."""
    arena: ArenaPlan
    vectors: GoldenVectors
    parity: Parity
    taught: Taught
    notes: list[str]
    """Notes on settings that were changed."""

    @property
    def states(self) -> States:
        """What a network with state adds."""
        return States(self.model)

    @property
    def step_ms(self) -> float:
        """Time between inferences, in milliseconds."""
        return 1000 * self.spotter.step_s

    @cached_property
    def speed(self) -> dict[str, Any]:
        """An estimate of the speed for every kind of kernels."""
        return estimate(self.model.frontend_config, self.model.flat, step_ms=self.step_ms)

    def summary(self) -> dict[str, Any]:
        """Sizes and settings, JSON-ready."""
        model, flat = self.model, self.model.flat
        speeds = {name: need for name, need in self.speed["kernels"].items() if self.kernels in (None, name)}
        return {
            "tool": f"kws-edge {kws_edge.__version__}",
            "prefix": self.prefix,
            "model": model.metadata.name or model.stem,
            "model_sha256": hashlib.sha256(flat.data).hexdigest(),
            "frontend_hash": model.frontend_config.hash,
            "sample_rate": model.frontend_config.sample_rate,
            "licence": expression(model.metadata.licence),
            "labels": list(model.labels),
            "keywords": [*self.spotter.detector.keywords, *self.taught.names],
            "taught": self.taught.names,
            "wake_word": self.spotter.detector_config.wake_word,
            "sensitivity": self.settings.sensitivities.summary(),
            "golden": self.vectors.recording,
            "parity": self.parity.to_dict(),
            "notes": self.notes,
            "step_ms": self.step_ms,
            "speed": self.speed | {"kernels": speeds},
            "operators": list(flat.operators),
            "macs": flat.macs,
            **self.states.summary(),
            "arena": self.arena.to_dict(),
            "ram": {
                "front_end": self.tables.state_bytes(fixed=False),
                "front_end_fixed": self.tables.state_bytes(fixed=True),
                "detector": self.settings.state_bytes(),
            },
            "flash": {
                "model": len(flat.data),
                "tables": self.tables.table_bytes(fixed=False),
                "tables_fixed": self.tables.table_bytes(fixed=True),
                "taught": self.taught.bytes(),
                "golden": self.vectors.bytes,
            },
        }
