"""What Home Assistant is told of a room: a device with an event, triggers, sensors and a number."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from kws_edge import __version__
from kws_edge.errors import ConfigError
from kws_edge.files import sha256_hex
from kws_edge.ranges import number
from kws_edge.text import parse_json, shown

__all__ = [
    "OFFLINE",
    "ONLINE",
    "Topics",
    "components",
    "device",
    "dump",
    "parse_announced",
    "parse_sensitivity",
    "slug",
]

ONLINE, OFFLINE = "online", "offline"
_SENSITIVITY = number(0, 1)
_MOST_DIGITS = 32
_PART = re.compile(r"[a-z0-9_]{1,120}")
"""What topics and identifiers are made of."""
_PLATFORMS = {"event", "device_automation", "sensor", "binary_sensor", "number"}


def slug(name: str) -> str:
    """A name that can be part of a topic and of an identifier. Different names give different ones.

    Examples
    --------
    >>> slug("kitchen"), slug("Living room")
    ('kitchen', 'living_room_268d40')
    """
    text = re.sub(r"[^a-z0-9]+", "_", name.casefold()).strip("_")
    return text if text == name and len(name) <= 100 else f"{text[:100]}_{sha256_hex(name.encode())[:6]}".lstrip("_")


@dataclass(frozen=True)
class Topics:
    """The topics of a device, which has one or several rooms.

    Parameters
    ----------
    device_id : str
        Letters, digits and underscores.
    prefix : str
        Prefix of Home Assistant's discovery.

    Examples
    --------
    >>> topics = Topics("hall", "homeassistant")
    >>> topics.event("kitchen"), topics.config("kitchen")
    ('kws-edge/hall/kitchen/event', 'homeassistant/device/hall_kitchen/config')
    """

    device_id: str
    prefix: str

    @property
    def base(self) -> str:
        return f"kws-edge/{self.device_id}"

    @property
    def status(self) -> str:
        """Whether the service is there: online or offline, retained."""
        return f"{self.base}/status"

    @property
    def announced(self) -> str:
        """The components of each configuration topic, retained, so that a later start can remove those that went."""
        return f"{self.base}/announced"

    @property
    def home_assistant(self) -> str:
        """Where Home Assistant says that it has started."""
        return f"{self.prefix}/status"

    @property
    def changes(self) -> str:
        """Where the sensitivity of any room can be set."""
        return f"{self.base}/+/sensitivity/set"

    def event(self, room: str) -> str:
        """Where the keywords of a room are published. They are not retained."""
        return f"{self.base}/{slug(room)}/event"

    def state(self, room: str) -> str:
        """How a room fares, retained."""
        return f"{self.base}/{slug(room)}/state"

    def sensitivity(self, room: str) -> str:
        """The sensitivity of a room, retained. ``/set`` after it takes another one."""
        return f"{self.base}/{slug(room)}/sensitivity"

    def config(self, room: str) -> str:
        """The configuration topic of the room's device."""
        return f"{self.prefix}/device/{self.identifier(room)}/config"

    def identifier(self, room: str) -> str:
        return f"{self.device_id}_{slug(room)}"


def _sensor(name: str, key: str, **more: Any) -> dict[str, Any]:
    return {
        "p": "sensor", "name": name, "val_tpl": f"{{{{ value_json.{key} }}}}", "stat_cla": "measurement",
        "ent_cat": "diagnostic", **more,
    }  # fmt: skip


