"""Raspberry Pis without a board. QEMU runs Debian's Python and PyPI's wheels for Arm. docs/install.md installs them.

Packages of apt and pip for a board are downloaded once and kept in ``.cache/arm`` (KWS_ARM_CACHE names another folder).
An interrupted download goes on where it stopped. Debian's packages come from the mirror of this machine's apt
(KWS_DEBIAN_MIRROR names another one). Nothing here needs root, binfmt or a chroot.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.conftest import ROOT

CACHE = Path(os.environ.get("KWS_ARM_CACHE") or ROOT / ".cache" / "arm").absolute()
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

_OFFLINE = re.compile(
    r"name resolution|temporary failure resolving|could not (connect|resolve)|connection (timed out|refused|failed)"
    r"|NewConnectionError|ConnectTimeoutError|ReadTimeoutError|ProxyError|ConnectionResetError|network is unreachable",
    re.IGNORECASE,
)

_ALTERNATIVE = re.compile(r"update-alternatives --install\s+(/\S+)\s+\S+\s+(/\S+)\s+\d+")

# For ctypes QEMU runs the host's ldconfig, which does not know the board's libraries. So look in the board's folders.
_FIND_LIBRARY = """\
import ctypes.util, glob, os

def find_library(name):
    found = sorted(glob.glob(f"{root}/usr/lib/*-linux-gnu*/lib{{name}}.so.*"), key=len)
    return os.path.basename(found[0]) if found else None

ctypes.util.find_library = find_library
"""


# The kernel cannot start the board's Python for a process of the board. It starts QEMU, which starts that Python.
_STARTER = """\
#!/bin/sh
exec {python} "$@"
"""


class UnavailableError(Exception):
    """This machine cannot emulate the board. The message is the reason to skip."""


@dataclass(frozen=True, kw_only=True)
class Board:
    """A Raspberry Pi OS, as the Debian that it is made from."""

    name: str
    suite: str
    arch: str
    packages: str
    """What docs/install.md has apt install."""
    qemu: str = "qemu-aarch64-static"
    cpu: str
    machine: str = "aarch64"
    python: str
    runtime: str
    system_site: bool = False
    """The environment sees Debian's Python packages."""
    wheels: str = ""
    """Requirements that pip installs in place of the package's own."""


PACKAGES = "python3-venv libportaudio2"
BOARDS = (
    Board(
        name="bookworm", suite="bookworm", arch="arm64", packages=PACKAGES, cpu="cortex-a72", python="3.11",
        runtime="litert",
    ),
    Board(
        name="bookworm-tflite-runtime", suite="bookworm", arch="arm64", packages=PACKAGES, cpu="cortex-a53",
        python="3.11", runtime="tflite-runtime", wheels="tflite-runtime==2.14.* numpy<2 soundfile sounddevice soxr",
    ),
    Board(
        name="trixie", suite="trixie", arch="arm64", packages=PACKAGES, cpu="cortex-a76", python="3.13",
        runtime="litert",
    ),
    Board(
        name="bookworm-32-bit", suite="bookworm", arch="armhf", qemu="qemu-arm-static", cpu="cortex-a7",
        packages=f"{PACKAGES} libsndfile1 python3-numpy python3-cffi", machine="armv7l", python="3.11",
        runtime="tflite-runtime", system_site=True,
    ),
)  # fmt: skip


