"""Changes models at random, and runs them in a process that must survive.

``python -m tests.fuzz.mutants FILE... --count 100000 --save FOLDER`` changes bytes, numbers and parts of the files at
random, and gives each mutant to a worker process that loads and runs it. A mutant that ends that process by a signal,
or takes more than two seconds or 200 MB, is saved and counted. The exit status is 1 if there was any.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import select
import struct
import subprocess
import sys
import time
from pathlib import Path

import kws_edge.model.tflite.flat_model
from kws_edge.errors import ModelError
from kws_edge.model.file import unpack
from kws_edge.model.tflite import FlatModel
from kws_edge.model.tflite.flatbuffer import Reader

SECONDS, MEGABYTES = 2.0, 200
_PATIENCE = 30.0  # seconds of the clock; a trial waits up to 10 s, and the machine may be busy
_VALUES = {
    "b": [-128, -1, 0, 1, 2, 3, 5, 7, 9, 17, 32, 64, 127],
    "B": [0, 1, 2, 8, 27, 111, 255],
    "?": [0, 1, 2],
    "H": [0, 2, 4, 6, 8, 12, 100, 65535],
    "i": [-(2**31), -1000, -2, -1, 0, 1, 2, 3, 4, 5, 8, 16, 100, 1000, 4096, 2**16, 2**20, 2**30, 2**31 - 1],
    "I": [0, 1, 2, 3, 4, 8, 16, 100, 2**16, 2**31 - 1, 2**32 - 1],
    "f": [float("nan"), float("inf"), -1.0, 0.0, 1e-45, 1e-38, 1e-20, 1e-6, 1 / 256, 0.5, 1.0, 300.0, 1e10, 3e38],
    "q": [-(2**63), -(2**31), -129, -128, -1, 0, 1, 127, 128, 255, 256, 2**31, 2**63 - 1],
    "Q": [0, 1, 2, 16, 100, 2**32, 2**63, 2**64 - 1],
}
_OF_SIZE = {2: "H", 4: "if", 8: "q"}


class Subject:
    """A model to change, and the places in it where the reader reads numbers."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data, self.name = data, name
        places: dict[int, str] = {}

        class Recorder(Reader):
            def number(self, kind, at):
                places[at] = kind
                return super().number(kind, at)

            def vector(self, at, size):
                start, length = super().vector(at, size)
                if size > 1:
                    for i in range(min(length, 40)):
                        places.setdefault(start + i * size, _OF_SIZE[size][i % len(_OF_SIZE[size])])
                elif length <= 64 and length % 4 == 0 and start % 4 == 0:
                    for i in range(length // 4):  # shapes and axes are constants of a few numbers
                        places.setdefault(start + 4 * i, "i")
                return start, length

        known, kws_edge.model.tflite.flat_model.Reader = kws_edge.model.tflite.flat_model.Reader, Recorder
        try:
            flat = FlatModel(data, name)
        finally:
            kws_edge.model.tflite.flat_model.Reader = known
        for at in [at for at, kind in places.items() if kind == "H"]:
            places.setdefault(at + 4, "H")
        self.places = [(at, kind) for at, kind in places.items() if at + struct.calcsize(kind) <= len(data)]
        self.by_kind = {kind: [at for at, k in self.places if k == kind] for kind in _VALUES}
        weights = [t.data for g in flat.graphs for t in g.tensors if t.data and t.data[1] > 256]
        mask = bytearray(b"\1") * len(data)
        for start, size in weights:
            mask[start : start + size] = bytes(size)
        self.structure = [i for i, kept in enumerate(mask) if kept]

    def mutant(self, rng: random.Random, *, objects: bool) -> bytes:
        """The model with one or a few changes. With `objects`, some are made through TensorFlow's schema."""
        how = rng.random()
        if objects and how < 0.3:
            return self._rebuilt(rng)
        data = bytearray(self.data)
        for _ in range(rng.choice((1, 1, 1, 1, 2, 3, 8))):
            if how < 0.5:
                data[rng.choice(self.structure)] = rng.randrange(256)
            else:
                at, kind = rng.choice(self.places)
                struct.pack_into("<" + kind, data, at, self._value(rng, data, at, kind))
        return bytes(data)

    def _value(self, rng: random.Random, data: bytearray, at: int, kind: str):
        old = struct.unpack_from("<" + kind, data, at)[0]
        choice = rng.randrange(4)
        if choice == 0:
            return rng.choice(_VALUES[kind])
        if (
            choice == 1 and self.by_kind[kind]
        ):  # the offset of another part, so that parts are shared and numbers point elsewhere
            other = rng.choice(self.by_kind[kind])
            value = struct.unpack_from("<" + kind, self.data, other)[0]
            return (value + other - at) % 2**32 if kind == "I" else value
        if kind == "f":
            return min(max(old * 2.0 ** rng.randrange(-40, 40), -3e38), 3e38) if old == old else 0.0
        if kind == "?":
            return rng.randrange(2)
        bits = 8 * struct.calcsize(kind)
        low = 0 if kind.isupper() else -(2 ** (bits - 1))
        return (old + rng.choice((-8, -4, -2, -1, 1, 2, 4, 8)) - low) % 2**bits + low

    def _rebuilt(self, rng: random.Random) -> bytes:
        """A changed model that is written anew: parts are left out, doubled or exchanged."""
        import flatbuffers
        from tensorflow.lite.python import schema_py_generated as schema

        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(self.data, 0))
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            graph = rng.choice(model.subgraphs)
            op = rng.choice(graph.operators) if graph.operators else None
            tensor = rng.choice(graph.tensors)
            change = rng.randrange(9)
            if change == 0:
                _change_list(rng, graph.operators)
            elif change == 1:
                _change_list(rng, graph.tensors)
            elif change == 2:
                owner, name = rng.choice(
                    [(graph, "inputs"), (graph, "outputs"), *([(op, "inputs"), (op, "outputs")] if op else [])]
                )
                end = len(graph.tensors)
                numbers = list(getattr(owner, name) if getattr(owner, name) is not None else [])
                _change_list(rng, numbers, new=lambda end=end: rng.choice((-1, rng.randrange(end))))
                setattr(owner, name, numbers)
            elif change == 3:
                shape = list(tensor.shape if tensor.shape is not None else [])
                _change_list(rng, shape, new=lambda: rng.choice(_VALUES["i"]))
                tensor.shape = shape
            elif change == 4:
                tensor.type = rng.choice([0, 1, 2, 3, 4, 7, 9, 13, 17, rng.randrange(21)])
            elif change == 5:
                tensor.buffer = rng.randrange(len(model.buffers))
                tensor.isVariable = rng.random() < 0.2
            elif change == 6 and op:
                fields = (
                    [k for k, v in vars(op.builtinOptions).items() if isinstance(v, (int, float))]
                    if op.builtinOptions
                    else []
                )
                if fields and rng.random() < 0.8:
                    setattr(
                        op.builtinOptions, rng.choice(fields), rng.choice(_VALUES["b"] if rng.random() < 0.7 else [0])
                    )
                elif rng.random() < 0.5:
                    op.builtinOptions, op.builtinOptionsType = None, rng.choice((0, op.builtinOptionsType))
                else:
                    other = rng.choice(graph.operators)
                    op.builtinOptions, op.builtinOptionsType = other.builtinOptions, other.builtinOptionsType
            elif change == 7:
                code = rng.choice(model.operatorCodes)
                code.deprecatedBuiltinCode = number = rng.choice(
                    (3, 4, 9, 14, 18, 22, 25, 27, 32, 34, 40, rng.randrange(127))
                )
                code.builtinCode = rng.choice((0, number, rng.randrange(210)))
                code.version = rng.choice((1, 2, 3, 5, code.version))
            elif tensor.quantization is not None:
                q = tensor.quantization
                name = rng.choice(("scale", "zeroPoint", "quantizedDimension"))
                if name == "quantizedDimension":
                    q.quantizedDimension = rng.choice((-1, 0, 1, 3, 4, 100))
                else:
                    numbers = list(getattr(q, name) if getattr(q, name) is not None else [])
                    kind = "f" if name == "scale" else "q"
                    _change_list(rng, numbers, new=lambda kind=kind: rng.choice(_VALUES[kind]))
                    setattr(q, name, numbers)
        builder = flatbuffers.Builder(len(self.data) + 4096)
        try:
            builder.Finish(model.Pack(builder), b"TFL3")
        except (TypeError, struct.error, OverflowError, ValueError):
            return self.data  # some values cannot be written
        return bytes(builder.Output())


