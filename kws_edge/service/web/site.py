"""The page's addresses: its files, its live values, and what it may change."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import kws_edge
from kws_edge.errors import KwsError
from kws_edge.labels import UNKNOWN
from kws_edge.service.clips import ClipFolder
from kws_edge.service.events import Event, Scores
from kws_edge.service.web.access import Access
from kws_edge.service.web.calibration import Calibration
from kws_edge.service.web.http import HttpError, Request, Response
from kws_edge.service.web.live import Live
from kws_edge.service.web.teaching import Teaching
from kws_edge.text import parse_json

if TYPE_CHECKING:
    from kws_edge.service.commands import Commands

__all__ = ["HEADERS", "Site"]

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; media-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_PAGE = os.path.join(os.path.dirname(__file__), "page")
_KINDS = {"html": "text/html; charset=utf-8", "css": "text/css", "js": "text/javascript"}
_MOST_CLIPS = 500
_FOR_EVER_S = 1e9
_T = TypeVar("_T")


class Site:
    """Answers requests.

    Parameters
    ----------
    service : Commands
    access : Access
    """

    def __init__(self, service: Commands, access: Access) -> None:
        self._service, self._access = service, access
        self.live = Live(service, self._about)
        self._teaching = Teaching(service, self._clip_folder)
        self.calibration = Calibration(service, partial(self.live.tell, "calibration"))
        self._files = {}
        for name in os.listdir(_PAGE):
            with open(os.path.join(_PAGE, name), "rb") as file:
                answer = Response(file.read(), headers={"Content-Type": _KINDS[name.rpartition(".")[2]]})
            self._files["/" if name == "index.html" else f"/{name}"] = answer
        self._gets: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "/api/live": self._follow,
            "/api/clips": self._clips,
            "/api/clip": self._clip,
            "/api/taught": self._taught,
        }
        self._posts: dict[str, Callable[[dict[str, Any]], Awaitable[object]]] = {
            "/api/settings": self._change,
            "/api/save": self._save,
            "/api/wrong": self._wrong,
            "/api/examine": self._examine,
            "/api/clips/label": self._label,
            "/api/clips/delete": self._delete,
            "/api/taught/teach": self._teach,
            "/api/taught/remove": self._remove,
            "/api/calibration": self._calibrate,
            "/api/calibration/stop": self._stop_calibration,
        }

    def _about(self) -> dict[str, Any]:
        return {
            "version": kws_edge.__version__,
            "clips": self._service.clips() is not None,
            "taught": self._service.taught() is not None,
            "login": self._access.needs_login,
            "calibration": self.calibration.progress,
        }

    @property
    def is_watched(self) -> bool:
        """Whether somebody needs every inference: a page, or a calibration. Any thread may ask."""
        return self.live.has_clients or self.calibration.listens

    def take(self, event: Event) -> None:
        """Take an event of the service."""
        if isinstance(event, Scores):
            self.calibration.take(event)
        self.live.take(event)

    async def __call__(self, request: Request) -> Response:
        """Answer a request.

        Raises
        ------
        HttpError
            If it is refused.
        """
        self._access.check(request)
        if request.method in ("GET", "HEAD") and request.path in self._files:
            return self._files[request.path]
        if request.path == "/api/session" and request.method == "GET":
            return _json({"known": self._access.is_known(request)})
        if request.path == "/api/login" and request.method == "POST":
            cookie = await self._access.log_in(request, _values(request).get("token"))
            return _json({"known": True}, {"Set-Cookie": cookie})
        if not self._access.is_known(request):
            raise HttpError(401, "log in first")
        if request.path == "/api/logout" and request.method == "POST":
            return _json({"known": False}, {"Set-Cookie": self._access.log_out(request)})
        return await self._answer(request)

    async def _answer(self, request: Request) -> Response:
        get, post = self._gets.get(request.path), self._posts.get(request.path)
        try:
            if get and request.method == "GET":
                return await get(request)
            if post and request.method == "POST":
                return _json(await post(_values(request)))
        except KwsError as error:
            raise HttpError(400, str(error)) from None
        if get or post:
            raise HttpError(405, "another method is needed", {"Allow": "GET" if get else "POST"})
        raise HttpError(404, "there is no such page")

    async def _follow(self, request: Request) -> Response:
        room = request.query.get("room", "")
        follow = partial(self.live.follow, room=room, is_known=partial(self._access.is_known, request))
        return Response(headers={"Content-Type": "text/event-stream"}, stream=follow)

    async def _change(self, values: dict[str, Any]) -> object:
        """Change one thing of a room, so that it is done or not done."""
        room = _text(values, "room")
        match [(name, given) for name, given in values.items() if name != "room"]:
            case [("sensitivity", value)]:
                self._service.set_sensitivity(_number(value), room=room)
            case [("thresholds", dict(thresholds))]:
                numbers = {word: _number(value) for word, value in thresholds.items()}
                await _elsewhere(partial(self._service.set_thresholds, numbers, room=room))
            case [("keywords", list(words))] if all(isinstance(word, str) for word in words):
                self._service.set_keywords(words, room=room)
            case _:
                raise HttpError(400, "send one of sensitivity, thresholds by keyword, and a list of keywords")
        return {}

    async def _save(self, values: dict[str, Any]) -> object:
        await _elsewhere(self._service.save)
        return {}

    async def _wrong(self, values: dict[str, Any]) -> object:
        self._service.was_wrong(room=_text(values, "room"), end_s=_number(values.get("end_s")))
        return {}

    async def _examine(self, values: dict[str, Any]) -> object:
        """Findings about the last seconds of a room's signal, as ``kws-edge doctor`` has them."""
        room = _text(values, "room")
        rate = self._service.sample_rate(room)
        samples = self._service.audio(room, 0.0, _FOR_EVER_S)

        def examined() -> dict[str, Any]:
            from kws_edge.diagnostics.signal_quality import SignalQuality, as_dict, findings

            quality = SignalQuality(rate, 1)
            quality.add(samples[:, None])
            channels = quality.channels()
            found = findings(channels) if channels else []
            return {
                "seconds": round(len(samples) / rate, 1),
                "signal": as_dict(channels[0]) if channels else None,
                "findings": [vars(finding) for finding in found],
            }

        return await _elsewhere(examined)

    def _clip_folder(self) -> ClipFolder:
        if (folder := self._service.clips()) is None:
            raise HttpError(404, "no clips are kept: the configuration has no section [clips]")
        return folder

    async def _clips(self, request: Request) -> Response:
        folder = self._clip_folder()

        def listed() -> dict[str, Any]:
            clips = list(folder)
            values = [{name: v for name, v in vars(clip).items() if name != "path"} for clip in clips[:_MOST_CLIPS]]
            return {"clips": values, "count": len(clips), "bytes": sum(clip.size for clip in clips)}

        return _json(await _elsewhere(listed))

    async def _clip(self, request: Request) -> Response:
        folder, name = self._clip_folder(), request.query.get("name", "")

        def read() -> bytes:
            with open(folder.find(name).path, "rb") as file:
                return file.read()

        try:
            return Response(await _elsewhere(read), headers={"Content-Type": "audio/wav"})
        except (KwsError, OSError):
            raise HttpError(404, "there is no such clip") from None

    async def _label(self, values: dict[str, Any]) -> object:
        word = _text(values, "word")
        if word != UNKNOWN and not any(word in room.possible for room in self._service.rooms().values()):
            raise HttpError(400, "no room has this keyword")
        return await _elsewhere(partial(self._teaching.label, _text(values, "name"), word))

    async def _delete(self, values: dict[str, Any]) -> object:
        await _elsewhere(partial(self._clip_folder().delete, _text(values, "name")))
        return {}

    async def _taught(self, request: Request) -> Response:
        return _json({"words": self._teaching.listed()})

    async def _teach(self, values: dict[str, Any]) -> object:
        match values.get("clips"):
            case list(clips) if len(clips) <= _MOST_CLIPS and all(isinstance(clip, str) for clip in clips):
                await _elsewhere(partial(self._teaching.teach, _text(values, "name"), clips))
            case _:
                raise HttpError(400, "clips: give a list of names")
        return {}

    async def _remove(self, values: dict[str, Any]) -> object:
        await _elsewhere(partial(self._teaching.remove, _text(values, "name")))
        return {}

    async def _calibrate(self, values: dict[str, Any]) -> object:
        self.calibration.start(
            _text(values, "room"), _number(values.get("minutes")), budget=_number(values.get("budget"))
        )
        return {}

    async def _stop_calibration(self, values: dict[str, Any]) -> object:
        self.calibration.stop()
        return {}


async def _elsewhere(work: Callable[[], _T]) -> _T:
    """Do what reads or writes files, or takes long, in another thread."""
    return await asyncio.get_running_loop().run_in_executor(None, work)


def _json(values: object, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(values).encode(), headers={"Content-Type": "application/json", **(headers or {})})


def _values(request: Request) -> dict[str, Any]:
    try:
        values = parse_json(request.body.decode())
    except ValueError as error:
        raise HttpError(400, f"not understood: {error}") from None
    if not isinstance(values, dict):
        raise HttpError(400, "send an object")
    return values


def _text(values: dict[str, Any], name: str) -> str:
    if not isinstance(value := values.get(name), str):
        raise HttpError(400, f"{name}: give a text")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e9:
        raise HttpError(400, "give a number")
    return float(value)
