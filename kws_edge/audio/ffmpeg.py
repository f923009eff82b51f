"""Formats that only ffmpeg decodes. It runs in a process of its own."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import threading
from collections.abc import Sequence
from typing import IO

from kws_edge.audio.formats import WAV
from kws_edge.audio.pcm import Bytes, PcmReader, read_header
from kws_edge.errors import AudioError, KwsError

__all__ = ["Child", "MissingError", "decoded"]

_DEADLINE_S = 30.0
"""If ffmpeg writes nothing for this many seconds, it hangs."""
_HEADER_BYTES = 256
"""Output shorter than this holds a WAV header at most."""
_MOST_BYTES = 1 << 28
"""Largest block of memory that ffmpeg may allocate, in bytes."""
_DEMUXERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,avr,caf,dsf,dts,dtshd,eac3,epaf,flac,flv,iff,ircam,loas,matroska,"
    "mlp,mov,mp3,mpc,mpc8,mpeg,mpegts,nistsphere,nut,ogg,pvf,rm,shn,sox,tak,truehd,tta,voc,w64,wav,wv"
)
"""Formats that ffmpeg may recognise: audio formats, and none that refers to other files."""
_PLAINLY = {"matches no streams": "it holds no audio", "not on whitelist": "it is of no format of audio"}
"""Plain reasons for messages in which ffmpeg speaks of its options."""


class MissingError(AudioError):
    """ffmpeg is not installed."""


def decoded(source: bytes | Bytes) -> PcmReader:
    """Decode the audio of a file, given by its name, or of a stream.

    Raises
    ------
    MissingError
        If ffmpeg is not installed.
    AudioError
        If ffmpeg cannot decode the audio.
    """
    child = _FFmpeg(source)
    try:
        data = Bytes(child)
        return PcmReader(data, read_header(data, WAV), child.close)
    except BaseException:
        child.close()
        raise


class Child:
    """A running ffmpeg. Ctrl-C does not reach it.

    Parameters
    ----------
    command : sequence of str or bytes
        Its arguments, after those that every ffmpeg gets.
    stdin : int
        As of :class:`subprocess.Popen`.

    Raises
    ------
    MissingError
        If ffmpeg is not installed.
    """

    def __init__(self, command: Sequence[str | bytes], *, stdin: int = subprocess.DEVNULL) -> None:
        self._errors, errors = os.pipe()
        os.set_blocking(self._errors, False)
        os.set_blocking(errors, False)  # ffmpeg may write long errors about broken audio; it must not block on them
        try:
            self.process = subprocess.Popen(
                ["ffmpeg", "-nostdin", "-v", "error", "-max_alloc", str(_MOST_BYTES), *command],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
                start_new_session=True,  # Ctrl-C must reach only this process, which then ends ffmpeg
            )
        except OSError as error:
            os.close(self._errors)
            raise MissingError(f"ffmpeg: {error.strerror}") from None
        finally:
            os.close(errors)
        assert self.process.stdout
        self.out: IO[bytes] = self.process.stdout

    def reason(self) -> str:
        """What ffmpeg said at its end."""
        try:
            lines = os.read(self._errors, 1 << 16).decode(errors="replace").splitlines()
        except OSError:
            lines = []
        reason = lines[0].rpartition("] ")[2].strip() if lines else f"status {self.process.returncode}, no audio"
        return next((plain for text, plain in _PLAINLY.items() if text in reason), reason)

    def close(self) -> None:
        """End ffmpeg, whatever it is doing."""
        self.process.kill()
        self.process.wait()
        self.out.close()
        os.close(self._errors)


class _FFmpeg:
    """A running ffmpeg, whose output (a WAV file) can be read."""

    def __init__(self, source: bytes | Bytes) -> None:
        piped = isinstance(source, Bytes)
        name = b"pipe:"
        if isinstance(source, Bytes):
            source.unbuffer()
        else:
            name = b"file:" + source
        self._given = 0
        self._deadline_s = None if piped else _DEADLINE_S
        command: list[str | bytes] = [
            "-protocol_whitelist",
            "pipe" if piped else "file",
            "-format_whitelist",
            _DEMUXERS,
        ]
        command += ["-threads", "1", "-i", name]
        command += ["-map", "0:a:0", "-c:a", "pcm_f32le", "-flush_packets", "1", "-f", "wav", "pipe:"]
        self._child = Child(command, stdin=subprocess.PIPE if piped else subprocess.DEVNULL)
        self._out = self._child.out
        self._ready = select.poll()
        self._ready.register(self._out, select.POLLIN)
        if isinstance(source, Bytes):
            threading.Thread(
                target=self._feed, args=(source, self._child.process.stdin), name="ffmpeg", daemon=True
            ).start()

    def _feed(self, source: Bytes, sink: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError, KwsError), sink:
            while data := memoryview(source.some(1 << 16)):
                while data:
                    data = data[sink.write(data) :]

    def read(self, n: int) -> bytes:
        """Return at most `n` bytes as they arrive, and none at the end.

        Raises
        ------
        AudioError
            If ffmpeg cannot decode the audio, or hangs.
        """
        if self._deadline_s and not self._ready.poll(1000 * self._deadline_s):
            raise AudioError(f"ffmpeg gave nothing for {self._deadline_s:g} s")
        data = self._out.read(n)
        self._given += len(data)
        if not data and (self._child.process.wait() or self._given < _HEADER_BYTES):
            advice = "" if self._deadline_s else "; as a file, by kws-edge detect, it may be read"
            raise AudioError(f"ffmpeg cannot decode it ({self._child.reason()}){advice}")
        return data

    def close(self) -> None:
        """End ffmpeg, whatever it is doing."""
        self._child.close()
