"""What a room listens for: the model's settings, the site's, and what was changed while it runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kws_edge.config import DetectorConfig
from kws_edge.detection.sensitivity import SENSITIVITY
from kws_edge.errors import ConfigError
from kws_edge.model.model import Model
from kws_edge.settings import Texts
from kws_edge.spotter import detector_of
from kws_edge.text import shown

if TYPE_CHECKING:
    from kws_edge.service.config import SourceSection

__all__ = ["Tuning"]

_FIELDS = ("sensitivity", "thresholds", "keywords", "unheard")


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Changes of what a room listens for.

    Raises
    ------
    ConfigError
        If a value has another type or is out of range.
    """

    sensitivity: float | None = None
    """One number for all thresholds, 0 to 1; None: the thresholds as they are."""
    thresholds: dict[str, float] = field(default_factory=dict)
    """Thresholds of single keywords, which win."""
    keywords: tuple[str, ...] | None = None
    """The active ones of the model's keywords; None: those of the configuration."""
    unheard: tuple[str, ...] = ()
    """Taught words that are not active. Words that are not taught any more do not count."""

    def __post_init__(self) -> None:
        if self.sensitivity is not None:
            object.__setattr__(self, "sensitivity", SENSITIVITY.check("sensitivity", self.sensitivity))
        config = DetectorConfig(thresholds=self.thresholds, keywords=self.keywords)  # it checks both
        object.__setattr__(self, "thresholds", config.thresholds)
        object.__setattr__(self, "keywords", config.keywords)
        object.__setattr__(self, "unheard", Texts().check("unheard", self.unheard))

    @classmethod
    def of(cls, section: SourceSection) -> Tuning:
        """What the section of a source says."""
        return cls(sensitivity=section.sensitivity, thresholds=section.thresholds or {}, keywords=section.keywords)

    @classmethod
    def from_dict(cls, values: Any) -> Tuning:
        """The inverse of :meth:`to_dict`."""
        if not isinstance(values, dict) or set(values) - set(_FIELDS):
            raise ConfigError(f"changes must name {', '.join(_FIELDS)}, got {shown(values)}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """The changes as a JSON-ready dict, without those that were not made."""
        values = dataclasses.asdict(self)
        return {name: value for name, value in values.items() if value not in (None, {}, ())}

    def with_sensitivity(self, value: float) -> Tuning:
        """A copy with this sensitivity. It replaces the thresholds of single keywords."""
        return dataclasses.replace(self, sensitivity=value, thresholds={})

    def with_thresholds(self, values: Mapping[str, float]) -> Tuning:
        """A copy with other thresholds of these keywords."""
        return dataclasses.replace(self, thresholds={**self.thresholds, **values})

    def with_keywords(self, words: Sequence[str], taught: Collection[str] = ()) -> Tuning:
        """A copy with these active keywords. All others are not, also of those that are `taught`."""
        own = tuple(word for word in words if word not in taught)
        if taught and not own:
            raise ConfigError("one of the model's own keywords must be active")
        return dataclasses.replace(self, keywords=own, unheard=tuple(word for word in taught if word not in words))

    def applied(self, model: Model, base: DetectorConfig) -> DetectorConfig:
        """The detector's settings: `base` with these changes.

        Raises
        ------
        ConfigError
            If they do not go with the model.
        """
        changes: dict[str, Any] = {}
        if self.keywords is not None:
            changes["keywords"] = self.keywords
        own = base if self.sensitivity is None else model.operating_point(self.sensitivity).applied(base)
        config = dataclasses.replace(own, thresholds={**own.thresholds, **self.thresholds}, **changes)
        detector_of(model, config)
        return config
