"""Entry point of the command ``kws-firmware``."""

import sys
from collections.abc import Sequence

from kws_edge.cli import program


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""

    def work(argv: Sequence[str]) -> None:
        from firmware_export import cli

        cli.main(argv)

    return program("kws-firmware", work, argv)


if __name__ == "__main__":
    sys.exit(main())
