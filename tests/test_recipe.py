"""Recipes are read and checked, run stage by stage, and continued. Stages are stale exactly if something changed."""

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

from host_tools.convert.lock_section import lock_section
from host_tools.data.manifest import manifest
from host_tools.data.source_tables import shipped_tables
from host_tools.errors import DatasetError, RecipeError
from host_tools.locks import locked
from host_tools.recipe.compare import compared, read_lock
from host_tools.recipe.extends import find_recipe
from host_tools.recipe.file import load_recipe
from host_tools.recipe.graph import DONE, MISSING, STALE, Result, State, Workshop
from host_tools.recipe.lock import lock
from host_tools.recipe.run import run

pytestmark = pytest.mark.host

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


BROKEN = (("{}", "[1]"), ("{}", "{}"), ('{"clips": 1}', "[]"), ("{}", '[{"id": 1}]'))


def written(tmp_path, text):
    path = tmp_path / "short.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted((TONES.parents[2] / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_recipes_of_shipped_models_are_valid(path):
    """Every stage's command takes its options. Each recipe ends with a card and a lock."""
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
        ('clips = "clips"', 'clips = "/etc"', "data clips: '/etc' is no place below the data"),
        ('clips = "clips"', 'clips = "a/../../etc"', "data clips: 'a/../../etc' is no place below the data"),
        ('clips = "clips"', 'clips = ""', "data clips: '' is no place below the data"),
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
    recipe = load_recipe(path, changes={"apart.seed": "9", "apart.gap_s": "[1, 2]"}, scale=0.4)
    assert [one.resolved["clips"] for one in recipe.stages if one.do == "make-stream"] == [2, 1]
    assert (recipe.by_id["apart"].resolved["seed"], recipe.by_id["apart"].resolved["gap_s"]) == (9, [1.0, 2.0])
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
    """A folder of a few clips of tones that a test may change."""
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
    run(workshop(), until=["heard"], say=said.append)
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


def test_data_are_looked_for_before_anything_is_done(tmp_path):
    spoken = '[[stage]]\nid = "spoken"\ndo = "synthesize"\nwhy = "Takes long."\nlabels = "yes"\n'
    recipe = load_recipe(written(tmp_path, SHORT.replace("[[stage]]", f"{spoken}[[stage]]", 1)))
    assert not recipe.stages[0].data
    for data, message in ((None, "where are the data"), (tmp_path / "elsewhere", "elsewhere/clips: no such file")):
        with pytest.raises(RecipeError, match=message):
            run(Workshop(recipe, tmp_path / "runs", data))
    assert not (tmp_path / "runs").exists()


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
    """The recipe leads from data to a file with its lock, and every night to its card. It is killed and run again."""
    places = ["words-*/words/last.keras", "streams-*/streams/config.json"]
    command = [sys.executable, "-m", "host_tools", "recipe", "run", TONES, "--data", folder]
    if whole := bool(os.environ.get("KWS_NIGHTLY")):
        places.append("forms-*/forms/float.tflite")
    else:
        command += ["--until", "origin"]
    command.append("-o")
    plain = subprocess.run([*command, tmp_path / "plain"], capture_output=True, text=True, check=False)
    assert plain.returncode == 0, plain.stderr
    for seen in places:
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
        recipe = load_recipe(TONES)
        wanted = recipe.stages if whole else recipe.up_to("origin")
        found = Workshop(recipe, tmp_path / name / "tones", folder).states(wanted)
        assert {state.name for state in found.values()} == {DONE}
        return {one: (state.key, state.result.record["sha256"]) for one, state in found.items() if one != "forms"}

    assert results("plain") == results("killed")
    (model,) = (tmp_path / "killed" / "tones").glob("tuned-*/tones.tflite")
    (lock,) = (tmp_path / "killed" / "tones").glob("origin-*/tones.lock.json")
    values = json.loads(lock.read_text())
    assert values["model"] == {"file": "tones.tflite", "sha256": manifest(model).entries[0].sha256}
    assert [stage["id"] for stage in values["stages"]] == ["words", "streams", "mean", "int8", "quiet", "tuned"]
    assert values["data"]["clips"]["files"] == 13 * 26 + 1
    found = Workshop(load_recipe(TONES), tmp_path / "plain" / "tones", folder)
    assert all(one.same for one in compared(found, read_lock(lock, found.recipe)))
    if whole:
        (card,) = (tmp_path / "killed" / "tones").glob("card-*/tones.md")
        assert "\n".join(lock_section(values)) in card.read_text()


