"""The room profile: the thresholds that were calibrated for one model in one place."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kws_edge.config import DetectorConfig
from kws_edge.errors import ConfigError
from kws_edge.files import check_writable, explained, sha256_hex, write_atomically
from kws_edge.labels import is_keyword
from kws_edge.model.model import DEFAULT_MODEL, Model, shipped_models
from kws_edge.ranges import number
from kws_edge.text import counted, parse_json, printable, read_text, shown

__all__ = ["RoomProfile", "check_savable", "is_there", "profile_path", "set_aside"]

_FORMAT = 1
_LONGEST = 1000
_COUNT = number(0, 1e9)
_FORMER, _UNREADABLE = ".bak", ".bad"  # endings of files that are set aside
_UNUSABLE = (OSError, ValueError, TypeError, OverflowError, RecursionError)  # a ConfigError is a ValueError


def profile_path(model: Model) -> str:
    """Default path of `model`'s room profile: ``kws-edge/room-<file's stem>.json`` in the XDG configuration folder.

    This folder is ``~/.config`` by default.
    """
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(folder):  # the specification's rule
        folder = os.path.expanduser("~/.config")
    return os.path.join(folder, "kws-edge", f"room-{model.stem}.json")


@dataclass(frozen=True, kw_only=True)
class RoomProfile:
    """The result of ``kws-edge calibrate`` for one model.

    Raises
    ------
    ConfigError
        By :meth:`find` and :meth:`load`, if a file exists but cannot be used.
    WriteError
        By :meth:`save`.

    Examples
    --------
    Use the thresholds that ``kws-edge calibrate`` found, if there are any:

    >>> from kws_edge import Model, RoomProfile, Spotter
    >>> model = Model("commands12")
    >>> config = model.detector_config
    >>> if profile := RoomProfile.find(model):
    ...     config = profile.applied(config)
    >>> spotter = Spotter(model, detector_config=config)

    Thresholds of your own:

    >>> from dataclasses import replace
    >>> mine = replace(config, thresholds={"go": 0.9})
    >>> profile = RoomProfile.of(
    ...     model, date="2026-11-27", hours=0.5, false_accepts=1, budget=2.0, detector_config=mine
    ... )
    >>> profile.applied(config).threshold_of("go")
    0.9
    """

    model: str
    """File name of the model."""
    tflite_sha256: str
    """SHA-256 of the model's flatbuffer, in hexadecimal."""
    frontend_hash: str
    """Hash of the model's front end."""
    date: str
    """Time of the calibration, ISO 8601."""
    hours: float
    """Length of the audio heard, in hours."""
    false_accepts: int
    """Number of false accepts in that time at the chosen thresholds."""
    budget: float
    """False accepts per hour that the user allowed."""
    detector_config: DetectorConfig
    """The chosen thresholds, and the settings for which they hold."""

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            _check(f.name, getattr(self, f.name), str(f.type))

    @classmethod
    def of(cls, model: Model, **values: Any) -> RoomProfile:
        """Make a room profile for `model`; `values` are the fields that do not name the model."""
        return cls(
            model=os.path.basename(model.path),
            tflite_sha256=_sha256(model),
            frontend_hash=model.frontend_config.hash,
            **values,
        )

    @property
    def thresholds(self) -> dict[str, float]:
        """The calibrated threshold of each keyword."""
        return self.detector_config.thresholds

    @property
    def summary(self) -> str:
        """The result in a few words."""
        return (
            f"calibrated {self.date}, {counted(self.false_accepts, 'false accept')} in {self.hours:.2f} h, "
            f"budget {self.budget:g} per hour"
        )

    def applied(self, config: DetectorConfig) -> DetectorConfig:
        """`config` with the calibrated thresholds."""
        return dataclasses.replace(config, thresholds={**config.thresholds, **self.thresholds})

    @classmethod
    def find(cls, model: Model) -> RoomProfile | None:
        """Load the profile that ``kws-edge calibrate`` wrote for `model` and this user; None if there is no profile.

        Raises
        ------
        ConfigError
            As :meth:`load` does.
        """
        path = profile_path(model)
        return cls.load(path, model) if is_there(path) else None

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: Model) -> RoomProfile:
        """Read the room profile `path` for use with `model`.

        Raises
        ------
        ConfigError
            If the file cannot be read, is not a room profile, or was made for another model or front end. The message
            says what to do.
        """
        try:
            return cls._read(path, model)
        except _UNUSABLE as error:
            from shlex import quote

            why = error.strerror or error if isinstance(error, OSError) else error
            again = "kws-edge calibrate"
            if (name := _short_name(model)) != DEFAULT_MODEL:
                again += f" --model {quote(name)}"
            if path != profile_path(model):
                again += f" --output {quote(str(path))}"
            if is_there(path):
                what = f"room profile cannot be used: {why}; calibrate anew ({again}), or set it aside (add --reset)"
            else:
                what = f"no such room profile; {again} makes one" if path else "names no room profile"
            raise ConfigError(f"{path or repr('')}: {what}") from None

    @classmethod
    def _read(cls, path: str | os.PathLike[str], model: Model) -> RoomProfile:
        values = parse_json(_text(path))
        if not isinstance(values, dict) or values.get("format") != _FORMAT:
            found = values.get("format") if isinstance(values, dict) else "none"
            raise ConfigError(f"its format is {shown(found)}, this version reads {_FORMAT}")
        for f in dataclasses.fields(cls):
            if f.name not in values:
                raise ConfigError(f"it lacks {f.name!r}")
        values = {f.name: values[f.name] for f in dataclasses.fields(cls)}
        profile = cls(**{**values, "detector_config": DetectorConfig.from_dict(values["detector_config"])})
        if (profile.tflite_sha256, profile.frontend_hash) != (_sha256(model), model.frontend_config.hash):
            raise ConfigError(f"made for another model or front end ({profile.model}, {profile.date})")
        for word in profile.thresholds:
            if word not in model.labels or not is_keyword(word):
                raise ConfigError(f"it has a threshold for {shown(word)}, no keyword of {model.path}")
        return profile

    def save(self, path: str | os.PathLike[str]) -> str | None:
        """Write the file whole or not at all. A power cut leaves the old file or the new one.

        Returns
        -------
        str or None
            New path of the earlier room profile, if there was one.

        Raises
        ------
        WriteError
            If the file cannot be written.
        """
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        text = (
            json.dumps({"format": _FORMAT, **values, "detector_config": self.detector_config.to_dict()}, indent=1)
            + "\n"
        )
        old = _former(path)
        if old:
            write_atomically(f"{path}{_FORMER}", old, durable=True)
        write_atomically(path, text, durable=True)
        return f"{path}{_FORMER}" if old else None


