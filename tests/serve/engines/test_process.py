"""An engine in a process of its own: one that does not load its base in time is ended, and leaves nothing behind."""

import asyncio
import multiprocessing
import time
from pathlib import Path

import pytest

from shopfit.errors import EngineEnded
from shopfit.serve.engines.process import EngineProcess
from shopfit.settings import Settings

AT_MOST = 60.0  # seconds, on any machine


@pytest.mark.parametrize("patience", [0.001, 0.05])
def test_an_engine_that_does_not_load_in_time(patience: float, tiny_base: Path, settings: Settings) -> None:
    """No base is loaded in a twentieth of a second."""
    start = {
        "home": str(settings.home),
        "registry": settings.registry,
        "blobs": settings.blobs,
        "base": str(tiny_base),
        "quantization": "none",
        "threads": 1,
        "options": {},
    }
    with pytest.raises(EngineEnded, match=f"did not load its base in {patience:g} seconds, and is started again"):
        asyncio.run(EngineProcess.start(start, patience))
    until = time.monotonic() + AT_MOST
    while left := [one for one in multiprocessing.active_children() if one.name == "shopfit-engine"]:
        assert time.monotonic() < until, left
        time.sleep(0.05)
