"""Recipes: read and checked, done stage by stage, gone on with, and stale exactly where something changed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")

from host_tools.errors import RecipeError
from host_tools.manifest import manifest
from host_tools.recipe.file import find_recipe, load_recipe
from host_tools.recipe.graph import DONE, MISSING, STALE, Workshop
from host_tools.recipe.run import run

TONES = Path(__file__).parent / "recipes" / "tones.toml"
SHORT = """
name = "short"
about = "Two streams and nothing trained."
[data]
clips = "clips"
[[stage]]
id = "quiet"
do = "make-stream"
why = "Words."
data = "clips"
clips = 5
[[stage]]
id = "heard"
do = "stream-eval"
why = "What is heard of them."
model = "commands12"
streams = ["quiet"]
half = "all"
[[stage]]
id = "apart"
do = "make-stream"
why = "Takes nothing of the others."
data = "clips"
clips = 3
seed = 4
"""


def written(tmp_path, text):
    path = tmp_path / "short.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted((TONES.parents[2] / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_recipes_of_shipped_models_are_valid(path):
    """Every option of every stage is one that its command takes; each ends with a card and a lock."""
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    kinds = {stage.do for stage in recipe.stages}
    assert kinds >= ({"train", "qat", "report"} if path.stem == "cnn_reference" else {"calibrate", "lock", "card"})
    assert sum(stage.do == "train" for stage in recipe.stages) <= 4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "clips = 5\n[[",
            "clips = -5\n[[",
            "stage quiet: --clips: must be a whole number from 0 to",
        ),
        ("clips = 5\n[[", "clip = 5\n[[", "stage quiet: there is no option 'clip' (did you mean 'clips'?)"),
        ("clips = 5\n[[", "clips = true\n[[", "stage quiet: clips: True is neither text nor number"),
        ('["quiet"]', '["quite"]', "stage heard: streams: 'quite' is no stage before it, and no data"),
        ('"make-stream"\nwhy = "Words."', '"stream"\nwhy = "x"', "stage quiet: there is no kind 'stream'"),
        ('id = "apart"', 'id = "quiet"', "stage quiet: an id is new"),
        ('why = "Words."', 'why = ""', "stage quiet: 'why' is missing"),
        ('why = "Words."', 'why = "x"\nmix = "m"', "stage quiet: there is no mix 'm'"),
        ('"commands12"', '"commands13"', "stage heard: model: 'commands13' is no stage before it, and no data"),
        ('half = "all"', 'half = "some"', "stage heard: --half: invalid choice: 'some'"),
        ("[data]", "[date]", "recipe: there is no 'date' (did you mean 'data'?)"),
        ("[[stage]]", "[stage", "no recipe in TOML"),
        ('name = "short"', "name = 3", "recipe: 'name' is missing, or no text"),
        ('about = "Two', 'output = "x"\nabout = "Two', "recipe: there is no 'output'"),
        ("seed = 4", 'output = "/etc/x"', "stage apart: there is no option 'output'"),
    ],
)
def test_a_wrong_recipe_is_refused_by_name(tmp_path, old, new, message):
    assert old in SHORT
    with pytest.raises(RecipeError) as error:
        load_recipe(written(tmp_path, SHORT.replace(old, new, 1)))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_options_may_be_changed_and_amounts_scaled(tmp_path):
    path = written(tmp_path, SHORT)
    recipe = load_recipe(path, changes={"apart.seed": "9", "apart.gap": "[1, 2]"}, scale=0.4)
    assert [one.resolved["clips"] for one in recipe.stages if one.do == "make-stream"] == [2, 1]
    assert (recipe.by_id["apart"].resolved["seed"], recipe.by_id["apart"].resolved["gap"]) == (9, [1.0, 2.0])
    for changes, message in (
        ({"apart.sed": "9"}, "there is no option 'sed' (did you mean 'seed'?)"),
        ({"apert.seed": "9"}, "there is no stage 'apert' (did you mean 'apart'?)"),
        ({"seed": "9"}, "'seed' is no stage.option"),
    ):
        with pytest.raises(RecipeError) as error:
            load_recipe(path, changes=changes)
        assert message in str(error.value)


def test_of_training_all_batches_are_scaled():
    recipe = load_recipe(TONES, scale=0.25)
    words = recipe.by_id["words"].resolved
    assert (words["epochs"], words["steps"]) == (1, 9)
    assert recipe.by_id["mean"].resolved["epochs"] == 0


@pytest.fixture
def small(tmp_path, folder):
    """A folder of a few of the tones' clips, that a test may change."""
    for name in ("yes", "no"):
        shutil.copytree(folder / "clips" / name, tmp_path / "data" / "clips" / name)
    return tmp_path / "data"


