"""Every number of every command and every setting has a range that is checked."""

import argparse
import dataclasses
import time

import pytest

import firmware_export.cli
import host_tools.cli
import kws_edge.cli
from kws_edge import ConfigError, DetectorConfig, FrontendConfig, preset
from kws_edge.cli.parser import Parser
from kws_edge.ranges import Range, number, whole
from tests.conftest import peak_mb

BIG = 10**400
WRONG = [
    "nan", "inf", "-inf", "infinity", "1e400", "-1e400", str(BIG), "9" * 5000, "1_000", "\u0663", "\uff11", "", " ",
    "0x10", "1e", "1,5", "1 2", "NaN", "True",
]  # fmt: skip
PARSERS = {
    "kws-edge": kws_edge.cli.make_parser,
    "kws-host": host_tools.cli.make_parser,
    "kws-firmware": firmware_export.cli.make_parser,
}
NUMERIC = {
    "N", "N,M,...", "K", "S", "MS", "M", "X", "HZ", "DB", "BYTES", "SHARE", "[KEYWORD=]X", "LABEL=X[,...]",
    ("LOW", "HIGH"),
}  # fmt: skip


def actions():
    """Every option that takes a value: its command, the subcommand and the action."""
    for command, make_parser in PARSERS.items():
        parser = make_parser()
        (commands,) = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        for name, sub in commands.choices.items():
            for action in sub._actions:
                if action.nargs != 0 and action.option_strings:
                    yield command, name, action


def is_numeric(action) -> bool:
    """Whether an option takes numbers, judged by its type, its default, or the name of its value in help."""
    defaults = action.default if isinstance(action.default, (list, tuple)) else [action.default]
    return (
        isinstance(action.type, Range)
        or action.type in (int, float)
        or any(isinstance(d, (int, float)) and not isinstance(d, bool) for d in defaults)
        or action.metavar in NUMERIC
    )


OPTIONS = [(c, n, a) for c, n, a in actions() if is_numeric(a)]
IDS = [f"{c}-{n}{a.option_strings[0]}" for c, n, a in OPTIONS]


def test_the_walk_finds_them():
    assert len(OPTIONS) > 100
    names = {(c, a.option_strings[0]) for c, _, a in OPTIONS}
    for known in (
        ("kws-edge", "--threads"),
        ("kws-edge", "--rate"),
        ("kws-host", "--snr-db"),
        ("kws-firmware", "--arena"),
    ):
        assert known in names


@pytest.mark.parametrize(("command", "name", "action"), OPTIONS, ids=IDS)
def test_every_numeric_option_has_a_range(command, name, action, capsys):
    """A wrong number gives status 2 and a line with the option, its range and the abbreviated value."""
    parser = PARSERS[command]()
    option, prefix = action.option_strings[0], "yes=" if "=" in (action.metavar or "") else ""
    values = WRONG
    if isinstance(action.type, Range):
        low, high = action.type.low, action.type.high
        assert -BIG < low < high < BIG
        values = [*WRONG, repr(low - 1), repr(2 * high + 1), "0.5"[: 3 * action.type.whole]]
    elif "," in action.metavar:
        values = [value for value in WRONG if "," not in value]
    for value in values:
        n = action.nargs if isinstance(action.nargs, int) else 1
        with pytest.raises(SystemExit) as ended:
            parser.parse_args([name, f"{option}={prefix}{value}"] if n == 1 else [name, option, *[value] * n])
        assert ended.value.code == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert option in line
        assert len(line) < 400
        assert "number from" in line or "expected" in line, line


def test_an_option_of_several_values_may_be_repeated():
    parser = Parser(prog="x")
    group = parser.add_argument_group("several")
    group.add_argument("--more", nargs="+", default=["own"])
    group.add_argument("--pair", nargs=2)
    assert parser.parse_args([]).more == ["own"]
    assert parser.parse_args(["--more", "a", "b", "--pair", "1", "2", "--more", "c", "--pair", "3", "4"]).more == [
        "a",
        "b",
        "c",
    ]
    assert parser.parse_args(["--pair", "1", "2", "--pair", "3", "4"]).pair == ["3", "4"]
    parser.set_defaults(more=["run's"])
    assert parser.parse_args(["--more", "a"]).more == ["a"]


def test_no_option_takes_any_number():
    for command, name, action in actions():
        assert action.type not in (int, float, complex), (command, name, action.option_strings)


def test_ranges_are_inclusive_and_typed():
    assert number(0, 1)("1") == 1.0
    assert isinstance(number(0, 1)("1"), float)
    assert number(-1, 1)("-.5") == -0.5
    assert number(0, 1e-3)("1E-3") == 1e-3
    assert whole(1, 64)("+64") == 64
    assert whole(1, 10**20)(str(10**20)) == 10**20
    assert str(whole(1, 64)) == "a whole number from 1 to 64"
    assert str(number(0.001, 768_000)) == "a number from 0.001 to 768000"
    assert number(0, 5).check("x", 5) == 5.0
    for value in (True, None, "1", [1], BIG, -BIG, float("nan"), float("inf"), 1j):
        with pytest.raises(ConfigError, match=r"^x must be a number from 0 to 5, got "):
            number(0, 5).check("x", value)
    with pytest.raises(ConfigError, match=r"whole number .* got 1\.0"):
        whole(0, 5).check("x", 1.0)
    with pytest.raises(ConfigError) as error:
        number(0, 5).check("x", 10**5000)
    assert len(str(error.value)) < 100


