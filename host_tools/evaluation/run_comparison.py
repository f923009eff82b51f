"""Compares runs: how they differ, and how well each did."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from host_tools.training.run import Run
from kws_edge.text import printable

__all__ = ["compare_runs", "comparison_table"]


def compare_runs(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Options, data, weights and versions in which runs differ, and the best epoch of each, by the run's folder.

    Facts that are the same in all runs are left out. Data are shown by the first digits of their checksum.

    Returns
    -------
    dict
        JSON-ready; each run has the same keys in the same order.
    """
    facts = [_facts(run) for run in runs]
    names = dict.fromkeys(name for one in facts for name in one)
    differing = [name for name in names if len({json.dumps(one.get(name), sort_keys=True) for one in facts}) > 1]
    return {
        str(run.folder): {
            **{name: one.get(name) for name in differing},
            **{f"best {name}": value for name, value in run.record.get("best", {}).items()},
        }
        for run, one in zip(runs, facts, strict=True)
    }


def _facts(run: Run) -> Mapping[str, Any]:
    record = run.record
    return {
        **run.config.settings(),
        **{
            f"data {name}": " ".join(one["sha256"][:8] for one in folders)
            for name, folders in record["sources"].items()
        },
        **{
            f"weights of {name}": " ".join(one["sha256"][:8] for one in files)
            for name, files in record.get("weights", {}).items()
        },
        **{f"version of {name}": value for name, value in record["versions"].items()},
        **{name: record.get(name) for name in ("backend", "threads")},
        **{f"devices: {name}": value for name, value in record.get("devices", {}).items()},
    }


def comparison_table(compared: Mapping[str, Mapping[str, Any]]) -> str:
    """The comparison as a table for people, with a line for each fact and a column for each run."""
    names = list(dict.fromkeys(name for facts in compared.values() for name in facts))
    rows = [["", *(printable(folder) for folder in compared)]]
    rows += [[name, *(_text(facts.get(name)) for facts in compared.values())] for name in names]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def _text(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, (list, tuple)):
        return " to ".join(f"{one:g}" for one in value)
    return printable(f"{value:g}" if isinstance(value, float) else str(value), most=40)