def test_a_table_of_sources_counts_as_what_the_stage_takes(tmp_path):
    """A stage is done again if its table changes, a shipped one by name or your own among the recipe's data."""
    text = SHORT.replace("[data]", '[data]\nmine = "./mine.toml"').partition("[[stage]]")[0]
    stage = '[[stage]]\nid = "{0}"\ndo = "collect"\nwhy = "Sounds."\nfrom = "{1}"\n'
    recipe = load_recipe(
        written(tmp_path, text + stage.format("shipped", "repositories") + stage.format("own", "mine"))
    )
    (tmp_path / "mine.toml").write_text("1")
    workshop, (shipped, own) = Workshop(recipe, tmp_path / "runs", None), recipe.stages
    assert shipped.shipped == ("repositories",) and own.data == ("mine",)
    assert workshop.inputs(shipped, {})["shipped"] == {
        "repositories": manifest(shipped_tables()["repositories"]).sha256
    }
    assert "--from=repositories" in workshop.arguments(shipped, {}, tmp_path)
    assert f"--from={tmp_path}/mine.toml" in workshop.arguments(own, {}, tmp_path)
    key = workshop.key(workshop.inputs(own, {}))
    (tmp_path / "mine.toml").write_text("12")
    other = Workshop(recipe, tmp_path / "runs", None)
    assert other.key(other.inputs(own, {})) != key
    with pytest.raises(RecipeError, match=r"from: 'repositoris' is no stage .* \(did you mean 'repositories'\?\)"):
        load_recipe(written(tmp_path, text + stage.format("a", "repositoris")))


def test_names_lead_to_the_folder_of_recipes(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert find_recipe("micro12").is_file()
    assert find_recipe("x.toml") == Path("x.toml")
    with pytest.raises(RecipeError, match=r"x\.toml: No such file"):
        load_recipe("x.toml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "short"', 'name = "../evil"', "recipe: the name '../evil' names files"),
        ('name = "short"', r'name = "a\u0000b"', r"recipe: the name 'a\x00b' names files"),
        ('name = "short"', 'name = "."', "recipe: the name '.' names files"),
        ('name = "short"', f'name = "{"x" * 300}"', "names files: give up to 60 letters"),
        ('id = "apart"', f'id = "{"a" * 61}"', "an id is new, in up to 60 small letters"),
        ('id = "apart"', 'id = "commands12"', "stage commands12: an id is new"),
        ('clips = "clips"', 'clips = "clips"\n"a/b" = "x"', "data: 'a/b' is no name"),
        ('clips = "clips"', 'clips = "clips"\nmicro12 = "x"', "data: 'micro12' comes with this program"),
        ('data = "clips"', 'data = "clips/../x"', "stage quiet: data: 'clips/../x' leads out of 'clips'"),
        ("clips = 5\n", f"clips = 0x{'f' * 4000}\n", "clips: a number of thousands of digits is too large"),
        ("seed = 4", 'seed = 4\n[[stage]]\nid="l"\ndo="lock"\nwhy="x"\nmodel="commands12"', "is no stage before it"),
        ("seed = 4", 'seed = 4\n[[stage]]\nid="l"\ndo="lock"\nwhy="x"\nmodel="quiet"', "that makes a model file"),
    ],
)
def test_names_lead_nowhere_else(tmp_path, old, new, message):
    assert old in SHORT
    with pytest.raises(RecipeError) as error:
        load_recipe(written(tmp_path, SHORT.replace(old, new, 1)))
    assert message in str(error.value)


