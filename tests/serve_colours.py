"""`python -m tests.serve_colours`: the real service with the colour encoder, for tests."""

import sys

from app.__main__ import main
from tests.fakes import ColourEncoder

if __name__ == "__main__":
    sys.exit(main(ColourEncoder()))
