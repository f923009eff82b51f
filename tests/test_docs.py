"""README, docs/ and other pages: links lead somewhere, programs take the commands, and sentences are short."""

import ast
import doctest
import importlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.host

DOCS = ROOT / "docs"
SITE = sorted(DOCS.rglob("*.md"))
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted(ROOT.glob("*/README.md")),
    *SITE,
]
RECORDS = {DOCS / "models" / name for name in ("results.md", "method.md", "benchmarks.md")}
"""Pages of what was measured."""
MEASURED = [ROOT / "README.md", *RECORDS, DOCS / "models" / "index.md", DOCS / "train" / "own-words.md"]
MEASURED += [DOCS / "models" / "streams.md", *sorted((DOCS / "firmware").glob("*.md"))]
MEASURED += sorted((DOCS / "explain").glob("*.md"))
GUIDES = [page for page in (ROOT / "README.md", ROOT / "SECURITY.md", *SITE) if page not in RECORDS]
PROGRAMS = {"kws-edge": "kws_edge.cli", "kws-host": "host_tools.cli", "kws-firmware": "firmware_export.cli"}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
MOST_WORDS = 20
"""Most words in a sentence of a guide, on average."""


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prose(text: str) -> str:
    """The text without code between fences."""
    return FENCE.sub("", text)


def anchors(page: Path) -> set[str]:
    """The anchors of a page: its headings, as GitHub writes them."""
    headings = re.findall(r"^#{1,6} (.*)$", prose(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", LINK.sub("", heading)).strip().lower().replace(" ", "-") for heading in headings}


def commands(text: str) -> list[list[str]]:
    """The words of every command of the three programs in a page's code, without those that the shell takes."""
    found = []
    for language, block in FENCE.findall(text):
        if language not in ("", "sh", "ini"):
            continue
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"kws-\w+:", line):  # a program's output
                continue
            line = re.sub(r"^(\$ |ExecStart=)", "", line.strip())
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words: list[str] = []
            try:
                tokens = [*lexer, ";"]
            except ValueError:  # a program's output has an apostrophe
                continue
            for token in tokens:
                if set(token) <= set("();<>|&"):
                    found.append(words)
                    words = []
                else:
                    words.append(token)
    commands = []
    for words in found:
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        if words and Path(words[0]).name in PROGRAMS:
            commands.append([Path(words[0]).name, *words[1:]])
    return commands


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    text = prose(page.read_text())
    for link in LINK.findall(re.sub(r"`[^`\n]*`", "code", text)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{named(page)}: {link}"
        assert target.is_relative_to(ROOT), f"{named(page)}: {link} leads out of the repository"
        assert not anchor or anchor in anchors(target), f"{named(page)}: {link}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=named)
def test_named_files_of_the_repository_are_there(page):
    folders = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] not in "._")
    for path in re.findall(rf"`((?:{folders})/[\w/.*-]+\.\w+)`", page.read_text()):
        assert path.startswith("runs/") or list(ROOT.glob(path)), f"{named(page)}: {path}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_shown_commands_are_ones_that_the_programs_take(page, capsys):
    for program, *arguments in commands(page.read_text()):
        try:
            module = importlib.import_module(PROGRAMS[program])
        except ImportError as error:
            pytest.skip(f"{program}: {error}")
        parser = module.make_parser(arguments) if program == "kws-edge" else module.make_parser()
        try:
            parser.parse_args(arguments)
        except SystemExit as end:
            said = capsys.readouterr().err.strip().splitlines()
            assert end.code in (0, None), f"{named(page)}: {shlex.join([program, *arguments])}: {said[-1:]}"


def test_commands_are_found():
    text = """
```sh
curl -s $URL | kws-edge listen -    # kws-edge is no command here
A=1 ~/kws/bin/kws-host qat \\
    runs > x
echo kws-edge
kws-edge listen --exec 'a | b; c'
```
```
kws-host: no command, isn't it
```
"""
    assert commands(text) == [
        ["kws-edge", "listen", "-"], ["kws-host", "qat", "runs"], ["kws-edge", "listen", "--exec", "a | b; c"]
    ]  # fmt: skip
    assert sum(len(commands(page.read_text())) for page in PAGES) > 60


def dated(text: str) -> bool:
    """Whether a text has a date, and names a command or a script."""
    command = re.search(r"(kws-(edge|host|firmware) |python |benchmarks/|make |pytest )", text)
    return bool(command and re.search(r"\b20\d\d-\d\d-\d\d\b", text))


@pytest.mark.parametrize("page", sorted(MEASURED), ids=named)
def test_tables_of_figures_have_a_command_and_a_date(page):
    """They stand in the same section, or in the page's beginning. Where a formula gives the figures, it is shown.

    A figure is a decimal number at the beginning of a cell.
    """
    beginning, *sections = re.split(r"^## ", page.read_text(), flags=re.MULTILINE)
    for section in [beginning, *sections]:
        row = re.search(r"^\|.*\| *\d+\.\d.*$", section, re.MULTILINE)
        assert not row or ">>> " in section or dated(section) or dated(beginning), f"{named(page)}: {row[0]}"


