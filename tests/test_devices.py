"""Data-parallel training by Keras on JAX, on virtual devices of this machine's CPU and by processes over loopback."""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from host_tools.config import DevicesConfig
from host_tools.options import markdown_table
from tests.conftest import ROOT, assert_one_line_error, assert_one_line_error_at_end, assert_usage_error
from tests.test_roll_call import hosts

keras = pytest.importorskip("keras", exc_type=ImportError, reason="Keras is not installed here")
pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")

from benchmarks.devices import apart, times, virtual, ways  # noqa: E402
from host_tools.devices.one import OneDevice  # noqa: E402
from host_tools.devices.precision import accelerated, copied, is_mixed  # noqa: E402
from host_tools.networks.models import build  # noqa: E402
from host_tools.networks.streaming import scoring, states  # noqa: E402
from host_tools.shards.make import make_features  # noqa: E402
from host_tools.training.curves import read_log  # noqa: E402
from host_tools.training.run import load_run  # noqa: E402
from kws_edge.presets import preset  # noqa: E402

pytestmark = [pytest.mark.host, pytest.mark.xdist_group("training"), pytest.mark.timeout(900)]
needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="JAX is not installed here: no data-parallel training"
)
NIGHTLY = bool(os.environ.get("KWS_NIGHTLY"))
EPOCHS = 6
CLIPS = ("--model", "micro", "--steps", "2", "--batch-size", "12")
STREAM = ("--model", "stream_micro", "--steps", "2", "--batch-size", "4", "--sequence-s", "2", "--mined", "0.3")


def in_the_night(*cases):
    """Cases that run every night alone."""
    skipped = pytest.mark.skipif(not NIGHTLY, reason="runs every night: KWS_NIGHTLY is not set")
    return [pytest.param(*one, marks=skipped) for one in cases]


def train_options(folder, run, *options):
    return [
        "train", folder / "clips", "-o", run, "--speech", folder / "speech", "--cache", folder / "cache",
        "--epochs", EPOCHS, "--width", "0.25", *options,
    ]  # fmt: skip


