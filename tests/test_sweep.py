"""Sweeps are read and checked, run one trial after another, ranked, and continued."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")

from host_tools.errors import SweepError
from host_tools.evaluation.quantization_report import FP32, PTQ
from host_tools.recipe.file import load_recipe
from host_tools.recipe.graph import DONE as STAGE_DONE
from host_tools.recipe.graph import Workshop
from host_tools.sweep.figures import figures_of
from host_tools.sweep.file import load_sweep
from host_tools.sweep.outcome import DONE, FAILED, STOPPED, Outcome, best_of, ranked
from host_tools.sweep.plot import plot_parallel
from host_tools.sweep.results import table
from tests.conftest import ROOT, assert_one_line_error, assert_usage_error, wait_until

pytestmark = pytest.mark.host

RECIPES = Path(__file__).parent / "recipes"
RECIPE = """
name = "heard"
about = "What shipped models hear of clips of tones."
[data]
test = "test"
[mix.clips]
why = "Clips."
clips = "test"
[[stage]]
id = "common"
do = "evaluate"
why = "Is the same in every trial."
model = "commands12"
mix = "clips"
[[stage]]
id = "accuracy"
do = "evaluate"
why = "Differs."
model = "micro12"
mix = "clips"
"""
SWEEP = """
name = "models"
about = "Which model hears most."
recipe = "heard.toml"
maximize = "accuracy.accuracy"
show = ["accuracy.worst_recall", "common.accuracy"]
[vary.model]
options = "accuracy.model"
values = ["micro12", "commands12", "micro12"]
""".replace(', "micro12"]', "]")
ASHA = """
name = "rates"
about = "Rates of learning."
recipe = "TONES"
minimize = "words.val_loss"
[set]
"words.epochs" = 4
"words.steps" = 3
[search]
method = "asha"
trials = 3
reduction_factor = 2
[vary.rate]
options = "words.learning_rate"
low = 1e-7
high = 1e-2
log = true
""".replace("TONES", str(RECIPES / "tones.toml"))


def written(tmp_path, sweep=SWEEP, recipe=RECIPE):
    (tmp_path / "heard.toml").write_text(recipe)
    (tmp_path / "sweep.toml").write_text(sweep)
    return tmp_path / "sweep.toml"


def trials_of(folder):
    return json.loads((folder / "results.json").read_text())["trials"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"accuracy.model"', '"accurate.model"', "vary.model: 'micro12': there is no stage 'accurate' (did you"),
        ('"accuracy.model"', '"accuracy.modal"', "there is no option 'modal' (did you mean 'model'?)"),
        ('"accuracy.model"', '"model"', "'model' is no stage.option"),
        ('"accuracy.model"', "[]", "vary.model: options must name each STAGE.OPTION once, got []"),
        ("options =", "option =", "vary.model: there is no 'option'; it takes options, values, low, high, log, whole"),
        ('"commands12"]', '"commands13"]', "vary.model: 'commands13': stage accuracy: model: 'commands13' is no stage"),
        ('["micro12", "commands12"]', "[]", "vary.model: values must be a list of one or more texts, numbers,"),
        ('"commands12"]', '"micro12"]', "vary.model: values has 'micro12' twice"),
        ('"commands12"]', "2020-01-01]", "vary.model: values takes texts, numbers, true or false, or lists of these"),
        ('values = ["micro12", "commands12"]', "low = 1\nhigh = 2", "vary.model: 1.0: stage accuracy: model: '1.0'"),
        ('values = ["micro12", "commands12"]', "low = 1", "vary.model: give either values, or low and high"),
        ('"commands12"]', '"commands12"]\nlog = true', "vary.model: log and whole go with low and high"),
        ("[vary.model]", "[vary]\n[other]", "there is no 'other'"),
        ('[vary.model]\noptions = "accuracy.model"\nvalues = ["micro12", "commands12"]', "", "nothing varies: give"),
        ("[vary.model]", '[set]\n"accuracy.model" = "micro12"\n[vary.model]', "set has 'accuracy.model' already"),
        ("accuracy.accuracy", "accuracy.acc", "maximize: 'accuracy.acc': stage accuracy measures no 'acc'"),
        ("accuracy.accuracy", "tuned.macs", "maximize: 'tuned.macs': there is no stage 'tuned'; give STAGE.FIGURE, of"),
        ("maximize", "maximise", "there is no 'maximise' (did you mean 'maximize'?)"),
        ("maximize =", "minimize = 'common.accuracy'\nmaximize =", "give maximize or minimize, with one figure"),
        ("[vary.model]", '[at_most]\n"accuracy.accuracy" = "x"\n[vary.model]', "accuracy' must be a number from"),
        ("[vary.model]", "[search]\ntrials = 3\n[vary.model]", "search: trials does not go with method = 'grid'"),
        ("[vary.model]", '[search]\nmethod = "rando"\n[vary.model]', "search: method must be one of grid, random"),
        ("[vary.model]", '[search]\nmethod = "random"\n[vary.model]', "search: trials is missing: give how many"),
        ("[vary.model]", '[search]\nmethod="random"\ntrials=3\n[vary.model]', "there are only 2 different ones, not 3"),
        ("[vary.model]", '[search]\nmethod="asha"\ntrials=2\n[vary.model]', "search: judge: asha stops trials by a"),
        ("[vary.model]", "[search]\nseed = -1\n[vary.model]", "search: seed must be a whole number from 0 to"),
        ('name = "models"', 'name = "../x"', "name: '../x' names a folder: give up to 60 letters"),
        ('name = "models"', 'name = "heard"', "name: 'heard' is the recipe's own name"),
        ("heard.toml", "other", "recipe: no recipe 'other': give a file that ends in .toml, or one of"),
        ("heard.toml", "other.toml", "other.toml: No such file"),
        ("[vary.model]", "scale = 2\n[vary.model]", "scale must be a number from 0.0001 to 1, got 2"),
        ('show = ["accuracy.worst_recall", "common.accuracy"]', 'show = "x"', "show: must be a list of figures"),
        ("name =", "name", "no sweep in TOML"),
    ],
)  # fmt: skip
def test_a_wrong_sweep_is_refused_before_anything_runs(tmp_path, old, new, message):
    assert old in SWEEP
    path = written(tmp_path, SWEEP.replace(old, new, 1))
    with pytest.raises(SweepError) as error:
        load_sweep(path)
    assert message in str(error.value)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_what_no_figure_depends_on_is_refused(tmp_path):
    text = SWEEP.replace(', "common.accuracy"', "").replace('"accuracy.model"', '["accuracy.model", "common.model"]')
    with pytest.raises(SweepError, match=r"vary.model: no figure depends on stage common; name one that does in show"):
        load_sweep(written(tmp_path, text))


def test_trials_of_a_grid_are_all_combinations_in_order(tmp_path):
    text = SWEEP + '[vary.kernels]\noptions = ["accuracy.kernels", "common.kernels"]\nvalues = ["fast", "builtin"]\n'
    sweep = load_sweep(written(tmp_path, text))
    assert [tuple(one.values.values()) for one in sweep.trials] == [
        ("micro12", "fast"), ("micro12", "builtin"), ("commands12", "fast"), ("commands12", "builtin")
    ]  # fmt: skip
    recipe = sweep.load(sweep.trials[1])
    assert [recipe.by_id[one].resolved["kernels"] for one in ("common", "accuracy")] == ["builtin", "builtin"]


def test_trials_at_random_keep_to_their_ranges_and_follow_from_the_seed(tmp_path):
    more = '[vary.batch]\noptions = "words.batch_size"\nlow = 8\nhigh = 11\nwhole = true\n'
    text = (ASHA + more).replace('"asha"', '"random"').replace("trials = 3\nreduction_factor = 2", "trials = 60")
    trials = load_sweep(written(tmp_path, text)).trials
    assert trials == load_sweep(written(tmp_path, text)).trials
    assert trials != load_sweep(written(tmp_path, text.replace("[search]", "[search]\nseed = 1"))).trials
    rates, sizes = ([one.values[name] for one in trials] for name in ("rate", "batch"))
    assert set(sizes) == {8, 9, 10, 11}
    assert all(isinstance(one, int) for one in sizes)
    assert 1e-7 <= min(rates) < 1e-6 and 1e-3 < max(rates) <= 1e-2, "as many for each power of ten"
    assert all(rate == float(f"{rate:.4g}") for rate in rates)


def test_asha_judges_by_what_training_logs(tmp_path):
    sweep = load_sweep(written(tmp_path, ASHA))
    assert str(sweep.judge) == "words.val_loss"
    assert sweep.epochs(sweep.load(sweep.trials[0])) == 4
    with pytest.raises(SweepError, match="search: grace_period must be at most the 4 epochs of stage words, got 5"):
        load_sweep(written(tmp_path, ASHA.replace("trials = 3", "trials = 3\ngrace_period = 5")))


def test_a_plan_lists_the_trials_and_makes_nothing(tmp_path, run_cli):
    written(tmp_path)
    done = run_cli("sweep", "sweep.toml", "--plan", package="host_tools")
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert "2 trials" in text and "stages: common, accuracy" in text
    assert [line.split()[:2] for line in text.splitlines()[-2:]] == [["1", "micro12"], ["2", "commands12"]]
    assert not (tmp_path / "runs").exists()
    assert_usage_error(
        run_cli("sweep", "sweep.toml", "--plan", "--status", package="host_tools"), "not allowed", program="kws-host"
    )
    refused = run_cli("sweep", "sweep.toml", "--cpus", "1", package="host_tools")
    assert_usage_error(refused, "--cpus and --gpus go with", program="kws-host")


def test_data_are_looked_for_before_anything_runs(tmp_path, run_cli):
    written(tmp_path)
    done = run_cli("sweep", "sweep.toml", "--data", "elsewhere", package="host_tools")
    assert_one_line_error(done, "elsewhere/test: no such file or folder", program="kws-host")
    assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def swept(folder, tmp_path_factory):
    """A folder with a sweep and its runs."""
    place = tmp_path_factory.mktemp("swept")
    command = [sys.executable, "-m", "host_tools", "sweep", written(place), "--data", folder]
    done = subprocess.run(command, cwd=place, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return place


def test_a_sweep_runs_and_its_best_is_a_recipe(swept, folder, run_cli):
    """What trials have in common is done once. The best recipe has the best trial's values, and is done already."""
    path, runs = swept / "sweep.toml", swept / "runs"
    assert len(list((runs / "heard").glob("common-*"))) == 1
    assert len(list((runs / "heard").glob("accuracy-*"))) == 2
    trials = trials_of(runs / "models")
    assert [one["state"] for one in trials] == [DONE, DONE]
    measured = [one["figures"]["accuracy.accuracy"] for one in trials]
    for trial, value in zip(load_sweep(path).trials, measured, strict=True):
        (result,) = (
            one
            for one in map(json.loads, (file.read_text() for file in (runs / "heard").glob("accuracy-*/accuracy.json")))
            if one["model"] == trial.values["model"]
        )
        assert result["results"][0]["accuracy"] == value
    rows = list(csv.DictReader((runs / "models" / "results.csv").read_text().splitlines()))
    assert [float(row["accuracy.accuracy"]) for row in rows] == sorted(measured, reverse=True)
    assert (runs / "models" / "parallel.png").read_bytes().startswith(b"\x89PNG")
    text = (runs / "models" / "best.toml").read_text()
    assert text.startswith("# Best of the sweep models: trial ")
    assert text.endswith(f'extends = "../../heard.toml"\n\n[[stage]]\nid = "accuracy"\nmodel = "{rows[0]["model"]}"\n')
    best = load_recipe(runs / "models" / "best.toml")
    assert best.by_id["accuracy"].resolved["model"] == rows[0]["model"]
    assert {one.name for one in Workshop(best, runs / "heard", folder).states().values()} == {STAGE_DONE}

    again = run_cli("sweep", path, "--data", folder, package="host_tools", cwd=swept)
    assert_one_line_error(again, "runs/models: the sweep has begun there; --resume goes on", program="kws-host")
    done = run_cli("sweep", path, "--data", folder, "--resume", package="host_tools", cwd=swept)
    assert done.stdout.startswith(b"every trial is done already\n")
    shown = run_cli("sweep", path, "--status", package="host_tools", cwd=swept).stdout.decode()
    assert table(load_sweep(path), [Outcome(**one) for one in trials]) == shown.rstrip()
    written(swept, SWEEP.replace(', "commands12"', ', "words36"'))
    changed = run_cli("sweep", path, "--data", folder, "--resume", package="host_tools", cwd=swept)
    assert_one_line_error(changed, "results of other trials than those of", "another name", program="kws-host")
    written(swept)


