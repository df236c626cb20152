"""Asks engines for what they hold, when somebody wants to know: an idle gateway asks nobody."""

import asyncio
import logging
from typing import Any

from shopfit.errors import ShopfitError
from shopfit.serve.engines.pool import EnginePool, Supervised
from shopfit.serve.metrics import EngineMetrics

logger = logging.getLogger(__name__)

_FRESH = 2.0  # seconds that an answer is good for, however many ask
_PATIENCE = 1.0  # seconds for the answer


async def ask_engines(pool: EnginePool, metrics: EngineMetrics) -> None:
    """Bring the metrics of engines up to date; of one that does not answer, only what this process knows is told."""
    loop = asyncio.get_running_loop()
    engines = {f"{engine.base.name}:{engine.base.quantization}": engine for engine in pool.engines}
    metrics.starts = {name: engine.starts for name, engine in engines.items()}
    metrics.running = {name: engine.running is not None for name, engine in engines.items()}
    metrics.under_way = {name: engine.under_way for name, engine in engines.items()}
    if loop.time() < metrics.until and metrics.statuses.keys() == engines.keys():
        return
    metrics.until = loop.time() + _FRESH
    found = await asyncio.gather(*(_ask(engine) for engine in engines.values()))
    metrics.statuses = {name: status for name, status in zip(engines, found, strict=True) if status is not None}


async def _ask(engine: Supervised) -> dict[str, Any] | None:
    if engine.running is None:
        return None
    try:
        async with asyncio.timeout(_PATIENCE):
            return await engine.running.status()
    except (ShopfitError, TimeoutError):
        logger.warning("the engine of %s does not say what it holds", engine.base.name)
        return None
