"""README, docs/, benchmarks/README.md: links lead somewhere, programs take the commands, sentences are short."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GUIDES = PAGES[2:]
PROGRAMS = {"kws-edge": "kws_edge.cli", "kws-host": "host_tools.cli", "kws-firmware": "firmware_export.cli"}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
MOST_WORDS = 20
"""On average in a sentence of a guide."""


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prose(text: str) -> str:
    """Without what lies between fences."""
    return FENCE.sub("", text)


def anchors(page: Path) -> set[str]:
    """What a link may lead to in a page: headings, as GitHub writes them."""
    headings = re.findall(r"^#{1,6} (.*)$", prose(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", LINK.sub("", heading)).strip().lower().replace(" ", "-") for heading in headings}


def commands(text: str) -> list[list[str]]:
    """The words of every command of the three programs in a page's code, but what shells take for themselves."""
    found = []
    for language, block in FENCE.findall(text):
        if language not in ("", "sh", "ini"):
            continue
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"kws-\w+:", line):  # what a program said
                continue
            line = re.sub(r"^(\$ |ExecStart=)", "", line.strip())
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words: list[str] = []
            try:
                tokens = [*lexer, ";"]
            except ValueError:  # an apostrophe in what a program said
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


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_shown_python_imports_what_there_is(page):
    for language, block in FENCE.findall(page.read_text()):
        for node in ast.walk(ast.parse(block)) if language == "python" else ():
            if isinstance(node, ast.ImportFrom) and node.module.startswith("kws_edge"):
                assert all(hasattr(importlib.import_module(node.module), one.name) for one in node.names), block


def test_the_shown_recipe_is_one(tmp_path):
    file = pytest.importorskip("host_tools.recipe.file", exc_type=ImportError)
    texts = [
        block for language, block in FENCE.findall((ROOT / "docs" / "recipes.md").read_text()) if language == "toml"
    ]
    (tmp_path / "shown.toml").write_text(*texts)
    shown, shipped = file.load_recipe(tmp_path / "shown.toml"), file.load_recipe(ROOT / "recipes" / "micro12.toml")
    assert shown.about == shipped.about
    assert {stage.why for stage in shown.stages} <= {stage.why for stage in shipped.stages}


def test_every_guide_is_linked_from_the_readme():
    assert {f"docs/{page.name}" for page in GUIDES} <= set(LINK.findall((ROOT / "README.md").read_text()))


@pytest.mark.parametrize("page", GUIDES, ids=named)
def test_sentences_are_short(page):
    text = re.sub(r"`[^`\n]*`", "code", prose(page.read_text()))
    text = re.sub(r"^(\|.*|#.*)$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^\s*- ", "\n\n", text, flags=re.MULTILINE)
    sentences = [one.split() for part in re.split(r"\n\s*\n", text) for one in re.split(r"(?<=[.?!])\s", part)]
    lengths = [len(words) for words in sentences if words]
    longest = max(sentences, key=len)
    assert sum(lengths) / len(lengths) <= MOST_WORDS
    assert len(longest) <= 2 * MOST_WORDS, " ".join(longest)
