"""The configuration of the service, in TOML."""

from __future__ import annotations

import copy
import json
import random
from contextlib import suppress

import atheris

from kws_edge.errors import ConfigError
from kws_edge.service.config import OUTPUTS, read_config
from kws_edge.service.saved import load_changes
from kws_edge.toml_files import parse_toml
from tests.fuzz import written
from tests.fuzz.values import _HOSTILE, _change

__all__ = ["consume", "mutate", "seeds"]

_SEED = """
[service]
telemetry_s = 2.5
state = "state"
[[source]]
name = "kitchen"
device = "usb"
rate = 48000
sensitivity = 0.5
thresholds = {on = 0.75, off = 0.5}
keywords = ["on", "off"]
[[source]]
name = "hall"
ffmpeg = "rtsp://camera/stream"
format = "rtsp"
[model]
file = "micro12"
threads = 2
[jsonl]
file = "heard.jsonl"
most_mb = 1.5
[[exec]]
command = "true {keyword}"
keyword = "on"
timeout_s = 5
[[webhook]]
url = "http://localhost:8123/x?y=z"
keywords = ["on"]
secret_file = "token"
"""


def seeds():
    yield _SEED.encode()
    for name in OUTPUTS:
        yield f"[{name}]\n".encode()
        yield f"[[{name}]]\n".encode()
    yield b'{"kitchen": {"sensitivity": 0.5, "thresholds": {"on": 0.5}, "keywords": ["on"]}}'


def mutate(data: bytes, size: int, seed: int) -> bytes:
    """TOML with another value, one key more, or one less. Now and then bytes change, too."""
    rng = random.Random(seed)
    try:
        values = parse_toml(data.decode())
    except ValueError:
        values = {}
    if not values or rng.random() < 0.3:
        return atheris.Mutate(data, size)
    for _ in range(rng.choice((1, 1, 2))):
        _change(values, rng)
    if rng.random() < 0.2:
        values[rng.choice((*OUTPUTS, "source", "model", "service"))] = copy.deepcopy(rng.choice(_HOSTILE))
    return "".join(f"{_text(name)} = {_text(value)}\n" for name, value in values.items()).encode(errors="replace")[
        :size
    ]


def _text(value: object) -> str:
    """A value in TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(name)} = {_text(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return str(value).lower() if isinstance(value, (bool, float)) else json.dumps(value)


def consume(data: bytes) -> None:
    with suppress(ConfigError):
        load_changes(str(written("changes.json", data)))
    config = read_config(written("serve.toml", data))
    assert config.sources
    assert all(source.name for source in config.sources)
    assert config.needs_network in (True, False)
    assert config.secrets == tuple(dict.fromkeys(config.secrets))
