"""Text from outside is read correctly, and no terminal obeys it."""

import pytest

from kws_edge import ConfigError, KwsError
from kws_edge.labels import check_labels, is_keyword, is_unknown
from kws_edge.text import MAX_BYTES, decode, listed, parse_json, printable, read_text, shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain, with ümlauts, 中文, 😀", "plain, with ümlauts, 中文, 😀"),
        ("می‌خواهم", "می‌خواهم"),  # a joiner that its spelling needs
        ("two\nlines\tand\r", "two lines and "),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b2J", "\\x9b2J"),  # a C1 control: CSI in one character
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\u2066a\u2069\u200f\u2028\ufeff", "\\u2066a\\u2069\\u200f\\u2028\\ufeff"),
        ("\ud800", "\\ud800"),
        ("\x00\x7f", "\\x00\\x7f"),
    ],
)
def test_printable(text, expected):
    assert printable(text) == expected
    printable(text).encode()


def test_long_values_are_abbreviated():
    assert len(shown("x" * 10**6)) < 80
    assert len(shown([["x" * 1000] * 1000])) < 80
    assert shown("yes") == "'yes'"
    assert "digits" in shown(10**5000)
    assert shown(10**400) == "1" + 39 * "0" + "..." + 20 * "0"
    deep: list = []
    for _ in range(10_000):
        deep = [deep]
    assert len(shown(deep)) < 80


def test_errors_are_one_line_that_any_terminal_shows():
    error = str(ConfigError("a\nb \x1b[2J \udce9" + "x" * 10**5))
    assert "\n" not in error
    assert error.startswith("a b \\x1b[2J \\udce9")
    assert len(error) < 2100
    assert str(KwsError()) == ""


@pytest.mark.parametrize(
    "data", [b"\xef\xbb\xbfyes", "yes".encode("utf-16"), b"\xfe\xff\0y\0e\0s", b"\xff\xfey\0e\0s\0", b"yes"]
)
def test_byte_order_marks_are_no_part_of_a_text(data):
    assert decode(data) == "yes"


def test_what_is_no_text(tmp_path):
    with pytest.raises(ValueError, match="decode"):
        decode(b"caf\xe9")
    (tmp_path / "large").write_bytes(bytes(MAX_BYTES + 1))
    with pytest.raises(ValueError, match="more than 1,048,576 bytes"):
        read_text(tmp_path / "large")
    with pytest.raises(ValueError, match="more than"):
        read_text("/dev/zero")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[" * 200_000 + "]" * 200_000, "nested"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested"),
        ("[" * 40 + "]" * 40, "nested"),
        ("NaN", "NaN"),
        ('{"a": -Infinity}', "-Infinity"),
        ("1e999", "1e999 is too large"),
        ("9" * 100_000, "100,000 digits"),
        ('{"a": 1, "b": 2, "a": 3}', "'a' occurs twice"),
        ("{" + ",".join(f'"{i}":1' for i in range(60_000)) + ',"59999":2}', "'59999' occurs twice"),
        ("", "Expecting value"),
        ("[1,]", "Expecting value|trailing comma"),
        ("'a'", "Expecting value"),
    ],
    ids=lambda value: value[:12],
)
def test_json_by_the_letter(text, part):
    with pytest.raises(ValueError, match=part):
        parse_json(text)


def test_json():
    assert parse_json('{"a": [1, -2.5e3, null, true, "\\u00e9"]}') == {"a": [1, -2500.0, None, True, "é"]}
    assert parse_json("[" * 30 + "]" * 30)
    assert parse_json("1" * 400) == int("1" * 400)


@pytest.mark.parametrize(
    "label",
    [
        "silence", "Silence", "_silence_", "SILENCE", "0 silence", "0: silence", "unknown", "_unknown_", "_unknown",
        "Unknown", "1 unknown", "1_unknown", "Background Noise", "background-noise", "_background_noise_", "_noise",
        "BackgroundNoise", "0 Background Noise", "background", "noise", "Noise", "other", "Other", "no speech",
        "no_speech", "<unk>", "[unknown]", "unknown words",
    ],
)  # fmt: skip
def test_label_forms_of_other_tools_are_no_keywords(label):
    assert not is_keyword(label)
    assert is_unknown(label) == any(part in label.lower() for part in ("unk", "other"))


@pytest.mark.parametrize(
    "label", ["no", "noisy", "nose", "speech", "back", "ground", "1", "0 yes", "another", "sil", "да"]
)
def test_words_are_keywords(label):
    assert is_keyword(label)
    assert not is_unknown(label)


@pytest.mark.parametrize(
    "labels",
    [
        [], "yes", None, 5, {"yes": 1}, ["yes", 1], [None], ["yes", ""], ["yes", " "], ["yes", "yes"], ["a\nb"],
        ["\x1b[2J"], ["\u202eyes"], ["\x85"], ["\ud800"], ["\ufeffsilence"], ["x" * 101], list(map(str, range(1001))),
    ],
    ids=lambda labels: shown(labels)[:20],
)  # fmt: skip
def test_bad_labels(labels):
    with pytest.raises(ConfigError, match="labels"):
        check_labels("labels", labels)


def test_good_labels():
    for labels in (["marvin"], ("a", "b"), [str(i) for i in range(1000)], ["می‌خواهم", "über", "turn on", "x" * 100]):
        assert check_labels("labels", labels) == tuple(labels)


def test_values_of_json_are_listed_as_people_read_them():
    value = {"a": 1, "b": [0.5, [2, "x\ny"]], "c": {"d": {}, "e": True}, "f\x1b": ""}
    assert listed(value) == "a 1, b (0.5, (2, x y)), c (d (), e True), f\\x1b "
    assert listed("plain") == "plain"
