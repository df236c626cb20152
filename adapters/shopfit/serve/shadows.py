"""Shadow traffic: what production answered is asked again of another version, and nobody waits for it."""

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Any

from shopfit.errors import ShopfitError
from shopfit.registry import Release
from shopfit.serve.metrics import Metrics, ShadowOutcome
from shopfit.serve.releases import Releases
from shopfit.tasks.row_answers import differ

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shopfit.serve.gateway import Ask, Gateway, Turn

logger = logging.getLogger(__name__)

_AT_ONCE = 4  # requests that are repeated at a time, of all merchants
_BUSY = 4  # an engine is busy once this part of its rows, one in so many, is under way
_COMPARED = ("choose", "rank", "recommend", "generate", "rate")


class Shadows:
    """Repeats requests. For the event loop.

    Args:
        gateway: whose requests these are.
        releases: that know the shadows.
        metrics: that count how often they differ.
    """

    def __init__(self, gateway: "Gateway", releases: Releases, metrics: Metrics) -> None:
        self._gateway = gateway
        self._releases = releases
        self._metrics = metrics
        self._running: set[asyncio.Task[None]] = set()

    def repeat(self, turn: "Turn") -> None:
        """Ask the shadow what production answered, in the background, if there is one and room for it."""
        shadow = self._releases.of(turn.version, "shadow")
        asked = [(ask, answer) for ask, answer in turn.answers if ask.kind in _COMPARED]
        if shadow is None or not asked or random.random() >= shadow.share:
            return
        if len(self._running) >= _AT_ONCE:
            self._count(shadow, "dropped")
            return
        task = asyncio.create_task(self._ask_all(shadow, asked))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """Ask no more."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _ask_all(self, shadow: Release, asked: "Sequence[tuple[Ask, Mapping[str, Any]]]") -> None:
        try:
            self._count(shadow, await self._compare(shadow, asked))
        except ShopfitError as error:
            logger.info("the shadow %s did not answer: %s", shadow.name, error.message)
            self._count(shadow, "failed")
        except Exception:
            logger.exception("the shadow %s could not be compared", shadow.name)
            self._count(shadow, "failed")

    async def _compare(self, shadow: Release, asked: "Sequence[tuple[Ask, Mapping[str, Any]]]") -> ShadowOutcome:
        version = await self._releases.find(shadow)
        if version is None:
            return "dropped"
        facts = await self._gateway.adapters.facts(version)
        engine = self._gateway.engines.of(facts.base)
        busy = max(1, self._gateway.options.rows // _BUSY)
        outcome: ShadowOutcome = "same"
        for ask, answer in asked:
            if engine.running is None or engine.under_way >= busy:
                return "dropped"
            other = await engine.ask(self._gateway.message(version, ask, self._gateway.options.timeout))
            if differ(answer, other, facts.labels):
                outcome = "different"
        return outcome

    def _count(self, shadow: Release, outcome: ShadowOutcome) -> None:
        adapter = f"{shadow.merchant}/{shadow.recipe}"
        self._metrics.shadowed(adapter, outcome)
        self._gateway.traffic.shadowed(adapter, shadow.name, outcome)
