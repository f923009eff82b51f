"""Compares the costs of kws-edge with its peers on this machine, in one run: ``make bench``.

    python -m benchmarks.peers DATA [--rounds 15] [--only clips detector] [--record]

DATA is the folder of recordings. The results are ``table.md``, ``results.json``, ``ratios.png`` and ``curves.png`` in
``benchmarks/peers/results``. Ratios that have grown by more than a tenth since ``recorded.json`` are printed.
``--record`` writes them there. Processors with and without INT8 dot products have records of their own.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import tempfile
import time
import wave
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.peers import host
from benchmarks.peers.environments import REPOSITORY, Environment, prepare
from benchmarks.peers.pairs import ENVIRONMENT, Worker, instructions, ratio, regressions, spread, take_turns
from benchmarks.peers.report import Curve, Results
from kws_edge.diagnostics import system_info
from kws_edge.diagnostics.benchmark import STREAM

HERE = Path(__file__).parent
RATE = 16000
CLIP = {"block": RATE}
STEP = {"block": 1280}
# The front end of each peer. All have 40 mel bands and a hop of 10 ms.
CLIP_PEERS = {
    "librosa": ("librosa", "features", {}, 1 / 4),
    "kaldi-native-fbank": ("kaldi_native_fbank", "features", {}, 1 / 4),
    "pymicro-features": ("pymicro_features", "features", {"frame_ms": 30, "f_min_hz": 125, "f_max_hz": 7500}, 1 / 3),
    "python_speech_features": ("python_speech_features", "features", {}, None),
    "tf.signal": ("tf_signal", "host", {}, None),
}
WAKE_WORD = "pymicro-wakeword, one phrase"
# Models, the samples of their own hops, and the bars: at live pace in own blocks and in equal ones, and back to back.
DETECTORS = (("commands12", 1600, 0.6, 0.6, 0.6), ("commands12-stream", 2560, 0.5, 0.55, 0.5))


class Bench:
    """The measurements. Each adds its rows to `results`."""

    def __init__(self, args: argparse.Namespace, folder: Path, environments: dict[str, Environment], results: Results):
        self.args, self.folder, self.environments, self.results = args, folder, environments, results
        self.recording, self.short = folder / "stream.pcm", folder / "short.pcm"
        samples = soundfile.read(STREAM, dtype="int16")[0]
        samples.tofile(self.recording)
        samples[: 5 * RATE].tofile(self.short)
        self.reference = host.reference_model(args.cache / "cnn_reference-random.tflite")

    def worker(self, environment: str, name: str, *, recording: Path | None = None, **arguments) -> Worker:
        python = self.environments[environment].python
        return Worker(python, name, recording or self.recording, **arguments)

    def clips(self) -> None:
        """Front end on whole clips of a second, against each peer in its own configuration and against the floor."""
        with ExitStack() as stack:
            sides = {}
            for peer, (workload, environment, config, _) in CLIP_PEERS.items():
                sides[peer] = stack.enter_context(self.worker(environment, workload, **CLIP)).timer()
                key = json.dumps(config)
                if key not in sides:
                    ours = stack.enter_context(self.worker("device", "clips", **CLIP, **config))
                    sides[key] = ours.timer("ours")
                    sides[f"floor {key}"] = ours.timer("floor")
            found = take_turns(sides, self.args.rounds)
        for peer, (_, _, config, bar) in CLIP_PEERS.items():
            ours = found[json.dumps(config)]
            self.results.compare(
                f"clips/{peer}", "features of a clip of 1 s", peer, ours, found[peer], factor=1e3, bar=bar
            )
        self.results.compare(
            "clips/floor",
            "features of a clip of 1 s",
            "floor: transform and matrix product",
            found["{}"],
            found["floor {}"],
            factor=1e3,
            bar=1.5,
        )

    def stream(self) -> None:
        """Front end on a stream in blocks of 80 ms."""
        with (
            self.worker("device", "stream", **STEP) as ours,
            self.worker("features", "pymicro_features", **STEP) as peer,
        ):
            found = take_turns({"ours": ours.timer(), "peer": peer.timer()}, self.args.rounds)
        self.results.compare(
            "stream/pymicro-features",
            "front end in blocks of 80 ms, CPU a second of audio",
            "pymicro-features",
            found["ours"],
            found["peer"],
            factor=1e3 * RATE / 1280,
            bar=1.0,
        )

    def detector(self) -> None:
        """The whole detector at live pace and back to back, its memory, and its start-up."""
        for model, block, live, equal, fast in DETECTORS:
            self._detector_speed(model, block, {"own blocks": live, "80 ms": equal, "back to back": fast})
            self._detector_size(model)

    def _detector_speed(self, model: str, block: int, bars: dict[str, float]) -> None:
        live_s = self.args.live_s

        def live(worker: Worker) -> float:
            return worker.ask(live_s=live_s)["cpu_s"] / live_s

        with ExitStack() as stack:
            programs = _programs(model)
            workers = {}
            for side, size in (("ours", block), ("peer", 1024), ("peer", 1280), ("ours", 1280)):
                environment, workload, options = programs[side]  # compared sides have their turns side by side
                workers[side, size] = stack.enter_context(self.worker(environment, workload, block=size, **options))
            timers = {key: worker.timer() for key, worker in workers.items()}
            fast = take_turns({key: timers[key, 1280] for key in ("ours", "peer")}, self.args.rounds)
            found = take_turns({key: partial(live, worker) for key, worker in workers.items()}, self.args.live_rounds)
        own = f"each in the blocks that its own program reads ({1000 * block // RATE} and 64 ms)"
        rows = {
            "own blocks": (f"at live pace, CPU a second of audio, {own}", found["ours", block], found["peer", 1024], 1),
            "80 ms": (
                "at live pace, CPU a second of audio, both in blocks of 80 ms",
                found["ours", 1280],
                found["peer", 1280],
                1,
            ),
            "back to back": (
                "back to back, CPU a second of audio, in blocks of 80 ms",
                fast["ours"],
                fast["peer"],
                RATE / 1280,
            ),
        }
        for name, (what, ours, theirs, times) in rows.items():
            self.results.compare(
                f"detector/{model}, {name}",
                f"whole detector with {model}, {what}",
                WAKE_WORD,
                ours,
                theirs,
                factor=1e3 * times,
                bar=bars[name],
            )

    def _detector_size(self, model: str) -> None:
        programs = _programs(model)
        starts: dict[str, list[float]] = {name: [] for name in programs}
        memory: dict[str, list[float]] = {name: [] for name in programs}
        for _ in range(self.args.rounds):
            for name, (environment, workload, options) in programs.items():
                started = time.perf_counter()
                with self.worker(environment, workload, recording=self.short, **STEP, **options) as worker:
                    worker.ask(blocks=2)  # after 160 ms both have made an inference
                    starts[name].append(time.perf_counter() - started)
                    worker.ask(blocks=60)
                    memory[name].append(worker.ask(memory=True)["peak_bytes"])
        for name, what, found, unit, factor, bar in (
            ("memory", "most memory", memory, "MB", 1e-6, 1.1),
            ("start", "from the start to the first inference", starts, "s", 1.0, 2.0),
        ):
            self.results.compare(
                f"detector/{model}, {name}",
                f"whole detector with {model}, {what}",
                WAKE_WORD,
                found["ours"],
                found["peer"],
                unit=unit,
                factor=factor,
                bar=bar,
            )

    def invoke(self) -> None:
        """The interpreter, against a bare call of it and against plain tflite-runtime."""
        model = str(self.reference)
        with (
            self.worker("device", "invoke", model=model) as ours,
            self.worker("tflite-runtime", "invoke", model=model) as old,
        ):
            sides = {"ours": ours.timer("ours"), "bare": ours.timer("bare"), "old": old.timer("bare")}
            found = take_turns(sides, 2 * self.args.rounds)
        what, ours = "inference of cnn_reference INT8", found["ours"]
        self.results.compare("invoke/bare", what, "bare call of it", ours, found["bare"], factor=1e3, bar=1.05)
        self.results.compare("invoke/tflite-runtime", what, "plain tflite-runtime", ours, found["old"], factor=1e3)

    def scale(self) -> None:
        """How costs grow with streams, keywords, model size and stream length."""
        counts = (2, 4, 8, 16, 32, 1)  # in this order, compared sides have their turns side by side
        second = 1e3 * RATE / 1280
        with ExitStack() as stack:
            sides = {}
            for n in counts:
                sides[n] = stack.enter_context(self.worker("device", "spotter", streams=n, **STEP)).timer()
            found = take_turns(sides, 4 * self.args.rounds)
        self.results.compare(
            "streams/32",
            "32 streams in one process, CPU a second of audio",
            "one stream",
            found[32],
            found[1],
            factor=second,
            bar=32.5,
        )
        self._curve("streams in one process", "streams", "ms of CPU a second of audio", found, second)

        sides = {}
        with ExitStack() as stack:
            for n in (2, 5, 10, 20, 35):
                worker = self.worker("device", "spotter", model="words36", keywords=n, **STEP)
                sides[n] = stack.enter_context(worker).timer()
            found = take_turns(sides, self.args.rounds)
        self._curve("active keywords (words36)", "keywords", "ms of CPU a second of audio", found, second)

        sides = {}
        with ExitStack() as stack:
            for model in ("micro12", "commands12", str(self.reference)):
                path = Path(model) if model.endswith("tflite") else REPOSITORY / f"kws_edge/models/{model}.tflite"
                size = path.stat().st_size / 1e6
                sides[size] = stack.enter_context(self.worker("device", "invoke", model=model)).timer()
            found = take_turns(sides, self.args.rounds)
        self._curve("model size: micro12, commands12, cnn_reference", "MB", "ms an inference", found, 1e3)

        with self.worker("device", "spotter", **STEP) as worker:
            worker.ask(blocks=100)
            points = []
            for seconds in (10, 60, 300, 1200):
                blocks = round(seconds * RATE / 1280)
                points.append((seconds, 1e3 * worker.ask(blocks=blocks)["cpu_s"] / seconds))
        self.results.curves.append(
            Curve("stream length", "seconds", "ms of CPU a second of audio", {"commands12": points})
        )

    def _curve(self, title: str, x: str, y: str, found: dict[float, list[float]], factor: float) -> None:
        points = [(key, factor * spread(values)["median"]) for key, values in sorted(found.items())]
        self.results.curves.append(Curve(title, x, y, {"": points}))

    def day(self) -> None:
        """Private memory of ``kws-edge detect`` on a file of a day, in the first quarter and in all.

        Mapped pages of libraries do not count, because they come and go with the page cache.
        """
        path = self.folder / "day.wav"
        _long_recording(path, 24)
        command = [str(self.environments["device"].python), "-m", "kws_edge", "detect", str(path)]
        started, points = time.perf_counter(), []
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=ENVIRONMENT, cwd=self.folder)
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            own = [int(line.split()[1]) * 1.024e-3 for line in status.splitlines() if line.startswith("RssAnon:")]
            points += [(time.perf_counter() - started, value) for value in own]
            time.sleep(0.1)
        path.unlink()
        if process.returncode:
            raise RuntimeError(f"kws-edge detect ended with {process.returncode}")
        seconds = time.perf_counter() - started
        hours = [(24 * at / seconds, value) for at, value in points]
        first, most = (max(value for hour, value in hours if hour <= end) for end in (6, 24))
        self.results.compare(
            "day/memory",
            "file of a day, most memory of its own",
            "its first quarter",
            [most],
            [first],
            unit="MB",
            bar=1.02,
        )
        self.results.figures["`kws-edge detect` on a file of 24 h"] = f"{seconds:.0f} s"
        some = hours[1 :: max(1, len(hours) // 96)]
        self.results.curves.append(Curve("memory of a file", "hours heard", "MB of its own", {"": some}))

    def size(self) -> None:
        """Size of the installed packages, with all dependencies."""
        sizes = {name: self.environments[name].installed_bytes() for name in ("device", "wakeword", "openwakeword")}
        for name, other in (("wakeword", "pymicro-wakeword"), ("openwakeword", "openWakeWord, without its models")):
            self.results.compare(
                f"size/{other.split(',')[0]}",
                "installed, with all dependencies",
                other,
                [sizes["device"]],
                [sizes[name]],
                unit="MB",
                factor=1e-6,
            )

    def tools(self) -> None:
        """The workstation's tools, on all cores."""
        seconds = host.export_seconds(self.reference, 5)
        megabytes = self.reference.stat().st_size / 1e6
        array, firmware = (spread(seconds[key])["median"] for key in ("c_array", "firmware"))
        self.results.figures[f"C arrays of a model of {megabytes:.2f} MB"] = f"{array:.2f} s (bar: 1 s)"
        self.results.figures["firmware of `micro12`, with golden vectors"] = f"{firmware:.2f} s"
        rows = host.feature_seconds(self.args.data, (2000, 4000, 8000), (1, 2))
        lines: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            name = f"on {row['cores']} core" + "s" * (row["cores"] > 1)
            lines.setdefault(name, []).append((row["clips"], row["seconds"]))
        self.results.curves.append(Curve("feature extraction", "clips", "seconds", lines))
        best = rows[-1]
        self.results.figures["features of a dataset, 2 processes"] = (
            f"{best['clips'] / best['seconds']:.0f} clips a second"
        )
        found = host.training(self.args.data, self.args.cache / "features", self.args.train_rounds)
        self.results.compare(
            "training/bare",
            "training, a sample",
            "bare Keras loop on tensors in memory",
            found["ours"],
            found["bare"],
            factor=1e3,
            bar=1 / 0.9,
        )
        self.results.figures["training of `commands12`"] = (
            f"{1 / spread(found['ours'])['median']:.0f} samples a second, "
            f"{1 / ratio(found['ours'], found['bare'])['median']:.2f} of the bare loop's"
        )

    def count(self) -> None:
        """Instructions a second of audio. librosa is left out: its compiler takes minutes under callgrind."""
        for what, environment, name, call, arguments in (
            ("features of clips: ours", "device", "clips", "ours", CLIP),
            ("features of clips: floor", "device", "clips", "floor", CLIP),
            ("features of clips: kaldi-native-fbank", "features", "kaldi_native_fbank", "peer", CLIP),
            ("features of clips: pymicro-features", "features", "pymicro_features", "peer", CLIP),
            ("front end in blocks of 80 ms: ours", "device", "stream", "ours", STEP),
            ("front end in blocks of 80 ms: pymicro-features", "features", "pymicro_features", "peer", STEP),
            ("whole detector: ours", "device", "spotter", "ours", STEP),
            ("whole detector: pymicro-wakeword", "wakeword", "pymicro_wakeword", "peer", STEP),
        ):
            python = self.environments[environment].python
            blocks = 100 * 1280 // arguments["block"]
            found = instructions(python, name, self.recording, call=call, blocks=blocks, **arguments)
            if found is not None:
                self.results.instructions[what] = found * RATE / arguments["block"] / 1e6


