"""``kws-edge bench``, its stopwatch, and its facts about the machine."""

import copy
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws_edge import ConfigError, KwsError, Model, PcmStream, Spotter, shipped_models, unpack
from kws_edge.audio.playback import Playback
from kws_edge.audio.queue import BlockQueue
from kws_edge.diagnostics import benchmark, system_info
from kws_edge.diagnostics.latency import DETECTOR, FRONTEND, INVOKE, OFF, STAGES, Stopwatch, peak_bytes, percentiles
from kws_edge.diagnostics.live_benchmark import measure_live
from tests.conftest import assert_one_line_error, assert_usage_error
from tests.test_microphone import server  # noqa: F401

pytestmark = pytest.mark.sound

SCHEMA = Path(__file__).parent.parent / "docs" / "reference" / "json.md"
QUICK = ("--inferences", "60", "--seconds", "1")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """One measurement as the command writes it, and the folder of the measurement and its histograms."""
    folder = tmp_path_factory.mktemp("bench")
    command = [sys.executable, "-m", "kws_edge", "bench", *QUICK, "--json", "-o", "out.json"]
    done = subprocess.run(command, capture_output=True, check=True, cwd=folder, timeout=300)
    assert [path.name for path in folder.iterdir()] == ["out.json"]
    values = json.loads(done.stdout)
    assert values == json.loads((folder / "out.json").read_text())
    assert done.stderr.decode().count("this measurement: ") == len(values["warnings"])
    return values, folder / "out.json"


def test_percentiles_are_of_the_samples():
    values = percentiles(np.arange(1, 101)[::-1] / 1000)
    assert values == {"mean_s": pytest.approx(0.0505), "p50_s": 0.05, "p95_s": 0.095, "p99_s": 0.099, "max_s": 0.1}
    assert set(percentiles(np.array([0.25])).values()) == {0.25}
    assert percentiles(np.array([3.0, 1.0]))["p50_s"] == 1.0


def test_stopwatch_adds_up_and_counts_what_is_late():
    watch = Stopwatch(0.05, kept=4)
    for late in (False, True, False, False, False, True):
        watch.start(time.perf_counter() - (0.06 if late else 0.0))
        watch.lap(FRONTEND)
        watch.lap(INVOKE)
        watch.lap(DETECTOR)
        watch.stop()
    assert (watch.inferences, watch.deadline_misses) == (6, 2)
    samples = watch.samples()
    assert list(samples) == [*STAGES, "end_to_end"]
    assert all(len(seconds) == 4 for seconds in samples.values())  # the last ones
    assert samples["end_to_end"].max() >= 0.06
    total = sum(samples[name] for name in STAGES)
    np.testing.assert_allclose(total, samples["end_to_end"], atol=1e-3)
    summary = watch.summary()
    assert watch.summary()["seconds"] == summary["seconds"]  # closed
    assert summary["stages"]["invoke"]["max_s"] >= summary["stages"]["invoke"]["p50_s"] >= 0
    assert Stopwatch(1.0).summary()["stages"] is None


def test_several_inferences_of_a_block_have_a_deadline_each():
    """If audio has waited for long, the audio of the newest inferences is not late."""
    watch = Stopwatch(100.0)
    watch.start(time.perf_counter() - 1050)
    for _ in range(20):
        watch.stop()
    assert watch.deadline_misses == 10
    assert watch.samples()["end_to_end"][1:].max() < 100


def test_who_asks_for_no_times_gets_none(model, demo_stream):
    """The shared stopwatch counts nothing of a stream, and keeps nothing."""
    samples = soundfile.read(demo_stream, dtype="int16", frames=32000)[0]
    spotter = Spotter(model)
    assert spotter.stopwatch is OFF
    assert len(list(spotter.process_steps(samples))) == 19
    with PcmStream(io.BytesIO(samples.tobytes()), sample_rate=16000) as source:
        assert len(np.concatenate(list(source))) == 32000
    assert (OFF.inferences, OFF.deadline_misses) == (0, 0)
    assert not any(map(len, OFF.samples().values()))
    assert OFF.summary()["seconds"] == 0


