"""The `mcm` command."""

from mcm.cli.app import main

__all__ = ["main"]
