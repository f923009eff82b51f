"""Options of a training are defined once. Code, command line, recipes, records and the guide agree.

``python -m tests.test_training_options`` writes the guide's tables.
"""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from host_tools.cli import make_parser, parse
from host_tools.cli.train import training
from host_tools.config import NETWORKS, STREAM_NETWORKS, SequenceConfig, StageConfig
from host_tools.errors import RecipeError
from host_tools.options import Pair, Place, Places, Wholes, flag, markdown_table
from host_tools.recipe.file import load_recipe
from kws_edge.errors import ConfigError, UsageError
from kws_edge.ranges import Range
from kws_edge.settings import Choice
from tests.conftest import ROOT

pytestmark = pytest.mark.host

GUIDE = ROOT / "docs" / "train" / "training.md"
BETWEEN = re.compile(r"(?<=<!-- options -->\n).*?(?=\n<!-- end of options -->)", re.DOTALL)
OPTIONS = StageConfig.options()
FLAGS = {name: one for name, one in OPTIONS.items() if one.metadata.get("flag", True)}
BASE = StageConfig.from_options({"clips": "clips"})
RECIPE = """
name = "short"
about = "One training."
[data]
clips = "clips"
[[stage]]
id = "words"
do = "train"
why = "One stage."
clips = "clips"
"""


def another(name):
    """A value of an option other than its default."""
    values, default = OPTIONS[name].metadata["values"], OPTIONS[name].default
    if isinstance(values, Range):
        return next(x for x in (values.high / 2, values.low) if x != default) if not values.whole else values.high
    if isinstance(values, Choice):
        return next(one for one in values.names if one != default)
    if isinstance(values, Pair):
        return (values.numbers.low + 1, values.numbers.low + 2)
    if isinstance(values, Wholes):
        return (3, 5)
    if isinstance(values, Places):
        return (Path("/a"), Path("/b"))
    if isinstance(values, Place):
        return Path("/a")
    return {"log_prior": "yes=0.5,no=-1", "model": "micro"}.get(name, "runs/other")


SHARES = {one: {"keyword_share": 0.1} for one in ("halves", "other_share", "cut_speech")}
"""What these need so that all shares fit into one whole."""


def changed(name):
    """A configuration with another value of this option, and of other options that it needs."""
    needs = {"silence_share": {"unknown_share": 0.1}, "blend": {"start": "runs/x"}, "speech_share": {}}
    needs |= {one: {"model": STREAM_NETWORKS[0], **SHARES.get(one, {})} for one in SequenceConfig.options()}
    return BASE.changed(**needs.get(name, {}), **{name: another(name)})


def test_every_option_says_what_it_is():
    for name, one in OPTIONS.items():
        assert set(one.metadata) >= {"values", "unit", "help"}, name
        assert one.metadata["help"], name
        assert len(one.metadata["help"].split()) <= 25, name
        assert (one.metadata["unit"] == "ms") == name.endswith("_ms"), name
        assert (one.metadata["unit"] == "dB") == name.endswith("_db"), name
        if isinstance(one.metadata["values"], Range):
            assert isinstance(one.default, int if one.metadata["values"].whole else float), name


@pytest.mark.parametrize("name", OPTIONS)
def test_records_hold_every_option(name):
    config = changed(name)
    assert config != BASE
    assert config.values()[name] == another(name)
    again = StageConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    if name == "cache":  # no result depends on it
        assert again.data.cache is None
    else:
        assert again.values()[name] == another(name)
    assert StageConfig.from_dict(again.to_dict()) == again
    assert (name in config.settings()) == (name in ("split", "window") or name not in config.data.values())


def test_networks_are_those_that_are_built():
    pytest.importorskip("keras", exc_type=ImportError, reason="Keras is not installed here")
    from host_tools.networks.models import MODELS

    assert tuple(MODELS) == NETWORKS


def test_summaries_leave_out_what_nobody_chose():
    assert "direct_db" not in BASE.summary()
    assert BASE.changed(direct_db=(0, 3)).summary()["direct_db"] == [0, 3]
    assert BASE.summary().keys() | {"clips"} <= FLAGS.keys()
    streams = BASE.changed(model="stream_micro").summary()
    assert "wordless" in streams.keys() - BASE.summary().keys()
    assert "shift_ms" in BASE.summary().keys() - streams.keys()


def test_commands_have_every_option_and_its_default():
    args = parse(["train", "clips", "-o", "run"])
    config = training(args)
    assert dataclasses.replace(config, data=BASE.data) == BASE
    for name, one in FLAGS.items():
        if one.default is not dataclasses.MISSING and name != "clips":
            assert getattr(args, name) == one.default
    fine = vars(parse_only("qat", "run", "-o", "out"))
    assert {name for name in OPTIONS if name in fine} == {
        *(name for name in BASE.data.values() if name != "split"), "epochs", "steps", "learning_rate", "seed"
    }  # fmt: skip


def parse_only(*argv):
    """Parse without the defaults of a run on the disk."""
    return make_parser(argv).parse_args(argv)