def test_peak_memory_is_this_process_s():
    assert 20e6 < peak_bytes() < 8e9


def test_a_reader_is_woken_for_what_it_wants():
    queue = BlockQueue(capacity=100)
    queue.put(bytes(40), 20)
    with pytest.raises(TimeoutError):
        queue.get(0.01, at_least=21)
    before = time.perf_counter()
    queue.put(bytes(40), 20)
    after = time.perf_counter()
    queue.put(bytes(40), 20)
    assert queue.get(0.1, at_least=21) == (bytes(120), 60, 0)
    assert before <= queue.arrived <= after
    for _ in range(4):  # wanting more than the queue holds: a full one must do
        queue.put(bytes(60), 30)
        if queue.dropped:
            break
    assert queue.get(0.1)[1] == 90
    for _ in range(3):
        queue.put(bytes(80), 40)
    assert queue.get(0.1, at_least=1)[1] == 80


def test_a_full_queue_wakes_a_reader_that_wants_more(demo_stream):
    queue = BlockQueue(capacity=100)
    got = []
    thread = threading.Thread(target=lambda: got.append(queue.get(10, at_least=1000)))
    thread.start()
    while not got and thread.is_alive():
        queue.put(bytes(60), 30)
        time.sleep(0.001)
    thread.join()
    assert got[0][1] <= 100


@pytest.mark.parametrize("rate", [16000, 48000])
def test_live_sources_and_spotter_time_each_inference(model, demo_stream, rate):
    """Through a microphone's queue there are as many records as inferences, and the inferences are the same."""
    if rate != 16000:
        pytest.importorskip("soxr", exc_type=ImportError)
    spotter = Spotter(model)
    watch = spotter.stopwatch = Stopwatch(spotter.step_s)
    with Playback(demo_stream, sample_rate=16000, real_time=False) as source:
        source.stopwatch = watch
        steps = list(spotter.steps(source))
    silent = model.frontend_config.clip_samples // 1600  # after the end of the stream nothing arrives
    assert silent - 1 <= len(steps) - watch.inferences <= silent
    for name, seconds in watch.samples().items():
        assert (seconds >= 0).all(), name
    assert spotter.stopwatch is watch


def test_samples_to_step(model):
    """Exactly this number of samples completes an inference. One sample less does not."""
    spotter = Spotter(model)
    rng = np.random.default_rng(0)
    for _ in range(12):
        wanted = spotter.samples_to_step
        assert 0 < wanted <= 1920
        noise = rng.integers(-500, 500, wanted).astype(np.int16)
        assert not list(spotter.process_steps(noise[:-1]))
        assert spotter.samples_to_step == 1
        assert len(list(spotter.process_steps(noise[-1:]))) == 1


def test_a_block_may_be_changed_after_it_was_taken(model, demo_stream):
    """The spotter copies samples that it keeps until the next inference."""
    samples = soundfile.read(demo_stream, dtype="int16", frames=32000)[0]
    expected = [step.posteriors for step in Spotter(model).process_steps(samples)]
    spotter, found, block = Spotter(model), [], np.empty(320, np.int16)
    for at in range(0, len(samples), 320):
        block[:] = samples[at : at + 320]
        found += [step.posteriors for step in spotter.process_steps(block)]
        block[:] = 0
    assert np.array_equal(found, expected)


def test_what_is_measured(results):
    values, _ = results
    (result,) = values["results"]
    assert (result["inferences"], result["step_s"], result["threads"]) == (60, 0.1, 1)
    assert list(result["stages"]) == [*STAGES, "end_to_end"]
    for figures in (*result["stages"].values(), result["bare_invoke"]):
        assert 0 <= figures["p50_s"] <= figures["p95_s"] <= figures["p99_s"] <= figures["max_s"]
    # Half a dozen times 5 %, because the machine that runs the tests does other things, too.
    assert 0.7 < result["stages_share"] <= 1.01
    assert 0.5 < result["stages"]["invoke"]["p50_s"] / result["bare_invoke"]["p50_s"] < 2
    assert result["real_time_factor"] > 0
    live = result["live"]
    assert live["source"] == "standard input"
    assert 7 <= live["inferences"] <= 10
    assert 0 <= live["deadline_misses"] <= live["inferences"]
    assert len(live["startup_s"]) == 3
    assert 0 < live["cpu_share"] < 2
    assert 20e6 < live["peak_bytes"] < 100e6
    assert list(live["stages"]) == [*STAGES, "end_to_end"]


