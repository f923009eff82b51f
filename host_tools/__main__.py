"""Where the command ``kws-host`` starts."""

import sys
from collections.abc import Sequence

from kws_edge.cli import program


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""

    def work(argv: Sequence[str]) -> None:
        from host_tools import cli

        cli.main(argv)

    return program("kws-host", work, argv)


if __name__ == "__main__":
    sys.exit(main())