def _change_list(rng: random.Random, items: list, new=None) -> None:
    """Leave one item out, double one, exchange two, or set one anew."""
    if not items:
        if new:
            items.append(new())
        return
    i, j = rng.randrange(len(items)), rng.randrange(len(items))
    change = rng.randrange(5 if new else 3)
    if change == 0:
        del items[i]
    elif change == 1:
        items.insert(j, items[i])
    elif change == 2:
        items[i], items[j] = items[j], items[i]
    elif change == 3:
        items[i] = new()
    else:
        items.insert(i, new())


class Worker:
    """A process that runs models."""

    def __init__(self, python: str) -> None:
        self.python, self.process = python, None

    def run(self, data: bytes, kernels: str) -> tuple[str, float, float]:
        """The outcome for a model, and the seconds and megabytes that it took."""
        if self.process is None:
            self.process = subprocess.Popen(
                [self.python, "-m", "tests.fuzz.mutants", "--worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            self.process.stdout.readline()
        started = time.monotonic()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(struct.pack("<I8s", len(data), kernels.encode()) + data)
            self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], _PATIENCE)
        line = self.process.stdout.readline().decode() if ready else ""
        spent = time.monotonic() - started
        if not line:
            self.process.kill()
            status = self.process.wait()
            self.close()
            return ("hang" if not ready else f"ended by {-status}"), spent, 0
        seconds, megabytes, said = line.rstrip("\n").split(" ", 2)
        return said, float(seconds), float(megabytes)

    def close(self) -> None:
        if self.process:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
            self.process.wait()
            self.process.stdout.close()
            self.process = None


