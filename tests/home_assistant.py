"""Checks discovery messages by Home Assistant's own code, in a Python that has it: ``python home_assistant.py < JSON``.

Standard input is an object of payloads by topic. What Home Assistant refuses is an error.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
import tempfile

from homeassistant.components.mqtt import discovery
from homeassistant.const import __version__
from homeassistant.core import HomeAssistant
from homeassistant.helpers import frame

SCHEMAS = {"device_automation": ("device_trigger", "TRIGGER_DISCOVERY_SCHEMA")}


def check(topic: str, payload: str) -> int:
    """The number of components of a device, all of which Home Assistant takes."""
    found = discovery.TOPIC_MATCHER.match(topic.partition("/")[2])
    kind, node, name = found.groups()
    assert kind == "device"
    known = {"hass": None, "payload": payload, "topic": topic, "object_id": name, "node_id": node}
    wanted = inspect.signature(discovery._parse_device_payload).parameters
    device = discovery._parse_device_payload(**{key: value for key, value in known.items() if key in wanted})
    assert device, f"{topic}: refused"
    parts = device["components"]
    for part in parts.values():
        platform = part.pop("platform")
        module, schema = SCHEMAS.get(platform, (platform, "DISCOVERY_SCHEMA"))
        values = discovery.MQTTDiscoveryPayload({**part, "device": device["device"], "origin": device["origin"]})
        discovery._merge_common_device_options(values, device)
        taken = getattr(importlib.import_module(f"homeassistant.components.mqtt.{module}"), schema)(dict(values))
        # The schemas drop options that they do not know.
        dropped = set(values) - set(taken) - {"origin", "availability_topic"}
        assert not dropped, f"{topic}: {platform} has no {', '.join(sorted(dropped))}"
    return len(parts)


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        hass = HomeAssistant(folder)  # templates need one
        frame.async_setup(hass)
        counts = [check(topic, payload) for topic, payload in json.load(sys.stdin).items()]
        await hass.async_stop(force=True)
    print(f"Home Assistant {__version__} takes {sum(counts)} components of {len(counts)} devices")


if __name__ == "__main__":
    asyncio.run(main())