def test_figures_are_found():
    found = "| a | 5.1 % |\n`kws-edge bench` printed this on 2026-11-27."
    assert dated(found)
    assert not dated(found.replace("kws-edge", "it"))
    assert not dated(found.replace("2026-", ""))


@pytest.mark.parametrize("page", [page for page in PAGES if "\n>>> " in page.read_text()], ids=named)
def test_shown_sessions_are_what_python_prints(page):
    blocks = [block for language, block in FENCE.findall(page.read_text()) if language == "pycon"]
    assert blocks
    for block in blocks:
        session = doctest.DocTestParser().get_doctest(block, {}, named(page), None, None)
        assert not doctest.DocTestRunner().run(session).failed


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_shown_python_imports_what_there_is(page):
    for language, block in FENCE.findall(page.read_text()):
        for node in ast.walk(ast.parse(block)) if language == "python" else ():
            if isinstance(node, ast.ImportFrom) and node.module.startswith("kws_edge"):
                assert all(hasattr(importlib.import_module(node.module), one.name) for one in node.names), block


def test_the_shown_recipe_is_one(tmp_path):
    file = pytest.importorskip("host_tools.recipe.file", exc_type=ImportError)
    texts = [
        block for language, block in FENCE.findall((DOCS / "train" / "recipes.md").read_text()) if language == "toml"
    ]
    for name, text in zip(("shown", "extends"), texts, strict=True):
        (tmp_path / f"{name}.toml").write_text(text)
    shown, shipped = file.load_recipe(tmp_path / "shown.toml"), file.load_recipe(ROOT / "recipes" / "micro12.toml")
    assert shown.about == shipped.about
    assert {stage.why for stage in shown.stages} <= {stage.why for stage in shipped.stages}
    extends = file.load_recipe(tmp_path / "extends.toml")
    assert [stage.resolved["epochs"] for stage in extends.stages if stage.do == "train"] == [40, 6]


def linked(page: Path) -> set[Path]:
    """The files that a page links to."""
    return {(page.parent / link.partition("#")[0]).resolve() for link in LINK.findall(page.read_text())} - {page}


def test_every_page_is_two_clicks_from_the_first():
    first = linked(DOCS / "index.md")
    near = first.union(*(linked(page) for page in first if page in SITE))
    assert {page for page in SITE if page.name != "site.py"} - near == {DOCS / "index.md"}
    readme = linked(ROOT / "README.md")
    assert {page.parent.name for page in readme if DOCS in page.parents} >= {"guide", "train", "firmware", "models"}


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert len(text.split()) <= 1500


def sentences(text: str) -> list[list[str]]:
    """The words of each sentence of a page's prose, without code, tables and headings."""
    text = re.sub(r"`[^`\n]*`", "code", prose(text))
    text = re.sub(r"^(\|.*|#.*|:::.*|!\[.*)$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^\s*(- |\d+\. )", "\n\n", text, flags=re.MULTILINE)
    parts = [one.split() for part in re.split(r"\n\s*\n", text) for one in re.split(r"(?<=[.?!:])\s", part)]
    return [words for words in parts if words]


@pytest.mark.parametrize("page", GUIDES, ids=named)
def test_sentences_are_short(page):
    lengths = [len(words) for words in sentences(page.read_text())]
    assert not lengths or sum(lengths) / len(lengths) <= MOST_WORDS
    longest = max(sentences(page.read_text()), key=len, default=[])
    assert len(longest) <= 2 * MOST_WORDS, " ".join(longest)


def test_few_sentences_are_long():
    lengths = [len(words) for page in GUIDES for words in sentences(page.read_text())]
    assert len(lengths) > 500
    assert sum(length > 30 for length in lengths) <= 0.05 * len(lengths)


def test_the_site_builds_and_asks_no_other_host(tmp_path):
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr[-3000:]
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(SITE)
    for page in pages:
        asked = re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"']?(https?://[^\"' >]+)", page.read_text())
        assert not asked, f"{page.name}: {asked}"
    assert "--smoothing-ms" in (tmp_path / "site" / "reference" / "kws-edge.html").read_text()


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("detection", ["detect"]),
        ("classification", ["classify"]),
        ("doctor", ["doctor"]),
        ("bench", ["bench", "--seconds", "0", "--inferences", "20"]),
    ],
)
def test_json_is_as_its_schema_says(name, command, run_cli, demo_stream):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((DOCS / "reference" / "schemas" / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    recording = [demo_stream] if name != "bench" else []
    lines = run_cli(*command, *recording, "--json").stdout.splitlines()
    assert lines
    for line in lines:
        jsonschema.validate(json.loads(line), schema)
