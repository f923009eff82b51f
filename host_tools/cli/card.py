"""``kws-host card``: a model's card."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from host_tools.cli import options
from host_tools.errors import DatasetError
from kws_edge.cli.options import add_foreign
from kws_edge.cli.parser import output_path
from kws_edge.model.model import Model
from kws_edge.text import parse_json, read_text


def add(commands) -> None:
    parser = commands.add_parser("card", help="write a model's card", description="Write a model card in Markdown.")
    parser.add_argument("model", metavar="MODEL", help="shipped model or .tflite file")
    add_foreign(parser)
    parser.add_argument("-o", "--output", type=output_path, required=True, metavar="MD", help="file to write")
    parser.add_argument(
        "--evaluation", type=Path, nargs="+", default=[], metavar="JSON", help="files of kws-host evaluate -o"
    )
    parser.add_argument("--arena", type=Path, metavar="JSON", help="file of kws-firmware arena --json")
    parser.add_argument("--report", type=Path, metavar="JSON", help="report.json of kws-host report")
    parser.add_argument(
        "--lock",
        type=Path,
        metavar="JSON",
        help="what made the model; default: the .lock.json beside it, if there is one",
    )
    parser.set_defaults(work=work)


def work(args: argparse.Namespace) -> None:
    from host_tools.convert.card import model_card
    from kws_edge.files import write_atomically

    model = Model(args.model, **options.foreign(args))
    _tried(args.model, lambda: model_card(model, ()))
    evaluations = [_read(path, lambda values: model_card(model, [values])) for path in args.evaluation]
    lock = _lock_of(args, model)

    def alone(name: str) -> Callable[[Any], str]:
        return lambda values: model_card(model, (), **{name: values})

    others = {
        name: _read(path, alone(name))
        for name, path in (("arena", args.arena), ("report", args.report), ("lock", lock))
        if path
    }
    if lock:
        _check_lock(lock, others["lock"], model)
    write_atomically(args.output, model_card(model, evaluations, **others))
    print(f"wrote {args.output}")


def _lock_of(args: argparse.Namespace, model: Model) -> Path | None:
    """The lock that `args` name, or else the one beside the model."""
    beside = Path(model.path).with_suffix(".lock.json")
    return args.lock or (beside if beside.exists() else None)


def _read(path: Path, make: Callable[[Any], str]) -> Any:
    """The JSON at `path`, which `make` has tried out by itself."""
    values = _tried(path, lambda: parse_json(read_text(path)))
    _tried(path, lambda: make(values))
    return values


def _tried(what: object, make: Callable[[], Any]) -> Any:
    """What `make` returns. If the file has another form, the error names it as `what`."""
    try:
        return make()
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, LookupError) else getattr(error, "strerror", None) or error
        raise DatasetError(f"{what}: no card can be made of it ({reason})") from None


def _check_lock(path: Path, lock: Any, model: Model) -> None:
    """Refuse a lock that belongs to another file."""
    from host_tools.data.manifest import manifest

    sha256 = _tried(path, lambda: lock["model"]["sha256"])
    if sha256 != manifest(model.path).entries[0].sha256:
        raise DatasetError(
            f"{path}: is the lock of another file than {model.path}, by its checksum; move it away, or name the right"
            " one with --lock"
        )