def test_a_change_is_one_value_of_toml_or_else_text(tmp_path):
    path = written(tmp_path, SHORT)
    for text in ("1\nb = 2", "[" * 5000):
        with pytest.raises(RecipeError, match="stage apart: --clips: must be a whole number"):
            load_recipe(path, changes={"apart.clips": text})


def test_references_are_located_however_they_are_written(tmp_path, small):
    path = written(tmp_path, SHORT.replace('data = "clips"', 'data = "./clips"', 1))
    workshop = Workshop(load_recipe(path), tmp_path / "runs", small)
    states = workshop.states()
    quiet = workshop.recipe.stages[0]
    assert str(small / "clips") in workshop.arguments(quiet, states, tmp_path)


@pytest.mark.parametrize(
    "damage", [{"sha256": None}, {"inputs": 3}, {"inputs": {"options": 3}}, {"key": 1}, "[" * 5000, b"\xff\xfe", "[]"]
)
def test_damaged_records_count_for_nothing(tmp_path, small, damage):
    workshop = Workshop(load_recipe(written(tmp_path, SHORT)), tmp_path / "runs", small)
    stage = workshop.recipe.stages[0]
    states = run(workshop, until=["quiet"], say=lambda line: None)
    record = states["quiet"].result.folder / "stage.json"
    if isinstance(damage, dict):
        damage = json.dumps({**json.loads(record.read_text()), **damage})
    record.write_bytes(damage if isinstance(damage, bytes) else damage.encode())
    assert workshop.state(stage, {}).name == "unfinished"


def test_what_somebody_changed_is_set_aside(tmp_path, small):
    workshop = Workshop(load_recipe(written(tmp_path, SHORT)), tmp_path / "runs", small)
    folder = run(workshop, until=["quiet"], say=lambda line: None)["quiet"].result.folder
    for n in (1, 2):
        (folder / "notes.txt").write_text("mine")
        said = []
        run(workshop, until=["quiet"], say=said.append)
        assert f"  kept as it is: {folder}.changed{n}" in said
        assert (folder.with_name(f"{folder.name}.changed{n}") / "notes.txt").read_text() == "mine"
        assert workshop.states()["quiet"].name == DONE


