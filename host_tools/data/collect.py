"""Real sounds and real voices of Debian's packages and of git repositories: noise, and speech without the keywords.

Packages are fetched with ``apt-get download`` and opened with ``dpkg-deb``; nothing is installed. Of a repository only
what is wanted is fetched, as it was at the commit that the table names. Only plain files are taken: links are left out,
a package that writes through one is refused, and so is one that is too large. A file's name is
``<group>-<package>-<file>``, where the group is the speaker as far as known, or the sound without the number of the
take, so that :func:`host_tools.data.recordings.recordings` keeps it in one half.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from host_tools.data.archive import Unpacked, unpack_tar, unpack_zip
from host_tools.data.debian import PACKAGES, SOUND_ALIKE, Package
from host_tools.data.repositories import REPOSITORIES, Repository
from host_tools.data.sound_files import write_sound
from host_tools.errors import DatasetError
from host_tools.locks import locked
from kws_edge.files import explained, scratch_folder, write_atomically

__all__ = ["KINDS", "ORIGINS", "collect"]

KINDS = ("noise", "speech")
_RATE = 16000
_SILENCE = 8  # of 32768: what counts as digital silence at the ends
_PEAK = 0.01
_SHORTEST_S = 0.3
_SHORTEST_JOINED_S = 0.05
_JOINED_S = 20.0
_PAUSE_S = (0.1, 0.7)  # between sounds that are joined
_MEASURED_S = 5.0  # the length of every recording of ESC-50, on which false accepts are measured
_BATCH = 24  # files that one ffmpeg decodes: starting it takes longer than a short file
_WORKERS = 2
_DECODE_S = 60.0  # in which ffmpeg must have decoded a file
_RUN_S = 3600.0  # in which any other program must have done its work
_LARGEST = 2**32  # bytes that a package may unpack to, what its containers hold included
_LONGEST_S = 24 * 3600.0  # sound of one package or repository: so much fits into memory
_MOST_CARVED = 100_000
_LARGEST_LICENCE = 2**22
_AUDIO = (".wav", ".ogg", ".oga", ".opus", ".mp3", ".flac", ".wv", ".g722", ".aif", ".aiff")
_CONTAINERS = (".cat", ".rcc")
_ZIPS = (".pk3", ".wz")
_ENVIRONMENT = {  # git neither asks for a password, nor fetches what LFS keeps, nor waits for a server that is silent
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_HTTP_LOW_SPEED_LIMIT": "1000",
    "GIT_HTTP_LOW_SPEED_TIME": "60",
}


@dataclass(frozen=True)
class _Origin:
    """Where sounds come from: what the table holds, and what to say where it cannot be had."""

    sources: tuple[Package, ...] | tuple[Repository, ...]
    one: str
    many: str
    table: str
    programs: tuple[str, ...]
    needs: str
    network: str


ORIGINS = {
    "debian": _Origin(
        PACKAGES,
        "package",
        "packages",
        "host_tools/data/debian.py",
        ("apt-get", "dpkg-deb", "ffmpeg"),
        "this runs on Debian or Ubuntu, with ffmpeg installed",
        "is there a network, and do Debian's sources answer apt update?",
    ),
    "repositories": _Origin(
        REPOSITORIES,
        "repository",
        "repositories",
        "host_tools/data/repositories.py",
        ("git", "ffmpeg"),
        "repositories are fetched with git and decoded with ffmpeg",
        "is there a network, and does github.com answer?",
    ),
}
"""Where sounds come from, by the name that :func:`collect` takes."""


def collect(
    output: str | Path,
    *,
    origin: str = "debian",
    cache: str | Path | None = None,
    only: Sequence[str] = (),
    without: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> dict[str, float]:
    """Write sounds as FLAC (16 kHz, mono, int16) and ``licences/*.txt``.

    Of Debian's packages to ``<kind>/<package>/``, of repositories to ``<kind>/<group>/<owner>+<name>/``, where the kind
    is ``noise`` or ``speech``. What is finished is not made again.

    Parameters
    ----------
    output : path
    origin : str
        One of :data:`ORIGINS`: ``debian`` for the packages of :data:`host_tools.data.debian.PACKAGES`, ``repositories``
        for those of :data:`host_tools.data.repositories.REPOSITORIES`.
    cache : path, optional
        Where packages are kept, as they are and unpacked, or clones; by default ``packages`` or ``repositories`` in
        `output`.
    only : sequence of str
        Names of packages or repositories; by default all.
    without : sequence of str
        Names of packages or repositories to leave out.
    say : callable
        Takes a line for each that cannot be had.

    Returns
    -------
    dict
        Minutes of each kind in `output`.

    Raises
    ------
    DatasetError
        If a program is missing, a name or the origin is unknown, or nothing could be fetched.
    BusyError, WriteError
        If another process collects there, or the folder cannot be written.
    """
    output = Path(output)
    if origin not in ORIGINS:
        raise DatasetError(f"unknown origin {origin!r}: one of {', '.join(ORIGINS)}")
    place = ORIGINS[origin]
    cache = Path(cache or output / place.many)
    for program in place.programs:
        if not shutil.which(program):
            raise DatasetError(f"{program} is missing: {place.needs}")
    if unknown := {*only, *without} - {s.name for s in place.sources}:
        raise DatasetError(f"not among the {place.many}: {', '.join(sorted(unknown))}; {place.table} lists them")
    chosen = [s for s in place.sources if s.name not in without and (not only or s.name in only)]
    failed = []
    with (
        locked(output),
        locked(cache, wait=True),
        tqdm(chosen, desc=place.many, unit=place.one, mininterval=0.5) as bar,
    ):
        for source in bar:
            bar.set_postfix_str(source.name)
            target = output / source.kind / source.folder
            if target.is_dir():
                continue
            try:
                _convert(source, cache, output, target)
            except DatasetError as error:
                failed.append(f"{source.name}: {error}")
            except (OSError, soundfile.LibsndfileError) as error:
                where = getattr(error, "filename", None) or output
                failed.append(f"{source.name}: {where}: {getattr(error, 'strerror', None) or error}")
    for line in failed:
        say(f"left out: {line}")
    if failed and len(failed) == len(chosen):
        raise DatasetError(f"no {place.one} could be fetched; {place.network}")
    return {kind: _minutes(output / kind) for kind in KINDS}


def _convert(source: Package | Repository, cache: Path, output: Path, target: Path) -> None:
    """Write what `source` gives into `target`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    root = _unpack(source.name, cache) if isinstance(source, Package) else _clone(source, cache)
    spoken = _spoken_keywords(source, cache)
    files = _files(root)
    paths = [p for p in files if _is_wanted(p.relative_to(root).as_posix(), source, spoken)]
    joins = source.joins and source.kind == "noise"
    with explained(output), scratch_folder(output) as scratch:
        made = Path(scratch, "made")
        made.mkdir()
        batches = [paths[i : i + _BATCH] for i in range(0, len(paths), _BATCH)]
        with ThreadPoolExecutor(_WORKERS) as pool:
            results = pool.map(lambda b: _decode_batch(b, source.file_s, scratch), batches)
            trimmed = _trimmed((one for batch in results for one in batch), joins)
        sounds = _chosen(trimmed, source, root)
        for name, sound in _joined(sounds, source.name) if joins else sounds:
            while (made / f"{name}.flac").exists():
                name += "_"
            write_sound(made / f"{name}.flac", sound, _RATE)
        if not any(made.iterdir()):
            raise DatasetError("it holds no sounds that are wanted")
        _keep_licence(source, root, files, output)
        made.rename(target)


def _files(root: Path) -> list[Path]:
    """Plain files below `root`, sorted."""
    return [path for path in sorted(root.rglob("*")) if path.is_file() and not path.is_symlink()]


def _trimmed(sounds: Iterable[tuple[Path, np.ndarray]], joins: bool) -> list[tuple[Path, np.ndarray]]:
    kept, heard_s = [], 0.0
    for path, sound in sounds:
        heard_s += len(sound) / _RATE
        if heard_s > _LONGEST_S:
            raise DatasetError(f"holds more than {_LONGEST_S / 3600:g} hours of sound")
        if (rest := _trim(sound, joins)) is not None:
            kept.append((path, rest.copy()))  # not the file's whole memory
    return kept


def _chosen(
    sounds: list[tuple[Path, np.ndarray]], source: Package | Repository, root: Path
) -> Iterator[tuple[str, np.ndarray]]:
    """Names and sounds, each sound once, as many as there is time for."""
    seen = set()
    total = sum(len(s) for _, s in sounds) / _RATE
    keep = min(1.0, source.minutes * 60 / total) if total else 0.0
    for index, (path, sound) in enumerate(sounds):
        if int((index + 1) * keep) == int(index * keep):
            continue  # evenly over the source, so that a limit leaves some of everything
        digest = hashlib.sha1(sound.tobytes()).digest()
        if digest not in seen:
            seen.add(digest)
            yield _name(path, root, source), sound


def _joined(sounds: Iterable[tuple[str, np.ndarray]], source: str) -> Iterator[tuple[str, np.ndarray]]:
    """Sounds of a second or more as they are; shorter ones one after the other, with pauses."""
    rng = np.random.default_rng(list(source.encode()))
    parts, number = [], 0

    def together() -> tuple[str, np.ndarray]:
        return f"{_plain(source)}_joined_{number}-{_plain(source)}-short", np.concatenate(parts)

    for name, sound in sounds:
        if len(sound) >= _RATE:
            yield name, sound
            continue
        parts += [sound, np.zeros(round(rng.uniform(*_PAUSE_S) * _RATE), np.int16)]
        if sum(map(len, parts)) >= _JOINED_S * _RATE:
            yield together()
            parts, number = [], number + 1
    if parts:
        yield together()


def _name(path: Path, root: Path, source: Package | Repository) -> str:
    """``<speaker or sound>-<package>-<path>``: recordings() keeps what begins alike in one half."""
    relative = path.relative_to(root).as_posix()
    parts = [p for p in relative.split("/")[:-1] if p not in ("usr", "share", "games", "sounds", "sound", "data")]
    rest = "_".join([*parts[-3:], path.stem])
    if source.kind == "speech":
        match = re.search(source.speaker, relative) if source.speaker else None
        group = f"{source.name}_{match.group(1) if match else 'speaker'}"
    else:
        group = f"{source.name}_{re.sub(r'[^A-Za-z]*([0-9]+[a-z]?)?$', '', path.stem) or path.stem}"
    return "-".join(_plain(part) for part in (group, source.name, rest))[:180]


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_") or "x"


def _fetch(name: str, cache: Path) -> Path:
    """The package's file, from the cache or from Debian."""
    cache.mkdir(parents=True, exist_ok=True)
    for found in sorted(cache.glob(f"{name}_*.deb")):
        if found.is_file():
            return found
    with explained(cache), scratch_folder(cache) as scratch:
        os.chmod(scratch, 0o755)
        _run(["apt-get", "download", "-qq", name], cwd=scratch)
        for got in Path(scratch).glob("*.deb"):
            return got.rename(cache / got.name)
    raise DatasetError(f"apt-get gave nothing for {name}")


def _unpack(name: str, cache: Path) -> Path:
    """The folder of the unpacked package, in the cache: a package may give both kinds."""
    root = cache / "unpacked" / name
    if not root.is_dir():
        root.parent.mkdir(parents=True, exist_ok=True)
        with explained(cache), scratch_folder(cache) as scratch:
            unpacked = _open_package(_fetch(name, cache), Path(scratch, "root"))
            _carve(unpacked)
            unpacked.folder.rename(root)
    return root


def _open_package(package: Path, folder: Path) -> Unpacked:
    """The plain files of a package, in a new folder."""
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    unpacked = refused = None
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        try:
            unpacked = unpack_tar(process.stdout, folder, limit=_LARGEST, skip_links=True)
        except DatasetError as error:
            refused = error
        if process.stdout.read(1):
            process.kill()  # it would go on
        if process.wait() > 0:
            log.seek(0)
            raise _failure(command, process.returncode, log.read().decode(errors="replace"))
    if refused:
        raise refused
    return unpacked


def _clone(repository: Repository, cache: Path) -> Path:
    """The folder of what is wanted of the commit, in the cache: names are fetched first, then only those contents."""
    taken = hashlib.sha1(repr((repository.commit, repository.take, repository.leave)).encode()).hexdigest()[:12]
    root = cache / f"{Path(repository.folder).name}-{taken}"
    if not root.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with explained(cache), scratch_folder(cache) as scratch:
            fresh = Path(scratch, "root")
            _run(["git", "init", "-q", str(fresh)])
            _run(["git", "config", "core.sparseCheckout", "true"], cwd=fresh)
            _run(["git", "config", "core.symlinks", "false"], cwd=fresh)
            _run(["git", "remote", "add", "origin", f"https://github.com/{repository.name}"], cwd=fresh)
            _run(["git", "fetch", "-q", "--depth=1", "--filter=blob:none", "origin", repository.commit], cwd=fresh)
            entries = _run(["git", "ls-tree", "-r", "-z", repository.commit], cwd=fresh).split("\0")
            names = [e.partition("\t")[2] for e in entries if e.startswith("100")]  # plain files: no links, no modules
            wanted = [n for n in names if _is_wanted(n, repository) or re.search(repository.licence_files, n)]
            escaped = [re.sub(r"([\\*?\[ ])", r"\\\1", name) for name in wanted]
            patterns = "".join(f"/{name}\n" for name in escaped)
            (fresh / ".git" / "info" / "sparse-checkout").write_bytes(os.fsencode(patterns))
            _run(["git", "checkout", "-q", repository.commit], cwd=fresh)
            shutil.rmtree(fresh / ".git")
            fresh.rename(root)
    return root


def _run(command: Sequence[str], cwd: str | Path | None = None) -> str:
    """Run a program; its output, where file names keep bytes that are not UTF-8."""
    try:
        return subprocess.run(
            command,
            cwd=cwd,
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            env={**os.environ, **_ENVIRONMENT},
            timeout=_RUN_S,
        ).stdout
    except subprocess.CalledProcessError as error:
        raise _failure(command, error.returncode, error.stderr) from None
    except subprocess.TimeoutExpired:
        raise DatasetError(f"{' '.join(command[:2])}: not done after {_RUN_S / 3600:g} hours") from None


def _failure(command: Sequence[str], status: int, said: str) -> DatasetError:
    lines = [line for line in said.splitlines() if line and not line.startswith("W:")]
    return DatasetError(f"{' '.join(command[:2])}: {lines[-1] if lines else f'exit status {status}'}")


def _is_wanted(path: str, source: Package | Repository, spoken: frozenset[str] = frozenset()) -> bool:
    """Whether to take the file at `path`, relative to the root."""
    stem, suffix = os.path.splitext(os.path.basename(path))
    below = f"/{path}".lower()
    if suffix.lower() not in _AUDIO or not any(fnmatchcase(below, pattern) for pattern in source.take):
        return False
    if any(fnmatchcase(below, pattern) for pattern in source.leave):
        return False
    if source.kind == "speech":
        words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", stem).lower())
        return stem not in spoken and source.keywords.isdisjoint(words)
    return True


def _spoken_keywords(source: Package | Repository, cache: Path) -> frozenset[str]:
    """Names of the files of fillets-ng that say a keyword or what sounds like one, according to the subtitles."""
    language = source.subtitles
    if not language:
        return frozenset()
    names = set()
    for path in _files(_unpack("fillets-ng-data", cache)):
        if path.name == f"dialogs_{language}.lua":
            for line in path.read_text(encoding="utf-8", errors="replace").split('dialogId("')[1:]:
                said = re.search(r'dialogStr\("((?:[^"\\]|\\.)*)"', line)
                if said and not SOUND_ALIKE[language].isdisjoint(re.findall(r"\w+", said[1].lower())):
                    names.add(line.partition('"')[0])
    if not names:
        raise DatasetError(f"no subtitles for {language}")
    return frozenset(names)


def _carve(unpacked: Unpacked) -> None:
    """Put the sounds inside containers beside them."""
    for path in _files(unpacked.folder):
        name = path.relative_to(unpacked.folder).as_posix()
        try:
            if path.suffix.lower() in _ZIPS:
                unpack_zip(path, unpacked, lambda member: member.lower().endswith(_AUDIO))
            elif path.suffix.lower() in _CONTAINERS and path.stat().st_size:
                with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    for number, (suffix, blob) in enumerate(_carved(data)):
                        if number == _MOST_CARVED:
                            raise DatasetError(f"holds more than {_MOST_CARVED:,} sounds")
                        unpacked.write(f"{name.removesuffix(path.suffix)}_{number:03d}{suffix}", blob)
        except DatasetError as error:
            raise DatasetError(f"{name}: {error}") from None


def _carved(data: bytes | mmap.mmap) -> Iterator[tuple[str, bytes]]:
    """Sounds in `data`, by their ending; of Ogg that is cut off, its whole pages."""
    start = re.compile(rb"RIFF....WAVE|OggS\0\x02", re.DOTALL)
    at = 0
    while (found := start.search(data, at)) is not None:
        begin = found.start()
        if data[begin : begin + 4] == b"RIFF":
            at = begin + 8 + struct.unpack_from("<I", data, begin + 4)[0]
            yield ".wav", data[begin:at]
            continue
        at = begin
        while data[at : at + 4] == b"OggS" and (end := _page_end(data, at)) is not None:
            last = data[at + 5] & 4  # of one page after the other, the one that ends the stream
            at = end
            if last:
                break
        if at > begin:
            yield ".ogg", data[begin:at]
        at = max(at, begin + 4)


def _page_end(data: bytes | mmap.mmap, at: int) -> int | None:
    """Where the page of Ogg at `at` ends; None if it is cut off."""
    header = at + 27
    if header > len(data):
        return None
    segments = data[header : header + data[at + 26]]
    end = header + data[at + 26] + sum(segments)
    return end if end <= len(data) else None


def _decode_batch(paths: list[Path], limit_s: float, scratch: str) -> list[tuple[Path, np.ndarray]]:
    """The files that could be decoded; if ffmpeg fails on the batch, each by itself."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        command = ["ffmpeg", "-nostdin", "-v", "error", "-threads", "1"]
        for path in paths:  # as files and nothing else: a playlist would have others read
            command += ["-protocol_whitelist", "file", "-i", f"file:{path}"]
        for number in range(len(paths)):
            command += ["-map", f"{number}:a:0", "-ac", "1", "-ar", str(_RATE), "-t", f"{limit_s:g}", "-f", "s16le"]
            command += [f"{folder}/{number}"]
        try:
            failed = subprocess.run(command, capture_output=True, timeout=_DECODE_S * len(paths)).returncode != 0
        except subprocess.TimeoutExpired:
            failed = True
        if failed and len(paths) > 1:
            return [one for path in paths for one in _decode_batch([path], limit_s, scratch)]
        files = [(path, Path(folder, str(number))) for number, path in enumerate(paths)]
        return [(path, np.fromfile(file, "<i2")) for path, file in files if file.exists() and not failed]


def _trim(sound: np.ndarray, joins: bool = False) -> np.ndarray | None:
    """Without digital silence at the ends; None if too quiet or too short, or perhaps of ESC-50."""
    if joins and abs(len(sound) - _MEASURED_S * _RATE) < 0.01 * _RATE:
        return None
    loud = np.flatnonzero(np.abs(sound.astype(np.int32)) > _SILENCE)
    if not len(loud) or np.abs(sound.astype(np.int32)).max() < _PEAK * 32768:
        return None
    sound = sound[loud[0] : loud[-1] + 1]
    return sound if len(sound) >= (_SHORTEST_JOINED_S if joins else _SHORTEST_S) * _RATE else None


def _keep_licence(source: Package | Repository, root: Path, files: list[Path], output: Path) -> None:
    texts = []
    if isinstance(source, Repository):
        texts.append(f"https://github.com/{source.name}, commit {source.commit}: {source.licence}\n".encode())
    for path in files:
        relative = path.relative_to(root).as_posix()
        if re.search(source.licence_files, relative):
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
