"""Tables of packages and repositories are read exactly, or refused in one line."""

import dataclasses
import json
import re

import pytest

from host_tools.data.source_tables import Package, Repository, load_table, shipped_tables
from host_tools.errors import DatasetError
from kws_edge.text import printable

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed here")
from hypothesis import strategies as st  # noqa: E402

pytestmark = pytest.mark.host

COMMIT = "0123456789" * 4
REPOSITORY = {"name": "ann/sounds", "commit": COMMIT, "kind": "noise", "group": "home", "licence": "CC0"}
PACKAGE = {"name": "sound-icons", "kind": "noise", "licence": "GPL-2+"}
TABLE = {"about": "Mine.", "keywords": ["yes", "no"]}
LISTS = {"voices": {"why": "Voices.", "patterns": ["*/voice/*", "/speech/*"]}}


def toml(value):
    """A value as TOML. Tables within an array or a table are written in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(str(key))} = {toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return {float("inf"): "inf", float("-inf"): "-inf"}.get(value, json.dumps(value).replace("NaN", "nan"))


def written(folder, table):
    path = folder / "mine.toml"
    path.write_text("".join(f"{toml(key)} = {toml(value)}\n" for key, value in table.items()), "utf-8")
    return path


def refusal(path):
    with pytest.raises(DatasetError) as error:
        load_table(str(path))
    line = str(error.value)
    assert line.startswith(f"{path}: ") and printable(line) == line
    return line.removeprefix(f"{path}: ")


def test_every_key_is_what_the_table_has(tmp_path):
    subtitles = {"package": "x-data", "file": "said.lua", "words": ["né", "no"]}
    more = {
        "attribution": "Ann, CC-BY 4.0", "take": ["/a/*"], "leave": ["*/b.*"], "why": "It speaks.",
        "speaker": r"/(\w+)/", "minutes": 8, "file_s": 2.5,
    }  # fmt: skip
    own = {"sha256": "0f" * 32, "subtitles": subtitles}
    table = load_table(
        str(
            written(
                tmp_path,
                TABLE | {"join": True, "without_s": 5, "package": [PACKAGE | more | own, PACKAGE | {"kind": "speech"}]},
            )
        )
    )
    assert (table.about, table.keywords, table.join, table.without_s) == ("Mine.", ("yes", "no"), True, 5)
    as_written = lambda one: json.loads(json.dumps(dataclasses.asdict(one)))  # noqa: E731
    assert as_written(table.sources[0]) == PACKAGE | more | own
    assert table.sources[1] == Package(name="sound-icons", kind="speech", licence="GPL-2+")
    table = load_table(str(written(tmp_path, TABLE | {"repository": [REPOSITORY | more, REPOSITORY | {"group": "b"}]})))
    assert as_written(table.sources[0]) == REPOSITORY | more
    assert (table.sources[1].minutes, table.sources[1].file_s, table.sources[1].take) == (60, 30, ("*",))
    assert (table.join, table.without_s, table.sources[0].folder) == (False, None, "home/ann+sounds")


def test_the_most_and_the_least(tmp_path):
    most = {"name": f"{'a' * 100}/{'b' * 100}", "group": "a" * 60, "minutes": 1440, "file_s": 3600}
    least = {"name": "a/b", "group": "a", "minutes": 0.1, "file_s": 0.1}
    entries = [REPOSITORY | most, REPOSITORY | least]
    for source, entry in zip(
        load_table(str(written(tmp_path, TABLE | {"repository": entries}))).sources, entries, strict=True
    ):
        assert dataclasses.asdict(source).items() >= entry.items()


def test_several_entries_leave_out_the_same(tmp_path):
    entries = [PACKAGE | {"leave": "voices"}, PACKAGE | {"name": "others", "leave": "voices", "why": "Its own reason."}]
    first, second = load_table(str(written(tmp_path, TABLE | {"leave": LISTS, "package": entries}))).sources
    assert first.leave == second.leave == ("*/voice/*", "/speech/*")
    assert (first.why, second.why) == ("Voices.", "Its own reason.")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"comit": COMMIT}, "repository ann/sounds: there is no 'comit' (did you mean 'commit'?); it takes name, "),
        ({"commit": None}, "repository ann/sounds: commit: it takes 40 hexadecimal digits, and is missing"),
        ({"commit": COMMIT[1:]}, f"ann/sounds: commit: it takes 40 hexadecimal digits, not '{COMMIT[1:]}'"),
        ({"commit": COMMIT[1:] + "g"}, "ann/sounds: commit: it takes 40 hexadecimal digits, not"),
        ({"licence": None}, "ann/sounds: licence: it takes a text, and is missing"),
        ({"licence": " "}, "ann/sounds: licence: it takes a text, not ' '"),
        ({"name": None}, "repository 1: name: it takes owner/name of a repository on GitHub, and is missing"),
        ({"name": "../.."}, "repository ../..: name: it takes owner/name"),
        ({"name": "a/../b"}, "name: it takes owner/name"),
        ({"name": "a/.."}, "name: it takes owner/name"),
        ({"name": "a/.git"}, "name: it takes owner/name"),
        ({"name": "--upload-pack=x/y"}, "name: it takes owner/name"),
        ({"name": "a/b\n"}, "name: it takes owner/name"),
        ({"group": "../x"}, "group: it takes a name of small letters, digits and underscores, not '../x'"),
        ({"kind": "music"}, "kind: it takes noise or speech, not 'music'"),
        ({"take": "*"}, "take: it takes a list, of which each is a pattern of paths in small letters, not '*'"),
        ({"take": ["*/A/*"]}, "take: it takes a list, of which each is a pattern of paths in small letters"),
        ({"leave": ["*/b/*"]}, "why: it takes a text, and is missing: say why something is left out"),
        ({"leave": "voice"}, "leave: there is no list 'voice' (did you mean 'voices'?)"),
        ({"speaker": "/[^/]+/"}, "speaker: it takes a regular expression with a group"),
        ({"speaker": "("}, "speaker: it takes a regular expression with a group, not '('"),
        ({"minutes": 0}, "minutes: it takes 0.1 to 1440 minutes, not 0"),
        ({"minutes": True}, "minutes: it takes 0.1 to 1440 minutes, not True"),
        ({"file_s": 1e9}, "file_s: it takes 0.1 to 3600 seconds, not 1000000000.0"),
        ({"file_s": float("nan")}, "file_s: it takes 0.1 to 3600 seconds, not nan"),
        ({"sha256": "0f" * 32}, "there is no 'sha256'"),
    ],
)
def test_what_is_wrong_is_said_with_entry_and_key(tmp_path, change, message):
    entry = {key: value for key, value in (REPOSITORY | change).items() if value is not None}
    assert message in refusal(written(tmp_path, TABLE | {"leave": LISTS, "repository": [entry]}))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (TABLE, "it has either [[package]] or [[repository]]"),
        (TABLE | {"package": [PACKAGE], "repository": [REPOSITORY]}, "it has either [[package]] or [[repository]]"),
        (TABLE | {"package": []}, "entries are written as [[package]]"),
        (TABLE | {"package": PACKAGE}, "entries are written as [[package]]"),
        (TABLE | {"package": [PACKAGE, 3]}, "entries are written as [[package]]"),
        (TABLE | {"package": [PACKAGE], "leave": 3}, "lists of patterns as [leave.NAME]"),
        (TABLE | {"package": [PACKAGE], "leave": {"a": {"why": "x"}}}, "leave a: patterns: it takes a list"),
        (TABLE | {"package": [PACKAGE | {"sha256": "0F" * 32}]}, "sound-icons: sha256: it takes 64 hexadecimal digits"),
        (TABLE | {"package": [PACKAGE | {"name": "-x"}]}, "name: it takes the name of a Debian package, not '-x'"),
        (TABLE | {"package": [PACKAGE | {"subtitles": "cs"}]}, "subtitles: it takes a table with package, file and"),
        (TABLE | {"package": [PACKAGE | {"subtitles": {}}]}, "subtitles: package: it takes the name of a Debian"),
        (TABLE | {"package": [PACKAGE, PACKAGE]}, "package sound-icons: name: it is there twice as noise"),
        (TABLE | {"package": [PACKAGE], "keyword": []}, "table: there is no 'keyword' (did you mean 'keywords'?)"),
        (TABLE | {"package": [PACKAGE], "keywords": ["Yes"]}, "keywords: it takes a list, of which each is a word"),
        (TABLE | {"package": [PACKAGE], "join": 1}, "join: it takes true or false, not 1"),
        ({"keywords": [], "package": [PACKAGE]}, "about: it takes a text, and is missing"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_table(tmp_path, table, message):
    assert message in refusal(written(tmp_path, table))


def test_names_and_files(tmp_path):
    for name in shipped_tables():
        assert load_table(name) == load_table(str(shipped_tables()[name]))
    with pytest.raises(
        DatasetError, match=r"no table of sources 'debain' \(did you mean 'debian'\?\): give a file that ends in .toml"
    ):
        load_table("debain")
    assert refusal(tmp_path / "none.toml") == "No such file or directory"
    (tmp_path / "broken.toml").write_text("about = ")
    assert refusal(tmp_path / "broken.toml").startswith("no table of sources in TOML (")


def test_shipped_tables():
    """Each source is there once for a kind. Everything that is left out has a reason."""
    tables = {name: load_table(name).sources for name in shipped_tables()}
    assert {name: {type(one) for one in sources} for name, sources in tables.items()} == {
        "debian": {Package},
        "music": {Package},
        "repositories": {Repository},
    }
    assert not {one.name for one in tables["music"]} & {one.name for one in tables["debian"]}  # it only measures
    groups = {"speech": {"long", "voices", "wake", "real", "words"}, "noise": {"home", "other"}}
    repositories = tables["repositories"]
    assert {kind: {one.group for one in repositories if one.kind == kind} for kind in groups} == groups
    assert len({one.name for one in repositories}) == len(repositories) > 50
    assert all(bool(one.leave) == bool(one.why) for sources in tables.values() for one in sources)


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=12)
ANYTHING = st.recursive(
    st.one_of(
        TEXTS,
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(),
        st.sampled_from(["*", "noise", "a", COMMIT]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
PATTERNS = st.lists(st.text("ab/*[]-!?", min_size=1, max_size=6), max_size=3)
GOOD = {
    "name": st.from_regex(r"[a-z0-9]{2,9}(/[a-z]{2,9})?", fullmatch=True), "kind": st.sampled_from(["noise", "speech"]),
    "licence": st.just("MIT"), "attribution": st.just("Ann"), "take": PATTERNS, "leave": PATTERNS | st.just("voices"),
    "why": st.just("Voices."), "speaker": st.sampled_from([r"(\d+)/", "((a)|b)"]), "minutes": st.floats(0.1, 1440),
    "file_s": st.integers(1, 3600), "commit": st.just("f" * 40), "group": st.just("a_1"), "sha256": st.just("0" * 64),
    "about": st.just("About."), "keywords": st.lists(st.just("yes")), "join": st.booleans(), "without_s": st.just(5),
}  # fmt: skip


@st.composite
def tables(draw):
    """Entries with some of the keys, most of them with valid values."""

    def some(keys, most):
        drawn = draw(st.lists(st.sampled_from(sorted(keys)), max_size=most, unique=True))
        return {key: draw(ANYTHING if draw(st.integers(0, 7)) == 0 else GOOD.get(key, ANYTHING)) for key in drawn}

    kind, base = draw(st.sampled_from([("package", PACKAGE), ("repository", REPOSITORY)]))
    keys = {*base, "attribution", "take", "leave", "why", "speaker", "minutes", "file_s", "sha256", "x"}
    entries = [base | {"why": "It speaks."} | some(keys, 3) for _ in range(draw(st.integers(1, 2)))]
    return TABLE | {"leave": LISTS} | some({*TABLE, "join", "without_s"}, 1) | {kind: entries}


def check(path, table):
    """Assert that the table is read exactly, or refused in one line, and that no path leads out of a folder."""
    try:
        read = load_table(str(path))
    except DatasetError as error:
        assert str(error).startswith(f"{path}: ") and printable(str(error)) == str(error)
        return
    (entries,) = (table[kind] for kind in ("package", "repository") if kind in table)
    for one, entry in zip(read.sources, entries, strict=True):
        values = json.loads(json.dumps(dataclasses.asdict(one)))
        lists = table.get("leave", {})
        named = lists.get(entry.get("leave")) if isinstance(entry.get("leave"), str) else None
        expected = {"leave": named["patterns"], "why": named["why"]} if named else {}
        assert values.items() >= {**entry, **expected, **({"why": entry["why"]} if "why" in entry else {})}.items()
        assert re.fullmatch(r"([a-z][a-z0-9_]*/)?[\w.+-]+", one.folder, re.ASCII) and ".." not in one.folder.split("/")
        assert 0.1 <= one.minutes <= 1440 and 0.1 <= one.file_s <= 3600 and one.kind in ("noise", "speech")
        assert not one.leave or one.why.strip()


@hypothesis.given(tables())
@hypothesis.settings(max_examples=200, deadline=None)
def test_any_table_is_taken_as_written_or_refused(tmp_path_factory, table):
    check(written(tmp_path_factory.getbasetemp(), table), table)


@hypothesis.given(st.binary(max_size=200) | TEXTS.map(str.encode))
@hypothesis.settings(max_examples=200, deadline=None)
def test_any_bytes_are_refused_in_one_line(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(data)
    refusal(path)