def test_a_network_of_ones_own_is_part_of_what_a_stage_depends_on(tmp_path, small, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = SHORT.split("[[stage]]")[0] + '[[stage]]\nid="t"\ndo="train"\nwhy="x"\nclips="clips"\nmodel="net:build"\n'
    workshop = Workshop(load_recipe(written(tmp_path, text)), tmp_path / "runs", small)
    with pytest.raises(RecipeError, match="stage t: there is no module net in"):
        workshop.states()
    keys = []
    for content in ("", "x = 1\n"):
        (tmp_path / "net.py").write_text(content)
        keys.append(workshop.states()["t"].key)
    assert keys[0] != keys[1]


def test_what_cannot_be_read_or_leads_around_is_part_of_a_folder(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "x.wav").write_bytes(b"1")
    before = manifest(tmp_path).sha256
    (tmp_path / "a" / "link.wav").symlink_to("nowhere")
    os.mkfifo(tmp_path / "a" / "pipe.wav")
    for name in ("a/up", "a/up2", "a/b/up", "a/b/up2"):
        (tmp_path / name).symlink_to("..")
    found = {entry.path: entry.sha256 for entry in manifest(tmp_path).entries}
    assert manifest(tmp_path).sha256 != before
    assert found["a/link.wav"] == found["a/pipe.wav"] == "unreadable"
    assert (found["a/up"], found["a/b/up"]) == ("as .", "as a")
    assert len(found) == 7
    for name in ("nothing", "a\0b", "x" * 5000, "a/pipe.wav"):
        with pytest.raises(DatasetError):
            manifest(tmp_path / name)


def test_damaged_checksums_are_computed_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_bytes(b"1")
    right = manifest(tmp_path / "data").sha256
    (file,) = (tmp_path / "cache").rglob("manifests/*.json")
    for text in ("[]", "3", '{"layout": 1, "files": []}', '{"layout": 1, "files": {"x": 3}}', "[" * 5000):
        file.write_text(text)
        assert manifest(tmp_path / "data").sha256 == right


@pytest.mark.parametrize("who", ["all", "it"])
def test_interrupted_it_says_one_line_and_leaves_nothing_running(tmp_path, folder, who):
    """All processes of a terminal get Ctrl-C. A signal may also go to the recipe's process alone."""
    command = [sys.executable, "-m", "host_tools", "recipe", "run", TONES, "--data", folder, "-o", tmp_path / "runs"]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 250
    while not list((tmp_path / "runs" / "tones").glob("words-*/words/examples.npz")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    if who == "all":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert said.endswith("kws-host: interrupted\n")
    (trained,) = (tmp_path / "runs" / "tones").glob("words-*/words")
    with locked(trained):  # fails if somebody still trains there
        pass


def test_until_a_stage_only_its_own_data_are_looked_at(tmp_path, small, run_cli):
    text = SHORT.replace('clips = "clips"\n', 'clips = "clips"\nother = "elsewhere"\n', 1)
    path = written(tmp_path, text.replace('data = "clips"\nclips = 3', 'data = "other"\nclips = 3'))
    workshop = Workshop(load_recipe(path), tmp_path / "runs", small)
    with pytest.raises(RecipeError, match="elsewhere: no such file or folder"):
        run(workshop, say=lambda line: None)
    assert list(run(workshop, until=["quiet"], say=lambda line: None)) == ["quiet"]
    for action in ("status", "explain", "run"):
        done = run_cli("recipe", action, path, "--data", small, "--until", "quiet", package="host_tools")
        assert done.returncode == 0, done.stderr
    assert run_cli("recipe", "status", path, "--until", "quite", package="host_tools").stderr.startswith(
        f"kws-host: {path}: no stage 'quite' (did you mean 'quiet'?)".encode()
    )


def test_data_that_change_while_a_stage_is_done_are_noticed(tmp_path, small):
    path = written(tmp_path, SHORT)
    clip = next((small / "clips" / "yes").iterdir())

    def change(line):
        if line.startswith("[1/3]"):  # the stage's key is made
            clip.write_bytes(clip.read_bytes()[:-2] + b"\0\1")

    workshop = Workshop(load_recipe(path), tmp_path / "runs", small)
    with pytest.raises(RecipeError, match="stage quiet: its data changed while it was done"):
        run(workshop, say=change)
    run(workshop, say=lambda line: None)
    assert [state.name for state in workshop.states().values()] == [DONE] * 3

    def remove(line):
        if line.startswith("[3/3]"):
            clip.unlink()

    with pytest.raises(RecipeError, match="stage apart: its data changed while it was done"):
        shutil.rmtree(next((tmp_path / "runs").glob("apart-*")))
        run(workshop, say=remove)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ('labels = "commands13"', "stage words: --labels: must be a label set or a list of words: unknown label set"),
        ('preset = "own"', "stage words: there is no option 'preset'"),
        ('log_prior = "lamp=1"', "stage words: log_prior: 'lamp' is none of the labels"),
        ('model = "macro"', "stage words: --model: must be one of residual, micro, "),
    ],
)
def test_what_a_training_would_refuse_is_refused_before_any_stage(tmp_path, option, message):
    text = TONES.read_text().replace('id = "words"', f'id = "words"\n{option}', 1)
    with pytest.raises(RecipeError) as error:
        load_recipe(written(tmp_path, text.replace('model = "micro"\n', "", 1)))
    assert message in str(error.value)


def test_minutes_of_training_are_scaled(tmp_path):
    path = written(tmp_path, TONES.read_text().replace("epochs = 3", "minutes = 100", 1))
    assert load_recipe(path, scale=0.02).by_id["words"].resolved["minutes"] == 2


