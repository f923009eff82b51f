"""Recipes that extend others: what their tables and stages become, and what is refused."""

import json
from pathlib import Path

import pytest

pytest.importorskip("tensorflow", exc_type=ImportError, reason="TensorFlow is not installed here")

from host_tools.convert.lock_section import lock_section
from host_tools.errors import RecipeError
from host_tools.recipe.extends import find_recipe
from host_tools.recipe.file import load_recipe
from host_tools.recipe.graph import Workshop

pytestmark = pytest.mark.host

BASE = """
name = "base"
about = "Two streams, and what is heard of them."
[data]
clips = "clips"
sounds = "./sounds.toml"
[defaults.make-stream]
clips = 5
seed = 3
[[stage]]
id = "sounds_there"
do = "collect"
why = "Sounds."
from = "sounds"
[[stage]]
id = "quiet"
do = "make-stream"
why = "Words."
data = "clips"
[[stage]]
id = "loud"
do = "make-stream"
why = "Other words."
data = "clips"
seed = 4
[[stage]]
id = "heard"
do = "stream-eval"
why = "What is heard of them."
model = "commands12"
streams = ["quiet", "loud"]
"""
OWN = """
name = "own"
about = "Other words."
extends = "base.toml"
without = ["loud"]
[data]
clips = "mine"
[defaults.make-stream]
clips = 9
[[stage]]
id = "soft"
do = "make-stream"
why = "Soft words."
data = "clips"
[[stage]]
id = "heard"
streams = ["quiet", "soft"]
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "base.toml").write_text(BASE)
    (tmp_path / "own.toml").write_text(OWN.replace("base.toml", "base/base.toml"))
    return tmp_path


def load(folder: Path, text: str, name: str = "own.toml"):
    (folder / name).write_text(text)
    return load_recipe(folder / name)


def test_tables_add_and_stages_change(folder):
    recipe = load_recipe(folder / "own.toml")
    assert (recipe.name, recipe.about) == ("own", "Other words.")
    assert [stage.id for stage in recipe.stages] == ["sounds_there", "quiet", "soft", "heard"]
    assert recipe.data == {"clips": "mine", "sounds": "./sounds.toml"}
    quiet, heard = recipe.by_id["quiet"], recipe.by_id["heard"]
    assert (quiet.resolved["clips"], quiet.resolved["seed"], quiet.why) == (9, 3, "Words.")
    assert heard.parents == ("quiet", "soft")
    assert heard.why == "What is heard of them."
    assert recipe.files == (folder / "own.toml", folder / "base" / "base.toml")


def test_data_lie_beside_the_recipe_that_names_them(folder):
    workshop = Workshop(load_recipe(folder / "own.toml"), folder / "runs", None)
    assert workshop.path_of_data("sounds") == folder / "base" / "sounds.toml"
    moved = OWN.replace("base.toml", "base/base.toml").replace('clips = "mine"', 'sounds = "./sounds.toml"')
    workshop = Workshop(load(folder, moved), folder / "runs", None)
    assert workshop.path_of_data("sounds") == folder / "sounds.toml"


def test_recipes_extend_extended_ones(folder):
    text = 'name = "third"\nabout = "More."\nextends = "own.toml"\n[[stage]]\nid = "quiet"\nclips = 2\n'
    recipe = load(folder, text, "third.toml")
    assert [stage.resolved["clips"] for stage in recipe.stages if stage.do == "make-stream"] == [2, 9]
    assert [file.name for file in recipe.files] == ["third.toml", "own.toml", "base.toml"]


def test_changes_and_scale_hold_for_stages_of_both(folder):
    recipe = load_recipe(folder / "own.toml", changes={"quiet.seed": "8", "soft.clips": "20"}, scale=0.5)
    assert recipe.by_id["quiet"].resolved["seed"] == 8
    assert recipe.by_id["soft"].resolved["clips"] == 10


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("base/base.toml", "none.toml", r"none\.toml: No such file"),
        ("base/base.toml", "command12-stream", r"own\.toml: extends: no recipe .*did you mean 'commands12-stream'"),
        ("base/base.toml", "own.toml", r"own\.toml: extends: leads to more than 10 recipes, or back to itself"),
        ('"base/base.toml"', "3", r"own\.toml: extends: names a recipe, or a file"),
        ('extends = "base/base.toml"\n', "", r"own\.toml: without: leaves stages out of the recipe that 'extends'"),
        ('["loud"]', '"loud"', r"own\.toml: without: is a list of stages"),
        ('["loud"]', '["lout"]', r"own\.toml: without: no stage 'lout' in what it extends \(did you mean 'loud'\?\)"),
        ('["loud"]', '["quiet"]', r"own\.toml \(it extends base\.toml\): stage heard: .*'quiet' is no stage before it"),
        ('clips = "mine"', "clips = 3", r"own\.toml .*: data: holds names of folders"),
        ('[data]\nclips = "mine"', "", None),
        ("[data]", "data = 3\n[mix.x]", r"own\.toml .*: data: holds names of folders"),
        ('[data]\nclips = "mine"', "[data.clips]\nx = 3", r"own\.toml .*: data: holds names of folders"),
        (
            "[defaults.make-stream]\nclips = 9",
            "[defaults]\nmake-stream = 3",
            r"own\.toml .*: defaults: is written in tables",
        ),
        ("clips = 9", "clip = 9", r"own\.toml .*: stage quiet: .*clip"),
        ('id = "heard"', 'id = "heard"\ndo = "evaluate"', r"own\.toml: stage heard: does something else; name it in"),
        ('id = "heard"', 'id = "quiet"\n[[stage]]\nid = "quiet"', r"own\.toml: stage quiet: is there twice"),
        ('id = "soft"', "id = 3", r"own\.toml .*: stage .*'id' is missing, or no text"),
        ('id = "soft"\n', "", r"own\.toml .*: stage .*'id' is missing, or no text"),
    ],
)
def test_what_does_not_fit_is_named(folder, old, new, message):
    text = (folder / "own.toml").read_text()
    assert old in text
    text = text.replace(old, new, 1)
    if message is None:
        assert load(folder, text).data["clips"] == "clips"
        return
    with pytest.raises(RecipeError, match=message) as raised:
        load(folder, text)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('[data]\nclips = "clips"\nsounds = "./sounds.toml"', "data = 3", r"base\.toml: data: is no table"),
        ('about = "Two', 'mix.x = 3\nabout = "Two', r"base\.toml: mix\.x: is no table"),
        ('about = "Two', 'defaults = 3\nabout = "Two', r"base\.toml: "),
    ],
)
def test_what_is_wrong_in_the_other_recipe_is_named_there(folder, old, new, message):
    assert old in BASE
    (folder / "base" / "base.toml").write_text(BASE.replace(old, new, 1))
    with pytest.raises(RecipeError, match=message):
        load_recipe(folder / "own.toml")


def test_a_card_names_every_file():
    recipe = {"name": "own", "file": "own.toml", "sha256": "1" * 64, "extends": [{"file": "base.toml", "sha256": "2"}]}
    values = {"recipe": recipe, "versions": {"kws-edge": "1"}, "stages": [], "data": {}}
    text = "\n".join(lock_section(json.loads(json.dumps(values))))
    assert f"(`own.toml`, SHA-256 `{'1' * 64}`; it extends `base.toml`, SHA-256 `2`)" in text


@pytest.mark.parametrize("name", ["micro12-stream", "words36-stream"])
def test_shipped_recipes_say_only_what_differs(name):
    own, base = load_recipe(find_recipe(name)), load_recipe(find_recipe("commands12-stream"))
    assert own.files[1:] == base.files
    same = [one.id for one in own.stages if one.id in base.by_id and one.resolved == base.by_id[one.id].resolved]
    assert {"sounds", "open", "held_out", "quiet", "noisy", "lock"} <= set(same)