class Emulated:
    """A board with the package installed in a virtual environment.

    Parameters
    ----------
    board : Board
    wheel : path
        The package.

    Raises
    ------
    UnavailableError
        If a program or the network is missing, and the cache does not have the files.
    """

    def __init__(self, board: Board, wheel: Path) -> None:
        self.board = board
        self._need(board.qemu, "qemu-user-static")
        self._install(wheel)

    @staticmethod
    def _need(program: str, package: str) -> None:
        if shutil.which(program) is None:
            raise UnavailableError(f"{program} is not installed (Debian's package {package})")

    @cached_property
    def root(self) -> Path:
        """Debian's packages, unpacked."""
        board = self.board
        root = CACHE / f"{board.suite}-{board.arch}-{_hash(board.packages, _ALTERNATIVE.pattern)}"
        complete = root / "complete"
        if complete.exists():
            return root
        self._need("apt-get", "apt")
        if not KEYRING.exists():
            raise UnavailableError(f"there is no {KEYRING} (Debian's package debian-archive-keyring)")
        for folder in ("etc/apt/apt.conf.d", "etc/apt/preferences.d", "var/lib/apt/lists/partial"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        archives = root / "var/cache/apt/archives"
        (archives / "partial").mkdir(parents=True, exist_ok=True)
        (root / "var/lib/dpkg").mkdir(parents=True, exist_ok=True)
        (root / "var/lib/dpkg/status").touch()
        (root / "etc/apt/sources.list").write_text(f"deb [signed-by={KEYRING}] {_mirror()} {board.suite} main\n")
        config = root / "etc/apt/apt.conf"
        config.write_text(
            f'Dir "{root}"; Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";\n'
            f'APT::Architecture "{board.arch}"; APT::Architectures {{ "{board.arch}"; }};\n'
            'APT::Install-Recommends "0"; APT::Sandbox::User ""; Acquire::Languages "none"; Acquire::Retries "3";\n'
        )
        apt = ["apt-get", "-qq", "-o", "APT::Update::Error-Mode=any"]
        _fetch([*apt, "update"], APT_CONFIG=config)
        _fetch([*apt, "install", "--download-only", "--yes", *board.packages.split()], APT_CONFIG=config)
        for name in ("bin", "lib", "sbin"):
            (root / "usr" / name).mkdir(parents=True, exist_ok=True)
            if not (root / name).is_symlink():
                (root / name).symlink_to(f"usr/{name}")
        for package in sorted(archives.glob("*.deb")):
            with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as source:
                unpack = ["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", root]
                subprocess.run(unpack, stdin=source.stdout, check=True)
            assert source.returncode == 0, package
            _link_alternatives(root, package)
        shutil.rmtree(archives)
        shutil.rmtree(root / "var/lib/apt")
        complete.touch()
        return root

    @property
    def system_python(self) -> list[str]:
        """The command that runs the system's Python."""
        board = self.board
        return [board.qemu, "-cpu", board.cpu, "-L", str(self.root), f"{self.root}/usr/bin/python{board.python}"]

    def _install(self, wheel: Path) -> None:
        board = self.board
        with zipfile.ZipFile(wheel) as archive:
            (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            needs = re.findall(r"^Requires-.*", archive.read(metadata).decode(), re.MULTILINE)
            self._venv = CACHE / f"{board.name}-{_hash(self.root, board.wheels, _STARTER, *needs)}"
            site = self.site = self._venv / f"lib/python{board.python}/site-packages"
            self.python = [*self.system_python[:-1], str(self._venv / "bin/python")]
            complete = self._venv / "complete"
            if not complete.exists():
                # The options of `python3 -m venv`, except pip, which the kernel would have to start.
                options = ["--without-pip", "--clear", *(["--system-site-packages"] if board.system_site else [])]
                _fetch([*self.system_python, "-m", "venv", *options, self._venv])
                (pip,) = (self.root / "usr/share/python-wheels").glob("pip-*.whl")
                with zipfile.ZipFile(pip) as archived:
                    archived.extractall(site)
                (site / "emulation.py").write_text(_FIND_LIBRARY.format(root=self.root))
                (site / "emulation.pth").write_text("import emulation\n")
                install = [*self.python, "-m", "pip", "install", "--quiet", "--no-compile", "--retries", "9"]
                if board.wheels:
                    _fetch([*install, *board.wheels.split()], PIP_CACHE_DIR=CACHE / "pip")
                _fetch([*install, *(["--no-deps"] if board.wheels else []), wheel], PIP_CACHE_DIR=CACHE / "pip")
                starter = self._venv / "bin/emulated-python"
                starter.write_text(_STARTER.format(python=shlex.join(self.python)))
                starter.chmod(0o755)
                # This file comes last, because pip reads the machine's kind from it.
                (site / "starter.pth").write_text(f"import sys; sys.executable = {str(starter)!r}\n")
                complete.touch()
            # Take the present code. Requirements and commands stay those that the environment was made for.
            for name in {name.split("/")[0] for name in archive.namelist() if ".dist-info/" not in name}:
                shutil.rmtree(site / name, ignore_errors=True)
            archive.extractall(site)

    @property
    def command(self) -> list[str]:
        """The command that runs the installed ``kws-edge``."""
        return [*self.python, str(self._venv / "bin/kws-edge")]

    @staticmethod
    def run(command: list[str], *args: object, **env: object) -> subprocess.CompletedProcess:
        """Run one of the board's commands, with `env` added to the environment."""
        return _run([*command, *args], **env)

    def kws_edge(self, *args: object) -> str:
        """Standard output of ``kws-edge``, which must succeed."""
        done = self.run(self.command, *args)
        assert done.returncode == 0, done.stderr
        return done.stdout


def _hash(*parts: object) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:10]


def _mirror() -> str:
    """A Debian mirror: the one that this machine's apt uses."""
    if mirror := os.environ.get("KWS_DEBIAN_MIRROR"):
        return mirror
    targets = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    found = _run([*targets, "Label: Debian", "Component: main"]).stdout.split()
    if not found:
        raise UnavailableError("apt has no mirror of Debian here: run apt-get update, or name one in KWS_DEBIAN_MIRROR")
    return found[0]


def _link_alternatives(root: Path, package: Path) -> None:
    """Make the links that configuring the package would make, such as libblas.so.3."""
    with tempfile.TemporaryDirectory() as control:
        subprocess.run(["dpkg-deb", "--control", package, control], check=True)
        script = Path(control) / "postinst"
        text = script.read_text().replace("\\\n", " ") if script.exists() else ""
    for link, path in _ALTERNATIVE.findall(text):
        target = root / path[1:]
        if target.exists():
            (root / link[1:]).unlink(missing_ok=True)
            (root / link[1:]).symlink_to(os.path.relpath(target, (root / link[1:]).parent))


def _run(command: list, **env: object) -> subprocess.CompletedProcess:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | {
        name: str(value) for name, value in env.items()
    }
    return subprocess.run(
        list(map(str, command)), capture_output=True, check=False, text=True, stdin=subprocess.DEVNULL, env=env
    )


def _fetch(command: list, **env: object) -> None:
    """Run a command that needs the network. Without a network the board is unavailable. Other failures are errors."""
    done = _run(command, **env)
    if done.returncode:
        said = done.stdout + done.stderr
        offline = _OFFLINE.search(said)
        if offline:
            raise UnavailableError(f"what it needs cannot be downloaded ({offline[0]})")
        raise AssertionError(f"{' '.join(map(str, command))}:\n{said}")
