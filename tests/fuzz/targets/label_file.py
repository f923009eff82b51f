"""Files for ``--labels``, as other tools write them."""

from __future__ import annotations

from kws_edge import Model
from kws_edge.cli.options import labels
from kws_edge.labels import is_keyword
from tests.fuzz import written

MODEL = Model("micro12")


def seeds():
    yield "\n".join(MODEL.labels).encode()
    yield "\ufeffsilence\r\nunknown\r\nyes\r\n".encode()
    yield b"0 Background Noise\n1 yes\n"
    yield "silence\nunknown\n".encode("utf-16")


def consume(data):
    found = labels(str(written("labels.txt", data)))
    for label in found:
        is_keyword(label)
    Model(MODEL.path, labels=found)
