"""Real sounds and real voices of Debian's packages: noise, and speech without the keywords.

Packages are fetched with ``apt-get download`` and unpacked with ``dpkg-deb``; nothing is installed. A file's name is
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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from host_tools.debian import COMMANDS, PACKAGES, SOUND_ALIKE, Package
from host_tools.errors import DatasetError

__all__ = ["KINDS", "collect"]

KINDS = ("noise", "speech")
_RATE = 16000
_SILENCE = 8  # of 32768: what counts as digital silence at the ends
_PEAK = 0.01
_SHORTEST_S = 0.3
_BATCH = 24  # files that one ffmpeg decodes: starting it takes longer than a short file
_WORKERS = 2
_AUDIO = (".wav", ".ogg", ".oga", ".opus", ".mp3", ".flac", ".wv", ".g722", ".aif", ".aiff")
_CONTAINERS = (".cat", ".rcc")
_ZIPS = (".pk3", ".wz")


def collect(
    output: str | Path,
    *,
    cache: str | Path | None = None,
    only: Sequence[str] = (),
    without: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> dict[str, float]:
    """Write ``noise/<package>/*.flac`` and ``speech/<package>/*.flac`` (16 kHz, mono, int16) and ``licences/*.txt``.

    What is finished is not made again.

    Parameters
    ----------
    output : path
    cache : path, optional
        Where packages are kept, as they are and unpacked; by default ``packages`` in `output`.
    only : sequence of str
        Names of packages; by default all of :data:`host_tools.debian.PACKAGES`.
    without : sequence of str
        Names of packages to leave out.
    say : callable
        Takes a line for each package that cannot be had.

    Returns
    -------
    dict
        Minutes of each kind in `output`.

    Raises
    ------
    DatasetError
        If a program is missing, a name is unknown, or no package could be fetched.
    """
    output = Path(output)
    cache = Path(cache or output / "packages")
    for program in ("apt-get", "dpkg-deb", "ffmpeg"):
        if not shutil.which(program):
            raise DatasetError(f"{program} is missing: this runs on Debian or Ubuntu, with ffmpeg installed")
    if unknown := {*only, *without} - {p.name for p in PACKAGES}:
        raise DatasetError(f"not among the packages: {', '.join(sorted(unknown))}; host_tools/debian.py lists them")
    chosen = [p for p in PACKAGES if p.name not in without and (not only or p.name in only)]
    failed = []
    with tqdm(chosen, desc="packages", unit="package", mininterval=0.5) as bar:
        for package in bar:
            bar.set_postfix_str(package.name)
            target = output / package.kind / package.name
            if target.is_dir():
                continue
            try:
                _convert(package, cache, output, target)
            except DatasetError as error:
                failed.append(f"{package.name}: {error}")
    for line in failed:
        say(f"left out: {line}")
    if failed and len(failed) == len(chosen):
        raise DatasetError(
            "no package could be fetched; is there a network, and do Debian's sources answer apt update?"
        )
    return {kind: _minutes(output / kind) for kind in KINDS}


def _convert(package: Package, cache: Path, output: Path, target: Path) -> tuple[int, float]:
    """Write what `package` gives into `target`; number of files, and seconds."""
    target.parent.mkdir(parents=True, exist_ok=True)
    root = _unpack(package.name, cache)
    with tempfile.TemporaryDirectory(prefix=".collect-", dir=output) as scratch:
        made = Path(scratch, "made")
        made.mkdir()
        spoken = _spoken_keywords(package, cache)
        paths = [p for p in sorted(root.rglob("*")) if _is_wanted(p, root, package, spoken)]
        batches = [paths[i : i + _BATCH] for i in range(0, len(paths), _BATCH)]
        with ThreadPoolExecutor(_WORKERS) as pool:
            results = pool.map(lambda b: _decode_batch(b, package.file_s, scratch), batches)
            trimmed = [(path, _trim(sound)) for batch in results for path, sound in batch]
        sounds = [(path, sound) for path, sound in trimmed if sound is not None]
        count, seconds = _write(sounds, package, root, made)
        if not count:
            raise DatasetError("it holds no sounds that are wanted")
        _keep_licence(package, root, output)
        made.rename(target)
    return count, seconds


def _write(sounds: list[tuple[Path, np.ndarray]], package: Package, root: Path, made: Path) -> tuple[int, float]:
    budget, seen, taken, seconds = package.minutes * 60, set(), 0, 0.0
    total = sum(len(s) for _, s in sounds) / _RATE
    keep = min(1.0, budget / total) if total else 0.0
    for index, (path, sound) in enumerate(sounds):
        if int((index + 1) * keep) == int(index * keep):
            continue  # evenly over the package, so that a limit leaves some of everything
        digest = hashlib.sha1(sound.tobytes()).digest()
        if digest in seen:
            continue
        seen.add(digest)
        name = _name(path, root, package)
        while (made / f"{name}.flac").exists():
            name += "_"
        soundfile.write(made / f"{name}.flac", sound, _RATE, subtype="PCM_16")
        taken, seconds = taken + 1, seconds + len(sound) / _RATE
    return taken, seconds


def _name(path: Path, root: Path, package: Package) -> str:
    """``<speaker or sound>-<package>-<path>``: recordings() keeps what begins alike in one half."""
    relative = path.relative_to(root).as_posix()
    parts = [p for p in relative.split("/")[:-1] if p not in ("usr", "share", "games", "sounds", "sound", "data")]
    rest = "_".join([*parts[-3:], path.stem])
    if package.kind == "speech":
        match = re.search(package.speaker, relative) if package.speaker else None
        group = f"{package.name}_{match.group(1) if match else 'speaker'}"
    else:
        group = f"{package.name}_{re.sub(r'[^A-Za-z]*([0-9]+[a-z]?)?$', '', path.stem) or path.stem}"
    plain = [re.sub(r"[^A-Za-z0-9]+", "_", part).strip("_") or "x" for part in (group, package.name, rest)]
    return f"{plain[0]}-{plain[1]}-{plain[2]}"[:180]


def _fetch(name: str, cache: Path) -> Path:
    """The package's file, from the cache or from Debian."""
    cache.mkdir(parents=True, exist_ok=True)
    for found in sorted(cache.glob(f"{name}_*.deb")):
        return found
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as scratch:
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
        with tempfile.TemporaryDirectory(prefix=".unpack-", dir=cache) as scratch:
            fresh = Path(scratch, "root")
            _run(["dpkg-deb", "-x", str(_fetch(name, cache)), str(fresh)])
            _carve(fresh)
            fresh.rename(root)
    return root


def _run(command: Sequence[str], cwd: str | None = None) -> None:
    try:
        subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        lines = [line for line in (error.stderr or "").splitlines() if line and not line.startswith("W:")]
        reason = lines[-1] if lines else f"exit status {error.returncode}"
        raise DatasetError(f"{' '.join(command[:2])}: {reason}") from None


def _is_wanted(path: Path, root: Path, package: Package, spoken: frozenset[str]) -> bool:
    if path.suffix.lower() not in _AUDIO or not path.is_file() or path.is_symlink():
        return False
    relative = path.relative_to(root).as_posix().lower()
    if not any(fnmatchcase(relative, pattern) for pattern in package.take):
        return False
    if any(fnmatchcase(relative, pattern) for pattern in package.leave):
        return False
    if package.kind == "speech":
        words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", path.stem).lower())
        return path.stem not in spoken and COMMANDS.isdisjoint(words)
    return True


def _spoken_keywords(package: Package, cache: Path) -> frozenset[str]:
    """Names of the files of fillets-ng that say a keyword or what sounds like one, according to the subtitles."""
    language = package.subtitles
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


def _trim(sound: np.ndarray) -> np.ndarray | None:
    """Without digital silence at the ends; None if too quiet or too short."""
    loud = np.flatnonzero(np.abs(sound.astype(np.int32)) > _SILENCE)
    if not len(loud) or np.abs(sound.astype(np.int32)).max() < _PEAK * 32768:
        return None
    sound = sound[loud[0] : loud[-1] + 1]
    return sound if len(sound) >= _SHORTEST_S * _RATE else None


def _keep_licence(package: Package, root: Path, output: Path) -> None:
    folder = output / "licences"
    folder.mkdir(exist_ok=True)
    for path in root.glob("usr/share/doc/*/copyright"):
        if path.is_file():
            (folder / f"{package.name}.txt").write_bytes(path.read_bytes())


def _minutes(folder: Path) -> float:
    return sum(soundfile.info(path).duration for path in folder.rglob("*.flac")) / 60
