"""Cards of models, and their section from the lock beside the model."""

import json
import shutil
from pathlib import Path

import pytest

from host_tools.cli import main
from host_tools.convert.lock_section import lock_section
from host_tools.errors import DatasetError
from kws_edge import shipped_models

pytestmark = pytest.mark.host

MICRO = Path(shipped_models()["micro12"])
LOCK = {
    "recipe": {"name": "mine", "file": "mine.toml", "sha256": "1" * 64},
    "model": {"file": "mine.tflite", "sha256": "2" * 64},
    "data": {"clips": {"folder": "words|clips", "sha256": "3" * 64, "files": 1200, "bytes": 34_000_000}},
    "versions": {"kws-edge": "0.1.0", "python": "3.11"},
    "stages": [
        {"id": "base", "do": "train", "stages": [], "shipped": {"words36": "4"}, "data": ["clips"], "sha256": "5" * 64},
        {"id": "mean", "do": "average", "stages": ["base"], "shipped": {}, "data": [], "sha256": "6" * 64},
    ],
}  # fmt: skip


def section(card):
    """The section of a card that says how the model was made."""
    return card[card.index("## What made it") : card.index("\n\n## Results")]


@pytest.mark.parametrize("name", shipped_models())
def test_shipped_cards_say_what_their_locks_do(name, tmp_path):
    path = Path(shipped_models()[name])
    lock = json.loads(path.with_suffix(".lock.json").read_text())
    made = section(path.with_suffix(".md").read_text())
    assert made == "\n".join(lock_section(lock))
    outputs = [row.split(" | ")[0].removeprefix("| ") for row in made.splitlines() if row.startswith("| ")][1:]
    if lock["recipe"]:
        assert outputs[: len(lock["stages"])] == [stage["id"] for stage in lock["stages"]]
    else:
        commands = lock["commands"]
        assert all(f"-o {one}" in text or text.endswith(one) for one, text in zip(outputs, commands, strict=True))
    main(["card", name, "-o", str(tmp_path / "card.md")])
    assert section((tmp_path / "card.md").read_text()) == made


def test_by_recipe():
    text = "\n".join(lock_section(LOCK))
    assert "The recipe mine made it (`mine.toml`, SHA-256 `" + "1" * 64 in text
    assert "kws-edge 0.1.0, python 3.11" in text
    assert "| base | train | words36 | clips | `555555555555` |\n| mean | average | base |  | `666666666666` |" in text
    assert "| clips | `words\\|clips` | 1,200 | 34,000,000 | `" + "3" * 64 in text


def test_by_hand():
    commands = [
        "git clone --depth 1 https://example.org/voices there/voices",
        "kws-host collect -o there/sounds --cache there/cache",
        "kws-host train DATA/words --more-speech there/voices/audio -o there/a",
        "kws-host train DATA/words -o 'there/b b' --teacher there/a,there/other",
    ]
    text = "\n".join(lock_section({"recipe": None, "note": "By hand.", "commands": commands}))
    assert "By hand.\n\n| made | by | from |" in text
    assert "| there/voices | git clone |  |\n| there/sounds | kws-host collect |  |\n" in text
    assert "| there/a | kws-host train | there/voices |\n| there/b b | kws-host train | there/a |" in text
    assert "`https://example.org/voices`, `DATA/words`, `there/other`." in text


def test_a_lock_is_found_beside_the_model_or_named(tmp_path):
    model, card = tmp_path / "mine.tflite", tmp_path / "card.md"
    shutil.copy(MICRO, model)
    main(["card", str(model), "-o", str(card)])
    assert "## What made it" not in card.read_text()
    lock = json.loads(MICRO.with_suffix(".lock.json").read_text())
    main(["card", str(model), "-o", str(card), "--lock", str(MICRO.with_suffix(".lock.json"))])
    assert section(card.read_text()) == "\n".join(lock_section(lock))
    beside = tmp_path / "mine.lock.json"
    lock["note"] = "Mine."
    beside.write_text(json.dumps(lock))
    main(["card", str(model), "-o", str(card)])
    assert "Mine." in card.read_text()
    beside.write_text(json.dumps(LOCK))
    with pytest.raises(DatasetError, match=r"mine\.lock\.json: is the lock of another file than .*--lock"):
        main(["card", str(model), "-o", str(card)])
    assert "Mine." in card.read_text()


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        '{"recipe": null}',
        '{"recipe": null, "note": "x", "commands": [1]}',
        '{"recipe": null, "note": "x", "commands": ["kws-host train -o"]}',
        '{"recipe": null, "note": "x", "commands": ["\'"]}',
        '{"recipe": null, "note": "x", "commands": [""]}',
        '{"recipe": null, "note": "x", "commands": []}',
        '{"recipe": {"name": "x"}, "stages": []}',
        None,
    ],
)
def test_locks_that_are_none(tmp_path, text):
    path = tmp_path / "some.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DatasetError, match=r"some\.json: no card can be made of it") as error:
        main(["card", "micro12", "-o", str(tmp_path / "card.md"), "--lock", str(path)])
    assert "\n" not in str(error.value)
    assert not (tmp_path / "card.md").exists()
