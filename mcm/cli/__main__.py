"""`python -m mcm.cli` is `mcm`."""

from mcm.cli import main

main()