def test_what_changed_makes_exactly_what_follows_stale(tmp_path, small):
    path = written(tmp_path, SHORT)

    def workshop(**changes):
        return Workshop(load_recipe(path, changes=changes), tmp_path / "runs", small)

    def names(**changes):
        return [state.name for state in workshop(**changes).states().values()]

    assert names() == [MISSING] * 3
    said = []
    run(workshop(), until="heard", say=said.append)
    assert names() == [DONE, DONE, MISSING]
    run(workshop(), say=said.append)
    assert names() == [DONE] * 3
    before = len(said)
    run(workshop(), say=said.append)
    assert len(said) == before, "what is done is not done again"

    assert names(**{"heard.threshold": "0.9"}) == [DONE, STALE, DONE]
    states = workshop(**{"quiet.seed": "5"}).states()
    assert [state.name for state in states.values()] == [STALE, STALE, DONE]
    assert states["quiet"].reasons == ("option seed: was 0, is 5",)
    assert states["heard"].reasons == ("quiet before it is stale",)
    assert names() == [DONE] * 3, "results of other options stay"

    clip = next((small / "clips" / "yes").iterdir())
    content = clip.read_bytes()
    clip.write_bytes(content[:-2] + b"\0\1")
    states = workshop().states()
    assert [state.name for state in states.values()] == [STALE] * 3
    assert states["apart"].reasons == (f"data clips: changed: yes/{clip.name}",)
    clip.write_bytes(content)
    assert names() == [DONE] * 3
    clip.unlink()
    assert workshop().states()["apart"].reasons == (f"data clips: gone: yes/{clip.name}",)
    clip.write_bytes(content)

    (result,) = workshop().results(workshop().recipe.by_id["quiet"])
    (result.folder / "quiet.csv").write_text("")
    states = workshop().states()
    assert [state.name for state in states.values()] == [STALE, STALE, DONE]
    assert "was changed or removed" in states["quiet"].reasons[0]
    run(workshop(), say=said.append)
    assert names() == [DONE] * 3


def test_a_command_that_fails_ends_the_recipe(tmp_path, small):
    path = written(tmp_path, SHORT.replace('data = "clips"', 'data = "clips"\nwords = "lamp"', 1))
    workshop = Workshop(load_recipe(path), tmp_path / "runs", small)
    with pytest.raises(RecipeError, match="stage quiet: ended with status 1"):
        run(workshop, say=lambda line: None)
    assert [state.name for state in workshop.states().values()] == ["unfinished", MISSING, MISSING]


