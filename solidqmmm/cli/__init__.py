"""The front door: one file for each group of commands."""

from solidqmmm.cli.app import app, main

__all__ = ["app", "main"]
