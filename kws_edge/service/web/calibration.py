"""A calibration that the page starts: thresholds from some minutes of a room in which nobody gives a command."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from kws_edge.errors import ConfigError, KwsError
from kws_edge.ranges import number
from kws_edge.service.events import Scores
from kws_edge.text import counted

if TYPE_CHECKING:
    from kws_edge.detection.calibration import Accepts, Choice
    from kws_edge.service.commands import Commands

__all__ = ["Calibration"]

_MOST_MINUTES = 24 * 60
_BUDGET = number(1e-6, 1e6)
_TOLD_S = 1.0
_CLIP_S = 1.0  # tells where a detection begins, which nobody asks here


class Calibration:
    """Gathers evidence from a room, and sets its thresholds. It lives in the server's event loop.

    Parameters
    ----------
    service : Commands
    tell : callable
        Called with the progress whenever it changes.
    """

    def __init__(self, service: Commands, tell: Callable[[dict[str, Any]], None]) -> None:
        self._service, self._tell = service, tell
        self._evidence: Accepts | None = None
        self._task: asyncio.Task[None] | None = None
        self._told_s = 0.0
        self.progress: dict[str, Any] = {"state": "idle"}
        """``state`` is idle, listening, choosing, done or failed; the rest depends on it."""

    @property
    def listens(self) -> bool:
        return self._evidence is not None

    def start(self, room: str, minutes: float, *, budget: float) -> None:
        """Begin to listen.

        Parameters
        ----------
        room : str
        minutes : float
            How long to listen.
        budget : float
            Allowed false accepts per hour, of all keywords together.

        Raises
        ------
        ConfigError
            If a calibration runs already, or a value is out of range.
        """
        from kws_edge.detection.calibration import LEAST_MINUTES, Evidence

        if self.progress["state"] in ("listening", "choosing"):
            raise ConfigError("a calibration runs already")
        minutes = number(LEAST_MINUTES, _MOST_MINUTES).check("minutes", minutes)
        budget = _BUDGET.check("budget", budget)
        rooms = self._service.rooms()
        if room not in rooms:
            raise ConfigError(f"there is no room {room!r}")
        config, about = self._service.detector_config(room), rooms[room]
        own = Evidence(
            [word for word in about.labels if word not in about.taught], config, step_s=about.step_s, clip_s=_CLIP_S
        )
        taught = [word for word in about.labels if word in about.taught]
        self._evidence = own
        if taught:
            from kws_edge.teach.evidence import Together

            rests_s = config.refractory_ms / 1000
            self._evidence = Together(own, taught, step_s=about.step_s, refractory_s=rests_s)
        self._keywords, self._told_s = about.keywords, 0.0
        self.progress = {"state": "listening", "room": room, "minutes": minutes, "heard": 0.0, "budget": budget}
        self._tell(self.progress)

    def stop(self) -> None:
        """End the listening. What was heard counts if it is long enough."""
        if self.progress["state"] == "listening":
            self._finish()

    def take(self, event: Scores) -> None:
        """Take an inference, of whatever room."""
        if self._evidence is None or self.progress["state"] != "listening" or event.room != self.progress["room"]:
            return
        self._evidence.add(event.posteriors)
        heard_s = 3600 * self._evidence.hours
        if heard_s >= 60 * self.progress["minutes"]:
            self._finish()
        elif heard_s >= self._told_s + _TOLD_S:
            self._told_s = heard_s
            self._change(heard=round(heard_s / 60, 3))

    def _change(self, **values: Any) -> None:
        self.progress = {**self.progress, **values}
        self._tell(self.progress)

    def _finish(self) -> None:
        assert self._evidence is not None
        self._change(state="choosing", heard=round(60 * self._evidence.hours, 3))
        self._task = asyncio.get_running_loop().create_task(self._choose(self._evidence))
        self._evidence = None

    async def _choose(self, evidence: Accepts) -> None:
        """Choose in another thread, which may take seconds, and set the thresholds."""
        from kws_edge.detection.calibration import check_plausible, choose

        room, budget = self.progress["room"], self.progress["budget"]

        def work() -> Choice:
            evidence.close()
            check_plausible(evidence, budget)
            return choose(evidence, budget)

        try:
            if self._service.rooms()[room].keywords != self._keywords:
                raise ConfigError("other keywords were chosen meanwhile; begin anew")
            loop = asyncio.get_running_loop()
            choice = await loop.run_in_executor(None, work)
            await loop.run_in_executor(None, partial(self._service.set_thresholds, choice.thresholds, room=room))
        except KwsError as error:
            self._change(state="failed", text=str(error))
        else:
            accepts = counted(sum(choice.counts.values()), "false accept")
            text = f"{accepts} in {60 * evidence.hours:.1f} min with these thresholds, which hold from now on"
            if not choice.supported:
                text += "; a longer time would show whether the budget is kept"
            self._change(state="done", text=text, thresholds=choice.thresholds)