def paths(value, at=""):
    """The path of every value in a JSON object. Names of stages, figures and runtimes are left open."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, f"{at}.{key}" if at else key)
    elif isinstance(value, list):
        for inner in value:
            yield from paths(inner, f"{at}[]")
    else:
        for pattern, name in (
            (r"\bstages\.\w+", "stages.STAGE"),
            (r"\bruntimes\.[\w-]+", "runtimes.RUNTIME"),
            (r"\b(mean|p50|p95|p99|max)_s$", "FIGURE"),
        ):
            at = re.sub(pattern, name, at)
        yield at


def test_the_schema_is_documented(results, run_cli):
    """Every name that is written is in the document's table, and every name of the table is written."""
    values, path = results
    compared = json.loads(run_cli("bench", "--from", path, "--against", path, "--json").stdout)
    values = copy.deepcopy(values)
    values["warnings"] = ["so that there is one"]
    values["results"][0]["live"] |= {"dropped_samples": 0, "overruns": 0}
    compared["against"]["differences"] = ["so that there is one"]
    text = SCHEMA.read_text().partition(f"The JSON of `kws-edge bench`, format {benchmark.FORMAT}.\n")[2]
    documented = set(re.findall(r"^\| `([^`]+)` \|", text, re.M))
    assert documented == set(paths(values)) | set(paths({"against": compared["against"]}))


def test_tables(run_cli):
    done = run_cli("bench", "--threads", "1,2", "--inferences", "50", "--seconds", "0", "--kernels", "builtin")
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    for part in ("board ", "Python ", f"commands12, {Model().size:,} bytes", "1 thread, builtin", "2 threads, builtin"):
        assert part in text
    for stage in (*STAGES, "end_to_end", "bare invoke"):
        assert text.count(f"\n{stage.replace('_', ' ')} ") == 2
    assert text.count("the stages add up to") == 2
    assert "live pace" not in text


def test_another_rate_and_channels(run_cli):
    pytest.importorskip("soxr", exc_type=ImportError)
    options = ("--rate", "48000", "--channels", "2", "--inferences", "30", "--seconds", "0.6", "--json")
    done = run_cli("bench", "--step-ms", "200", *options)
    values = json.loads(done.stdout)
    assert values["audio"] == {"rate": 48000, "channels": 2}
    (result,) = values["results"]
    assert result["step_s"] == 0.2
    assert 2 <= result["live"]["inferences"] <= 3
    assert result["stages"]["resample"]["p50_s"] > 0


@pytest.fixture
def foreign(tmp_path):
    path = tmp_path / "foreign.tflite"
    path.write_bytes(unpack(Path(shipped_models()["micro12"]).read_bytes(), "shipped")[0])
    return path


def test_foreign_model(run_cli, foreign):
    """Without metadata only invoking can be measured. With labels and front end, everything can."""
    done = run_cli("bench", "--model", foreign, *QUICK)
    assert b"random input" in done.stdout
    assert b"front end   " not in done.stdout
    (result,) = json.loads(run_cli("bench", "--model", foreign, *QUICK, "--json").stdout)["results"]
    assert list(result["stages"]) == ["invoke"]
    assert result["live"] is None
    labels = ",".join(Model("micro12").labels)
    options = ("--model", foreign, "--labels", labels, "--frontend", "logmel40")
    (result,) = json.loads(run_cli("bench", *options, *QUICK, "--json").stdout)["results"]
    assert len(result["stages"]) == 7
    assert result["live"]["inferences"]
    for wrong in (("--labels", labels), ("--live",)):
        failed = run_cli("bench", "--model", foreign, *wrong)
        assert_one_line_error(failed, "foreign.tflite", "give both --labels and --frontend")