def components(
    topics: Topics, room: str, keywords: Collection[str], *, has_sensitivity: bool = True
) -> dict[str, dict[str, Any]]:
    """The components of a room's device, by identifier, as device discovery of Home Assistant has them.

    Parameters
    ----------
    topics : Topics
    room : str
    keywords : collection of str
        The active keywords.
    has_sensitivity : bool
        Whether the room's model has a sensitivity to set.
    """
    event, state, sensitivity = topics.event(room), topics.state(room), topics.sensitivity(room)
    db, seconds = {"unit_of_meas": "dBFS", "sug_dsp_prc": 0}, {"unit_of_meas": "s", "dev_cla": "duration"}
    degrees = {"unit_of_meas": "°C", "dev_cla": "temperature"}
    entities: dict[str, dict[str, Any]] = {
        "command": {
            "p": "event", "name": "Command", "stat_t": event, "evt_typ": list(keywords), "qos": 1,
            "ic": "mdi:microphone-message",
        },
        "level": _sensor("Level", "level_db", ic="mdi:volume-high", **db),
        "noise": _sensor("Noise floor", "noise_db", ic="mdi:volume-low", **db),
        "lost": _sensor("Lost audio", "lost_s", ic="mdi:ear-hearing-off", stat_cla="total_increasing", **seconds),
        "temperature": _sensor("Temperature", "temperature_c", **degrees),
        "microphone": {
            "p": "binary_sensor", "name": "Microphone", "dev_cla": "connectivity", "ent_cat": "diagnostic",
            "val_tpl": "{{ 'ON' if value_json.present else 'OFF' }}",
        },
        "sensitivity": {
            "p": "number", "name": "Sensitivity", "stat_t": sensitivity, "cmd_t": f"{sensitivity}/set",
            "min": 0, "max": 1, "step": 0.01, "mode": "slider", "ent_cat": "config", "ic": "mdi:tune", "qos": 1,
        },
    }  # fmt: skip
    if not has_sensitivity:
        del entities["sensitivity"]
    for name, entity in entities.items():
        entity.setdefault("stat_t", state)
        entity["uniq_id"] = f"{topics.identifier(room)}_{name}"
    triggers = {
        f"heard_{slug(word)}": {
            "p": "device_automation", "atype": "trigger", "type": "heard", "stype": word, "t": event, "pl": word,
            "val_tpl": "{{ value_json.event_type }}", "qos": 1,
        }
        for word in keywords
    }  # fmt: skip
    return {**entities, **triggers}


def device(
    topics: Topics, room: str, parts: Mapping[str, Any], *, name: str, model: str, area: str | None
) -> dict[str, Any]:
    """The payload of a room's configuration topic.

    Parameters
    ----------
    topics : Topics
    room : str
    parts : mapping
        The :func:`components`. One of which only the platform is left is removed by Home Assistant.
    name, model : str
        Name and model of the device.
    area : str or None
        The area that Home Assistant suggests for it.
    """
    about = {"ids": [topics.identifier(room)], "name": name, "mf": "kws-edge", "mdl": model, "sw": __version__}
    return {
        "dev": {**about, "sa": area} if area else about,
        "o": {"name": "kws-edge", "sw": __version__},
        "avty_t": topics.status,
        "cmps": dict(parts),
    }


def parse_sensitivity(payload: bytes) -> float:
    """The sensitivity that a message asks for.

    Raises
    ------
    ConfigError
        If it is no number from 0 to 1 in plain digits.
    """
    from argparse import ArgumentTypeError

    try:
        if len(payload) <= _MOST_DIGITS:
            return _SENSITIVITY(payload.decode("ascii"))
    except (ArgumentTypeError, ValueError):
        pass
    raise ConfigError(f"a sensitivity must be {_SENSITIVITY}, got {shown(payload[:_MOST_DIGITS])}")


def parse_announced(payload: bytes, topics: Topics) -> dict[str, dict[str, str]]:
    """The platform of each component by configuration topic, as an earlier start of this device wrote it.

    Raises
    ------
    ConfigError
        If it is not of this form, or names topics of another device.
    """
    try:
        values = parse_json(payload.decode())
    except ValueError as error:
        raise ConfigError(f"{topics.announced}: no JSON ({error})") from None
    config = re.compile(rf"{re.escape(topics.prefix)}/device/{re.escape(topics.device_id)}_[a-z0-9_]{{1,120}}/config")
    if not (
        isinstance(values, dict)
        and all(config.fullmatch(topic) and isinstance(parts, dict) for topic, parts in values.items())
        and all(_PART.fullmatch(part) for parts in values.values() for part in parts)
        and all(
            isinstance(platform, str) and platform in _PLATFORMS
            for parts in values.values()
            for platform in parts.values()
        )
    ):
        raise ConfigError(f"{topics.announced}: not what kws-edge writes there")
    return values


def dump(value: Any) -> str:
    """`value` as compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
