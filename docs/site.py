"""Pages that are made of what the programs and the models say of themselves; see ``hooks`` in ``mkdocs.yml``."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from kws_edge.service.config import section_of

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()(?:\.\./)+[^)#\s]+")
SETTINGS = re.compile(r"^::: (kws_edge\.DetectorConfig)$", re.MULTILINE)
SECTION = re.compile(r"^::: section (\w+)$", re.MULTILINE)
ROLE = re.compile(r":(?:attr|class|data|func|meth):<code>([^<]+)</code>")
PROGRAMS = {"kws-edge": "kws_edge.cli", "kws-host": "host_tools.cli", "kws-firmware": "firmware_export.cli"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each program, and the files of the repository that pages lead to."""
    for program, module in PROGRAMS.items():
        text = "\n".join(_program(program, module))
        files.append(File.generated(config, f"reference/{program}.md", content=text))
    for file in list(files.documentation_pages()):
        for path in map(Path, _leading_out(file.src_uri, file.content_string)):
            files.append(File.generated(config, f"repository/{path.as_posix()}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to files of the repository lead to their copies in the site; tables say what settings are for."""
    for path, link in _leading_out(page.file.src_uri, markdown).items():
        up = "../" * page.file.src_uri.count("/")
        markdown = markdown.replace(f"]({link}", f"]({up}repository/{path}")
    markdown = SECTION.sub(lambda found: "\n".join(_section(found[1])), markdown)
    return SETTINGS.sub(lambda found: f"{found[0]}\n\n" + "\n".join(_settings(found[1])), markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """What docstrings name in Sphinx's roles leads to where it is documented, if it is."""
    return ROLE.sub(r'<autoref identifier="\1" optional><code>\1</code></autoref>', html.replace("::</p>", ":</p>"))


def _leading_out(page: str, text: str) -> dict[str, str]:
    """The links of a page that leave the docs: each file's path in the repository, and the link."""
    found = {}
    for link in LINK.findall(text):
        path = os.path.normpath(os.path.join("docs", os.path.dirname(page), link))
        if not path.startswith("docs" + os.sep):
            found[path] = link
    return found


def _settings(name: str) -> Iterator[str]:
    """What the settings of a configuration may be, and what for, where they say that to the command line, too."""
    module, _, kind = name.rpartition(".")
    yield "| setting | values | default | what for |\n|---|---|---|---|"
    for one in dataclasses.fields(getattr(importlib.import_module(module), kind)):
        if about := one.metadata.get("help"):
            values = f"{one.metadata['values']} {one.metadata['unit']}"
            yield f"| `{one.name}` | {values} | {one.default:g} | {_cell(about)} |"


def _section(name: str) -> Iterator[str]:
    """What a section of the service's file is for, and its keys."""
    kind = section_of(name)
    yield f"{kind.__doc__}\n\n| key | values | default | what for |\n|---|---|---|---|"
    for one in dataclasses.fields(kind):
        values = f"{one.metadata['values']} {one.metadata['unit']}".strip()
        default = "" if one.default in (None, dataclasses.MISSING) else f"`{json.dumps(one.default)}`"
        default = "required" if one.default is dataclasses.MISSING else default
        yield f"| `{one.name}` | {_cell(values)} | {default} | {_cell(one.metadata['help'])} |"


def _program(name: str, module: str) -> Iterator[str]:
    parser = importlib.import_module(module).make_parser()
    yield f"# {name}\n\n{_text(parser.description)}\n"
    (commands,) = (one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    helps = {choice.dest: choice.help for choice in commands._choices_actions}
    yield from _commands(name, commands, helps, "##")


def _commands(name: str, commands: argparse._SubParsersAction, helps: dict, mark: str) -> Iterator[str]:
    for command, parser in commands.choices.items():
        yield f"\n{mark} {name} {command}\n\n{_text(parser.description or helps[command])}\n"
        yield f"```\n{re.sub(r'^usage: ', '', parser.format_usage()).rstrip()}\n```\n"
        for group in parser._action_groups:
            deeper = [one for one in group._group_actions if isinstance(one, argparse._SubParsersAction)]
            for one in deeper:
                inner = {choice.dest: choice.help for choice in one._choices_actions}
                yield from _commands(f"{name} {command}", one, inner, mark + "#")
            rows = [one for one in group._group_actions if one not in deeper and "-h" not in one.option_strings]
            if rows:
                yield f"\n| {group.title} | |\n|---|---|"
                yield from (f"| {_name(one, parser)} | {_cell(_help(one, parser))} |" for one in rows)


def _name(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    formatter = parser.formatter_class(parser.prog)
    return f"`{_cell(formatter._format_action_invocation(action))}`"


def _help(action: argparse.Action, parser: argparse.ArgumentParser) -> str:
    return parser.formatter_class(parser.prog)._expand_help(action) if action.help else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _text(text: str | None) -> str:
    """A description: paragraphs, and commands as code where they are indented."""
    paragraphs = re.split(r"\n\s*\n", (text or "").strip("\n"))
    return "\n\n".join(f"```sh\n{part}\n```" if part.startswith("  ") else part for part in paragraphs)
