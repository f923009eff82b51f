import sys

from kws_edge.cli import main

if __name__ == "__main__":
    sys.exit(main())