def start(*arguments, cwd, env=None):
    return subprocess.Popen(
        [sys.executable, "-m", "host_tools", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "KERAS_BACKEND": "jax", **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def ended(process, timeout=600):
    out, error = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


def done(process):
    """The output of a process that succeeds."""
    finished = ended(process)
    assert finished.returncode == 0, finished.stderr.decode()
    return finished.stdout.decode()


def stamp(run):
    """When the run's last epoch was kept."""
    path = run / "last.keras"
    return path.stat().st_mtime_ns if path.exists() else 0


def wait_for_an_epoch(run, process):
    before, deadline = stamp(run), time.monotonic() + 600
    while stamp(run) == before:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def first_epoch(output):
    """The epoch from which a command went on."""
    return int(re.search(r", from epoch (\d+) on", output)[1])


def losses(run):
    return np.array([row["loss"] for row in read_log(run)])


def shared_steps(kind, steps, *places, env=None):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.shared_steps", kind, *map(str, (steps, *places))],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "jax", **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@needs_jax
@pytest.mark.parametrize(
    ("kind", "processes"), [("clips", 1), ("sequences", 2), *in_the_night(("clips", 2), ("sequences", 1))]
)
def test_losses_are_those_of_one_device(kind, processes):
    """So are the answers, and those of averaged weights. Dropout, batch norm and clipped gradients take part."""
    steps = 200 if NIGHTLY else 60
    if processes == 1:
        each = [shared_steps(kind, steps, env=virtual(2))]
    else:
        names = hosts(2)
        each = [shared_steps(kind, steps, names, rank) for rank in range(2)]
    found = json.loads(done(each[0]).splitlines()[-1])
    for other in each[1:]:
        done(other)
    one, several = found["one"], found["several"]
    assert several["number"] == 2 and several["odd"] == one["odd"] == 5
    assert len(one["losses"]) == steps and np.mean(one["losses"][-20:]) < 0.8 * np.mean(one["losses"][:20])
    for name in ("losses", "answers", "averaged"):
        if name in one:
            np.testing.assert_allclose(several[name], one[name], rtol=1e-8, atol=1e-8)


@pytest.fixture(scope="module")
def in_shards(folder, tmp_path_factory):
    """Options of a training that reads features in shards, too, another window of them in each epoch."""
    shards = tmp_path_factory.mktemp("shards") / "shards"
    make_features(str(folder / "clips"), shards, preset("logmel40"), shards=3, workers=1)
    return ["--features", shards, "--window", "60"]


@needs_jax
@pytest.mark.parametrize("options", [CLIPS, *in_the_night([STREAM])])
def test_a_run_goes_on_with_other_devices(folder, in_shards, tmp_path, options):
    """One device begins, two processes go on until one is killed, and two devices end it. Losses are one device's.

    Rank 0 alone writes the run's folder, and ends with the reason. Rounding of float32 grows in the losses.
    """
    whole, run, other = tmp_path / "whole", tmp_path / "run", tmp_path / "other"
    options = (*options, *in_shards)
    alone = start(*train_options(folder, whole, *options), cwd=tmp_path)
    wait_for_an_epoch(whole, alone)
    alone.send_signal(signal.SIGSTOP)
    shutil.copytree(whole, run)  # as a kill would leave it
    alone.send_signal(signal.SIGCONT)
    done(alone)

    other.mkdir()
    both = ("--hosts", hosts(2), "--rank")
    second = start(*train_options(folder, "run", *options, *both, 1), cwd=other, env={"PYTHONUNBUFFERED": "1"})
    first = start(*train_options(folder, "run", *options, *both, 0), cwd=tmp_path)
    wait_for_an_epoch(run, first)
    second.send_signal(signal.SIGKILL)
    assert b"rank 1: trains for rank 0, which tells how it goes and writes run\n" in ended(second).stdout
    failed = ended(first, timeout=120)
    assert_one_line_error_at_end(
        failed, "rank 1 (127.0.0.1:", "has ended: it was ended from outside", "go on from the last whole epoch"
    )
    assert not any(other.iterdir())
    told = json.loads((run / "config.json").read_text())["devices"]
    assert told == {"number": 2, "precision": "float32", "kind": "cpu", "processes": 2}

    output = done(start(*train_options(folder, run, *options, "--devices", "all"), cwd=tmp_path, env=virtual(2)))
    assert "each batch is shared by 2 devices (cpu)" in output
    assert 1 < first_epoch(failed.stdout.decode()) < first_epoch(output)
    np.testing.assert_allclose(losses(run), losses(whole), rtol=5e-3)
    assert not is_mixed(load_run(run).model())


@needs_jax
@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--devices", "3"), ("--devices 3: this machine has 2 cpu devices: give --devices 2", "XLA_FLAGS=")),
        (
            ("--devices", "all", "--batch-size", "7"),
            ("a batch of 7 cannot be split evenly over 2 devices: give --batch-size 6 or 8, or 1 device in all",),
        ),
        (("--precision", "mixed"), ("--precision mixed is for GPUs", "finds none here: give --precision float32")),
    ],
)
def test_what_this_machine_cannot_do_is_said(folder, tmp_path, options, parts):
    failed = ended(start(*train_options(folder, "run", *options), cwd=tmp_path, env=virtual(2)))
    assert_one_line_error(failed, *parts, program="kws-host")
    assert not (tmp_path / "run").exists()


def test_other_backends_have_one_device(folder, run_cli):
    for options in (("--devices", "all"), ("--hosts", "127.0.0.1:7777,127.0.0.1:7778", "--rank", "0")):
        failed = run_cli(*train_options(folder, "run", *options), package="host_tools")
        assert_one_line_error(
            failed,
            f"{options[0]} needs Keras on JAX, not tensorflow: set KERAS_BACKEND=jax, and install it by pip install",
            program="kws-host",
        )


