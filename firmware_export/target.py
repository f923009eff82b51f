"""The form of an exported folder: for which system it is, and where its files lie."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

__all__ = ["DEFAULT_TARGET", "TARGETS", "Target"]

_FOLDER = Path(__file__).parent / "targets"
_BUILD = "BUILD.md"
_COMPONENT = "components/kws_edge"


@dataclass(frozen=True)
class Target:
    """A system that builds the firmware.

    Examples
    --------
    >>> from firmware_export.target import TARGETS
    >>> TARGETS["idf"].source("kws_app.c")
    'src/kws_app.c'
    >>> TARGETS["esphome"].source("kws_model.cc")
    'components/kws_edge/kws_model.cpp'
    """

    name: str
    about: str
    """For whom it is, in some words."""
    folders: tuple[str, ...]
    """Folders of ``targets`` whose files it has."""
    sources: str = "src"
    """Folder of the C sources in the exported folder."""
    cc: str = ".cc"
    """Ending of C++ sources."""

    def source(self, name: str) -> str:
        """The path of a source file in the exported folder."""
        path = PurePosixPath(self.sources, name)
        return str(path.with_suffix(self.cc) if path.suffix == ".cc" else path)

    def files(self) -> Iterator[tuple[str, str]]:
        """Paths and texts of the files around the sources, in which ``@TOKENS@`` are to be replaced."""
        for folder in self.folders:
            for path in sorted(
                p for p in (_FOLDER / folder).rglob("*") if p.is_file() and "__pycache__" not in p.parts
            ):
                if path.name != _BUILD:
                    yield path.relative_to(_FOLDER / folder).as_posix(), path.read_text()

    def build(self) -> str:
        """The section of the README on building; empty for a target with a README of its own."""
        path = _FOLDER / self.name / _BUILD
        return path.read_text() if path.is_file() else ""


_LIBRARY = "library"
TARGETS = {
    target.name: target
    for target in (
        Target("cmake", "a library for any core, and QEMU's boards", (_LIBRARY, "cmake")),
        Target("idf", "an ESP-IDF component", (_LIBRARY, "idf")),
        Target("arduino", "an Arduino library", (_LIBRARY, "sketch", "arduino")),
        Target("platformio", "a PlatformIO library", (_LIBRARY, "sketch", "platformio")),
        Target("zephyr", "a Zephyr module", (_LIBRARY, "zephyr")),
        Target("esphome", "an ESPHome component", ("esphome",), _COMPONENT, ".cpp"),
    )
}
"""All targets by their names."""
DEFAULT_TARGET = "cmake"
