"""Constrained decoding: JSON that follows a schema, or one text of a list. Constrained and free rows share a batch.

llguidance computes which tokens may come next.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from shopfit.engine.json_schemas import MOST_CHARACTERS, has_finite_value, is_too_large
from shopfit.errors import RequestError

_WORD = 32  # tokens for each int32 of a bit mask
_BITS = (*(1 << place for place in range(_WORD - 1)), -(1 << _WORD - 1))  # as int32
_KEPT = 256  # compiled grammars that are cached


class Constraint:
    """The state of one constrained answer. Made by `Constraints`.

    Args:
        matcher: llguidance's.
        what: names the grammar in messages.
        end: tokens that end an answer, besides the tokenizer's.
    """

    def __init__(self, matcher: Any, what: str, end: frozenset[int] = frozenset()) -> None:
        self._matcher = matcher
        self._what = what
        self._end = end

    @property
    def complete(self) -> bool:
        """Whether the answer is complete: no token can follow."""
        return bool(self._matcher.is_stopped())

    def add(self, token: int) -> None:
        """The next token of the answer.

        Raises:
            RequestError: if the answer cannot be brought to an end from here.
        """
        self._matcher.consume_token(token)
        self.check()

    def end(self) -> None:
        """The answer ends here, as with an end token.

        Raises:
            RequestError: if the grammar does not allow that.
        """
        if not self._matcher.is_accepting():
            raise self._impossible("the answer would end before it is complete")

    def check(self) -> None:
        """Check that the grammar allows a next token, or the end.

        Raises:
            RequestError: if it allows neither, or exceeds llguidance's limits a token.
        """
        if self._matcher.is_error():
            raise self._impossible(self._matcher.get_error().splitlines()[0])

    def _impossible(self, why: str) -> RequestError:
        return RequestError(
            f"no answer can follow the {self._what}: {why}",
            next_step="send one that some short text follows, without lists or objects that must hold themselves",
        )

    def fill(self, bits: Tensor) -> None:
        """Set the bits of the allowed next tokens; no bit if none is allowed.

        Args:
            bits: (vocabulary / 32,) int32 on the CPU.
        """
        self._matcher.unsafe_compute_mask_ptr(bits.data_ptr(), bits.numel() * bits.element_size())
        if self._matcher.is_error():
            bits.zero_()
        elif self._end and self._matcher.is_accepting():
            for token in self._end:
                bits[token // _WORD] |= _BITS[token % _WORD]


class Constraints:
    """Compiles constraints for one base, each once. Any thread may use it.

    Args:
        tokenizer: of the base, a fast one.
        vocabulary: width of a row of logits.
    """

    def __init__(self, tokenizer: Any, vocabulary: int) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._tokens: Any = None
        self._compiled: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    def json(
        self, schema: Mapping[str, Any], around: tuple[str, str] = ("", ""), end: frozenset[int] = frozenset()
    ) -> Constraint:
        """JSON that follows a JSON schema, on one line, as training data is written.

        Args:
            schema: the JSON schema.
            around: what the answer's template has before and after it.
            end: tokens that end an answer, besides the tokenizer's.

        Raises:
            RequestError: if it is larger than 32 KB, no value can follow it, or llguidance does not support it.
        """
        too_large = _unusable("JSON schema", f"it has more than {MOST_CHARACTERS} characters")
        if is_too_large(schema):  # measured part by part: `dumps` of a huge schema would hold the GIL
            raise too_large
        options = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
        try:
            text = json.dumps({"x-guidance": options, **schema}, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise _unusable("JSON schema", f"it is no JSON: {error}") from None
        if len(text) > MOST_CHARACTERS:
            raise too_large
        if not has_finite_value(schema):
            raise _unusable("JSON schema", "no value follows it, for it would have no end")
        return self._of(_lark(around, f"%json {text}"), "JSON schema", end)

    def choice(
        self, texts: Sequence[str], around: tuple[str, str] = ("", ""), end: frozenset[int] = frozenset()
    ) -> Constraint:
        """Exactly one of the texts.

        Args:
            texts: at least one.
            around: what the answer's template has before and after it.
            end: as for `json`.

        Raises:
            RequestError: if there is no text to choose.
        """
        wanted = [text for text in dict.fromkeys(texts) if text]
        if not wanted:
            raise RequestError("there is nothing to choose from", next_step="put items in stock, or lift the rules")
        return self._of(_lark(around, " | ".join(map(_quoted, wanted))), "list of texts", end)

    def _of(self, grammar: str, what: str, end: frozenset[int]) -> Constraint:
        from llguidance import LLMatcher
        from llguidance.hf import from_tokenizer

        with self._lock:
            if self._tokens is None:
                self._tokens = from_tokenizer(self._tokenizer, n_vocab=self._vocabulary)
            compiled = self._compiled.get(grammar)
        if compiled is None:
            compiled = LLMatcher(self._tokens, grammar, log_level=0)
            first = torch.zeros(-(-self._vocabulary // _WORD), dtype=torch.int32)
            if not compiled.is_error():  # some contradictions only show when the first token is computed
                Constraint(compiled, what).fill(first)
            if compiled.is_error() or not first.any():
                why = compiled.get_error().splitlines() or ["no token can begin the answer"]
                raise _unusable(what, why[0])
            with self._lock:
                self._compiled[grammar] = compiled
                while len(self._compiled) > _KEPT:
                    self._compiled.popitem(last=False)
        return Constraint(compiled.deep_copy(), what, end)


def _unusable(what: str, why: str) -> RequestError:
    return RequestError(
        f"the {what} cannot be used: {why}",
        next_step="send one of the kind that llguidance knows: its documentation lists them",
    )


def _lark(around: tuple[str, str], rule: str) -> str:
    before, after = (f"{_quoted(text)} " if text else "" for text in around)
    return f"start: {before}answer {after}\nanswer: {rule}\n"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def allow(logits: Tensor, rows: Sequence[Constraint | None]) -> None:
    """Mask, in place, the logits of tokens that a row's constraint forbids.

    Args:
        logits: (B, V) float32.
        rows: B constraints, None for an unconstrained row.
    """
    bound = [(place, row) for place, row in enumerate(rows) if row is not None]
    if not bound:
        return
    bits = torch.zeros(len(bound), -(-logits.shape[1] // _WORD), dtype=torch.int32)
    for mask, (_, row) in zip(bits, bound, strict=True):
        row.fill(mask)
    spread = (bits[:, :, None] >> torch.arange(_WORD, dtype=torch.int32)) & 1  # (rows, words, 32)
    banned = (spread.flatten(1)[:, : logits.shape[1]] == 0).to(logits.device)
    places = torch.tensor([place for place, _ in bound], device=logits.device)
    logits[places] = logits[places].masked_fill(banned, -torch.inf)
