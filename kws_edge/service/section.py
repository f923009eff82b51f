"""Sections of the service's configuration."""

from __future__ import annotations

import dataclasses
import os
import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeVar

from kws_edge.errors import ConfigError
from kws_edge.settings import Settings, Text
from kws_edge.text import shown

if TYPE_CHECKING:
    from kws_edge.service.commands import Commands
    from kws_edge.service.outputs.base import Output

__all__ = ["FileName", "OutputSection", "Section", "credential", "read_host", "secret"]

_MOST_SECRET = 4096
_MOST_HOST = 253
_PART = r"[\w-]{1,63}"
_HOST = re.compile(rf"{_PART}(\.{_PART})*|[\da-f]*:[\da-f:.]*(%[\w.-]+)?", re.ASCII | re.IGNORECASE)
_Section = TypeVar("_Section", bound="Section")


class FileName(Text):
    """Path of a file or folder. A relative one is meant from the folder of the configuration file."""

    def __str__(self) -> str:
        return "a path"

    def check(self, name: str, value: object) -> str:
        """Return `value` if it is a text, and not empty.

        Raises
        ------
        ConfigError
            If it is not. The message names `name`.
        """
        if not isinstance(value, str) or not value or "\0" in value:
            raise ConfigError(f"{name} must be {self}, got {shown(value)}")
        return value


def read_host(text: str) -> str:
    """Read a name or an address of a machine.

    Raises
    ------
    ArgumentTypeError
        If it cannot be one.
    """
    if len(text) > _MOST_HOST or not _HOST.fullmatch(text):
        raise ArgumentTypeError(
            f"must be a name or address without scheme, port and path, in ASCII letters, got {shown(text)}"
        )
    return text


@dataclass(frozen=True, kw_only=True)
class Section(Settings):
    """Base of the frozen dataclasses of sections. Each option is declared with :func:`kws_edge.settings.option`."""

    section: ClassVar[str]
    """Name of the section in the file."""

    def __post_init__(self) -> None:
        self._check()

    @classmethod
    def label(cls) -> str:
        return f"[{cls.section}]"

    def located(self: _Section, folder: str) -> _Section:
        """A copy in which relative paths lead from `folder`. Secrets that systemd hands over are read from there."""
        changes = {}
        for one in dataclasses.fields(self):
            value = getattr(self, one.name)
            if isinstance(one.metadata["values"], FileName) and isinstance(value, str):
                given = credential(os.path.basename(value)) if one.metadata.get("secret") else None
                changes[one.name] = given or os.path.join(folder, value)
        return dataclasses.replace(self, **changes)

    def _wrong(self, option: str, text: str) -> ConfigError:
        """The error for an option whose value contradicts another one or the system."""
        return ConfigError(f"{self.label()}: {option} {text}")


@dataclass(frozen=True, kw_only=True)
class OutputSection(Section):
    """Base of the sections of outputs. An output's module has its section as ``SECTION``."""

    needs_network: ClassVar[bool] = True
    """Whether the output uses the network."""

    def check(self) -> None:
        """Check what can be checked without opening the output: that libraries and files are there.

        Raises
        ------
        KwsError
            If the output could not work.
        """

    def secrets(self) -> tuple[str, ...]:
        """Paths of files with secrets: those of options that are declared with ``secret=True``."""
        named = (getattr(self, one.name) for one in dataclasses.fields(self) if one.metadata.get("secret"))
        return tuple(path for path in named if path is not None)

    def words(self) -> tuple[str, ...]:
        """Keywords that the section names. The model must have them."""
        return ()

    def open(self, name: str, service: Commands, notice: Callable[[str], None]) -> Output:
        """Make the output, which is not started yet.

        Parameters
        ----------
        name : str
            Name in messages and counts.
        service : Commands
        notice : callable
            Called with a text for people.
        """
        raise NotImplementedError


def credential(name: str) -> str | None:
    """Path of the credential that systemd gives the service under this name, if there is one."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    path = os.path.join(folder, name) if folder else ""
    return path if path and os.path.exists(path) else None


def secret(path: str) -> str:
    """Read a password or a token from the first line of a file.

    Raises
    ------
    ConfigError
        If the file cannot be read, or holds none.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.readline(_MOST_SECRET).rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as a secret ({getattr(error, 'strerror', None) or error})") from None
    if not text:
        raise ConfigError(f"{path}: holds no secret in its first line")
    return text
