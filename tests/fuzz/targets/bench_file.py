"""Results of ``kws-edge bench``, read to be compared."""

from __future__ import annotations

import json

from kws_edge.diagnostics import benchmark
from tests.fuzz import written
from tests.fuzz.values import mutate

__all__ = ["consume", "mutate", "seeds"]

FIGURES = {"mean_s": 0.001, "p50_s": 0.001, "p95_s": 0.002, "p99_s": 0.003, "max_s": 0.004}
STAGES = {"front_end": FIGURES, "invoke": FIGURES, "end_to_end": FIGURES}
RESULT = {
    "model": "commands12", "model_bytes": 1, "runtime": "litert", "runtime_version": "1.3.0", "kernels": "fast",
    "delegate": None, "threads": 1, "step_s": 0.1, "inferences": 60, "stages": STAGES, "stages_share": 0.99,
    "bare_invoke": FIGURES, "real_time_factor": 0.02,
    "live": {
        "source": "standard input", "seconds": 1.0, "inferences": 9, "deadline_misses": 0, "startup_s": [0.3, 0.3, 0.3],
        "cpu_share": 0.1, "peak_bytes": 50_000_000, "stages": STAGES,
    },
}  # fmt: skip


def seeds():
    values = {
        "kind": benchmark.KIND, "format": benchmark.FORMAT, "date": "2026-01-01", "kws_edge": "0.1.0",
        "board": {"model": "Pi", "numpy": "2", "python": "3.11"}, "audio": {"rate": 16000, "channels": 1},
        "state": {}, "warnings": [], "results": [RESULT],
    }  # fmt: skip
    yield json.dumps(values).encode()


def consume(data):
    path = written("bench.json", data)
    old, new = benchmark.load(path, "--from"), benchmark.load(path, "--against")
    benchmark.compare(old, new)
