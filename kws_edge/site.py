"""The site file: the thresholds that were calibrated for one model in one place."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from typing import Any

from kws_edge.config import DetectorConfig
from kws_edge.errors import ConfigError
from kws_edge.files import sha256_hex, write_atomically
from kws_edge.labels import is_keyword
from kws_edge.model import Model

__all__ = ["Site", "site_path"]

_FORMAT = 1


def site_path(model: Model) -> str:
    """Where `model`'s site file is looked for: ``kws-edge/site-<file's stem>.json`` under the XDG configuration folder,
    ``~/.config`` by default."""
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(folder):  # the specification's rule
        folder = os.path.expanduser("~/.config")
    return os.path.join(folder, "kws-edge", f"site-{model.stem}.json")


@dataclass(frozen=True, kw_only=True)
class Site:
    """What ``kws-edge calibrate`` found out, and for which model."""

    model: str
    """File name of the model."""
    tflite_sha256: str
    """Of its flatbuffer, in hexadecimal."""
    front_end: str
    """Hash of its front end."""
    date: str
    """When it was calibrated, ISO 8601."""
    hours: float
    """How long was listened."""
    false_accepts: int
    """How many there were in that time at the chosen thresholds."""
    budget: float
    """False accepts per hour that were asked for."""
    detector: DetectorConfig
    """The chosen thresholds, and the settings that they hold for."""

    @classmethod
    def of(cls, model: Model, **values: Any) -> Site:
        """A site file for `model`; `values` are the fields that do not name the model."""
        return cls(
            model=os.path.basename(model.path), tflite_sha256=_sha256(model), front_end=model.front_end.hash, **values
        )  # fmt: skip

    @property
    def thresholds(self) -> dict[str, float]:
        """The calibrated threshold of each keyword."""
        return self.detector.thresholds

    @property
    def summary(self) -> str:
        """What was found, in a few words."""
        return (
            f"calibrated {self.date}, {self.false_accepts} false accepts in {self.hours:.2f} h, "
            f"budget {self.budget:g} per hour"
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: Model) -> Site:
        """Read the site file `path` for use with `model`.

        Raises
        ------
        ConfigError
            If it cannot be read, is no site file, or was made for another model or front end.
        """
        again = f"calibrate anew (kws-edge calibrate --model {model.path} --output {path}), or give --no-site"
        try:
            with open(path) as file:
                values = json.load(file)
        except OSError as error:
            raise ConfigError(f"{path}: site file cannot be read ({error.strerror})") from None
        except ValueError as error:
            raise ConfigError(f"{path}: is no site file ({error}); {again}") from None
        if not isinstance(values, dict) or values.get("format") != _FORMAT:
            found = values.get("format") if isinstance(values, dict) else values
            raise ConfigError(f"{path}: site file of format {found!r}, this version reads {_FORMAT}; {again}")
        try:
            values = {f.name: values[f.name] for f in dataclasses.fields(cls)}
            site = cls(**{**values, "detector": DetectorConfig.from_dict(values["detector"])})
            for name in ("hours", "false_accepts", "budget"):
                if isinstance(values[name], bool) or not isinstance(values[name], (int, float)):
                    raise ConfigError(f"{name} must be a number, got {values[name]!r}")
        except KeyError as error:
            raise ConfigError(f"{path}: site file lacks {error}; {again}") from None
        except ConfigError as error:
            raise ConfigError(f"{path}: site file does not hold together: {error}; {again}") from None
        if (site.tflite_sha256, site.front_end) != (_sha256(model), model.front_end.hash):
            raise ConfigError(f"{path}: made for another model or front end ({site.model}, {site.date}); {again}")
        for word in site.thresholds:
            if word not in model.labels or not is_keyword(word):
                raise ConfigError(f"{path}: has a threshold for {word!r}, no keyword of {model.path}; {again}")
        return site

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, all of it or nothing.

        Raises
        ------
        ConfigError
            If it cannot be written.
        """
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        text = json.dumps({"format": _FORMAT, **values, "detector": self.detector.to_dict()}, indent=1) + "\n"

        def write(temporary: str) -> None:
            with open(temporary, "w") as file:
                file.write(text)

        try:
            write_atomically(path, write)
        except OSError as error:
            raise ConfigError(
                f"{path}: site file cannot be written ({error.strerror}); name another --output"
            ) from None

    def differences(self, config: DetectorConfig) -> list[str]:
        """Names of the settings, other than thresholds, in which `config` is not what was calibrated."""
        return [
            f.name
            for f in dataclasses.fields(config)
            if f.name not in ("threshold", "thresholds")
            and getattr(config, f.name) != getattr(self.detector, f.name)
        ]  # fmt: skip


def _sha256(model: Model) -> str:
    return sha256_hex(model.flat.data)
