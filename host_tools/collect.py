"""Real sounds and real voices of Debian's packages and of git repositories: noise, and speech without the keywords.

Packages are fetched with ``apt-get download`` and unpacked with ``dpkg-deb``; nothing is installed. Of a repository
only what is wanted is fetched, as it was at the commit that the table names. A file's name is
``<group>-<package>-<file>``, where the group is the speaker as far as known, or the sound without the number of the
take, so that :func:`host_tools.dataset.recordings` keeps it in one half.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import struct
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from host_tools.debian import PACKAGES, SOUND_ALIKE, Package
from host_tools.errors import DatasetError
from host_tools.locks import locked
from host_tools.repositories import REPOSITORIES, Repository
from host_tools.sound import write_sound
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
        "host_tools/debian.py",
        ("apt-get", "dpkg-deb", "ffmpeg"),
        "this runs on Debian or Ubuntu, with ffmpeg installed",
        "is there a network, and do Debian's sources answer apt update?",
    ),
    "repositories": _Origin(
        REPOSITORIES,
        "repository",
        "repositories",
        "host_tools/repositories.py",
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
        One of :data:`ORIGINS`: ``debian`` for the packages of :data:`host_tools.debian.PACKAGES`, ``repositories`` for
        those of :data:`host_tools.repositories.REPOSITORIES`.
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
    files = [p for p in sorted(root.rglob("*")) if p.is_file() and not p.is_symlink()]
    paths = [p for p in files if _is_wanted(p.relative_to(root).as_posix(), source, spoken)]
    joins = source.joins and source.kind == "noise"
    with explained(output), scratch_folder(output) as scratch:
        made = Path(scratch, "made")
        made.mkdir()
        batches = [paths[i : i + _BATCH] for i in range(0, len(paths), _BATCH)]
        with ThreadPoolExecutor(_WORKERS) as pool:
            results = pool.map(lambda b: _decode_batch(b, source.file_s, scratch), batches)
            trimmed = [(path, _trim(sound, joins)) for batch in results for path, sound in batch]
        sounds = _chosen([(path, sound) for path, sound in trimmed if sound is not None], source, root)
        for name, sound in _joined(sounds, source.name) if joins else sounds:
            while (made / f"{name}.flac").exists():
                name += "_"
            write_sound(made / f"{name}.flac", sound, _RATE)
        if not any(made.iterdir()):
            raise DatasetError("it holds no sounds that are wanted")
        _keep_licence(source, root, files, output)
        made.rename(target)


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
            fresh = Path(scratch, "root")
            _run(["dpkg-deb", "-x", str(_fetch(name, cache)), str(fresh)])
            _carve(fresh)
            fresh.rename(root)
    return root


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
            _run(["git", "remote", "add", "origin", f"https://github.com/{repository.name}"], cwd=fresh)
            _run(["git", "fetch", "-q", "--depth=1", "--filter=blob:none", "origin", repository.commit], cwd=fresh)
            names = _run(["git", "ls-tree", "-r", "-z", "--name-only", repository.commit], cwd=fresh).split("\0")
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
        ).stdout
    except subprocess.CalledProcessError as error:
        lines = [line for line in (error.stderr or "").splitlines() if line and not line.startswith("W:")]
        reason = lines[-1] if lines else f"exit status {error.returncode}"
        raise DatasetError(f"{' '.join(command[:2])}: {reason}") from None


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
    for path in _unpack("fillets-ng-data", cache).rglob(f"dialogs_{language}.lua"):
        text = path.read_text(encoding="utf-8", errors="replace")
        for name, said in re.findall(r'dialogId\("([^"]+)".*?dialogStr\("((?:[^"\\]|\\.)*)"', text, re.DOTALL):
            if not SOUND_ALIKE[language].isdisjoint(re.findall(r"\w+", said.lower())):
                names.add(name)
    if not names:
        raise DatasetError(f"no subtitles for {language}")
    return frozenset(names)


def _carve(root: Path) -> None:
    """Put the sounds inside containers beside them."""
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in _ZIPS and path.is_file():
            with zipfile.ZipFile(path) as archive:
                archive.extractall(path.parent, [n for n in archive.namelist() if n.lower().endswith(_AUDIO)])
        elif path.suffix.lower() in _CONTAINERS and path.is_file():
            for number, (suffix, blob) in enumerate(_carved(path.read_bytes())):
                (path.parent / f"{path.stem}_{number:03d}{suffix}").write_bytes(blob)


def _carved(data: bytes) -> Iterator[tuple[str, bytes]]:
    at = 0
    while (found := re.compile(rb"RIFF....WAVE|OggS\0\x02", re.DOTALL).search(data, at)) is not None:
        start = found.start()
        if data[start : start + 4] == b"RIFF":
            at = start + 8 + struct.unpack_from("<I", data, start + 4)[0]
            yield ".wav", data[start:at]
            continue
        at = start
        while data[at : at + 4] == b"OggS":  # one page after the other, until the one that ends the stream
            segments = data[at + 26]
            last = data[at + 5] & 4
            at += 27 + segments + sum(data[at + 27 : at + 27 + segments])
            if last:
                break
        yield ".ogg", data[start:at]


def _decode_batch(paths: list[Path], limit_s: float, scratch: str) -> list[tuple[Path, np.ndarray]]:
    """The files that could be decoded; if ffmpeg fails on the batch, each by itself."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        command = ["ffmpeg", "-nostdin", "-v", "error", "-threads", "1"]
        for path in paths:
            command += ["-i", str(path)]
        for number in range(len(paths)):
            command += ["-map", f"{number}:a:0", "-ac", "1", "-ar", str(_RATE), "-t", f"{limit_s:g}", "-f", "s16le"]
            command += [f"{folder}/{number}"]
        failed = subprocess.run(command, capture_output=True).returncode != 0
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
            texts.append(path.read_bytes())
    if texts:
        write_atomically(output / "licences" / f"{Path(source.folder).name}.txt", b"".join(texts))


def _minutes(folder: Path) -> float:
    return sum(soundfile.info(path).duration for path in folder.rglob("*.flac")) / 60