@pytest.mark.parametrize("name", [name for name in FLAGS if name != "clips"])
def test_options_reach_the_configuration(name):
    value = another(name)
    words = [str(one) for one in value] if isinstance(value, tuple) else [str(value)]
    extra = {"silence_share": ["--unknown-share=0.1"], "blend": ["--start=runs/x"]}.get(name, [])
    if name in SequenceConfig.options():
        extra = [f"--model={STREAM_NETWORKS[0]}", *(f"{flag(k)}={v}" for k, v in SHARES.get(name, {}).items())]
    given = [f"{flag(name)}={words[0]}"] if len(words) == 1 else [flag(name), *words]
    assert training(parse(["train", "clips", "-o", "run", *extra, *given])).values()[name] == value


WRONG = [
    ({"speech_share": 7}, "speech_share", "must be a number from 0 to 1, got"),
    ({"hiss": 5}, "hiss", "must be a number from 0 to 1, got"),
    ({"snr_db": [40, 0]}, "snr_db", "takes the lower bound first, got 40 and 0"),
    ({"snr_db": [0, 1000]}, "snr_db", "200, got"),
    ({"steps": 0}, "steps", "must be a whole number from 1 to 1000000, got"),
    ({"keep": "all"}, "keep", "best"),
    ({"log_prior": "yes=500"}, "log_prior", "must be a number from -100 to 100, got"),
    ({"log_prior": "yes=1,"}, "log_prior", "must be a number from -100 to 100, got ''"),
    ({"log_prior": "yes=1,yes=2"}, "log_prior", "must name each label once, got 'yes' twice"),
    ({"log_prior": "lamp=1"}, "log_prior", "'lamp' is none of the labels, which are silence, unknown, yes,"),
    ({"labels": "commands13"}, "labels", "unknown label set 'commands13'"),
    ({"labels": "yes,yes"}, "labels", "list each word once"),
    (
        {"model": "transformer"},
        "model",
        "one of residual, micro, cnn_reference, stream_residual, stream_micro, stream_word, or your",
    ),
    ({"silence_share": 0.5, "unknown_share": 0.5}, "silence_share", "leave nothing for keywords: 1 together"),
    ({"speech_share": 0.75, "hard_negatives": 0.5}, "speech_share", "more than all of unknown: 1.25 together"),
    ({"blend": "runs/x"}, "blend", "give start, too"),
    ({"wordless": 0.1}, "wordless", "is for networks with state, residual is one without it"),
    ({"model": "stream_micro", "mixup": 0.1}, "mixup", "is for networks without state, stream_micro is one with it"),
    ({"model": "stream_micro", "keyword_share": 0.9}, "keyword_share", "more than all words: 1.28 together"),
    (
        {"augmentation": 10, "shift_ms": 5000},
        "shift_ms",
        "10000, got 50000.0 (times augmentation, which is 10)",
    ),
    ({"epochs": 0}, "epochs", "no weights to start from"),
]


@pytest.mark.parametrize(("values", "name", "told"), WRONG, ids=["-".join(values) for values, _, _ in WRONG])
def test_wrong_values_are_refused_by_name(values, name, told, tmp_path, capsys):
    """This holds in code, on the command line, and in a recipe."""
    with pytest.raises(ConfigError) as error:
        BASE.changed(**values)
    assert name in str(error.value) and told in str(error.value)

    argv = ["train", "clips", "-o", "run"]
    for one, value in values.items():
        argv += [flag(one), *map(str, value)] if isinstance(value, list) else [f"{flag(one)}={value}"]
    with pytest.raises((SystemExit, UsageError)) as error:
        training(parse(argv))
    said = capsys.readouterr().err if error.type is SystemExit else str(error.value)
    assert (name in said or flag(name) in said) and told in said

    if "blend" not in values:  # blend names a stage
        (tmp_path / "short.toml").write_text(RECIPE + "".join(f"{k} = {json.dumps(v)}\n" for k, v in values.items()))
        with pytest.raises(RecipeError) as error:
            load_recipe(tmp_path / "short.toml")
        assert "stage words" in str(error.value) and told in str(error.value)
        assert name in str(error.value) or flag(name) in str(error.value)


@pytest.mark.parametrize(
    "wrong", [None, [], {}, True, float("nan"), float("inf"), -(10**400), 10**400, "\x1b[2J", b"x", 1j, (3, 2, 1)]
)
@pytest.mark.parametrize("name", OPTIONS)
def test_no_option_takes_what_is_none_of_its_values(name, wrong):
    """If a value has the wrong type or is not finite, one line names the option. Valid values are accepted."""
    default = OPTIONS[name].default
    if wrong == default or (isinstance(wrong, list) and isinstance(default, tuple)):
        return
    try:
        config = BASE.changed(**{name: wrong})
    except ConfigError as error:
        assert name in str(error) and "\n" not in str(error) and len(str(error)) < 300
    else:
        assert isinstance(wrong, str) and config.values()[name] in (wrong, Path(wrong))


def test_the_guide_shows_what_there_is():
    assert BETWEEN.search(GUIDE.read_text()).group() == tables(), "run python -m tests.test_training_options"


def tables():
    return f"\n{markdown_table(StageConfig)}\n"


if __name__ == "__main__":
    GUIDE.write_text(BETWEEN.sub(lambda _: tables(), GUIDE.read_text()))
