"""The front door: one file for each group of commands."""

from solidqmmm.cli.app import main

__all__ = ["main"]