def work() -> int:
    """The worker: reads models from standard input, and writes a line for each to standard output."""
    from kws_edge.model import trial
    from kws_edge.model.interpreter import Interpreter
    from kws_edge.model.runtime import load_runtime

    load_runtime("auto")
    trial.try_out = _forked
    real, sys.stdout = sys.stdout, sys.stderr
    print("ready", file=real, flush=True)
    source = sys.stdin.buffer
    while head := source.read(12):
        size, kernels = struct.unpack("<I8s", head)
        data = source.read(size)
        started = time.process_time()
        before = _forget_peak()
        try:
            flat = FlatModel(data, "mutant")
            flat.macs, flat.uncounted, flat.stateful  # noqa: B018 (what `info` reads)
            interpreter = Interpreter(flat, kernels=kernels.rstrip(b"\0").decode())
            trial.exercise(interpreter.native)
            interpreter.reset()
            said = "ran"
        except ModelError as error:
            said = f"refused {error}"
        except Exception as error:  # any error that would end in a traceback
            said = f"failed {type(error).__name__} {error}"
        said = " ".join(ascii(said)[1:-1].split())
        print(f"{time.process_time() - started:.3f} {max(0.0, _peak() - before):.1f} {said}", file=real, flush=True)
    return 0


def _forked(flat: FlatModel, unproven, *, runtime: str, threads: int, kernels: str) -> None:
    """`try_out` in a fork of this process, without the time to start Python."""
    from kws_edge.model import trial

    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(trial.run(flat.data, runtime, threads, kernels))
    _, status = os.waitpid(child, 0)
    if status:
        raise ModelError(f"{flat.name}: status {status} in a trial run; {unproven[0]}")


def _status(name: str) -> float:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(name))


def _forget_peak() -> float:
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return _status("VmRSS")


def _peak() -> float:
    return _status("VmHWM")


def campaign(
    subjects: list[Subject], count: int, *, seed: int = 0, objects: bool = False, python: str = sys.executable,
    save: Path | None = None, progress: int = 0,
) -> tuple[collections.Counter, list[str]]:  # fmt: skip
    """Make and run that many mutants.

    Returns
    -------
    outcomes : Counter
        Number of each outcome, by its first words.
    bad : list of str
        Lines on mutants that ended, delayed or bloated the process.
    """
    rng, worker = random.Random(seed), Worker(python)
    outcomes, bad = collections.Counter(), []
    for i in range(count):
        subject = rng.choice(subjects)
        data, kernels = subject.mutant(rng, objects=objects), rng.choice(("fast", "builtin"))
        said, seconds, megabytes = worker.run(data, kernels)
        kind = said.split()[0] + (" after a trial" if "trial run" in said or "signal" in said else "")
        outcomes[kind] += 1
        if kind in ("hang", "ended", "failed") or seconds > SECONDS or megabytes > MEGABYTES:
            bad.append(f"{i} {subject.name} {kernels}: {said}, {seconds:.1f} s, {megabytes:.0f} MB")
            print(bad[-1], flush=True)
            if save:
                (save / f"{seed}_{i}_{kernels}.tflite").write_bytes(data)
        if progress and i % progress == progress - 1:
            print(i + 1, dict(outcomes), len(bad), "bad", flush=True)
    worker.close()
    return outcomes, bad


def subjects_of(paths: list[Path]) -> list[Subject]:
    """The files' flatbuffers."""
    return [Subject(unpack(path.read_bytes(), str(path))[0], path.name) for path in paths]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--objects", action="store_true", help="also through TensorFlow's schema")
    parser.add_argument("--python", default=sys.executable, help="that runs the models")
    parser.add_argument("--save", type=Path)
    parser.add_argument("--progress", type=int, default=1000)
    parser.add_argument("--worker", action="store_true")
    args = parser.parse_args()
    if args.worker:
        return work()
    outcomes, bad = campaign(
        subjects_of(args.files), args.count, seed=args.seed, objects=args.objects, python=args.python, save=args.save,
        progress=args.progress,
    )  # fmt: skip
    print(dict(outcomes), len(bad), "bad")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
