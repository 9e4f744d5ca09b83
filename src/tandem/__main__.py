"""`python -m tandem` is the command `tandem`."""

import sys

from tandem.cli import main

if __name__ == "__main__":
    sys.exit(main())
