"""What others publish to the MQTT output: a sensitivity, and what an earlier start announced."""

from __future__ import annotations

from contextlib import suppress

from kws_edge import ConfigError
from kws_edge.service.mqtt.discovery import Topics, dump, parse_announced, parse_sensitivity
from tests.fuzz.values import mutate

__all__ = ["consume", "mutate", "seeds"]

TOPICS = Topics("pi", "homeassistant")


def seeds():
    yield b"0.5"
    yield dump({TOPICS.config("kitchen"): {"command": "event", "heard_on": "device_automation"}}).encode()


def consume(data):
    with suppress(ConfigError):
        assert 0 <= parse_sensitivity(data) <= 1
    for topic, parts in parse_announced(data, TOPICS).items():
        assert topic.startswith("homeassistant/device/pi_")
        assert all(part.replace("_", "a").isalnum() for part in parts)
