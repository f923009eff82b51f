"""Detections as lines of JSON, on standard output or in a file of bounded size."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, ClassVar

from kws_edge.detection.records import as_json
from kws_edge.errors import KwsError
from kws_edge.files import check_writable
from kws_edge.ranges import number
from kws_edge.service.events import Detected, Event
from kws_edge.service.outputs.base import FOR_EVER, Limit, Output, OutputError
from kws_edge.service.section import FileName, OutputSection
from kws_edge.settings import option

if TYPE_CHECKING:
    from kws_edge.service.commands import Commands

__all__ = ["SECTION", "JsonLines", "JsonLinesSection"]

_READER_S = 1.0


@dataclass(frozen=True, kw_only=True)
class JsonLinesSection(OutputSection):
    """A line of JSON for each detection, as ``kws-edge listen --json`` prints it; ``file`` is the room."""

    section: ClassVar[str] = "jsonl"
    needs_network: ClassVar[bool] = False

    file: str | None = option(FileName(), None, help="file to append to; default: standard output")
    most_mb: float = option(
        number(0.001, 1e6), 10.0, unit="MB", help="size at which the file is renamed to FILE.1 and begun anew"
    )

    def check(self) -> None:
        if self.file is not None:
            check_writable(self.file, option=f"{self.label()}: file")

    def open(self, name: str, service: Commands, notice: Callable[[str], None]) -> JsonLines:
        return JsonLines(self, name, service=service, notice=notice)


class JsonLines(Output):
    """Writes the lines. A full disk is waited for; the latest detections are kept meanwhile."""

    limits: ClassVar[Mapping[type[Event], Limit]] = {Detected: Limit(1000, FOR_EVER)}

    def __init__(
        self, section: JsonLinesSection, name: str, *, service: Commands, notice: Callable[[str], None]
    ) -> None:
        super().__init__(name, service=service, notice=notice)
        self._section = section
        self._file: IO[bytes] | None = None

    def send(self, event: Event) -> None:
        assert isinstance(event, Detected)
        line = (as_json(event.room, event.detection, time=event.time) + "\n").encode()
        if self._section.file is None:
            self._print(line)
        else:
            self._append(self._section.file, line)

    def _print(self, line: bytes) -> None:
        """Print a line past Python's buffer, whose lock would hang with this thread if nobody read."""
        ready = select.poll()
        ready.register(sys.stdout.fileno(), select.POLLOUT)
        if not ready.poll(1000 * _READER_S):
            raise OutputError("nobody reads standard output")
        try:
            os.write(sys.stdout.fileno(), line)
        except BrokenPipeError:
            raise KwsError("the reader of standard output is gone") from None

    def _append(self, path: str, line: bytes) -> None:
        """Append a line whole or not at all."""
        try:
            if self._file is None:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                self._file = open(path, "ab", buffering=0)  # noqa: SIM115  it stays open
            if (size := os.fstat(self._file.fileno()).st_size) + len(line) > 1e6 * self._section.most_mb and size:
                self.disconnect()
                os.replace(path, f"{path}.1")
                self._file = open(path, "ab", buffering=0)  # noqa: SIM115
                size = 0
            if self._file.write(line) < len(line):
                os.ftruncate(self._file.fileno(), size)
                raise OutputError(f"{path}: no room for a line on the disk")
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from None

    def disconnect(self) -> None:
        if self._file:
            self._file.close()
            self._file = None


SECTION = JsonLinesSection
