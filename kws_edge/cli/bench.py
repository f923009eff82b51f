"""``kws-edge bench``: measure what keyword spotting costs on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kws_edge.cli import options
from kws_edge.cli.listen import add_source, live_text, stage_table
from kws_edge.cli.parser import output_path
from kws_edge.cli.plot import add_plot, check_plot
from kws_edge.diagnostics import benchmark, system_info
from kws_edge.diagnostics.latency import wall_clock
from kws_edge.diagnostics.live_benchmark import measure_live
from kws_edge.errors import ConfigError, KwsError, ModelError, RuntimeUnavailableError, UsageError
from kws_edge.files import check_writable, sha256_hex, write_atomically
from kws_edge.model.interpreter import Interpreter
from kws_edge.model.model import read_model
from kws_edge.model.runtime import installed
from kws_edge.model.tflite import FlatModel
from kws_edge.ranges import number, whole
from kws_edge.text import counted, printable

if TYPE_CHECKING:
    from kws_edge.cli.parser import Commands

_NOTABLE = 0.05


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "bench",
        help="measure latency, load and memory on this machine",
        description="Measure what keyword spotting costs on this machine. First, bench measures the latency of each "
        "stage, back to back on a bundled recording. Then it runs `kws-edge listen` at live pace, and measures load, "
        "memory, start-up and missed deadlines. If you give a .tflite from elsewhere without --labels and --frontend, "
        "it is only invoked on random values.",
    )
    options.add_model(parser, compare=True)
    options.add_detector(parser)
    parser.add_argument("--inferences", type=whole(1, 100_000), default=1000, metavar="N", help="count, back to back")
    parser.add_argument(
        "--seconds", type=number(0, 86_400), default=10.0, metavar="S", help="time at live pace; 0 skips this part"
    )
    parser.add_argument("--live", action="store_true", help="at live pace, hear the microphone instead of a recording")
    add_source(parser, "the recording")
    parser.add_argument("--json", action="store_true", help="the results as one JSON object in place of the tables")
    parser.add_argument(
        "-o", "--output", type=output_path, metavar="FILE", help="write that JSON object to a file, too"
    )
    parser.add_argument("--against", metavar="FILE", help="compare with the results in this file")
    parser.add_argument(
        "--from", dest="results", metavar="FILE", help="with --against: results to compare, in place of measuring"
    )
    add_plot(parser, "draw histograms of the latencies")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    args.live = args.live or args.device is not None
    if args.live and not args.seconds:
        raise UsageError("--live measures at live pace: give --seconds, more than 0")
    if args.results and (args.plot is not None or not args.against):
        raise UsageError(f"--from {args.results}: only compares with --against FILE; to draw or show, measure")
    old = benchmark.load(args.against, "--against") if args.against else None  # before the long measurement
    if args.output:
        check_writable(args.output, option="--output", apart=options.inputs(args))
    drawn = check_plot(args, args.output, args.against)
    if args.results:
        values, samples = benchmark.load(args.results, "--from"), dict[str, benchmark.Samples]()
    else:
        values, samples = _measure(args)
    against = benchmark.compare(old, values) if old else None
    if args.output:  # before the tables: their reader may go before they end
        write_atomically(args.output, json.dumps(values, indent=1) + "\n", option="--output")
    if args.json:
        print(json.dumps(_compared(values, *against) if against else values))
    else:
        if not args.results:
            _print(values)
        if against:
            _print_comparison(args.against, *against)
    if args.output and not args.json:
        print(f"wrote {args.output}")
    for text in values["warnings"]:
        print(f"kws-edge: {'' if args.results else 'this measurement: '}{printable(text)}", file=sys.stderr)
    if drawn:
        _plot(args.plot, samples, values["model"]["name"])
        print(f"kws-edge: wrote {args.plot}", file=sys.stderr)
    return 0


def _measure(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, benchmark.Samples]]:
    name, flat, metadata = read_model(args.model)
    path = Path(name)
    foreign = metadata is None and not (args.labels and args.frontend)
    if foreign and (args.live or args.labels or args.frontend):
        raise ConfigError(
            f"{path}: says nothing of its labels and front end, so that it can only be invoked; give both --labels and "
            "--frontend for the rest, or neither, and no --live"
        )
    system, before, others = system_info.describe(), system_info.state(), system_info.Load()
    results, samples, audio = [], {}, None
    every = args.runtime == ["all"]
    unloaded: KwsError | None = None
    for runtime in (installed() or ["auto"]) if every else args.runtime:
        for threads in args.threads:
            one = argparse.Namespace(**{**vars(args), "runtime": runtime, "threads": threads})
            try:
                if foreign:
                    result, seconds = _measure_foreign(one, flat, name)
                else:
                    result, seconds, audio = _measure_chain(one)
            except (RuntimeUnavailableError, ModelError) as error:
                if not every:
                    raise
                unloaded = error
                print(f"kws-edge: {runtime} is left out: {error}", file=sys.stderr)
                break
            results.append(result)
            samples[benchmark.configuration(result)] = seconds
    if unloaded and not results:
        raise unloaded
    after, load = system_info.state(), others.shares()
    tensor = flat.inputs[0] if flat.inputs else None
    values = {
        "kind": benchmark.KIND,
        "format": benchmark.FORMAT,
        "date": wall_clock(),
        "board": system,
        "before": before,
        "after": after,
        "load": load,
        "warnings": system_info.warnings(system, before, after, load),
        "model": {
            "name": metadata.name if metadata else path.stem,
            "file": path.name,
            "bytes": path.stat().st_size,
            "tflite_sha256": sha256_hex(flat.data),
            "macs": flat.macs,
            "input": f"{tensor.dtype} {list(tensor.shape)}" if tensor else None,
        },
        "audio": audio,
        "results": results,
    }
    return values, samples


def _measure_foreign(args: argparse.Namespace, flat: FlatModel, name: str) -> tuple[dict[str, Any], benchmark.Samples]:
    interpreter = Interpreter(flat, runtime=args.runtime, threads=args.threads, kernels=args.kernels)
    result, samples = benchmark.measure_foreign(flat, interpreter, inferences=args.inferences, name=name)
    return {**_how(interpreter, args), **result, "live": None}, samples


def _measure_chain(args: argparse.Namespace) -> tuple[dict[str, Any], benchmark.Samples, dict[str, Any]]:
    model = options.load_model(args)
    detector_config = options.detector_config(args, model)
    rate = args.rate or model.frontend_config.sample_rate
    result, samples = benchmark.measure(
        model, detector_config=detector_config, inferences=args.inferences, rate=rate, channels=args.channels
    )
    live = None
    if args.seconds:
        arguments = options.given(args)
        if args.live:
            pcm = None
            found = {"device": args.device, "rate": args.rate}
            arguments += [f"--{name}={value}" for name, value in found.items() if value is not None]
        else:
            arguments += ["-", "--rate", str(rate), "--channels", str(args.channels)]
            pcm = benchmark.recording(args.seconds + 2, rate=rate, channels=args.channels)
        live = measure_live(arguments, seconds=args.seconds, pcm=pcm, bytes_per_s=2 * rate * args.channels)
    return {**_how(model.interpreter, args), **result, "live": live}, samples, {"rate": rate, "channels": args.channels}


def _how(interpreter: Interpreter, args: argparse.Namespace) -> dict[str, Any]:
    return {
        "runtime": interpreter.runtime,
        "version": interpreter.version,
        "threads": args.threads,
        "kernels": args.kernels,
    }


def _print(values: dict[str, Any]) -> None:
    system, m = values["board"], values["model"]
    state = values["after"]
    facts = [system["model"], system["cpu"], counted(system["cores"], "core"), system["machine"]]
    facts += ["virtual machine"] * system["virtual_machine"] + ["emulated"] * system["emulated"]
    if (dots := system["int8_dot_products"]) is not None:
        facts.append("INT8 dot products" if dots else "no INT8 dot products")
    facts += [f"governor {state['governor']}"] * bool(state["governor"])
    if state["temperature_c"] is not None:
        facts.append(f"{state['temperature_c']:.0f} degrees")
    if state["throttled"] is not None:
        facts.append(f"throttled 0x{state['throttled']:x}")
    print("board   " + ", ".join(filter(None, facts)))
    print(
        f"system  {system['system']}, Python {system['python']}, NumPy {system['numpy']}, kws-edge {system['kws_edge']}"
    )
    print(f"model   {printable(m['name'])}, {m['bytes']:,} bytes, {m['macs'] / 1e6:.1f} M multiply-accumulates")
    for result in values["results"]:
        _print_result(result, values["audio"])
    if len(values["results"]) > 1:
        _print_configurations(values["results"])


def _print_result(result: dict[str, Any], audio: dict[str, Any] | None) -> None:
    print(
        f"\n{benchmark.configuration(result)} (version {result['version']}), "
        f"{counted(result['inferences'], 'inference')} back to back"
    )
    print(stage_table({**result["stages"], "bare invoke": result["bare_invoke"]}))
    ratio = result["stages"]["invoke"]["p50_s"] / result["bare_invoke"]["p50_s"]
    if audio is None:
        print(f"invoke takes {ratio:.2f} times a bare loop; random input, for the file says nothing of its front end")
        return
    print(
        f"the stages add up to {100 * result['stages_share']:.1f} % of end to end; invoke takes {ratio:.2f} times a "
        f"bare loop; real-time factor {result['real_time_factor']:.4f}"
    )
    live = result["live"]
    if not live:
        return
    print(f"\nlistening to {live['source']} at live pace for {live['seconds']:.1f} s, {audio['rate']} Hz")
    if live["stages"]:
        print(stage_table(live["stages"]))
        print(live_text(live))
    if live.get("dropped_samples"):
        print(f"{counted(live['dropped_samples'], 'sample')} dropped")
    print("started listening after " + ", ".join(f"{seconds:.2f}" for seconds in live["startup_s"]) + " s")


def _print_configurations(results: list[dict[str, Any]]) -> None:
    width = max(len(benchmark.configuration(result)) for result in results)
    print(f"\n{'':<{width}} {'invoke p50':>11} {'end to end p50':>15} {'p95':>8} {'CPU':>7} {'memory':>8} {'start':>7}")
    for result in results:
        whole, live = result["stages"].get("end_to_end"), result["live"] or {}
        cells = [f"{1000 * result['stages']['invoke']['p50_s']:8.3f} ms"]
        cells += [f"{1000 * whole['p50_s']:12.3f} ms", f"{1000 * whole['p95_s']:5.2f} ms"] if whole else []
        if live:
            cells.append(f"{100 * live['cpu_share']:5.1f} %")
            cells.append(f"{live['peak_bytes'] / 1e6:5.1f} MB" if live["peak_bytes"] else "       -")
            cells.append(f"{sorted(live['startup_s'])[len(live['startup_s']) // 2]:5.2f} s")
        print(f"{benchmark.configuration(result):<{width}} {' '.join(cells)}")


def _compared(values: dict[str, Any], differences: list[str], rows: list[benchmark.Row]) -> dict[str, Any]:
    keys = ("configuration", "figure", "old", "new")
    return {**values, "against": {"differences": differences, "rows": [dict(zip(keys, r, strict=True)) for r in rows]}}


def _print_comparison(name: str, differences: list[str], rows: list[benchmark.Row]) -> None:
    print(f"\nagainst {name}" + "".join(f"\n  differs: {text}" for text in differences))
    width = max(len(figure) for _, figure, _, _ in rows)
    shown = None
    for configuration, figure, old, new in rows:
        if configuration != shown:
            print(f"{configuration}\n  {'':<{width}} {'before':>10} {'now':>10} {'ratio':>7}")
            shown = configuration
        ratio = new / old if old else float("nan")
        mark = "more" if ratio > 1 + _NOTABLE else "less" if ratio < 1 - _NOTABLE else ""
        print(f"  {figure:<{width}} {old:10.4g} {new:10.4g} {ratio:7.2f}  {mark}".rstrip())


def _plot(path: str, samples: dict[str, benchmark.Samples], title: str) -> None:
    import numpy as np

    from kws_edge.cli.plot import pyplot, save_figure

    plt = pyplot()
    figure, axes = plt.subplots(
        len(samples), 1, figsize=(9, 1 + 3 * len(samples)), sharex=True, squeeze=False, layout="constrained"
    )
    for axis, (configuration, stages) in zip(axes[:, 0], samples.items(), strict=True):
        drawn = {name: 1000 * seconds for name, seconds in stages.items() if seconds.min() > 0}
        low, high = (limit(limit(ms) for ms in drawn.values()) for limit in (min, max))
        bins = np.geomspace(low, max(high, 1.01 * low), 160)
        for name, ms in drawn.items():
            p50 = np.median(ms)
            axis.hist(ms, bins, histtype="stepfilled", alpha=0.5, label=f"{name.replace('_', ' ')}: {p50:.3g} ms")
        axis.set(xscale="log", ylabel="inferences", title=f"{title}, {configuration}")
        axis.legend(fontsize=8, title="p50")
    axes[-1, 0].set_xlabel("ms")
    save_figure(figure, path)