def test_random_values_of_every_type():
    rng = np.random.default_rng(0)
    for dtype in ("float32", "float16", "int8", "uint8", "int16", "int32", "int64", "bool"):
        values = benchmark._random(rng, (1, 40, 3), np.dtype(dtype))
        assert values.dtype == dtype
        assert values.shape == (1, 40, 3)
        assert len(np.unique(values)) > 1
    with pytest.raises(ValueError, match="complex64"):
        benchmark._random(rng, (1,), np.dtype("complex64"))


def test_foreign_float_model_with_two_inputs(run_cli, tmp_path):
    tf = pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")
    a, b = (tf.TensorSpec(shape, tf.float32) for shape in ((1, 16), (16, 4)))
    function = tf.function(lambda a, b: tf.matmul(a, b), input_signature=(a, b)).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    (tmp_path / "two.tflite").write_bytes(converter.convert())
    (result,) = json.loads(run_cli("bench", "--model", "two.tflite", *QUICK, "--json").stdout)["results"]
    assert result["bare_invoke"]["p50_s"] > 0


def test_against(results, run_cli, tmp_path):
    values, path = results
    slower = copy.deepcopy(values)
    slower["results"][0]["stages"]["invoke"]["p50_s"] *= 2
    slower["board"]["numpy"] = "0.1"
    (tmp_path / "slower.json").write_text(json.dumps(slower))
    text = run_cli("bench", "--from", "slower.json", "--against", path).stdout.decode()
    assert f"differs: numpy: {values['board']['numpy']} -> 0.1" in text
    (line,) = [line for line in text.splitlines() if line.startswith("  invoke p50")]
    assert line.split()[-2:] == ["2.00", "more"]
    assert "end to end p95, ms" in text
    assert "live memory, MB" in text
    differences, rows = benchmark.compare(values, values)
    assert not differences
    assert all(old == new for _, _, old, new in rows)
    measured = run_cli("bench", "--inferences", "50", "--seconds", "0", "--against", path)
    assert b"end to end p50, ms" in measured.stdout
    assert b"live memory" not in measured.stdout  # live memory was not measured this time


def test_no_picture_takes_the_place_of_results(results, run_cli, tmp_path):
    pytest.importorskip("matplotlib", exc_type=ImportError, reason="matplotlib is not installed here")
    (tmp_path / "board").write_text(json.dumps(results[0]))
    failed = run_cli("bench", "--against", "board", "--plot", "board")
    assert_usage_error(failed, "--plot board: is what this command reads")
    assert json.loads((tmp_path / "board").read_text()) == results[0]


def test_what_cannot_be_compared(results, run_cli, tmp_path):
    values, path = results
    (tmp_path / "text.json").write_text("hello")
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "newer.json").write_text(json.dumps({**values, "format": 99}))
    (tmp_path / "hollow.json").write_text(json.dumps({**values, "results": [{"runtime": "litert"}]}))
    other = copy.deepcopy(values)
    other["results"][0]["threads"] = 7
    (tmp_path / "other.json").write_text(json.dumps(other))
    for name, part in {
        "missing.json": "No such file",
        "text.json": "not JSON",
        "list.json": "holds no results",
        "newer.json": "99",
        "hollow.json": "lack",
        "other.json": "7 threads",
    }.items():
        assert_one_line_error(run_cli("bench", "--from", path, "--against", name), part)
    assert_usage_error(run_cli("bench", "--from", path), "--against")
    assert_usage_error(run_cli("bench", "--from", path, "--against", path, "--plot", "a.png"), "measure")


def replaced(values, path, new):
    """`values` with what lies at `path` replaced."""
    changed = copy.deepcopy(values)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return changed


