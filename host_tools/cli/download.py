"""``kws-host download``: Speech Commands, checked and unpacked."""

from __future__ import annotations

import argparse
from pathlib import Path

from kws_edge.errors import UsageError


def add(commands) -> None:
    parser = commands.add_parser(
        "download",
        help="fetch Speech Commands v0.02",
        description="Fetch Speech Commands v0.02 (2.3 GB), check it and unpack it. The same command goes on"
        " where an interrupted one stopped, and does nothing where everything is there.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder to make; the words' folders come into it")
    parser.add_argument("--url", help="another archive of that layout")
    parser.add_argument("--sha256", metavar="HEX", help="its checksum")
    parser.add_argument("--keep-archive", action="store_true", help="keep the archive beside the folder")
    parser.set_defaults(work=work)


def work(args: argparse.Namespace) -> None:
    if bool(args.url) != bool(args.sha256):
        raise UsageError("--url and --sha256 go together: an archive is unpacked only if its checksum is known")
    from host_tools.data.download import SHA256, URL, download
    from host_tools.data.transfer import Transfer

    transfer = Transfer(url=args.url or URL)
    download(args.folder, transfer, sha256=args.sha256 or SHA256, keep_archive=args.keep_archive)
