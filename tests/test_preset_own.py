"""A few own words: training from a shipped file, by the clock, and calibration's promise for the result."""

import itertools
import json
import math

import numpy as np
import pytest

from kws_edge import Model
from tests.conftest import assert_one_line_error_at_end, assert_usage_error, train_command
from tests.tones import data_of

keras = pytest.importorskip("keras", exc_type=ImportError, reason="Keras is not installed here")
pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")

from benchmarks.own_words import drawn  # noqa: E402
from host_tools.cli import parse  # noqa: E402
from host_tools.config import OptimConfig, StageConfig  # noqa: E402
from host_tools.data.dataset import index_clips  # noqa: E402
from host_tools.networks.models import build  # noqa: E402
from host_tools.networks.weight_import import set_head  # noqa: E402
from host_tools.training import progress, trainer, words_first  # noqa: E402
from host_tools.training.curves import read_log  # noqa: E402
from host_tools.training.loop import train  # noqa: E402
from host_tools.training.presets import PRESETS, QAT  # noqa: E402
from host_tools.training.run import load_run  # noqa: E402

pytestmark = [
    pytest.mark.host,
    pytest.mark.xdist_group("training"),
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning"),  # a warning of Keras with NumPy 2
]

OWN = "hello,lamp"


def config_of(folder, **options):
    """A training on the dataset of tones."""
    data = data_of(folder, cache=folder / "cache").values()
    return StageConfig.from_options({**data, **options})


def options(*argv):
    return parse(["train", "DATA", "-o", "RUN", *argv])


def test_preset_sets_defaults_and_options_come_first(tmp_path):
    args = options("--preset", "own", "--labels", OWN)
    assert {name: getattr(args, name) for name in PRESETS["own"]} == PRESETS["own"]
    args = options("--minutes", "3", "--start", "words36", "--preset=own", "--labels", OWN)
    assert (args.minutes, args.start) == (3, "words36")
    assert args.mined == PRESETS["own"]["mined"]
    assert options().mined == options("--mined", "0").mined == 0
    for preset in (PRESETS["own"], QAT):
        assert preset.keys() <= StageConfig.options().keys()
        config_of(tmp_path, **preset)


def test_unknown_preset_is_wrong_usage(run_cli):
    assert_usage_error(
        run_cli("train", "x", "-o", "y", "--preset", "mine", package="host_tools"), "'mine'", program="kws-host"
    )
    assert_usage_error(
        run_cli("train", "x", "-o", "y", "--preset", package="host_tools"), "--preset", program="kws-host"
    )


def test_start_from_a_shipped_file_computes_what_it_does(folder, run_cli, tmp_path):
    """Before training the float network has the file's posteriors, except for the file's rounding."""
    start = ("--epochs", "0", "--start", "micro12", "--model", "micro", "--width", "1")
    done = run_cli(*train_command(folder, "same", *start), package="host_tools")
    assert done.returncode == 0, done.stderr
    run, file = load_run(tmp_path / "same"), Model("micro12")
    inputs, _ = run.examples("validation")
    inputs = inputs[:: max(1, len(inputs) // 100)]
    expected = np.array([file.posteriors(x[..., 0]) for x in inputs])
    found = run.model().predict(inputs, verbose=0)
    assert np.abs(found - expected).mean() < 0.01
    assert np.abs(found - expected).max() < 0.2
    # With own words, those that the file knows as well keep their weights.
    done = run_cli(*train_command(folder, "own", *start, "--labels", "yes,bed"), package="host_tools")
    assert b"weights from micro12; new: bed\n" in done.stdout, done.stderr
    logits = [
        keras.Model(model.input, model.layers[-2].output).predict(inputs, verbose=0) @ model.layers[-1].kernel.numpy()
        + model.layers[-1].bias.numpy()
        for model in (load_run(tmp_path / "own").model(), run.model())
    ]
    np.testing.assert_allclose(logits[0][:, :3], logits[1][:, :3], atol=1e-3)
    np.testing.assert_allclose(logits[0][:, 3], logits[1][:, 1] - 3, atol=1e-3)


def test_new_labels_begin_as_unknown():
    rng = np.random.default_rng(0)
    model = build("micro", Model("micro12").frontend_config, 4)
    channels = model.layers[-1].kernel.shape[0]
    kernel, bias = rng.normal(size=(channels, 3)).astype(np.float32), np.array([0.5, 1, 2], np.float32)
    assert set_head(model, kernel, bias, ("stop", "unknown", "silence"), ("silence", "unknown", "lamp", "stop")) == [
        "lamp"
    ]
    own, offset = model.layers[-1].get_weights()
    np.testing.assert_array_equal(own, kernel[:, [2, 1, 1, 0]])
    np.testing.assert_array_equal(offset, [2, 1, -2, 0.5])
    assert set_head(model, kernel, bias, ("on", "off", "silence"), ("silence", "on", "off", "lamp")) == ["lamp"]
    np.testing.assert_allclose(model.layers[-1].get_weights()[0][:, 3], kernel.mean(axis=1), rtol=1e-5)
    assert set_head(model, kernel[:-1], bias, ("on", "off", "silence"), ("a", "b", "c", "d")) == ["posteriors"]


def test_both_parts_of_a_short_training_have_something_to_do(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(words_first, "_MANY", 1)
    config = config_of(folder, labels="yes,", epochs=3, words_first=0.1, lengthened=(2,))
    first, rest = words_first.two_parts(config, tmp_path)
    assert (first.optim.epochs, rest.optim.epochs) == (1, 3)
    assert first.optim.lengthened == rest.optim.lengthened == ()


@pytest.fixture
def clock(monkeypatch):
    """A clock that advances by a tenth of a second whenever training reads it."""
    ticks = itertools.count()
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(ticks) / 10)


def test_minutes_end_training_in_the_middle_of_an_epoch(folder, tmp_path, clock):
    config = config_of(
        folder, model="micro", minutes=0.5, steps=40, batch_size=16, start="micro12", keep="last", labels="yes,bed"
    )
    said = []
    run = train(config, tmp_path / "run", say=said.append)
    rows = read_log(run.folder)[1:]  # without the row before training, which has no loss
    assert 24 < sum(row["seconds"] for row in rows) < 33
    assert run.record["best"]["epoch"] == len(rows) >= 1
    assert any("s left" in line for line in said)
    before = load_run(run.folder).model().get_weights()
    again = train(config, tmp_path / "run", say=said.append)  # nothing is left to do
    assert read_log(again.folder)[1:] == rows
    assert all(np.array_equal(a, b) for a, b in zip(before, load_run(run.folder).model().get_weights(), strict=True))


def test_minutes_that_features_take_are_said(folder, run_cli):
    done = run_cli(*train_command(folder, "short", "--minutes", "0.0001"), package="host_tools")
    assert_one_line_error_at_end(done, "0.0001 minutes were over before the first batch", "more --minutes")


def test_rate_of_learning_follows_batches_or_time(clock):
    by_batches = progress.Progress(OptimConfig(epochs=10, steps=100, learning_rate=1.0), 0, 0.0)
    rates = []
    while not by_batches.over:
        rates.append(by_batches.learning_rate())
        by_batches.step()
    assert len(rates) == 1000
    assert max(rates) == pytest.approx(1, abs=0.01)
    assert np.argmax(rates) == pytest.approx(100, abs=1)
    assert rates[0] < 0.01 > rates[-1]
    assert np.all(np.diff(rates[101:]) < 0)
    assert 0 < progress.Progress(OptimConfig(epochs=1, steps=1), 0, 0.0).learning_rate() <= 2e-3
    by_time = progress.Progress(OptimConfig(minutes=1, learning_rate=1.0), 0, 30.0)
    assert by_time.learning_rate() == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.45 / 0.95)), abs=0.02)
    assert 25 < by_time.left_s < 30


