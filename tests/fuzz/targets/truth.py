"""Label files beside recordings, and lists of what is also said."""

from __future__ import annotations

from host_tools.data.annotations import read_also_said, read_labels
from kws_edge import KwsError
from kws_edge.diagnostics.benchmark import STREAM
from tests.fuzz import written


def seeds():
    yield STREAM.with_suffix(".csv").read_bytes()
    yield b"0.5\t0.92\tyes\n\\\t100\t200\n2.19\t2.59\tno\n"
    yield b"recording,start_s,end_s,label\na,0.5,1,yes\n"


def consume(data):
    path = written("labels.csv", data)
    try:
        for word in read_labels(path):
            assert 0 <= word.start_s <= word.end_s < float("inf") and word.label
    except KwsError:
        pass
    read_also_said(path)