SECTIONS: dict[str, Callable[[Bench], None]] = {
    name: getattr(Bench, name)
    for name in ("clips", "stream", "detector", "invoke", "scale", "day", "size", "tools", "count")
}


def _programs(model: str) -> dict[str, tuple[str, str, dict[str, str]]]:
    """Environment, workload and options of the whole detector: ours with a model, and the peer's."""
    return {"ours": ("device", "spotter", {"model": model}), "peer": ("wakeword", "pymicro_wakeword", {})}


def _long_recording(path: Path, hours: int) -> None:
    """A WAV file with half a minute of speech at the start of each hour. The holes between take no space."""
    speech = soundfile.read(STREAM, dtype="int16")[0].tobytes()
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(speech)
    samples = hours * 3600 * RATE
    with open(path, "r+b") as file:
        header = bytearray(file.read(44))
        header[4:8] = np.uint32(36 + 2 * samples).tobytes()
        header[40:44] = np.uint32(2 * samples).tobytes()
        file.seek(0)
        file.write(header)
        for hour in range(1, hours):
            file.seek(44 + hour * 3600 * RATE * 2)
            file.write(speech)
        file.truncate(44 + 2 * samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--live-s", type=float, default=2, help="length of a measurement at live pace")
    parser.add_argument("--live-rounds", type=int, default=30)
    parser.add_argument("--train-rounds", type=int, default=15)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(SECTIONS),
        default=list(SECTIONS),
        help="measure only these; keep the rest, if it is of this kind of machine",
    )
    parser.add_argument("--record", action="store_true", help="write the ratios to recorded.json")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "results")
    parser.add_argument("--cache", type=Path, default=REPOSITORY / ".cache" / "bench")
    args = parser.parse_args()
    environments = prepare()
    machine = system_info.describe()
    names = ("numpy", "ai-edge-litert", "pymicro-wakeword", "pymicro-features", "librosa", "kaldi-native-fbank")
    names += ("python-speech-features", "tflite-runtime", "openwakeword", "tensorflow-cpu", "keras")
    versions = {"python": machine["python"]}
    for environment in environments.values():
        versions |= {name: version for name, version in environment.versions().items() if name in names}
    kind = f"{'with' if machine['int8_dot_products'] else 'without'} INT8 dot products"
    results = Results(
        machine=f"{machine['cpu']} {kind}, {machine['cores']} cores" + ", virtual" * machine["virtual_machine"],
        date=datetime.date.today().isoformat(),
        versions=versions,
        command="make bench",
    )
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args, Path(folder), environments, results)
        for name in args.only:
            print(f"{name} ...", flush=True)
            SECTIONS[name](bench)
    recorded_path = HERE / "recorded.json"
    records = json.loads(recorded_path.read_text()) if recorded_path.exists() else {}
    recorded = records.setdefault(kind, {})
    args.output.mkdir(parents=True, exist_ok=True)
    if args.only != list(SECTIONS) and (args.output / "results.json").exists():
        old = json.loads((args.output / "results.json").read_text())
        if old["machine"] == results.machine:
            results.keep(old)
    text = results.table(recorded)
    (args.output / "table.md").write_text(text)
    (args.output / "results.json").write_text(json.dumps(results.to_dict(), indent=1) + "\n")
    results.plot(args.output)
    print(text)
    for name, times in regressions(results.ratios, recorded).items():
        print(f"REGRESSION: {name} is {times:.2f} times what was recorded")
    if args.record:
        recorded.update(results.ratios)
        recorded_path.write_text(json.dumps(records, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