def test_results_that_are_damaged(results, run_cli, tmp_path):
    """Wrong types, absurd numbers and nesting are refused by name before anything is measured."""
    values, _ = results
    first = ("results", 0)
    damaged = {
        "text": (replaced(values, (*first, "stages", "invoke", "p50_s"), "0.1"), "invoke p50"),
        "huge": (replaced(values, (*first, "stages", "invoke", "p95_s"), 10**400), "invoke p95"),
        "negative": (replaced(values, (*first, "real_time_factor"), -1), "real-time factor"),
        "list": (replaced(values, (*first, "live", "startup_s"), ["x"]), "startup_s"),
        "none": (replaced(values, (*first, "live", "startup_s"), []), "startup_s"),
        "threads": (replaced(values, (*first, "threads"), [1]), "threads"),
        "result": (replaced(values, first, 5), "measure anew"),
        "live": (replaced(values, (*first, "live"), [1]), "measure anew"),
        "board": (replaced(values, ("board",), [1]), "measure anew"),
        "warnings": (replaced(values, ("warnings",), "text"), "warnings"),
    }
    for name, (content, part) in damaged.items():
        (tmp_path / name).write_text(json.dumps(content))
        with pytest.raises(ConfigError, match=part):
            benchmark.load(tmp_path / name, "--against")
    for text in (
        "[" * 200_000,
        json.dumps(values)[:-50],
        json.dumps(replaced(values, ("date",), float("nan"))),
        "\x00",
    ):
        (tmp_path / "broken").write_text(text)
        with pytest.raises(ConfigError, match=r"--against .*broken: not JSON"):
            benchmark.load(tmp_path / "broken", "--against")
    (tmp_path / "mark").write_text(json.dumps(values), encoding="utf-8-sig")
    assert benchmark.load(tmp_path / "mark", "--against") == values
    evil = replaced(values, ("board", "model"), "\x1b]0;t\x07" + "x" * 10_000)
    evil["warnings"] = ["\x1b[2J"]
    (tmp_path / "evil").write_text(json.dumps(evil))
    (tmp_path / "good").write_text(json.dumps(values))
    done = run_cli("bench", "--from", "evil", "--against", "good")
    assert done.returncode == 0
    assert b"\x1b" not in done.stdout + done.stderr
    assert max(map(len, done.stdout.splitlines())) < 300