def test_a_trial_that_fails_does_not_keep_the_others(tmp_path, folder, run_cli):
    """The message names the command's own. ``--resume`` tries it again, and only it."""
    text = SWEEP.replace('"accuracy.model"', '"accuracy.split"').replace(
        '"micro12", "commands12"', '"nothing", "testing"'
    )
    path = written(tmp_path, text.replace(', "common.accuracy"', ""))
    done = run_cli("sweep", path, "--data", folder, package="host_tools")
    assert done.returncode == 1
    assert "of 2 trials failed; --resume tries them again" in done.stderr.decode()
    states = [one["state"] for one in trials_of(tmp_path / "runs" / "models")]
    assert FAILED in states
    failed = trials_of(tmp_path / "runs" / "models")[states.index(FAILED)]
    assert "stage accuracy: ended with status 1" in failed["problem"]
    again = run_cli("sweep", path, "--data", folder, "--resume", package="host_tools").stdout.decode()
    assert again.count("log: ") == states.count(FAILED)


def processes(part):
    """Processes whose command line has `part`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if part.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_a_killed_sweep_leaves_nothing_running_and_goes_on(swept, tmp_path, folder):
    command = [sys.executable, "-m", "host_tools", "sweep", written(tmp_path), "--data", folder, "-o"]
    killed = tmp_path / "killed"
    process = subprocess.Popen([*command, killed], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: (killed / "models" / "trials" / "0002.json").exists() or process.poll() is not None, 200)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not processes(str(killed)), 60)
    assert [one["state"] for one in trials_of(killed / "models")].count(DONE) == 1
    again = subprocess.run([*command, killed, "--resume"], capture_output=True, check=False)
    assert again.returncode == 0, again.stderr
    assert trials_of(killed / "models") == trials_of(swept / "runs" / "models")


def test_the_best_keeps_to_the_limits(tmp_path):
    text = SWEEP + '[at_most]\n"common.accuracy" = 0.5\n[at_least]\n"accuracy.worst_recall" = 0.1\n'
    text = text.replace('"commands12"]', '"commands12", "words36"]')
    sweep = load_sweep(written(tmp_path, text))

    def outcome(number, accuracy, bound, recall, state=DONE):
        figures = {"accuracy.accuracy": accuracy, "common.accuracy": bound, "accuracy.worst_recall": recall}
        return Outcome(number, {"model": "micro12"}, state, figures)

    made = [
        outcome(1, 0.9, 0.6, 0.2),
        outcome(2, 0.7, 0.5, 0.1),
        outcome(3, 0.8, 0.4, 0.05),
        outcome(4, 0.6, 0.4, 0.3),
        outcome(5, None, 0.4, 0.3),
        outcome(6, 0.95, 0.4, 0.3, FAILED),
        outcome(7, None, None, None, STOPPED),
    ]
    assert [one.number for one in ranked(sweep, made)] == [2, 4, 1, 3, 5, 7, 6]
    assert best_of(sweep, made).number == 2
    assert best_of(sweep, made[:1]) is None
    assert "done, beyond the limits" in table(sweep, made)


def test_a_plot_takes_many_numbers_texts_and_gaps(tmp_path):
    text = (
        ASHA.replace("trials = 3", "trials = 12")
        + '[vary.model]\noptions = "words.model"\nvalues = ["micro", "residual"]\n'
    )
    sweep = load_sweep(written(tmp_path, text))
    outcomes = [
        Outcome(one.number, one.values, DONE, {"words.val_loss": None if one.number == 3 else one.number / 7})
        for one in sweep.trials
    ]
    plot_parallel(sweep, ranked(sweep, outcomes), tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 10_000


def test_figures_have_the_names_of_the_results():
    """The report's forms are named where Keras is loaded, which reading figures does not need."""
    recipe = load_recipe(RECIPES / "tones.toml")
    found = {stage.id: set(figures_of(stage, recipe)) for stage in recipe.stages}
    assert found["words"] == found["aware"] == {"val_loss", "val_accuracy"}
    assert found["tuned"] >= {"bytes", "macs", "false_reject_rate", "false_accepts_per_hour"}
    assert found["quiet"] == found["card"] == set()
    assert (FP32, PTQ) == ("FP32 Keras", "PTQ INT8")
    streams = load_recipe(RECIPES / "tones-stream.toml")
    logged = [figures_of(stage, streams) for stage in streams.stages if stage.do == "train"]
    assert any("val_missed_0.5" in one for one in logged)