def is_there(path: str | os.PathLike[str]) -> bool:
    """Whether anything exists at `path`, of whatever kind."""
    try:
        os.lstat(path)
    except PermissionError:  # without permission to look, it may exist
        return True
    except (OSError, ValueError):
        return False
    return True


def check_savable(path: str | os.PathLike[str], *, option: str = "", apart: Iterable[str] = ()) -> None:
    """Check before the work that a room profile can be saved, and that the earlier file can be kept.

    See :func:`kws_edge.files.check_writable`.

    Parameters
    ----------
    path : path
    option : str
        Option that named the file, for the message.
    apart : iterable of str
        Files that the command reads.

    Raises
    ------
    WriteError
        If the file cannot be written.
    UsageError
        If the file is one of `apart`.
    """
    check_writable(path, option=option, apart=apart)
    if _former(path):
        check_writable(f"{path}{_FORMER}", option=option)


def set_aside(path: str | os.PathLike[str]) -> str:
    """Rename a room profile, so that it is not used; return the new path.

    A file that is not a room profile does not replace the earlier one that was set aside.

    Raises
    ------
    WriteError
        If the file cannot be renamed.
    """
    aside = f"{path}{_FORMER if _former(path) else _UNREADABLE}"
    with explained(path):
        os.replace(path, aside)
    return aside


def _former(path: str | os.PathLike[str]) -> str | None:
    """The text of the existing room profile, for whatever model and version; None if the file is not one."""
    with contextlib.suppress(*_UNUSABLE):
        if "format" in dict(parse_json(text := _text(path))):
            return text
    return None


def _text(path: str | os.PathLike[str]) -> str:
    """The text of a room profile. This never waits for a pipe or a device."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ConfigError("it is no regular file")
    text = read_text(path)
    if not text.strip():
        raise ConfigError("it is empty")
    return text


def _check(name: str, value: Any, kind: str) -> None:
    if kind == "str" and not (isinstance(value, str) and printable(value, most=_LONGEST) == value):
        raise ConfigError(f"{name} must be a text of a line, got {shown(value)}")
    if kind in ("int", "float"):
        _COUNT.check(name, value)
    if kind == "DetectorConfig" and not isinstance(value, DetectorConfig):
        raise ConfigError(f"{name} must be detector settings, got {shown(value)}")


def _short_name(model: Model) -> str:
    return model.stem if model.path == shipped_models().get(model.stem) else model.path


def _sha256(model: Model) -> str:
    return sha256_hex(model.flat.data)
