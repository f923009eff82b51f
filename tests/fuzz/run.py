"""Runs one target in a process of its own: ``python -m tests.fuzz.run TARGET FOLDER SECONDS SEED``.

FOLDER gets an input and its error for each place in the code that fails.
"""

from __future__ import annotations

import importlib
import resource
import sys
import time
import traceback
from pathlib import Path

import atheris

from tests import fuzz

_ROOT = Path(fuzz.__file__).parents[2]
_PACKAGES = ["kws_edge", "host_tools", "firmware_export"]


def _place(error: BaseException) -> str:
    """The place in the packages where an error arose."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if any(f.filename.startswith(f"{_ROOT}/{name}/") for name in _PACKAGES)]
    frame = (ours or frames)[-1]
    path = frame.filename.removeprefix(f"{_ROOT}/")
    return f"{path}, {frame.name}"


def main() -> None:
    name, folder, seconds, random_seed = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    with atheris.instrument_imports(include=_PACKAGES):
        target = importlib.import_module(f"tests.fuzz.targets.{name}")
        from kws_edge import KwsError
    found: set[str] = set()

    def report(data: bytes, what: str, place: str) -> None:
        if (what, place) not in found:
            found.add((what, place))
            path = folder / f"found{len(found)}"
            path.write_bytes(data)
            print(f"{name}: {what} in {place}: {path}: {data[:200]!r}", flush=True)

    def consume(data: bytes) -> None:
        start = time.process_time()
        try:
            target.consume(data)
        except KwsError:
            pass
        except Exception as error:
            report(data, type(error).__name__, _place(error))
        if (spent := time.process_time() - start) > getattr(target, "SECONDS", fuzz.SECONDS):
            report(data, f"more than {spent:.0f} s", name)

    corpus = folder / "corpus"
    corpus.mkdir(parents=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed{number}").write_bytes(seed)
        consume(seed)  # loads all late imports
    memory = _used() + getattr(target, "MEMORY_MB", fuzz.MEMORY_MB) * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**28, 2**28))
    options = {
        "max_total_time": round(seconds),
        "seed": random_seed,
        "timeout": 60,  # more than any deadline of our own
        "rss_limit_mb": 0,
        "artifact_prefix": f"{folder}/",
        "print_final_stats": 1,
        "verbosity": 0,
    }
    arguments = [sys.argv[0], *(f"-{key}={value}" for key, value in options.items()), str(corpus)]
    atheris.Setup(arguments, consume, **({"custom_mutator": target.mutate} if hasattr(target, "mutate") else {}))
    atheris.Fuzz()


def _used() -> int:
    """Bytes that count for RLIMIT_DATA."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
