"""A small shop on a tiny base, whose runs are started as the console starts them."""

from tests.cli.conftest import run, shop

__all__ = ["run", "shop"]