def test_plot(run_cli, tmp_path):
    pytest.importorskip("matplotlib", exc_type=ImportError, reason="matplotlib is not installed here")
    done = run_cli("bench", "--inferences", "50", "--seconds", "0", "--threads", "1,2", "--plot", "out.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]


def test_plot_without_matplotlib(run_cli, tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not here')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    failed = run_cli("bench", "--plot", "out.png", env={**os.environ, "PYTHONPATH": path})
    assert_one_line_error(failed, "pip install matplotlib")


def test_errors(run_cli, tmp_path):
    for options, part in {
        ("--rate", "768000", "--channels", "64"): "more audio than the 256 MiB",
        ("--model", "missing.tflite"): "no such file",
    }.items():
        assert_one_line_error(run_cli("bench", *options), part)
    (tmp_path / "file").touch()
    failed = run_cli("bench", "--inferences", "20", "--seconds", "0", "-o", "file/out.json", "--json")
    assert failed.returncode == 1
    assert b"--output file/out.json: cannot be written" in failed.stderr
    for options in (("--threads", "0"), ("--threads", "two"), ("--runtime", "onnx"), ("--live", "--seconds", "0")):
        assert run_cli("bench", *options).returncode == 2


def test_listen_that_does_not_start_is_explained():
    with pytest.raises(KwsError, match=r"listen did not start: .*no such file"):
        measure_live(["--model=missing.tflite", "-"], seconds=1, pcm=bytes(64000), bytes_per_s=32000)


@pytest.mark.parametrize("rate", [1000, 8000])
def test_low_rates_do_not_wait_for_what_does_not_come(rate):
    """Before anything is heard, a pipe's first two kilobytes are searched for frames of MP3."""
    pytest.importorskip("soxr", exc_type=ImportError)
    pcm = benchmark.recording(2.3, rate=rate, channels=1)
    live = measure_live(["-", f"--rate={rate}"], seconds=0.3, pcm=pcm, bytes_per_s=2 * rate)
    assert live["inferences"] >= 1
    assert max(live["startup_s"]) < 60


def test_listen_counts(run_cli, demo_stream):
    pcm = benchmark.recording(3, rate=16000)
    plain = run_cli("listen", "-", input=pcm).stderr.decode().splitlines()
    assert re.match(r"kws-edge: 29 inferences, p50 .* ms, p95 .* ms, max .*; \d+ later than 100 ms; .*MB$", plain[-2])
    assert plain[-1].startswith("kws-edge: heard 3.0 s")
    table = run_cli("listen", "-", "--stats", input=pcm).stderr.decode()
    for stage in (*STAGES, "end_to_end"):
        assert f"\n{stage.replace('_', ' ')} " in table
    *detections, last = run_cli("listen", "-", "--stats", "--json", input=pcm).stdout.splitlines()
    assert json.loads(last)["stats"]["inferences"] == 29
    assert all("keyword" in json.loads(line) for line in detections)


def test_microphone(server, run_cli):  # noqa: F811
    done = run_cli("bench", "--device", "pulse", *QUICK, "--json", env=server.environment)
    assert done.returncode == 0, done.stderr
    live = json.loads(done.stdout)["results"][0]["live"]
    assert live["source"] == "microphone"
    assert live["inferences"] >= 7
    assert live["dropped_samples"] + live["overruns"] >= 0  # counted, at least
    assert 20e6 < live["peak_bytes"] < 75e6  # 61 MB here, 22 of them of the process that records
    assert_one_line_error(run_cli("bench", "--device", "no such", *QUICK, env=server.environment), "'no such'")


def test_opening_the_microphone_loads_no_encoder(server):  # noqa: F811
    """ALSA's AC-3 encoder would bring FFmpeg into a program that records."""
    code = (
        "from kws_edge import Microphone; microphone = Microphone(sample_rate=16000)\n"
        "for process in (microphone.process_id, 'self'):\n"
        "    maps = open(f'/proc/{process}/maps').read(); print('libasound.so' in maps, 'libavcodec' in maps)\n"
    )
    maps = subprocess.run(
        [sys.executable, "-c", code], env=server.environment, capture_output=True, check=True, text=True
    )
    assert maps.stdout.splitlines() == ["True False", "False False"]


@pytest.fixture
def pi(tmp_path):
    """The files that tell a Raspberry Pi."""
    cpufreq = "sys/devices/system/cpu/cpu0/cpufreq"
    for name, text in {
        "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
        "proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd\nModel\t\t: Raspberry Pi 4 Model B\n",
        "proc/meminfo": "MemTotal:        3884360 kB\nMemFree: 1 kB\n",
        "proc/stat": "cpu  100 0 100 10000 0 0 0 0 0 0\n",
        "etc/os-release": 'PRETTY_NAME="Raspbian GNU/Linux 12 (bookworm)"\nID=raspbian\n',
        f"{cpufreq}/scaling_governor": "ondemand\n",
        f"{cpufreq}/scaling_driver": "cpufreq-dt\n",
        f"{cpufreq}/scaling_cur_freq": "600000\n",
        f"{cpufreq}/scaling_max_freq": "1800000\n",
        f"{cpufreq}/cpuinfo_max_freq": "1800000\n",
        "sys/class/thermal/thermal_zone0/temp": "48312\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "0\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


QUIET = {"others_share": 0.01, "stolen_share": 0.0}
PLAIN = {"emulated": False, "cores": 4, "cores_usable": 4}


def test_board(pi):
    found = system_info.describe(pi)
    assert found["model"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert found["cpu"] == "Raspberry Pi 4 Model B"
    assert found["memory_bytes"] == 3884360 * 1024
    assert found["system"] == "Raspbian GNU/Linux 12 (bookworm)"
    assert not found["virtual_machine"]
    assert found["int8_dot_products"] is False
    for said, dots in (
        ("Features\t: fp asimd asimddp", True),
        ("flags\t: avx2 avx_vnni", True),
        ("BogoMIPS\t: 1", None),
    ):
        (pi / "proc/cpuinfo").write_text(f"processor\t: 0\n{said}\n")
        assert system_info.describe(pi)["int8_dot_products"] is dots
    state = system_info.state(pi)
    assert state["governor"] == "ondemand"
    assert state["scaling_cur_hz"] == 600_000_000
    assert state["temperature_c"] == pytest.approx(48.3, abs=0.02)
    assert state["throttled"] == 0
    assert state["on_battery"] is None
    assert system_info.warnings(PLAIN, state, {**state, "nice": 0}, QUIET) == []


@pytest.mark.parametrize(
    ("file", "text", "warning"),
    [
        ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave", "scaling_governor"),
        ("sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq", "1000000", "limited to 1000 MHz of 1800 MHz"),
        ("sys/class/thermal/thermal_zone0/temp", "84000", "84 degrees"),
        ("sys/devices/platform/soc/soc:firmware/get_throttled", "50005", "reports under-voltage, throttled"),
        ("sys/devices/platform/soc/soc:firmware/get_throttled", "80000", "has reported soft temperature limit"),
        ("sys/class/power_supply/BAT0/status", "Discharging", "battery"),
    ],
)
def test_warnings(pi, file, text, warning):
    supply = pi / "sys/class/power_supply/BAT0"
    supply.mkdir(parents=True)
    (supply / "type").write_text("Battery\n")
    (supply / "status").write_text("Charging\n")
    before = {**system_info.state(pi), "nice": 0}
    assert system_info.warnings(PLAIN, before, before, QUIET) == []
    (pi / file).write_text(text + "\n")
    (found,) = system_info.warnings(PLAIN, before, {**system_info.state(pi), "nice": 0}, QUIET)
    assert warning in found


def test_more_warnings(pi):
    state = {**system_info.state(pi), "nice": 0}
    quick = {**state, "governor": "powersave", "driver": "intel_pstate"}  # which adapts under that name
    assert system_info.warnings(PLAIN, quick, quick, QUIET) == []
    for part, values, load in (
        ("emulated", {"emulated": True}, {}),
        ("2 of 4 cores", {"cores_usable": 2}, {}),
        ("other programs used 40 %", {}, {"others_share": 0.4}),
        ("hypervisor gave 9 %", {}, {"stolen_share": 0.09}),
    ):
        (found,) = system_info.warnings({**PLAIN, **values}, state, state, {**QUIET, **load})
        assert part in found
    (found,) = system_info.warnings(PLAIN, state, {**state, "nice": 5}, QUIET)
    assert "nice 5" in found
    assert system_info.warnings(PLAIN, state, state, {"others_share": None, "stolen_share": None}) == []


def test_load_of_others(pi, tmp_path):
    load = system_info.Load(pi)
    assert load.shares() == {"others_share": None, "stolen_share": None}  # no time has passed
    (pi / "proc/stat").write_text("cpu  1100 0 100 18900 0 0 0 100 0 0\n")
    shares = load.shares()
    assert shares["others_share"] == pytest.approx(0.1, abs=0.01)
    assert shares["stolen_share"] == pytest.approx(0.01, abs=0.001)
    if Path("/proc/stat").exists():
        here = system_info.Load()
        time.sleep(0.1)
        assert 0 <= here.shares()["others_share"] <= 1.1


def test_a_machine_that_tells_nothing(tmp_path):
    assert system_info.describe(tmp_path)["model"] is None
    state = system_info.state(tmp_path)
    assert state["throttled"] is state["governor"] is state["temperature_c"] is None
    assert system_info.Load(tmp_path).shares()["others_share"] is None
    assert system_info.warnings(PLAIN, state, {**state, "nice": 0}, {"others_share": None, "stolen_share": None}) == []
