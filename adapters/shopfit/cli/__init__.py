"""The command line: `shopfit`. Thin: it reads arguments, calls the package, and prints."""

from shopfit.cli.app import main

__all__ = ["main"]