def test_a_wrong_rank_is_wrong_usage(folder, run_cli):
    options = train_options(folder, "run", "--hosts", "a:7777,b:7777", "--rank", "2")
    assert_usage_error(run_cli(*options, package="host_tools"), "rank must be from 0 to 1", program="kws-host")


@pytest.mark.parametrize("name", ["micro", "residual", "stream_micro", "stream_residual"])
def test_mixed_precision_is_inside_the_network_alone(name):
    network = build(name, preset("logmel40"), 11, width=0.25)
    if streams := name.startswith("stream"):
        network = scoring(network)
    mixed = copied(network, mixed=True)
    weighted = [layer for layer in mixed.layers if layer.weights]
    assert is_mixed(mixed) and not is_mixed(network)
    assert {weight.dtype for weight in mixed.weights} == {"float32"}
    assert [weighted[0].compute_dtype, weighted[-1].compute_dtype] == ["float32", "float32"]
    assert {layer.compute_dtype for layer in weighted[1:-1]} == {"bfloat16"}
    levels = np.random.default_rng(0).uniform(30, 255, (4, 80, 1, 40) if streams else (4, 98, 40, 1)).astype(np.float32)
    x = [levels, *states(network, 4)] if streams else levels
    expected, found = network.predict_on_batch(x), mixed.predict_on_batch(x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0.05, atol=0.1)
    assert np.array_equal(copied(mixed).predict_on_batch(x), expected)


def test_a_run_goes_on_in_another_precision():
    """With the state of its optimizer."""
    rng = np.random.default_rng(0)
    network = build("micro", preset("logmel40"), 3, width=0.25)
    network.compile(optimizer=keras.optimizers.AdamW(1e-3, use_ema=True), loss="categorical_crossentropy")
    x, y = rng.uniform(30, 255, (6, 98, 40, 1)).astype(np.float32), np.eye(3, dtype=np.float32)[np.arange(6) % 3]
    plain, mixed = OneDevice(), OneDevice(mixed=True)
    assert plain.placed(network) is network
    for _ in range(3):
        plain.step(network, x, y, learning_rate=1e-3)
    placed = mixed.placed(network)
    assert is_mixed(placed) and int(placed.optimizer.iterations) == 3
    found, expected = (one.optimizer.variables for one in (placed, network))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    for devices, model in ((mixed, placed), (plain, network)):
        devices.step(model, x, y, learning_rate=1e-3)
    back = plain.placed(placed)
    assert not is_mixed(back) and int(back.optimizer.iterations) == 4
    for a, b in zip(back.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=5e-3)


def test_mixed_precision_needs_a_gpu():
    assert not accelerated()


def test_the_page_has_every_option():
    text = (ROOT / "docs" / "train" / "devices.md").read_text(encoding="utf-8")
    found = re.search(r"(?<=<!-- options -->\n).*?(?=\n<!-- end of options -->)", text, re.DOTALL)
    assert found and found[0] == f"\n{markdown_table(DevicesConfig)}\n"


def test_ways_of_the_benchmark_share_the_devices():
    cpu, gpus = ways("cpu", 1, 2, "float32"), ways("gpu", 4, 2, "mixed")
    assert [one.devices for one in cpu.values()] == [1, 1, 2, 2]
    assert [one.devices for one in gpus.values()] == [1, 4, 4]
    assert [env["CUDA_VISIBLE_DEVICES"] for env in gpus["2 processes"].envs] == ["0,1", "2,3"]
    assert list(ways("gpu", 1, 2, "mixed")) == ["1 device"]


def test_times_leave_out_the_first_steps_of_each_epoch():
    ended = np.cumsum([100, 9, 9, 9, 9, 2, 2, 50, 9, 9, 9, 9, 2, 2])
    steps = {"began": ended - 1.0, "ended": ended, "processor": 2 * ended}
    assert times(steps, 7) == {"between": 2, "within": 1, "processor": 4}
    assert apart([1.0, 2.2], [1.0, 2.0]).tolist() == pytest.approx([0, 0.1])
    assert Path(virtual(3)["XLA_FLAGS"].split()[-1]).name == "--xla_force_host_platform_device_count=3"