def test_recipes_on_the_command_line(run_cli, tmp_path, small):
    written(tmp_path, SHORT)
    done = run_cli("recipe", "plan", "short.toml", package="host_tools")
    assert done.returncode == 0
    assert b" 2  heard  stream-eval  <-  quiet" in done.stdout
    done = run_cli("recipe", "run", "short.toml", "--data", "data", "--until", "quiet", package="host_tools")
    assert done.returncode == 0, done.stderr
    done = run_cli("recipe", "status", "short.toml", "--data", "data", "--json", package="host_tools")
    values = json.loads(done.stdout)
    assert [values[name]["state"] for name in ("quiet", "heard", "apart")] == ["done", "missing", "missing"]
    assert (tmp_path / values["quiet"]["output"]).is_file()
    done = run_cli(
        "recipe", "explain", "short.toml", "--data", "data", "--set", "quiet.seed=3", "--until", "quiet",
        package="host_tools",
    )  # fmt: skip
    assert b"option seed: was 0, is 3" in done.stdout
    assert b"kws-host make-stream data/clips --clips=5" in done.stdout
    done = run_cli("recipe", "run", "nothing", package="host_tools")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"kws-host: no recipe 'nothing': give a file that ends in .toml, or one of ")
    done = run_cli("recipe", "run", "short.toml", package="host_tools", env={**os.environ, "KWS_TEST_DATA": ""})
    assert done.returncode == 1
    assert b"where are the data? Give --data DIR" in done.stderr


def test_manifests_count_files_and_of_networks_the_weights(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.wav").write_bytes(b"1")
    (tmp_path / ".lock").write_bytes(b"2")
    (tmp_path / "b.wav").write_bytes(b"22")
    one = manifest(tmp_path)
    assert [(e.path, e.size) for e in one.entries] == [("a/x.wav", 1), ("b.wav", 2)]
    assert manifest(tmp_path).sha256 == one.sha256
    (tmp_path / "b.wav").rename(tmp_path / "c.wav")
    assert manifest(tmp_path).sha256 != one.sha256
    import zipfile

    sums = []
    for date in ("today", "tomorrow"):
        with zipfile.ZipFile(tmp_path / f"{date}.keras", "w") as file:
            file.writestr("metadata.json", date)
            file.writestr("model.weights.h5", b"weights")
        sums.append(manifest(tmp_path / f"{date}.keras").entries[0].sha256)
    assert sums[0] == sums[1]


@pytest.mark.timeout(900)
def test_a_recipe_runs_whole_and_after_kills_to_the_same_bytes(tmp_path, folder):
    """From data to a packed, calibrated, evaluated file with card and lock; killed at three places, and run again."""
    command = [sys.executable, "-m", "host_tools", "recipe", "run", TONES, "--data", folder, "-o"]
    plain = subprocess.run([*command, tmp_path / "plain"], capture_output=True, text=True, check=False)
    assert plain.returncode == 0, plain.stderr
    for seen in ("words-*/words/last.keras", "streams-*/streams/config.json", "forms-*/forms/float.tflite"):
        process = subprocess.Popen(
            [*command, tmp_path / "killed"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 250
        while not list((tmp_path / "killed" / "tones").glob(seen)):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    again = subprocess.run([*command, tmp_path / "killed"], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr

    def results(name):
        found = Workshop(load_recipe(TONES), tmp_path / name / "tones", folder).states()
        assert {state.name for state in found.values()} == {DONE}
        return {one: (state.key, state.result.record["sha256"]) for one, state in found.items() if one != "forms"}

    assert results("plain") == results("killed")
    (model,) = (tmp_path / "killed" / "tones").glob("tuned-*/tones.tflite")
    (lock,) = (tmp_path / "killed" / "tones").glob("origin-*/tones.lock.json")
    values = json.loads(lock.read_text())
    assert values["model"] == {"file": "tones.tflite", "sha256": manifest(model).entries[0].sha256}
    assert [stage["id"] for stage in values["stages"]] == ["words", "streams", "mean", "int8", "quiet", "tuned"]
    assert values["data"]["clips"]["files"] == 13 * 26 + 1


def test_names_lead_to_the_folder_of_recipes(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert find_recipe("micro12").is_file()
    assert find_recipe("x.toml") == Path("x.toml")
    with pytest.raises(RecipeError, match=r"x\.toml: No such file"):
        load_recipe("x.toml")
