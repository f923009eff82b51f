"""Fetches files of Debian's packages and of git repositories to a cache.

Packages are fetched with ``apt-get download`` and opened with ``dpkg-deb``. Nothing is installed. Only the wanted files
of a repository are fetched, as they were at the commit. Only plain files are taken, and links are left out. A package
is refused if it is too large, or if a path in it leads through a link.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from host_tools.data.archive import Unpacked, unpack_tar
from host_tools.data.manifest import manifest
from host_tools.data.sound_containers import unpack_containers
from host_tools.data.source_tables import Repository
from host_tools.errors import DatasetError
from kws_edge.files import explained, scratch_folder

__all__ = ["cloned", "unpacked"]

_RUN_S = 3600.0  # seconds in which a program must do its work
_LARGEST = 2**32  # bytes that a package may unpack to, including the contents of containers in it
_ENVIRONMENT = {  # git must not ask for a password, fetch files of LFS, or wait for a silent server
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_HTTP_LOW_SPEED_LIMIT": "1000",
    "GIT_HTTP_LOW_SPEED_TIME": "60",
}


def unpacked(package: str, cache: Path, *, sha256: str = "") -> Path:
    """The folder of the unpacked package. It is in the cache because a package may give both noise and speech.

    Parameters
    ----------
    package : str
        Name of the Debian package.
    cache : path
        Folder that keeps packages, packed and unpacked.
    sha256 : str
        Checksum of the package's file; empty: any.

    Raises
    ------
    DatasetError
        If the package cannot be fetched or opened, is unsafe, or has another checksum.
    """
    root = cache / "unpacked" / (f"{package}-{sha256[:12]}" if sha256 else package)
    if not root.is_dir():
        root.parent.mkdir(parents=True, exist_ok=True)
        with explained(cache), scratch_folder(cache) as scratch:
            opened = _opened(_package_file(package, cache, sha256), Path(scratch, "root"))
            unpack_containers(opened)
            opened.folder.rename(root)
    return root


def _package_file(package: str, cache: Path, sha256: str) -> Path:
    """The package's file, from the cache or from Debian."""
    cache.mkdir(parents=True, exist_ok=True)
    file = next((found for found in sorted(cache.glob(f"{package}_*.deb")) if found.is_file()), None)
    file = file or _downloaded(package, cache)
    if sha256 and (found := manifest(file).entries[0].sha256) != sha256:
        raise DatasetError(f"the SHA-256 of {file} is {found}, not {sha256}: remove it, or correct the table")
    return file


def _downloaded(package: str, cache: Path) -> Path:
    with explained(cache), scratch_folder(cache) as scratch:
        os.chmod(scratch, 0o755)
        _run(["apt-get", "download", "-qq", package], cwd=scratch)
        for got in Path(scratch).glob("*.deb"):
            return got.rename(cache / got.name)
    raise DatasetError(f"apt-get gave nothing for {package}")


def _opened(package: Path, folder: Path) -> Unpacked:
    """The plain files of a package, in a new folder."""
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        assert process.stdout
        opened: Unpacked | DatasetError
        try:
            opened = unpack_tar(process.stdout, folder, limit=_LARGEST, skip_links=True)
        except DatasetError as error:
            opened = error
        if process.stdout.read(1):
            process.kill()  # otherwise it would go on
        if process.wait() > 0:
            log.seek(0)
            raise _failure(command, process.returncode, log.read().decode(errors="replace"))
    if isinstance(opened, DatasetError):
        raise opened
    return opened


def cloned(repository: Repository, cache: Path, wanted: Callable[[str], bool]) -> Path:
    """The folder, in the cache, with the wanted files of the commit. Names are fetched first, then these contents.

    Parameters
    ----------
    repository : Repository
    cache : path
        Folder that keeps clones.
    wanted : callable
        Whether to fetch the file at that path.

    Raises
    ------
    DatasetError
        If the repository cannot be fetched.
    """
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
            escaped = [re.sub(r"([\\*?\[ ])", r"\\\1", name) for name in names if wanted(name)]
            patterns = "".join(f"/{name}\n" for name in escaped)
            (fresh / ".git" / "info" / "sparse-checkout").write_bytes(os.fsencode(patterns))
            _run(["git", "checkout", "-q", repository.commit], cwd=fresh)
            shutil.rmtree(fresh / ".git")
            fresh.rename(root)
    return root


def _run(command: Sequence[str], cwd: str | Path | None = None) -> str:
    """Run a program and return its output. File names in it keep bytes that are not UTF-8."""
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