def test_a_lock_tells_the_data_that_stages_took_or_none(tmp_path, small):
    """However the data are when it is written."""
    recipe = load_recipe(TONES)
    workshop, stage = Workshop(recipe, tmp_path / "runs", None), recipe.by_id["origin"]

    def states(**other):
        found = {}
        for one in recipe.up_to("tuned"):
            data = {name: {"sha256": other.get(one.id, name)} for name in one.data}
            record = {"sha256": one.id, "inputs": {"data": data, "shipped": {}}}
            found[one.id] = State(one, DONE, "key", Result(tmp_path, record))
        return found

    (tmp_path / "tones.tflite").write_bytes(b"x")
    told = json.loads(lock(workshop, stage, states()))
    assert told["data"]["clips"] == {"folder": "clips", "sha256": "clips"}
    with pytest.raises(RecipeError, match="data clips changed while the recipe was followed, before stage quiet"):
        lock(workshop, stage, states(quiet="new"))


def test_what_differs_from_a_lock_is_named(tmp_path, run_cli):
    """Data, libraries, options and results, each by its name."""
    recipe = load_recipe(written(tmp_path, SHORT))
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.txt").write_text("1")
    workshop = Workshop(recipe, tmp_path / "runs" / "short", tmp_path)
    stages = [{"id": one.id, "options": dict(one.options), "sha256": "0"} for one in recipe.stages]
    data = {"clips": {"sha256": workshop.manifest_of_data("clips").sha256, "files": 1}}
    told = {"recipe": {"name": "short"}, "data": data, "versions": workshop.versions, "stages": stages}

    def differ(**changes):
        path = tmp_path / "short.lock.json"
        path.write_text(json.dumps({**told, **changes}))
        return {one.name: one.found for one in compared(workshop, read_lock(path, recipe)) if not one.same}

    missing = {"quiet": "missing here", "heard": "missing here", "apart": "missing here"}
    assert differ() == missing
    assert differ(data={"clips": {"sha256": "1", "files": 3}, "other": {}}) == {
        "clips": "other content: 1 file; the lock has 3",
        "other": "not in the recipe",
        **missing,
    }
    assert differ(versions={"numpy": "0.1", "jax": "9"}) == {
        "numpy": f"{workshop.versions['numpy']}; the lock has 0.1",
        "jax": "not used here; the lock has 9",
        **missing,
    }
    other = [{**stages[0], "options": {"clips": 6, "data": "clips", "seed": 1}}, {"id": "gone"}, {"id": "apart"}]
    assert differ(stages=other) == {
        "quiet": "other options: clips, seed",
        "gone": "not in the recipe",
        "apart": "the lock has no options",
    }
    shown = run_cli("recipe", "compare", "short.toml", "short.lock.json", "--data", ".", package="host_tools")
    assert [line.split(maxsplit=2) for line in shown.stdout.decode().splitlines()[-2:]] == [
        ["stage", "gone", "not in the recipe"],
        ["stage", "apart", "the lock has no options"],
    ]
    values = json.loads(
        run_cli(
            "recipe", "compare", "short.toml", "short.lock.json", "--data", ".", "--json", package="host_tools"
        ).stdout
    )
    assert not values["same"]
    assert values["found"][0] == {"kind": "data", "name": "clips", "found": "same"}
    shutil.rmtree(tmp_path / "clips")
    workshop.look_again()
    assert {
        "clips": f"{tmp_path}/clips: no such file or folder",
        "quiet": "data are missing",
    }.items() <= differ().items()
    with pytest.raises(RecipeError, match=r"short\.lock\.json: is a lock of the recipe 'other', not of 'short'"):
        differ(recipe={"name": "other"})


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "[" * 9999]
    + [f'{{"recipe": {{}}, "data": {data}, "versions": {{}}, "stages": {stages}}}' for data, stages in BROKEN],
)
def test_a_file_that_is_no_lock_is_refused(tmp_path, text):
    recipe = load_recipe(written(tmp_path, SHORT))
    path = tmp_path / "x.lock.json"
    path.write_text(text)
    with pytest.raises(RecipeError, match=r"x\.lock\.json: ") as error:
        read_lock(path, recipe)
    assert "\n" not in str(error.value)
    with pytest.raises(RecipeError, match="No such file"):
        read_lock(tmp_path / "gone.json", recipe)