def test_words_first_tells_other_words_apart(folder, tmp_path, monkeypatch):
    """Half of the epochs have a label for every word with many recordings. The other half goes on from there."""
    monkeypatch.setattr(words_first, "_MANY", 5)
    config = config_of(
        folder, features=None, model="micro", epochs=2, steps=2, batch_size=16, labels="yes,", words_first=0.5
    )
    said = []
    run = train(config, tmp_path / "run", say=said.append)
    first = load_run(run.folder / "words")
    assert {"yes", "no", "stop"} < set(first.labels)
    assert run.labels == ("silence", "unknown", "yes")
    assert [len(read_log(one.folder)) for one in (first, run)] == [1, 2]  # the second measures what it starts from
    assert load_run(run.folder).config.to_dict() == config.to_dict()  # the cache is no part of a run
    assert f"weights from {first.folder}" in said
    monkeypatch.setattr(words_first, "_MANY", 1000)
    assert not (train(config, tmp_path / "alone", say=said.append).folder / "words").exists()


def test_ctrl_c_says_what_is_kept(folder, tmp_path, monkeypatch):
    config = config_of(folder, model="micro", width=0.34, epochs=3, steps=2, batch_size=16)
    said, keep = [], trainer.Trainer._keep

    def keep_two(self, kept, row):
        keep(self, kept, row)
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(trainer.Trainer, "_keep", keep_two)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", say=said.append)
    assert "quantize" in said[-1]
    assert load_run(tmp_path / "run").record["best"]["epoch"] <= 2


def test_the_benchmark_tests_on_other_people(folder, tmp_path):
    """Speakers that are drawn do not test. No other recording of the words trains."""
    own, others = drawn(folder / "clips", ["yes", "no"], 6, 1, tmp_path)
    assert len(own) == 12
    assert not {clip.speaker for clip in own} & {clip.speaker for clip in others}
    clips = index_clips(tmp_path / "data").clips
    assert {clip.path.name for clip in clips if clip.word == "yes"} == {c.path.name for c in own if c.word == "yes"}
    assert {clip.word for clip in clips} == {clip.word for clip in index_clips(folder / "clips").clips}
    assert {clip.word for clip in index_clips(tmp_path / "others").clips} <= {"yes", "no"}
    again, _ = drawn(folder / "clips", ["yes", "no"], 6, 1, tmp_path)
    assert again == own


def test_calibrate_prints_the_promise_with_intervals(run_cli, demo_stream, tmp_path):
    for name in ("words.flac", "nothing.flac"):
        (tmp_path / name).write_bytes(demo_stream.read_bytes())
    (tmp_path / "words.csv").write_bytes(demo_stream.with_suffix(".csv").read_bytes())
    command = ("calibrate", "micro12", "words.flac", "nothing.flac", "--budget", "400", "--no-gated")
    done = run_cli(*command, "-o", "own.tflite", package="host_tools")
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.decode().splitlines() if line.startswith("to expect elsewhere: "))
    assert "from 13 words" in line
    promise = json.loads(run_cli(*command, "--json", package="host_tools").stdout)["promise"]
    low, high = promise["false_reject_interval_95"]
    assert low <= promise["false_reject_rate"] <= high
    assert high - low > 0.2  # thirteen words tell no more
    assert Model(tmp_path / "own.tflite").metadata.metrics["calibration"]["promise"] == promise