def test_without_ray_it_says_how_to_install_it(tmp_path, folder):
    path = written(tmp_path, ASHA)
    script = "import sys\nsys.modules['ray'] = None\nfrom host_tools.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", script, "sweep", path, "--data", folder, "-o", tmp_path / "runs"]
    done = subprocess.run(command, capture_output=True, check=False, cwd=tmp_path)
    assert_one_line_error(done, "needs Ray: pip install '.[cluster]'", program="kws-host")


def test_the_shown_sweeps_are_some(tmp_path):
    """The second one shows other trials of the first."""
    blocks = re.findall(r"^```toml\n(.*?)^```$", (ROOT / "docs" / "train" / "sweeps.md").read_text(), re.M | re.S)
    first, second = blocks
    assert len(load_sweep(written(tmp_path, first)).trials) == 6
    head = first.partition("[vary.width]")[0]
    sweep = load_sweep(written(tmp_path, head.replace("scale = 0.1", "") + second))
    assert (len(sweep.trials), str(sweep.judge)) == (40, "small.val_loss")


@pytest.mark.timeout(3600)
def test_widths_augmentations_and_rates_of_a_reduced_recipe(tmp_path, folder, run_cli):
    """Twelve trials every night, two of them otherwise. Each has its own lock."""
    text = (RECIPES / "sweep-tones.toml").read_text().replace('"reduced', f'"{RECIPES}/reduced')
    if not os.environ.get("KWS_NIGHTLY"):
        text = text.replace("trials = 12\nseed = 1", "trials = 2\nseed = 7")
        text = text.replace("[vary.width]", '[set]\n"words.epochs" = 1\n\n[vary.width]')
    (tmp_path / "sweep.toml").write_text(text)
    done = run_cli("sweep", "sweep.toml", "--data", folder, package="host_tools", timeout=3500)
    assert done.returncode == 0, done.stderr
    trials, runs = trials_of(tmp_path / "runs" / "widths"), tmp_path / "runs" / "reduced"
    assert {one["state"] for one in trials} == {DONE}
    assert len(trials) == len({path.read_bytes() for path in runs.glob("origin-*/reduced.lock.json")})
    macs = {one["values"]["width"]: one["figures"]["int8.macs"] for one in trials}
    assert sorted(macs.values()) == [macs[width] for width in sorted(macs)], "wider networks compute more"
    within = [one for one in trials if one["figures"]["int8.macs"] <= 700_000]
    best = max(within, key=lambda one: one["figures"]["accuracy.accuracy"])
    assert f"trial {best['number']}," in (tmp_path / "runs" / "widths" / "best.toml").read_text()
    print(done.stdout.decode())


@pytest.mark.timeout(1200)
def test_a_run_that_is_killed_leaves_its_stage_locked_until_its_command_ends(tmp_path, folder):
    """Another run waits for it, and does not disturb it."""
    command = [sys.executable, "-m", "host_tools", "recipe", "run", RECIPES / "tones.toml", "--data", folder]
    command += ["--until", "words", "--set", "words.epochs=2", "--set", "words.steps=3", "-o", tmp_path]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: list((tmp_path / "tones").glob("words-*/words/config.json")), 250)
    first.send_signal(signal.SIGKILL)
    first.wait()
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "waiting for process" in again.stderr
    assert os.listdir(tmp_path / "tones")[0].startswith("words-")
    assert len(os.listdir(tmp_path / "tones")) == 1
