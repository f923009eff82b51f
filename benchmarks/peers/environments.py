"""Virtual environments of the peers, and of this package as on a device. ``.venv-bench`` keeps them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["REPOSITORY", "Environment", "prepare"]

REPOSITORY = Path(__file__).parents[2]
_FOLDER = REPOSITORY / ".venv-bench"
_NOT_COUNTED = {"pip", "setuptools", "wheel", "pkg_resources", "_distutils_hack", "distutils-precedence.pth"}
_PACKAGES = {
    "device": ["."],
    "wakeword": ["pymicro-wakeword==2.5.0"],
    "features": [
        "pymicro-features==2.0.2",
        "librosa==0.11.0",
        "kaldi-native-fbank",
        "python_speech_features==0.6",
        "setuptools<81",  # for librosa and python_speech_features
    ],
    "openwakeword": ["openwakeword==0.6.0"],
    "tflite-runtime": ["tflite-runtime==2.14.*", "numpy<2"],
}


class Environment:
    """A virtual environment."""

    def __init__(self, folder: Path) -> None:
        self.python = folder / "bin" / "python"

    def run(self, *arguments: str) -> str:
        """Run the environment's Python and return its output."""
        return subprocess.run(
            [str(self.python), *arguments], cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    def install(self, packages: Sequence[str], *options: str) -> None:
        """Install packages with pip."""
        self.run("-m", "pip", "--disable-pip-version-check", "install", "--quiet", *options, *packages)

    def versions(self) -> dict[str, str]:
        """Versions of the installed packages, by name."""
        listed = json.loads(self.run("-m", "pip", "--disable-pip-version-check", "list", "--format", "json"))
        return {entry["name"].lower().replace("_", "-"): entry["version"] for entry in listed}

    def installed_bytes(self) -> int:
        """Size of all packages in bytes, without pip, its tools, and files that Python compiles."""
        (folder,) = (self.python.parents[1] / "lib").glob("python3*/site-packages")
        entries = [
            e for e in folder.iterdir() if e.name.split("-")[0] not in _NOT_COUNTED and e.name not in _NOT_COUNTED
        ]
        files = [f for e in entries for f in (e.rglob("*") if e.is_dir() else [e])]
        return sum(f.stat().st_size for f in files if f.is_file() and f.suffix != ".pyc")


def prepare() -> dict[str, Environment]:
    """All environments. Environments that exist are kept, but this package is installed anew."""
    found = {}
    for name, packages in _PACKAGES.items():
        folder = _FOLDER / name
        found[name] = environment = Environment(folder)
        done = folder / "installed.json"
        if not done.exists() or json.loads(done.read_text()) != packages:
            print(f"installing {', '.join(packages)}", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
            environment.install(packages)
            done.write_text(json.dumps(packages))
    found["device"].install(["."], "--no-deps", "--force-reinstall")
    found["tflite-runtime"].install(["."], "--no-deps", "--force-reinstall")
    found["host"] = Environment(Path(sys.prefix))
    return found
