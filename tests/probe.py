"""An output of the tests' own: it keeps every event that it gets, of every kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kws_edge.service.events import Detected, Reloaded, Scores, Telemetry
from kws_edge.service.outputs.base import FOR_EVER, Limit, Output
from kws_edge.service.section import OutputSection

PROBES = []
"""The probes that were opened, in order."""


@dataclass(frozen=True, kw_only=True)
class ProbeSection(OutputSection):
    section: ClassVar[str] = "probe"

    def open(self, name, service, notice):
        PROBES.append(Probe(name, service=service, notice=notice))
        return PROBES[-1]


class Probe(Output):
    wants: ClassVar = frozenset({Detected, Reloaded, Scores, Telemetry})
    limits: ClassVar = dict.fromkeys(wants, Limit(100_000, FOR_EVER))

    def __init__(self, name, **options):
        super().__init__(name, **options)
        self.got, self.wrong = [], []

    def send(self, event):
        self.got.append(event)

    def was_wrong(self, room, end_s):
        self.wrong.append((room, end_s))

    def of(self, kind, room=None):
        """The events of a kind so far."""
        return [event for event in list(self.got) if type(event) is kind and room in (None, event.room)]


SECTION = ProbeSection
