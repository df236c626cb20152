"""An example -> prompt -> tokens, for each task. The same code serves tuning, evaluation and serving."""

import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shopfit.errors import RequestError
from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.examples import seen
from shopfit.merchant.histories import asks_alone
from shopfit.recipe.schema import Recipe

_CUT = " …"
_ANSWERS = 50_000  # answers whose tokens are kept
_TEXT_TOKENS = 128  # of an item's text, for an encoder
_LEAST_WORDS = 8  # a field that is shortened keeps at least so many words


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt and the answers to compare, as token ids.

    Args:
        prompt: at least one token.
        answers: one or more sequences of at least one token each.
        more: for an encoder: other texts that ask as well; an answer is as near as it is to the nearest of them.
    """

    prompt: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]
    more: tuple[tuple[int, ...], ...] = ()

    @property
    def tokens(self) -> int:
        """Tokens that a forward over it reads: the prompt once, and each answer but for its last token."""
        asked = len(self.prompt) + sum(map(len, self.more))
        return asked + sum(len(answer) - 1 for answer in self.answers)


class Prompter:
    """Writes a recipe's prompts and answers.

    A decoder reads the prompt as the recipe's template has it. An encoder compares texts: it reads what the prompt
    shows without the words of the template, the words of a label, and all that the catalog says of an item.

    Args:
        recipe: whose `prompt` and `data` sections say how.
        tokenizer: of the base.
        catalog: of the ranked items; None for plain titles.
        history: of the items in `data.item_fields`; None for plain titles.
        encoder: whether the base is one.
    """

    def __init__(
        self,
        recipe: Recipe,
        tokenizer: Any,
        catalog: Catalog | None = None,
        history: Catalog | None = None,
        *,
        encoder: bool = False,
    ) -> None:
        self.recipe = recipe
        self.tokenizer = tokenizer
        self.encoder = encoder
        self.catalog = catalog
        self.history = history if history is not None else catalog
        self._lines = [(line, _names(line)) for line in recipe.prompt.template.strip("\n").splitlines()]
        self._answers: dict[str, tuple[int, ...]] = {}

    def text(self, fields: Mapping[str, Any]) -> str:
        """What the prompt shows of an example, without the words of the template: for baselines and leak checks."""
        return " ".join(shown for name in self.recipe.fields if (shown := self.show(name, fields.get(name))))

    def wish(self, fields: Mapping[str, Any]) -> str:
        """What the prompt shows besides items: what a search can look for."""
        return self.text({name: value for name, value in fields.items() if name not in self.recipe.data.item_fields})

    def show(self, name: str, value: Any) -> str:
        """One field as the prompt shows it: the latest items of a history by title, other lists joined."""
        if value is None:
            return ""
        if name in self.recipe.data.item_fields:
            items = [value] if isinstance(value, str) else list(value)
            return "; ".join(self._title(item) for item in items[-self.recipe.data.history_length :])
        if isinstance(value, str):
            return value.strip()
        if isinstance(value, Sequence):
            return ", ".join(str(part) for part in value)
        return json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping) else str(value)

    def _title(self, item: str) -> str:
        entry = self._past(item)
        return item if entry is None else entry.title

    def _past(self, item: str) -> Item | None:
        """What is known of an item of a history; None where histories are plain titles."""
        if self.history is None:
            return None
        if item not in self.history:
            raise RequestError(
                f"there is no item {item!r} in the catalog", next_step="send item ids of this merchant's own catalog"
            )
        return self.history[item]

    def render(self, fields: Mapping[str, Any]) -> str:
        """The prompt of an example, as text.

        Raises:
            RequestError: if no field of the template is there, or an item is not in the catalog.
        """
        return self._render({name: self.show(name, fields.get(name)) for name in self.recipe.fields})

    def _render(self, shown: Mapping[str, str]) -> str:
        if not any(shown.values()):
            raise RequestError(
                f"the request names none of the fields of recipe {self.recipe.name}",
                next_step=f"give at least one of {', '.join(self.recipe.fields)}",
            )
        if self.encoder:
            return " ".join(text for text in shown.values() if text)
        lines = [
            line.format_map(shown) for line, names in self._lines if not names or any(shown[name] for name in names)
        ]
        return "\n".join(lines).rstrip()

    def encode(self, fields: Mapping[str, Any]) -> tuple[int, ...]:
        """The prompt of an example, in at most `prompt.max_tokens` tokens: the longest field is shortened."""
        shown = {name: self.show(name, fields.get(name)) for name in self.recipe.fields}
        tokens = self.tokenizer(self._render(shown))["input_ids"]
        limit = self.recipe.prompt.max_tokens
        while len(tokens) > limit:
            name = max(shown, key=lambda field: len(shown[field]))
            words = shown[name].removesuffix(_CUT).split()
            keep = min(len(words) - 1, len(words) * limit // len(tokens))
            if keep < _LEAST_WORDS:  # no words to drop, such as one endless string
                return tuple(tokens[:limit])
            shown[name] = " ".join(words[:keep]) + _CUT
            tokens = self.tokenizer(self._render(shown))["input_ids"]
        return tuple(tokens)

    def asking(self, fields: Mapping[str, Any]) -> tuple[tuple[int, ...], ...]:
        """The texts that ask: the prompt; or, for an encoder, of a history and nothing else each of its latest items.

        The mean of a tent and a mug lies near neither of what goes with them.
        """
        if not self.asks_by_items(fields):
            return (self.encode(fields),)
        latest = seen(fields)[-self.recipe.data.history_length :]
        known = ((item, self._past(item)) for item in latest)
        return tuple(dict.fromkeys(self._text(item if entry is None else entry.text) for item, entry in known))

    def asks_by_items(self, fields: Mapping[str, Any]) -> bool:
        """Whether what asks are texts of the catalog, which come again, and not a text of this request alone."""
        return self.encoder and asks_alone(self.recipe, fields)

    def label(self, label: str) -> tuple[int, ...]:
        """Tokens of a label's words."""
        words = self.recipe.prompt.labels.get(label, label).strip()
        return self._text(words.replace("_", " ")) if self.encoder else self._answer({"label": words})

    def item(self, item: str, *, title: bool = False) -> tuple[int, ...]:
        """Tokens of an item as an answer: catalog fields in `prompt.answer`; for an encoder, all its text.

        Args:
            item: its id, or a title where there is no catalog.
            title: for an encoder, its title alone.
        """
        if self.encoder:
            entry = None if self.catalog is None else self.catalog[item]
            return self._text(item if entry is None else entry.title if title else entry.text)
        fields = self.catalog[item].fields if self.catalog is not None else {"id": item, "title": item}
        return self._answer({name: str(fields.get(name) or "") for name in _names(self.recipe.prompt.answer)})

    def output(self, output: str | Mapping[str, Any]) -> tuple[int, ...]:
        """Tokens of a generated answer, with the token that ends it."""
        text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
        return (*self._answer({"output": text}), self.tokenizer.eos_token_id)

    def _answer(self, fields: Mapping[str, str]) -> tuple[int, ...]:
        text = self.recipe.prompt.answer.format_map(fields)
        return self._tokens(text, add_special_tokens=False)

    def _text(self, text: str) -> tuple[int, ...]:
        return self._tokens(text, truncation=True, max_length=_TEXT_TOKENS)

    def _tokens(self, text: str, **options: Any) -> tuple[int, ...]:
        if text not in self._answers:
            if len(self._answers) >= _ANSWERS:  # titles that requests bring along have no end
                self._answers.clear()
            self._answers[text] = tuple(self.tokenizer(text, **options)["input_ids"])
        return self._answers[text]


def _names(template: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(template) if name]
