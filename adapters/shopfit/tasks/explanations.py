"""How a request is understood: the prompt as the model reads it, and which items it leaves out, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shopfit.adapter.score_fusion import ADAPTER
from shopfit.base.prompt import Prompter
from shopfit.errors import RequestError
from shopfit.merchant.examples import seen
from shopfit.recipe.item_rules import Rules
from shopfit.tasks.requests import Answer, Request

if TYPE_CHECKING:
    from shopfit.tasks.tenant import Tenant

HISTORY = "history"
"""Why an item that the shopper knows already is left out."""
SHOWN = 20
"""Items that are named for each reason, the first of the catalog."""


@dataclass(frozen=True, slots=True)
class ExplainRequest(Request):
    """Asks how an adapter of any task understands a request. The model is not run.

    Args:
        adapter: that is asked.
        fields: what the recipe's prompt shows, by name.
        rules: rank: the request's own, besides those of the recipe.
    """

    rules: Rules | None = None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Items that one rule leaves out. An item that breaks several is counted for the first.

    Args:
        count: how many.
        items: id and title of the first of them.
    """

    count: int
    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Explanation(Answer):
    """How a request is understood.

    Args:
        prompts: texts that the model reads, made again of their very tokens, control tokens included; several where an
            encoder reads the items of a history one by one.
        tokens: of all of them.
        fusion: weights of the parts that a score is the sum of; only the adapter without fusion.
        left_out: rank: by the rule's key, or `history`.
    """

    prompts: tuple[str, ...]
    tokens: int
    fusion: Mapping[str, float]
    left_out: Mapping[str, LeftOut] = field(default_factory=dict)

    @property
    def lines(self) -> list[str]:
        """The lines of the prompts."""
        return [line for prompt in self.prompts for line in prompt.splitlines()]

    def raw(self, labels: Sequence[str], pool: Sequence[str]) -> tuple[str, ...]:
        """The prompts."""
        return self.prompts


def explain(request: ExplainRequest, tenant: "Tenant", prompter: Prompter) -> Explanation:
    """How an adapter understands a request.

    Raises:
        RequestError: if the request shows nothing that the model could read.
    """
    read = prompter.asking(request.fields)
    if not read:
        raise RequestError("the history has no items", next_step="give a query, or items of the catalog")
    texts = [prompter.tokenizer.decode(tokens, clean_up_tokenization_spaces=False) for tokens in read]
    fusion = {ADAPTER: 1.0} if tenant.blend is None else dict(tenant.blend.weights)
    return Explanation(tuple(texts), sum(map(len, read)), fusion, _left_out(request, tenant))


def _left_out(request: ExplainRequest, tenant: "Tenant") -> dict[str, LeftOut]:
    if tenant.catalog is None:
        return {}
    rules = [tenant.recipe.serve.rules, *([request.rules] if request.rules else [])]
    known = set() if tenant.recipe.data.repeats else set(seen(request.fields))
    found: dict[str, list[tuple[str, str]]] = {}
    for item, entry in tenant.catalog.items():
        broken = next((key for rule in rules if (key := rule.broken(entry.fields))), HISTORY if item in known else "")
        if broken:
            found.setdefault(broken, []).append((item, entry.title))
    return {key: LeftOut(len(items), tuple(items[:SHOWN])) for key, items in found.items()}
