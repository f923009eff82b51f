"""Tables of packages and repositories, in TOML."""

from __future__ import annotations

from host_tools.data.source_selection import is_licence, is_wanted
from host_tools.data.source_tables import load_table, shipped_tables
from tests.fuzz import written


def seeds():
    for path in shipped_tables().values():
        entries = path.read_bytes().split(b"\n\n")
        yield b"\n\n".join([*entries[:3], entries[-1]])


def consume(data):
    table = load_table(str(written("table.toml", data)))
    for source in table.sources:
        for name in ("usr/share/sounds/Left_turn.ogg", "LICENSE", "x/[a].wav"):
            is_wanted(name, source, table.keywords)
            is_licence(name, source)
        assert source.folder
