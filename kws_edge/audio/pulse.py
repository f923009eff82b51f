"""List and record the sources of PulseAudio, or of PipeWire in its place, through libpulse.

Only the process that records (:mod:`kws_edge.audio.capture_process`) loads this file, by its path. If the server hangs,
calls wait without a limit. This file needs neither the package nor NumPy.

Source: PulseAudio's documentation of its asynchronous API.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p

TYPE_CHECKING = False  # not imported: this process does without typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_NO_AUTOSPAWN = 1
_CONTEXT_READY, _CONTEXT_FAILED = 4, 5
_STREAM_READY, _STREAM_FAILED = 2, 3
_CORKED, _INTERPOLATE, _AUTO_UPDATE, _DONT_MOVE, _ADJUST_LATENCY = 0x1, 0x2, 0x8, 0x200, 0x2000
_S16LE = 3
_BYTES = 2
_UNSET = 0xFFFFFFFF


class _SampleSpec(ctypes.Structure):
    _fields_ = (("format", c_int), ("rate", c_uint32), ("channels", c_uint8))


class _ChannelMap(ctypes.Structure):
    _fields_ = (("channels", c_uint8), ("map", c_int * 32))


class _Volume(ctypes.Structure):
    _fields_ = (("channels", c_uint8), ("values", c_uint32 * 32))


class _SourceInfo(ctypes.Structure):  # only the first fields, which are used here
    _fields_ = (
        ("name", c_char_p),
        ("index", c_uint32),
        ("description", c_char_p),
        ("sample_spec", _SampleSpec),
        ("channel_map", _ChannelMap),
        ("owner_module", c_uint32),
        ("volume", _Volume),
        ("mute", c_int),
        ("monitor_of", c_uint32),
    )


class _BufferAttributes(ctypes.Structure):
    _fields_ = tuple((name, c_uint32) for name in ("maxlength", "tlength", "prebuf", "minreq", "fragsize"))


_ON_SOURCE = ctypes.CFUNCTYPE(None, c_void_p, POINTER(_SourceInfo), c_int, c_void_p)
_FUNCTIONS = (
    ("mainloop_new", c_void_p),
    ("mainloop_get_api", c_void_p, c_void_p),
    ("mainloop_iterate", c_int, c_void_p, c_int, c_void_p),
    ("context_new", c_void_p, c_void_p, c_char_p),
    ("context_connect", c_int, c_void_p, c_char_p, c_int, c_void_p),
    ("context_get_state", c_int, c_void_p),
    ("context_errno", c_int, c_void_p),
    ("context_get_source_info_list", c_void_p, c_void_p, _ON_SOURCE, c_void_p),
    ("operation_unref", None, c_void_p),
    ("strerror", c_char_p, c_int),
    ("stream_new", c_void_p, c_void_p, c_char_p, POINTER(_SampleSpec), c_void_p),
    ("stream_connect_record", c_int, c_void_p, c_char_p, POINTER(_BufferAttributes), c_int),
    ("stream_get_state", c_int, c_void_p),
    ("stream_cork", c_void_p, c_void_p, c_int, c_void_p, c_void_p),
    ("stream_readable_size", c_size_t, c_void_p),
    ("stream_peek", c_int, c_void_p, POINTER(c_void_p), POINTER(c_size_t)),
    ("stream_drop", c_int, c_void_p),
    ("stream_get_latency", c_int, c_void_p, POINTER(c_uint64), POINTER(c_int)),
)


class Pulse:
    """A connection to the sound server, with one stream.

    Raises
    ------
    OSError
        If there is no libpulse.
    RuntimeError
        Here and by each method: if there is no sound server, or it goes away.
    """

    MAX_RATE = 384_000
    """The highest rate that the server delivers, in Hz."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Return the library's function of that name without ``pa_``."""

    def __init__(self) -> None:
        library = ctypes.CDLL("libpulse.so.0")
        for name, result, *arguments in _FUNCTIONS:
            function = getattr(library, f"pa_{name}")
            function.restype, function.argtypes = result, arguments
            setattr(self, f"_{name}", function)
        self._loop = self._mainloop_new()
        self._context = self._context_new(self._mainloop_get_api(self._loop), b"kws-edge")
        self._context_connect(self._context, None, _NO_AUTOSPAWN, None)
        self._until(lambda: self._context_get_state(self._context) == _CONTEXT_READY)

    def _until(self, is_done: Callable[[], object]) -> None:
        """Run the main loop until `is_done` returns true."""
        while not is_done():
            if self._context_get_state(self._context) >= _CONTEXT_FAILED:
                raise RuntimeError(self._reason())
            if self._mainloop_iterate(self._loop, 1, None) < 0:
                raise RuntimeError("the sound server is gone")

    def _reason(self) -> str:
        reason: bytes = self._strerror(self._context_errno(self._context))
        return reason.decode(errors="replace")

    def sources(self) -> list[dict[str, Any]]:
        """List the sources, each as the fields of an :class:`kws_edge.audio.capture.InputDevice`; monitors last."""
        found: list[dict[str, Any]] = []
        is_done: list[int] = []

        def on_source(_: Any, info: Any, end: int, __: Any) -> None:
            if end:
                is_done.append(end)
                return
            info = info.contents
            found.append(
                {
                    "index": None,
                    "name": info.name.decode(errors="replace"),
                    "host_api": "PulseAudio",
                    "channels": info.sample_spec.channels,
                    "rate": info.sample_spec.rate,
                    "default": False,
                    "description": (info.description or b"").decode(errors="replace"),
                    "monitor": info.monitor_of != _UNSET,
                }
            )

        callback = _ON_SOURCE(on_source)
        self._operation_unref(self._context_get_source_info_list(self._context, callback, None))
        self._until(lambda: is_done)
        return sorted(found, key=lambda source: source["monitor"])

    def open(self, name: str, rate: int, channels: int, latency_s: float) -> None:
        """Open a source. The server converts rate and channels, and must never substitute another source."""
        spec = _SampleSpec(_S16LE, rate, channels)
        size = round(latency_s * rate) * _BYTES * channels
        attributes = _BufferAttributes(_UNSET, _UNSET, _UNSET, _UNSET, size)
        flags = _CORKED | _INTERPOLATE | _AUTO_UPDATE | _DONT_MOVE | _ADJUST_LATENCY
        self._stream = self._stream_new(self._context, b"listening", byref(spec), None)
        if not self._stream or self._stream_connect_record(self._stream, name.encode(), byref(attributes), flags) < 0:
            raise RuntimeError(self._reason())
        self._rate, self._frame = rate, _BYTES * channels
        self._until(self._is_open)

    def _is_open(self) -> bool:
        state: int = self._stream_get_state(self._stream)
        if state >= _STREAM_FAILED:
            raise RuntimeError(self._reason())
        return state == _STREAM_READY

    def blocks(self, samples: int) -> Iterator[tuple[bytes, float, bool]]:
        """Record, and yield blocks of `samples` samples of all channels as they arrive.

        With each block come the age of its first sample in seconds, and whether the server lost samples before it.

        Raises
        ------
        RuntimeError
            When the source is gone.
        """
        self._operation_unref(self._stream_cork(self._stream, 0, None, None))
        size, seconds = samples * self._frame, samples / self._rate
        data, n, usec, negative = c_void_p(), c_size_t(), c_uint64(), c_int()
        held, lost = bytearray(), False
        while True:
            self._until(lambda: self._is_open() and self._stream_readable_size(self._stream))
            if self._stream_peek(self._stream, byref(data), byref(n)) < 0:
                raise RuntimeError(self._reason())
            known = not self._stream_get_latency(self._stream, byref(usec), byref(negative)) and not negative.value
            age = usec.value / 1e6 + len(held) / self._frame / self._rate if known else 0.0
            if data.value:
                held += ctypes.string_at(data.value, n.value)
            else:  # a gap in the recording
                held.clear()
                lost = True
            self._stream_drop(self._stream)
            while len(held) >= size:
                yield bytes(held[:size]), age, lost
                del held[:size]
                age, lost = max(0.0, age - seconds), False
