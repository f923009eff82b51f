"""Commands that detections start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from kws_edge.cli.hooks import NAMES, Command, Hooks
from kws_edge.errors import ConfigError, UsageError
from kws_edge.ranges import number
from kws_edge.service.events import Detected, Event
from kws_edge.service.outputs.base import Output
from kws_edge.service.section import OutputSection
from kws_edge.settings import Flag, Text, option
from kws_edge.text import shown

if TYPE_CHECKING:
    from kws_edge.service.commands import Commands

__all__ = ["SECTION", "Exec", "ExecSection"]


@dataclass(frozen=True, kw_only=True)
class ExecSection(OutputSection):
    """A command that is run when a keyword is heard, as by ``kws-edge listen --exec``."""

    section: ClassVar[str] = "exec"

    command: str = option(
        Text(),
        help="command; its words may hold {keyword}, {score}, {start_s}, {end_s}, {time} and {room}, and its "
        "environment has KWS_KEYWORD and so on",
    )
    keyword: str | None = option(Text(), None, help="keyword that starts it; default: every keyword")
    room: str | None = option(Text(), None, help="room that starts it; default: every room")
    shell: bool = option(Flag(), False, help="whether /bin/sh runs it")
    timeout_s: float = option(number(0.1, 1e8), 60.0, unit="s", help="time after which it is ended")

    def made(self) -> Command:
        """The command."""
        what = f"[[exec]] {shown(self.command)}"
        names = (*NAMES, "room")
        try:
            return Command(
                self.command,
                keyword=self.keyword,
                shell=self.shell,
                what=what,
                shell_option="shell = true",
                names=names,
            )
        except UsageError as error:
            raise ConfigError(str(error)) from None

    def check(self) -> None:
        self.made()

    def words(self) -> tuple[str, ...]:
        return () if self.keyword is None else (self.keyword,)

    def open(self, name: str, service: Commands, notice: Callable[[str], None]) -> Exec:
        return Exec(self, name, service=service, notice=notice)


class Exec(Output):
    """Starts the command, and reaps it. It never waits for it."""

    def __init__(self, section: ExecSection, name: str, *, service: Commands, notice: Callable[[str], None]) -> None:
        super().__init__(name, service=service, notice=notice)
        self._section = section
        self._hooks: Hooks | None = None

    def _said(self, text: str) -> None:
        self._notice(f"{self.name}: {text}")

    def connect(self) -> None:
        hooks = Hooks([self._section.made()], limit_s=self._section.timeout_s, notice=self._said)
        self._hooks = hooks.__enter__()

    def send(self, event: Event) -> None:
        assert isinstance(event, Detected) and self._hooks
        if self._section.room in (None, event.room):
            self._hooks.run(event.detection, time=event.time, room=event.room)

    def disconnect(self) -> None:
        if self._hooks:
            hooks, self._hooks = self._hooks, None
            hooks.__exit__()


SECTION = ExecSection
