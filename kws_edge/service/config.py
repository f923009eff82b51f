"""The configuration of the service: one TOML file, a frozen dataclass for each section."""

from __future__ import annotations

import importlib
import os
import stat
from argparse import ArgumentTypeError
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from kws_edge.audio_limits import MAX_RATE, MIN_RATE
from kws_edge.config import DetectorConfig
from kws_edge.detection.sensitivity import SENSITIVITY
from kws_edge.errors import ConfigError
from kws_edge.model.model import DEFAULT_MODEL
from kws_edge.model.runtime import KERNELS, RUNTIMES, THREADS
from kws_edge.ranges import number, whole
from kws_edge.service.section import FileName, OutputSection, Section
from kws_edge.settings import Choice, Numbers, Text, Texts, option
from kws_edge.text import printable, shown
from kws_edge.toml_files import near, read_toml

__all__ = ["OUTPUTS", "Config", "ModelSection", "SourceSection", "output_section", "read_config", "section_of"]

OUTPUTS = {
    name: f"kws_edge.service.outputs.{name}" for name in ("jsonl", "exec", "webhook", "mqtt", "wyoming", "web", "clips")
}
"""The module of each output, by the name of its section. It is imported only if the file has the section."""
_LONGEST = 60
_Section = TypeVar("_Section", bound=Section)
_REPEATED = ("exec", "webhook")
"""Outputs of which there may be several, as ``[[exec]]``."""


def _name(text: str) -> str:
    """Read the name of a room."""
    if not (text.strip() and len(text) <= _LONGEST and printable(text) == text):
        raise ArgumentTypeError(f"must be a line of 1 to {_LONGEST} characters, got {shown(text)}")
    return text


class TaughtFile(FileName):
    """Whether to hear taught words, or the path of their file."""

    def __str__(self) -> str:
        return "true, false or a path"

    def check(self, name: str, value: object) -> Any:
        """Return `value` if it is one of these.

        Raises
        ------
        ConfigError
            If it is not. The message names `name`.
        """
        return value if isinstance(value, bool) else super().check(name, value)


@dataclass(frozen=True, kw_only=True)
class SourceSection(Section):
    """Something that the service hears: a room's microphone, an address that ffmpeg reads, or a file."""

    section: ClassVar[str] = "source"

    name: str = option(Text(_name), "microphone", help="name of the room, in events and topics")
    device: str | None = option(Text(), None, help="microphone: number or part of its name; default: the system's")
    rate: int | None = option(whole(MIN_RATE, MAX_RATE), None, unit="Hz", help="rate to open the microphone at")
    file: str | None = option(FileName(), None, help="recording or named pipe to hear once, in place of a microphone")
    ffmpeg: str | None = option(Text(), None, help="address that ffmpeg reads, such as rtsp://camera/stream")
    format: str | None = option(Text(), None, help="ffmpeg's name of the address's format, such as alsa")
    room: str | None = option(FileName(), None, help="thresholds that kws-edge calibrate wrote for this room")
    sensitivity: float | None = option(SENSITIVITY, None, help="0 hears least, 1 most; default: the thresholds")
    thresholds: dict[str, float] | None = option(
        Numbers(DetectorConfig.range_of("threshold")), None, help="thresholds by keyword; default: the model's"
    )
    keywords: tuple[str, ...] | None = option(Texts(), None, help="active keywords; default: the model's")
    wake_word: str | None = option(Text(), None, help='keyword that must be heard before the others count; "": none')

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [name for name in ("device", "file", "ffmpeg") if getattr(self, name) is not None]
        if len(given) > 1:
            raise self._wrong(given[1], f"goes not with {given[0]}: a source is one of device, file and ffmpeg")
        if self.rate is not None and given not in ([], ["device"]):
            raise self._wrong("rate", f"is that of a microphone, and {given[0]} is heard")
        if self.format is not None and self.ffmpeg is None:
            raise self._wrong("format", "is that of an address for ffmpeg, and there is none")

    @property
    def is_pipe(self) -> bool:
        """Whether the file is a named pipe, which may wait for its writer for ever."""
        return self.file is not None and os.path.exists(self.file) and stat.S_ISFIFO(os.stat(self.file).st_mode)

    @property
    def heard(self) -> tuple[object, ...]:
        """What is opened. If it is the same after a reload, the source goes on."""
        return self.device, self.rate, self.file, self.ffmpeg, self.format


@dataclass(frozen=True, kw_only=True)
class ModelSection(Section):
    """The model that every source is heard with."""

    section: ClassVar[str] = "model"

    file: str = option(Text(), DEFAULT_MODEL, help="a shipped model, or the path of a .tflite file")
    runtime: str = option(Choice("auto", *RUNTIMES), "auto", help="TFLite runtime; auto: the first that loads")
    threads: int = option(THREADS, 1, help="threads of the runtime")
    kernels: str = option(Choice(*KERNELS), "fast", help="the runtime's kernels")
    taught: bool | str = option(
        TaughtFile(), False, help="hear the words, too, that kws-edge teach taught this model; a path: from this file"
    )


@dataclass(frozen=True, kw_only=True)
class ServiceSection(Section):
    """What concerns the service as a whole."""

    section: ClassVar[str] = "service"

    state: str | None = option(
        FileName(), None, help="folder for changes that are saved; default: systemd's state folder, or the user's"
    )
    telemetry_s: float = option(number(0.2, 3600), 5.0, unit="s", help="time from one telemetry of a room to the next")


