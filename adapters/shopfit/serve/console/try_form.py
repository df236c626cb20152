"""The form of Try: inputs for what a recipe's prompt shows, options of its task, and the question that it asks."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from shopfit.recipe.item_rules import Rules
from shopfit.recipe.schema import Recipe
from shopfit.recipe.suggestions import shown
from shopfit.serve.console.api_calls import COMPLETIONS, ApiCall
from shopfit.serve.console.routes import BadForm
from shopfit.serve.gateway import Ask

InputKind = Literal["text", "items", "line"]
FIELD = "field."
"""What the name of an input begins with, before that of the prompt's field."""
_LISTS = frozenset({"liked", "disliked"})
_LINES = frozenset({"user", "item"})
_SEPARATORS = re.compile(r"[\n,]")
_NUMBERS: Mapping[str, tuple[type[int] | type[float], float, float]] = {
    "top": (int, 1, 200),
    "max_tokens": (int, 1, 4096),
    "temperature": (float, 0, 5),
    "min_price": (float, 0, 1e12),
    "max_price": (float, 0, 1e12),
    "age": (int, 0, 150),
}
_PATHS = {"choose": "/v1/classify", "rate": "/v1/rate", "generate": COMPLETIONS}


@dataclass(frozen=True, slots=True)
class Input:
    """One input.

    Args:
        name: of the prompt's field.
        kind: a text, ids of items a line each, or one line.
        value: what is in it.
        prompted: whether the prompt shows it; else the task may use it all the same.
    """

    name: str
    kind: InputKind
    value: str = ""
    prompted: bool = True


@dataclass(frozen=True, slots=True)
class Question:
    """What a form asks.

    Args:
        ask: of the gateway.
        call: the same by the public API.
        rules: of a recommendation.
    """

    ask: Ask
    call: ApiCall
    rules: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TryForm:
    """The form for one version.

    Args:
        model: as it is asked for.
        recipe: of the version.
        values: as they were sent; the recipe's where nothing was.
    """

    model: str
    recipe: Recipe
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """Of the recipe."""
        return self.recipe.task

    @property
    def inputs(self) -> list[Input]:
        """Those of the prompt's fields, and of others that the task uses."""
        recipe = self.recipe
        names = dict.fromkeys([*recipe.fields, *recipe.spec.used])
        said = self.values
        return [Input(name, self._kind(name), said.get(FIELD + name, ""), name in recipe.fields) for name in names]

    def value(self, name: str, usual: Any = "") -> str:
        """What is in an option."""
        return self.values.get(name, "" if usual is None else str(usual))

    @property
    def in_stock(self) -> bool:
        """Whether only what is in stock is asked for: a box that is not ticked sends nothing."""
        return not self.values or "in_stock" in self.values

    def question(self) -> Question:
        """The question that is asked.

        Raises:
            BadForm: if nothing is asked, or an option is none.
        """
        fields = self._fields()
        if not fields:
            raise BadForm("nothing is asked", next_step="fill in at least one field of the prompt")
        if self.recipe.spec.items:
            return self._ranking(fields)
        options: dict[str, Any] = {}
        if self.recipe.spec.written:
            options = self._numbers("max_tokens", "temperature")
        body = {"model": self.model, **self._split(fields), **options}
        if "max_tokens" in options:
            options["max_new_tokens"] = options.pop("max_tokens")
        return Question(Ask(self.task, fields, options), ApiCall(_PATHS[self.task], body))

    def _kind(self, name: str) -> InputKind:
        if name in _LINES:
            return "line"
        return "items" if name in _LISTS or name in self.recipe.data.item_fields else "text"

    def _fields(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for one in self.inputs:
            value: Any = _items(one.value) if one.kind == "items" else one.value.strip()
            if value:
                found[one.name] = value
        return found

    def _split(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Fields as a body has them: the prompt's text, and the others by name."""
        texts = [name for name in self.recipe.fields if name not in self.recipe.data.item_fields]
        name = "prompt" if self.recipe.spec.written else "input"
        text = {name: fields[texts[0]]} if texts and texts[0] in fields else {}
        rest = {key: value for key, value in fields.items() if not text or key != texts[0]}
        return text | ({"fields": rest} if rest else {})

    def _ranking(self, fields: Mapping[str, Any]) -> Question:
        top = self._numbers("top").get("top")
        candidates = _items(self.values.get("candidates", ""))
        rest = {name: value for name, value in fields.items() if name != "query"}
        query = {"query": fields["query"]} if "query" in fields else {}
        if candidates:
            options: dict[str, Any] = {"candidates": candidates, "top": top or len(candidates)}
            documents = [{"id": item} for item in candidates]
            body = {"model": self.model, **query, "documents": documents, **({"top_n": top} if top else {})}
            call = ApiCall("/v1/rerank", body | ({"fields": rest} if rest else {}))
            return Question(Ask("rank", fields, options), call)
        rules = self._rules()
        history = {"history": rest.pop("history")} if isinstance(rest.get("history"), list) else {}
        body = {"model": self.model, **query, **history, **({"k": top} if top else {})}
        body |= ({"rules": rules} if rules else {}) | ({"fields": rest} if rest else {})
        ask = Ask("recommend", fields, {"k": top, "rules": rules})
        return Question(ask, ApiCall("/v1/recommend", body), rules)

    def _rules(self) -> dict[str, Any] | None:
        rules = self._numbers("min_price", "max_price", "age")
        if currency := self.values.get("currency", "").strip():
            rules["currency"] = currency
        if brands := _items(self.values.get("blocked_brands", "")):
            rules["blocked_brands"] = brands
        if not self.in_stock:
            rules["in_stock"] = False
        Rules(**rules)  # raises what is wrong with them
        return rules or None

    def _numbers(self, *names: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in names:
            said = self.values.get(name, "").strip()
            kind, low, high = _NUMBERS[name]
            if not said:
                continue
            try:
                found[name] = kind(said)
            except ValueError:
                found[name] = None
            if found[name] is None or not low <= found[name] <= high:
                what = "a whole number" if kind is int else "a number"
                raise BadForm(
                    f"{name} is {shown(said)} (allowed: {what} from {low:g} to {high:g})", next_step="correct it"
                )
        return found


def _items(text: str) -> list[str]:
    """Ids, a line each or by commas."""
    return list(dict.fromkeys(one for part in _SEPARATORS.split(text) if (one := part.strip())))
