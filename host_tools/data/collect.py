"""Collects noise, and speech without the keywords, from Debian's packages and from git repositories."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import soundfile
from tqdm import tqdm

from host_tools.data.archive import plain_files
from host_tools.data.source_files import cloned, unpacked
from host_tools.data.source_selection import is_licence, is_wanted, said_with
from host_tools.data.source_sounds import write_sounds
from host_tools.data.source_tables import KINDS, Package, Repository, Source, SourceTable
from host_tools.errors import DatasetError
from host_tools.locks import locked
from kws_edge.files import explained, scratch_folder, write_atomically
from kws_edge.toml_files import near

__all__ = ["collect"]

_LARGEST_LICENCE = 2**22


@dataclass(frozen=True)
class _Origin:
    """The words of messages about packages, or about repositories, and the programs that fetching them needs."""

    one: str
    many: str
    programs: tuple[str, ...]
    needs: str
    network: str


_ORIGINS: dict[type[Source], _Origin] = {
    Package: _Origin(
        "package",
        "packages",
        ("apt-get", "dpkg-deb", "ffmpeg"),
        "this runs on Debian or Ubuntu, with ffmpeg installed",
        "is there a network, and do Debian's sources answer apt update?",
    ),
    Repository: _Origin(
        "repository",
        "repositories",
        ("git", "ffmpeg"),
        "repositories are fetched with git and decoded with ffmpeg",
        "is there a network, and does github.com answer?",
    ),
}


def collect(
    output: str | Path,
    table: SourceTable,
    *,
    cache: str | Path | None = None,
    only: Sequence[str] = (),
    without: Sequence[str] = (),
    say: Callable[[str], object] = print,
) -> dict[str, float]:
    """Write sounds as FLAC (16 kHz, mono, int16) and ``licences/*.txt``.

    Sounds of Debian's packages go to ``<kind>/<package>/``, those of repositories to
    ``<kind>/<group>/<owner>+<name>/``. The kind is ``noise`` or ``speech``. Finished sources are not written again.

    Parameters
    ----------
    output : path
    table : SourceTable
        What to take; see :func:`host_tools.data.source_tables.load_table`.
    cache : path, optional
        Folder for packages, packed and unpacked, or for clones; by default ``packages`` or ``repositories`` in
        `output`.
    only : sequence of str
        Names of the packages or repositories to take; by default all.
    without : sequence of str
        Names of the packages or repositories to leave out.
    say : callable
        Takes a line for each source that cannot be fetched.

    Returns
    -------
    dict
        Minutes of each kind in `output`.

    Raises
    ------
    DatasetError
        If a program is missing, a name is unknown, or nothing could be fetched.
    BusyError, WriteError
        If another process collects there, or the folder cannot be written.
    """
    output, origin = Path(output), _ORIGINS[type(table.sources[0])]
    for program in origin.programs:
        if not shutil.which(program):
            raise DatasetError(f"{program} is missing: {origin.needs}")
    chosen, failed = _chosen(table, origin, only, without), []
    cache = Path(cache or output / origin.many)
    with (
        locked(output),
        locked(cache, wait=True),
        tqdm(chosen, desc=origin.many, unit=origin.one, mininterval=0.5) as bar,
    ):
        for source in bar:
            bar.set_postfix_str(source.name)
            if why := _why_not(source, table, cache, output):
                failed.append(f"left out: {source.name}: {why}")
    for line in failed:
        say(line)
    if failed and len(failed) == len(chosen):
        raise DatasetError(f"no {origin.one} could be fetched; {origin.network}")
    return {kind: _minutes(output / kind) for kind in KINDS}


def _chosen(table: SourceTable, origin: _Origin, only: Sequence[str], without: Sequence[str]) -> list[Source]:
    """The sources that `only` names, except those that `without` names."""
    names = {source.name for source in table.sources}
    for name in (*only, *without):
        if name not in names:
            raise DatasetError(f"not among the {origin.many}: {name}{near(name, names)}; {table.path} lists them")
    return [one for one in table.sources if one.name not in without and (not only or one.name in only)]


def _why_not(source: Source, table: SourceTable, cache: Path, output: Path) -> str:
    """Write the sounds of a source unless they are there. Returns why that failed, or an empty text."""
    try:
        if not (output / source.kind / source.folder).is_dir():
            _write(source, table, cache, output)
    except DatasetError as error:
        return str(error)
    except (OSError, soundfile.LibsndfileError) as error:
        where = getattr(error, "filename", None) or output
        return f"{where}: {getattr(error, 'strerror', None) or error}"
    return ""


def _write(source: Source, table: SourceTable, cache: Path, output: Path) -> None:
    """Write all sounds of a source, and its licence, to `output`, or none."""
    target = output / source.kind / source.folder
    target.parent.mkdir(parents=True, exist_ok=True)
    root, spoken = _fetched(source, cache)
    files = plain_files(root)
    names = [path.relative_to(root).as_posix() for path in files]
    paths = [p for p, name in zip(files, names, strict=True) if is_wanted(name, source, table.keywords, spoken)]
    with explained(output), scratch_folder(output) as scratch:
        made = Path(scratch, "made")
        made.mkdir()
        write_sounds(made, paths, source, table, root=root, scratch=scratch)
        _keep_licence(source, root, files, output)
        made.rename(target)


def _fetched(source: Source, cache: Path) -> tuple[Path, frozenset[str]]:
    """The folder with the files of `source`, and the names of those that say a keyword."""
    if isinstance(source, Repository):
        return cloned(source, cache, lambda name: is_wanted(name, source) or is_licence(name, source)), frozenset()
    assert isinstance(source, Package)
    root = unpacked(source.name, cache, sha256=source.sha256)
    if not source.subtitles:
        return root, frozenset()
    return root, said_with(source.subtitles, unpacked(source.subtitles.package, cache))


def _keep_licence(source: Source, root: Path, files: Iterable[Path], output: Path) -> None:
    texts = []
    if isinstance(source, Repository):
        terms = "; ".join(filter(None, (source.licence, source.attribution)))
        texts.append(f"https://github.com/{source.name}, commit {source.commit}: {terms}\n".encode())
    for path in files:
        relative = path.relative_to(root).as_posix()
        if is_licence(relative, source):
            texts += [os.fsencode(f"\n==== {relative} ====\n")] if texts else []
            with open(path, "rb") as file:
                texts.append(file.read(_LARGEST_LICENCE))
    if texts:
        write_atomically(output / "licences" / f"{Path(source.folder).name}.txt", b"".join(texts))


def _minutes(folder: Path) -> float:
    seconds = 0.0
    for path in folder.rglob("*.flac"):
        with suppress(OSError, soundfile.LibsndfileError):
            seconds += soundfile.info(path).duration
    return seconds / 60