@dataclass(frozen=True)
class Config:
    """What the file says."""

    path: str
    """The file; empty if there is none."""
    service: ServiceSection
    sources: tuple[SourceSection, ...]
    model: ModelSection
    outputs: Mapping[str, OutputSection]
    """The section of each output, by its name: ``mqtt``, or ``exec 1`` and ``exec 2`` of several."""

    def check_outputs(self, keywords: Sequence[str]) -> None:
        """Check all outputs, for a model with these keywords.

        Raises
        ------
        KwsError
            If one could not work.
        """
        rooms = [source.name for source in self.sources]
        for name, section in self.outputs.items():
            with self.blamed(section, name):
                section.check()
                for word in section.words():
                    if word not in keywords:
                        guess = near(word, keywords)
                        raise ConfigError(f"{shown(word)} is no keyword{guess}; they are {', '.join(keywords)}")
                room = getattr(section, "room", None)
                if room is not None and room not in rooms:
                    guess = near(room, rooms)
                    raise ConfigError(f"no [[source]] is called {shown(room)}{guess}; they are {', '.join(rooms)}")

    @contextmanager
    def blamed(self, section: Section, name: str) -> Iterator[None]:
        """Name the file and the section in its errors. `name` may say which of several it is: ``exec 2``."""
        kind, _, which = name.partition(" ")
        try:
            yield
        except ConfigError as error:
            text = str(error).removeprefix(f"{section.label()}: ")
            if not text.startswith("["):
                text = f"{f'[[{kind}]] {which}' if which else section.label()}: {text}"
            raise ConfigError(f"{self.path}: {text}" if self.path else text) from None

    @property
    def secrets(self) -> tuple[str, ...]:
        """Paths of the files that hold secrets."""
        found = [path for section in self.outputs.values() for path in section.secrets()]
        return tuple(dict.fromkeys(found))

    @property
    def needs_network(self) -> bool:
        """Whether something in it may use the network. Commands may."""
        remote = any(source.ffmpeg is not None for source in self.sources)
        return remote or any(section.needs_network for section in self.outputs.values())


def output_section(name: str) -> type[OutputSection]:
    """The section of an output. Its module is imported."""
    kind: type[OutputSection] = importlib.import_module(OUTPUTS[name]).SECTION
    return kind


def section_of(name: str) -> type[Section]:
    """The section of this name."""
    own = {kind.section: kind for kind in (ServiceSection, SourceSection, ModelSection)}
    return own.get(name) or output_section(name)


def read_config(path: str | os.PathLike[str] | None, *, add: Sequence[str] = ()) -> Config:
    """Read the configuration file.

    Parameters
    ----------
    path : path, optional
        None: the system's microphone, and no output.
    add : sequence of str
        Outputs to add with their defaults, if the file does not have their sections.

    Raises
    ------
    ConfigError
        If the file cannot be read, is no TOML, or holds an unknown or impossible setting. The message names the file,
        the section, the key, the value, and what is allowed.
    """
    values: dict[str, Any] = {name: {} for name in add}
    if path is None:
        return _config("", values)
    path = os.path.abspath(path)
    values |= read_toml(path, what="configuration of the service", error=ConfigError)
    try:
        return _config(path, values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _config(path: str, values: dict[str, Any]) -> Config:
    known = ("service", "source", "model", *OUTPUTS)
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"unknown section [{printable(name)}]{near(name, known)}; known are {', '.join(known)}")
        repeated = name in ("source", *_REPEATED)
        if repeated and not (isinstance(value, list) and all(isinstance(one, dict) for one in value)):
            raise ConfigError(f"[{name}] may be there several times: write [[{name}]]")
        if not (repeated or isinstance(value, dict)):
            raise ConfigError(f"{name} must be one section [{name}], got {shown(value)}")
    folder = os.path.dirname(path) if path else os.getcwd()

    def made(kind: type[_Section], value: Any) -> _Section:
        return kind.from_dict(value).located(folder)

    def each(kind: type[_Section], given: list[Any]) -> list[_Section]:
        found = []
        for i, value in enumerate(given, 1):
            try:
                found.append(made(kind, value))
            except ConfigError as error:
                if len(given) == 1:
                    raise
                raise ConfigError(str(error).replace(kind.label(), f"[[{kind.section}]] {i}", 1)) from None
        return found

    sources = tuple(each(SourceSection, values.get("source") or [{}]))
    _check_names([source.name for source in sources])
    outputs: dict[str, OutputSection] = {}
    for name in filter(values.__contains__, OUTPUTS):
        kind, given = output_section(name), values[name]
        if isinstance(given, dict):
            outputs[name] = made(kind, given)
        else:
            found = each(kind, given)
            outputs |= {f"{name} {i}" if len(found) > 1 else name: one for i, one in enumerate(found, 1)}
    return Config(
        path=path,
        service=made(ServiceSection, values.get("service", {})),
        sources=sources,
        model=made(ModelSection, values.get("model", {})),
        outputs=outputs,
    )


def _check_names(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"[[source]]: name {shown(name)} is given twice; each room needs a name of its own")
