"""A finished run is trained for more epochs. Its record says so, and it can be repeated in one go."""

import json
import shutil

import numpy as np
import pytest

from tests.conftest import assert_one_line_error, train_command

keras = pytest.importorskip("keras", exc_type=ImportError, reason="Keras is not installed here")
pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")

from host_tools.config import OptimConfig  # noqa: E402
from host_tools.training.curves import read_log  # noqa: E402
from host_tools.training.progress import Progress  # noqa: E402
from host_tools.training.run import load_run  # noqa: E402

pytestmark = [pytest.mark.host, pytest.mark.xdist_group("training"), pytest.mark.timeout(600)]


def rates(**options):
    progress, found = Progress(OptimConfig(steps=10, learning_rate=1.0, **options), 0, 0.0), []
    while not progress.over:
        found.append(progress.learning_rate())
        progress.step()
    return found


def test_rate_rises_to_that_of_a_run_of_the_whole_length():
    short, long, both = rates(epochs=4), rates(epochs=6), rates(epochs=6, lengthened=(4,))
    assert both[:40] == short
    assert both[50:] == long[50:]
    assert both[40] < 0.06 * long[40]
    assert np.all(np.diff(both[40:45]) > 0)
    assert 0.05 < max(both[40:]) < long[40] < 0.5
    assert rates(epochs=9, lengthened=(4, 6))[:60] == both


def test_rate_at_a_middle_epoch_does_not_depend_on_pauses():
    """Training may be interrupted anywhere."""
    config = OptimConfig(epochs=6, lengthened=(4,), steps=10, learning_rate=1.0)
    assert [Progress(config, epoch, 0.0).learning_rate() for epoch in range(6)] == rates(epochs=6, lengthened=(4,))[
        ::10
    ]


def weights_of(folder):
    return keras.models.load_model(folder / "last.keras").get_weights()


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(weights_of(a), weights_of(b), strict=True))


def test_a_finished_run_is_lengthened(folder, run_cli, tmp_path):
    run, short = tmp_path / "run", ("--model", "micro", "--steps", "4", "--epochs", "2")

    def trained(*arguments):
        return run_cli(*arguments, "--cache", folder / "cache", package="host_tools")

    assert trained(*train_command(folder, "run", *short)).returncode == 0
    before = weights_of(run)
    refused = trained(*train_command(folder, "run", *short, "--epochs", "3"))
    assert_one_line_error(refused, "run holds a run with --epochs 2, not 3", program="kws-host")

    longer = ("train", "--config", "run", "--epochs", "3", "-o", "run")
    done = trained(*longer)
    assert done.returncode == 0, done.stderr
    assert b", from epoch 3 on" in done.stdout
    assert [row["epoch"] for row in read_log(run)] == [1, 2, 3]
    optim = json.loads((run / "config.json").read_text())["config"]["optim"]
    assert (optim["lengthened"], optim["epochs"]) == ([2], 3)
    assert any(not np.array_equal(x, y) for x, y in zip(before, weights_of(run), strict=True))
    shutil.copytree(run, tmp_path / "three")
    assert trained(*longer).returncode == 0  # nothing is left to do
    assert equal(run, tmp_path / "three")

    assert trained("train", "--config", "run", "-o", "again").returncode == 0
    assert equal(run, tmp_path / "again")
    assert load_run(tmp_path / "again").config.optim == load_run(run).config.optim

    assert trained("train", "--config", "./run/../run", "--epochs", "4", "-o", run).returncode == 0
    assert load_run(run).config.optim.lengthened == (2, 3)
    refused = trained("train", "--config", "run", "--epochs", "6", "--seed", "9", "-o", "run")
    assert_one_line_error(refused, "run holds a run with --seed 1, not 9", program="kws-host")
    refused = trained("train", "--config", "run", "--epochs", "3", "-o", "run")
    assert_one_line_error(refused, "run holds a run with --epochs 4, not 3. Repeat", program="kws-host")
    # Of another length in another folder, it is a run of its own.
    assert trained("train", "--config", "run", "--epochs", "1", "-o", "short").returncode == 0
    assert load_run(tmp_path / "short").config.optim.lengthened == ()


def test_runs_that_cannot_be_lengthened_say_why(folder, run_folder, run_cli, tmp_path):
    record = json.loads((run_folder / "config.json").read_text())
    for name, change, told in (
        ("unfinished", {"epochs": 9}, "is at epoch 4 of 9; finish it with --epochs 9, then lengthen it"),
        ("begun", {"epochs": 9}, "is at epoch 0 of 9; finish it with --epochs 9, then lengthen it"),
        ("timed", {"minutes": 2.0}, "trained with --minutes, and is not lengthened by --epochs"),
        ("parts", {"words_first": 0.5}, "trained with --words-first, and is not lengthened by --epochs"),
    ):
        shutil.copytree(run_folder, tmp_path / name)
        if name == "begun":
            (tmp_path / name / "log.csv").unlink()
        changed = {**record["config"], "optim": {**record["config"]["optim"], **change}}
        (tmp_path / name / "config.json").write_text(json.dumps({**record, "config": changed}))
        refused = run_cli("train", "--config", name, "--epochs", "20", "-o", name, package="host_tools")
        assert_one_line_error(refused, told, program="kws-host")
