"""Renders prompts and answers of every task, and tokenizes them, for tuning, evaluation and serving alike."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from copy import copy
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

from shopfit.base.chat_template import chat_format
from shopfit.base.encode import PlainTokenizer
from shopfit.base.field_text import as_shown, checked_text, is_blank, latest
from shopfit.base.shortening import Parts, Shortening
from shopfit.errors import Problem, RequestError
from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.examples import Example
from shopfit.merchant.histories import history_alone
from shopfit.merchant.values import as_id
from shopfit.recipe.schema import Recipe
from shopfit.recipe.suggestions import shown
from shopfit.recipe.template import PromptTemplate, filled, pieces_of, placeholders

if TYPE_CHECKING:
    from shopfit.base.scoring.scorer import Scorer

_ANSWERS = 50_000  # answers whose tokens are cached
_KEPT_TEXT = 2_000  # characters of the longest cached answer
_TEXT_TOKENS = 128  # of an item's text, for an encoder
_ANSWER_TOKENS = 512  # of a label or an item as an answer, for a decoder
_READ = 128  # characters of a field that are read, for each token of the prompt


class Prompter:
    """Renders a recipe's prompts and answers as tokens.

    A decoder gets the prompt in the recipe's template, maybe within its own chat template (`prompt.format`). Of a model
    with an encoder beside its decoder, the encoder reads that prompt, and an answer is a text of its own. An encoder
    compares texts: it gets the fields of the prompt without the template, the words of a label, and all catalog fields
    of an item, behind the prompts of its profile.

    Args:
        recipe: with its `prompt` and `data` sections.
        tokenizer: of the base.
        catalog: of the ranked items; None for plain titles.
        history: of the items in `data.item_fields`; None for plain titles.
        scorer: of the base; by default that of a decoder whose model is elsewhere.
        kept: answers whose tokens are cached at most, 1 or more.

    Raises:
        RecipeError: if the recipe wants a chat template, and the base has none, or none with a place for its words.
        BaseError: if the base's chat template cannot be used.
    """

    def __init__(
        self,
        recipe: Recipe,
        tokenizer: Any,
        catalog: Catalog | None = None,
        history: Catalog | None = None,
        *,
        scorer: "Scorer[Any] | None" = None,
        kept: int = _ANSWERS,
    ) -> None:
        self.tokenizer = tokenizer
        self._scorer = scorer
        self.encoder = scorer is not None and not scorer.writes_text
        self._apart = scorer is not None and scorer.answers_apart
        self._before_query, self._before_passage = ("", "") if scorer is None else scorer.prompts
        self.catalog = catalog
        self.history = history if history is not None else catalog
        self._kept = kept
        self._answers: dict[str, tuple[int, ...]] = {}
        self._follow(recipe)

    def _follow(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._template = PromptTemplate(recipe.prompt.template)
        self._written = pieces_of(recipe.prompt.answer)
        self._chat = None if self.tokenizer is None else chat_format(recipe, self.tokenizer, encoder=self.encoder)

    def under(self, recipe: Recipe) -> "Prompter":
        """A copy for another recipe, which shares the cached tokens."""
        if recipe is self.recipe:
            return self
        other = copy(self)
        other._follow(recipe)
        if other._chat != self._chat:
            other._answers = {}
        return other

    def of_texts(self) -> "Prompter":
        """A copy for which any text is an item, by its title, and which caches no tokens for others."""
        other = copy(self)
        other.catalog, other._answers = None, {}
        return other

    def text(self, fields: Mapping[str, Any]) -> str:
        """The fields of the prompt without the template: for baselines and leak checks."""
        return " ".join(shown for name in self.recipe.fields if (shown := self.show(name, fields.get(name))))

    def query_text(self, fields: Mapping[str, Any]) -> str:
        """The fields of the prompt except item lists: the query of a search."""
        return self.text({name: value for name, value in fields.items() if name not in self.recipe.data.item_fields})

    def show(self, name: str, value: Any) -> str:
        """One field as the prompt shows it: the latest items of a history by title, other lists joined.

        Of a text, only as many characters are read as may fit in `prompt.max_tokens`.

        Args:
            name: of the field.
            value: text, a number, true or false, a list of those, or a JSON object; None and NaN are missing.

        Raises:
            RequestError: if it is anything else, is no valid text, or names an item that is not in the catalog.
        """
        return "; ".join(self._parts(name, value, self._room))

    def _parts(self, name: str, value: Any, room: int) -> list[str]:
        """The titles of a history, the latest last; for any other field one text; empty if it is blank."""
        if name in self.recipe.data.item_fields:
            titles = [
                checked_text(f"the field {name!r}", self._title(item), room) for item in self._latest(name, value)
            ]
            return latest(titles, room)
        shown = as_shown(name, value, room)
        return [shown] if shown else []

    def _latest(self, name: str, value: Any) -> list[str]:
        """Ids of the latest items of a history."""
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return []
        if isinstance(value, str) and is_blank(value):
            return []
        items = []
        for item in (value if isinstance(value, list | tuple) else [value])[-self.recipe.data.history_length :]:
            known = as_id(item)
            if known is None:
                raise RequestError(
                    f"the field {name!r} holds {shown(item)} of type {type(item).__name__} "
                    "(allowed: an item id, or a list of item ids)",
                    next_step="send ids as text or whole numbers",
                )
            items.append(known)
        return items

    @property
    def _room(self) -> int:
        return _READ * self.recipe.prompt.max_tokens

    def _title(self, item: str) -> str:
        return item if (entry := self._history_item(item)) is None else entry.title

    def _history_item(self, item: str) -> Item | None:
        """The catalog's entry of a history item; None if histories are plain titles."""
        return None if self.history is None else _found(self.history, item)

    def render(self, fields: Mapping[str, Any]) -> str:
        """The prompt of an example, as text.

        Raises:
            RequestError: if all fields of the template are blank, or one is invalid.
        """
        parts = self._shown(fields, self._room)
        self._check_shown(parts)
        return self._render(parts)

    def _shown(self, fields: Mapping[str, Any], room: int) -> dict[str, list[str]]:
        if not isinstance(fields, Mapping):
            raise RequestError(
                f"the fields of a request are of type {type(fields).__name__} (allowed: names and their values)",
                next_step="send an object such as {'text': 'lovely crema'}",
            )
        return {name: self._parts(name, fields.get(name), room) for name in self.recipe.fields}

    def _was_cut(self, name: str, value: Any, texts: Sequence[str], room: int) -> bool:
        """Whether more of a field might be shown with more `room`."""
        if isinstance(value, str) and name not in self.recipe.data.item_fields:
            return len(value) > room
        most = len(value) if isinstance(value, Sized) else 0
        return max(most, sum(map(len, texts)) + 2) >= room  # parts of a list have two characters between them

    def _check_shown(self, parts: Parts) -> None:
        if _is_empty(parts):
            raise RequestError(
                f"the request shows nothing in any of the fields of recipe {self.recipe.name}",
                next_step=f"give at least one of {', '.join(self.recipe.fields)}",
            )

    def _render(self, parts: Parts, mark: Callable[[str], str] = str) -> str:
        texts = {name: "; ".join(titles) for name, titles in parts.items()}
        if self.encoder:
            return self._before_query + " ".join(text for text in texts.values() if text)
        return self._template.prompt(texts, mark)

    def encode(self, fields: Mapping[str, Any]) -> tuple[int, ...]:
        """The prompt of an example, in at most `prompt.max_tokens` tokens.

        Longer prompts lose the oldest items of a history and the last words of a text, the longest field first; a text
        without spaces is cut between characters. The template is never cut.

        Raises:
            RequestError: as for `render`, or if the template alone is longer than the limit.
        """
        limit = self.recipe.prompt.max_tokens
        tokens: tuple[int, ...] = ()
        for room in self.plain.rooms(limit):
            parts = self._shown(fields, room)
            tokens = () if _is_empty(parts) else self._read(parts)
            cut = any(self._was_cut(name, fields.get(name), parts[name], room) for name in parts)
            if not cut or self.plain.surely_above(len(tokens), limit):
                break
        self._check_shown(parts)
        if len(tokens) > limit:
            tokens = Shortening(self.recipe, self.plain, self._read).shorten(parts, tokens)
        if self.plain.says_nothing(tokens, self._before_query) if self._chat is None else tokens == self._chat.alone:
            raise RequestError(
                f"the base reads no token in what the fields of recipe {self.recipe.name} show",
                next_step="send text in letters that the base knows",
            )
        return tokens

    @property
    def scorer(self) -> "Scorer[Any]":
        """The scorer of the base's architecture."""
        from shopfit.base.scoring.architectures import scorer_of

        return scorer_of("decoder", self.tokenizer.pad_token_id) if self._scorer is None else self._scorer

    @cached_property
    def plain(self) -> PlainTokenizer:
        """Tokenizes text."""
        return PlainTokenizer.of(self.tokenizer)

    def _read(self, parts: Parts) -> tuple[int, ...]:
        if self._chat is None:
            return self.plain.encode(self._render(parts, self.plain.mark))
        return self.plain.encode(self._chat.prompt(self._render(parts)), special=False)

    def asking(self, fields: Mapping[str, Any]) -> tuple[tuple[int, ...], ...]:
        """The texts to compare answers with: the prompt; or for an encoder, if there is only a history, its items.

        The mean vector of a tent and a mug would be near to what goes with neither.
        """
        if not self.asks_by_items(fields):
            return (self.encode(fields),)
        known = ((item, self._history_item(item)) for item in self._latest("history", fields["history"]))
        texts = (item if entry is None else entry.text for item, entry in known)
        return tuple(dict.fromkeys(self._answer_tokens(text, self._before_query) for text in texts))

    def asks_by_items(self, fields: Mapping[str, Any]) -> bool:
        """Whether `asking` returns items of the catalog, which recur in other requests."""
        if not self.encoder or not isinstance(fields, Mapping):
            return False
        return history_alone(self.recipe, {**fields, "history": self._latest("history", fields.get("history"))})

    def label(self, label: str) -> tuple[int, ...]:
        """Tokens of a label's words.

        Raises:
            RequestError: if there are none.
        """
        return self._answer_tokens(self._label(label), self._before_query)  # a text's like: neither asks for the other

    def _label(self, label: str) -> str:
        words = self.recipe.prompt.labels.get(label, label).strip()
        if self.encoder:
            words = words.replace("_", " ")
        text = words if self.encoder else self._answer({self.recipe.spec.answer: words})
        if is_blank(words) or is_blank(text):
            raise RequestError(
                f"the label {label!r} has no words, so it cannot be an answer",
                next_step=f"give it words in prompt.labels of recipe {self.recipe.name}",
            )
        return checked_text(f"the label {label!r}", text, self._room)

    def item(self, item: str, *, title: bool = False) -> tuple[int, ...]:
        """Tokens of an item as an answer: `prompt.answer` with catalog fields; for an encoder, all its text.

        Args:
            item: its id, or a title where there is no catalog.
            title: for an encoder, its title alone.

        Raises:
            RequestError: if it is not in the catalog, or its text is blank.
        """
        return self._answer_tokens(self._item(item, title=title), self._before_passage)

    def _item(self, item: str, *, title: bool = False) -> str:
        entry = None if self.catalog is None else _found(self.catalog, item)
        if self.encoder:
            text = item if entry is None else entry.title if title else entry.text
        else:
            fields = {"id": item, "title": item} if entry is None else entry.fields
            text = self._answer({name: str(fields.get(name) or "") for name in placeholders(self.recipe.prompt.answer)})
        if is_blank(text):
            raise RequestError(
                f"the item {item!r} has nothing that prompt.answer {self.recipe.prompt.answer!r} shows, so it cannot "
                "be an answer",
                next_step="complete it in the catalog, leave it out, or change prompt.answer",
            )
        return checked_text(f"the item {item!r}", text, self._room)

    def problems(self, examples: Iterable[Example], labels: Iterable[str] = ()) -> list[Problem]:
        """All examples and answers that have no tokens: rows with a blank prompt, labels and items without text.

        Args:
            examples: rows to check.
            labels: names of the answers that every question has.
        """
        items = self.catalog or () if self.recipe.spec.items else ()
        checks: Iterable[tuple[str, Callable[[Any], str], Any]] = chain(
            (("label", self._label, label) for label in labels),
            (("item", self._item, item) for item in items),
            ((row.where or row.id, self.render, row.fields) for row in examples),
        )
        found = []
        for what, check, value in checks:
            try:
                check(value)
            except RequestError as error:
                where = f"{what} {value!r}" if isinstance(value, str) else what
                found.append(Problem(where, error.message))
        return found

    def output(self, output: str | Mapping[str, Any]) -> tuple[int, ...]:
        """Tokens of a generated answer, with the token that ends it."""
        text = self._answer({"output": output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)})
        if self._chat is not None:
            return (*self.plain.continued(self._chat.before_answer, text), self._chat.end)
        return (*self.plain.encode(text, special=False), self.tokenizer.eos_token_id)

    @property
    def end(self) -> frozenset[int]:
        """Tokens that end a generated answer, besides the base's."""
        return frozenset() if self._chat is None else frozenset({self._chat.end})

    @property
    def around_output(self) -> tuple[str, str]:
        """What `prompt.answer` writes before and behind a generated output."""
        before, _, after = self.recipe.prompt.answer.partition("{output}")
        if self._chat is not None:
            return self._chat.lead + before.lstrip(), after.rstrip()
        return (before.lstrip(), after.rstrip()) if self._apart else (before, after)

    @property
    def chat_template(self) -> str:
        """Digest of the base's chat template that prompts are in; empty if they are plain."""
        return "" if self._chat is None else self._chat.digest

    def _answer(self, fields: Mapping[str, str]) -> str:
        """An answer's text. That of an assistant has no white space of its own around it, and no control tokens; one
        that is a text by itself has no white space either.
        """
        if self._chat is not None:
            return self._chat.lead + filled(self._written, fields, str).strip()
        text = filled(self._written, fields, str if self.tokenizer is None else self.plain.mark)
        return text.strip() if self._apart else text

    def _answer_tokens(self, text: str, before: str = "") -> tuple[int, ...]:
        """Tokens of a label's or an item's text, of an encoder's behind a prompt; cached, as they recur."""
        known = self._answers.get(before + text)
        if known is None:
            if self.encoder:
                known = self.plain.encode(before + text, limit=_TEXT_TOKENS)
            elif self._chat is not None:
                known = self.plain.continued(self._chat.before_answer, text, limit=_ANSWER_TOKENS)
            else:
                known = self.plain.encode(text, limit=_ANSWER_TOKENS, special=False)
            if self.plain.says_nothing(known, before) if self.encoder else not known:
                raise RequestError(
                    f"the base reads no token in the answer {text[:80]!r}",
                    next_step="write it in letters that the base knows",
                )
            if self._chat is not None:
                known = (*known, self._chat.end)
            if len(text) <= _KEPT_TEXT:
                if len(self._answers) >= self._kept:  # requests may bring any number of titles
                    self._answers = {}  # a new dict: another thread may be reading the old one
                self._answers[before + text] = known
        return known


def _found(catalog: Catalog, item: str) -> Item:
    if item not in catalog:
        raise RequestError(
            f"there is no item {item!r} in the catalog", next_step="send item ids of this merchant's own catalog"
        )
    return catalog[item]


def _is_empty(parts: Parts) -> bool:
    return all(is_blank(part) for texts in parts.values() for part in texts)