@pytest.mark.parametrize(
    "arguments",
    [
        ("listen", "-", "--rate", "99999999999999999999"),
        ("listen", "-", "--threads", "1000000"),
        ("listen", "-", "--channels", "1000000000"),
        ("listen", "file.wav"),
        ("classify", "a.wav", "--top", "0"),
        ("detect", "a.wav", "--threshold", "yes=nan"),
        ("detect", "a.wav", "--threshold", "=0.1"),
        ("detect", "a.wav", "b.wav", "--plot", "p.png"),
        ("calibrate", "a.wav", "-"),
        ("bench", "--live", "--seconds", "0"),
        ("bench", "--from", "a.json"),
        ("bench", "--threads", "1,65"),
    ],
)
def test_wrong_usage_exits_with_2(run_cli, arguments):
    started = time.monotonic()
    failed = run_cli(*arguments, input=b"", timeout=30)
    assert failed.returncode == 2, failed.stderr
    assert time.monotonic() - started < 10
    assert b"Traceback" not in failed.stderr


def test_wrong_usage_of_host_and_firmware_exits_with_2(run_cli):
    for package, arguments in (
        ("host_tools", ("download", "folder", "--url", "x")),
        ("host_tools", ("train", "data", "-o", "run", "--silence-share", "0.8", "--unknown-share", "0.8")),
        ("host_tools", ("train", "data", "-o", "run", "--log-prior", "yes=inf")),
        ("firmware_export", ("export", "commands12", "-o", "out", "--arena", "0")),
    ):
        assert run_cli(*arguments, package=package).returncode == 2, arguments


@pytest.mark.parametrize("config", [FrontendConfig, DetectorConfig])
def test_every_numeric_setting_has_a_range(config):
    for field in dataclasses.fields(config):
        if "int" in field.type or (field.type.startswith("float")):
            values = config.range_of(field.name)
            assert values.whole == ("int" in field.type), field.name
            assert -BIG < values.low < values.high < BIG


SETTINGS = [
    (base, field.name)
    for base in (preset("logmel40"), preset("reference"), DetectorConfig())
    for field in dataclasses.fields(base)
    if isinstance(field.metadata.get("values"), Range)
]


@pytest.mark.parametrize(("base", "name"), SETTINGS, ids=[name for _, name in SETTINGS])
def test_no_setting_takes_what_is_no_number_of_its_range(base, name):
    values = base.range_of(name)
    for wrong in (values.low - 1, 2 * values.high + 1, BIG, -BIG, float("inf"), float("nan"), "1", [1], {}, True):
        with pytest.raises(ConfigError, match=name):
            dataclasses.replace(base, **{name: wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"thresholds": {"yes": BIG}},
        {"thresholds": {"yes": 1e-320}},
        {"thresholds": {"": 0.5}},
        {"thresholds": {3: 0.5}},
        {"thresholds": [1]},
        {"keywords": 5},
        {"keywords": True},
        {"keywords": ("yes", "yes")},
        {"keywords": ("\x1b[2J",)},
        {"keywords": {"yes": 1}},
        {"wake_word": "\u202eyes"},
        {"wake_word": ["yes"]},
    ],
)
def test_bad_words(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong)).rstrip("s")):
        DetectorConfig(**wrong)


CORNERS = """
import itertools, time
import numpy as np
from kws_edge import ConfigError, FrontendConfig, Frontend, preset
names = ("sample_rate", "frame_ms", "hop_ms", "n_fft", "n_mels", "clip_ms", "resize_frames")
base = {**preset("logmel40").to_dict(), "f_min_hz": 0, "f_max_hz": 500, "level_min": None, "level_max": None}
base |= {name: FrontendConfig.range_of(name).high for name in ("sample_scale", "log_offset", "log_gain")}
ranges = [FrontendConfig.range_of(name) for name in names]
accepted = 0
tried = [{r.low, r.high, None if name == "resize_frames" else base[name]} for r, name in zip(ranges, names)]
tried[1].remove(base["frame_ms"]), tried[4].remove(base["n_mels"])
for values in itertools.product(*tried):
    try:
        config = FrontendConfig(**{**base, **dict(zip(names, values))})
        frontend = Frontend(config)
    except ConfigError:
        continue
    started = time.process_time()
    assert np.isfinite(frontend(np.full(config.clip_samples, 32767, np.int16))).all(), config
    assert time.process_time() - started < 2, config
    accepted += 1
assert accepted > 100
"""


def test_no_front_end_takes_long_or_much_memory():
    """This holds at the ends of the ranges, if they are accepted together."""
    assert peak_mb(CORNERS) < 150
