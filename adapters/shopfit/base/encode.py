"""Thread-safe tokenization that never reads control tokens in untrusted text. All text is tokenized here.

A fast tokenizer keeps truncation and padding as state, so that two threads with different lengths disturb each other;
and it reads `<|im_end|>` or `[SEP]` in a shopper's text as control tokens. So each base's tokenizer is copied once. The
copy never truncates, pads or changes, and its control tokens have random secret names, which no text contains: only a
template that `mark` rewrote gets the real control tokens.
"""

import hashlib
import json
import re
import secrets
import string
import threading
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from shopfit.errors import BaseError, RequestError
from shopfit.merchant.text import clusters

CUT = " …"
"""Marks where a text was cut."""
_DENSE = 2  # characters read for each wanted token; enough for text without spaces
_USUAL = 8  # characters for each token of text with spaces; more are read if they gave too few tokens
_LONGEST = range(16, 129)  # allowed range for the characters of a vocabulary's longest token
_MARGIN = 128  # tokens by which a cut text may exceed the tokens of the same characters in the whole text
_BRACKETS = re.compile(r"[<>\[\]{}|\uff5c\u3008\u3009]")  # ASCII and full-width
_HALF = re.compile("[\ud800-\udfff]")
_WORD = 24  # characters dropped at most so that a cut falls between words
_CHARACTER = 16  # code points of the longest character that a reader sees as one
_SECRET = 24  # random letters of a secret name


class PlainTokenizer:
    """A base's tokenizer that reads no control tokens in text. Thread-safe; made with `PlainTokenizer.of`.

    Args:
        tokenizer: a fast one of transformers.
        whole: all of it, as JSON.

    Raises:
        BaseError: if it cannot be copied.
    """

    def __init__(self, tokenizer: Any, whole: str) -> None:
        from tokenizers import Tokenizer

        document, backend = json.loads(whole), tokenizer.backend_tokenizer
        self._names = _hide_controls(document)
        self._pattern = re.compile("|".join(map(re.escape, sorted(self._names, key=len, reverse=True))) or r"(?!)")
        try:
            self._copy = Tokenizer.from_str(json.dumps(document))
        except Exception as error:  # tokenizers raises no narrower type
            raise BaseError(
                f"the tokenizer {type(tokenizer).__name__} cannot be copied: {error}", next_step="take another base"
            ) from error
        if moved := [name for name, hidden in self._names.items() if self._id(hidden) != backend.token_to_id(name)]:
            raise BaseError(
                f"the tokenizer {type(tokenizer).__name__} numbers its control tokens in a way that is not understood: "
                f"{', '.join(moved[:5])}",
                next_step="take another base",
            )
        longest = max(map(len, self._copy.get_vocab(with_added_tokens=False)), default=0)
        self._longest = min(max(longest, _LONGEST.start), _LONGEST.stop - 1)
        self.added = int(self._copy.num_special_tokens_to_add(False))
        self._alone: dict[str, set[tuple[int, ...]]] = {}  # tokens of prompts by themselves, of which a base has two

    @classmethod
    def of(cls, tokenizer: Any) -> "PlainTokenizer":
        """The plain tokenizer of a tokenizer, made with the first call for one like it.

        Raises:
            BaseError: as for the class, or if it is not a fast one.
        """
        with _MAKING:
            known = _KNOWN.get(tokenizer)
            if known is None:
                document = _document(tokenizer)
                digest = hashlib.sha256(document.encode()).digest()
                known = _ALIKE.get(digest)
                if known is None:
                    known = _ALIKE[digest] = cls(tokenizer, document)
                _KNOWN[tokenizer] = known
            return known

    def encode(self, text: str, *, limit: int | None = None, special: bool = True) -> tuple[int, ...]:
        """Tokens of a text, equal to the tokenizer's own if the text contains no control token.

        With a limit, the cost does not depend on the length of the text.

        Args:
            text: any; control tokens are only read in parts that `mark` returned.
            limit: tokens at most, special ones included; the text is cut after a whole character.
            special: whether to add the tokenizer's special tokens, such as [CLS] and [SEP].

        Raises:
            RequestError: if the text contains a lone surrogate.
        """
        added = self.added if special else 0
        encoding = self._read(text) if limit is None else self._start(text, max(1, limit - added))
        if limit is not None and len(encoding) > max(1, limit - added):
            encoding.truncate(_whole(encoding, max(1, limit - added)))
        if added:
            encoding = self._copy.post_process(encoding, None, True)
        return tuple(encoding.ids)

    def says_nothing(self, tokens: tuple[int, ...], before: str) -> bool:
        """Whether there are no tokens but special ones, and those of a prompt before a text, which may end in a space.

        Args:
            tokens: from `encode`, special ones included.
            before: the prompt; may be empty.
        """
        if len(tokens) <= self.added:
            return True
        if before and before not in self._alone:
            self._alone[before] = {self.encode(before), self.encode(before.rstrip())}
        return bool(before) and tokens in self._alone[before]

    @property
    def controls(self) -> Set[str]:
        """The control tokens, which no text makes."""
        return self._names.keys()

    def mark(self, template: str) -> str:
        """A trusted template in which `encode` shall read control tokens."""
        return self._pattern.sub(lambda found: self._names[found[0]], template)

    def first_control(self, template: str) -> int | None:
        """The control token that a trusted template begins with, white space aside; None if it begins otherwise."""
        found = self._pattern.match(template.lstrip())
        return None if found is None else self._id(self._names[found[0]])

    def continued(self, before: str, text: str, *, limit: int | None = None) -> tuple[int, ...]:
        """Tokens of a text where it stands behind another one: without the space that some tokenizers put before it.

        Where the first characters would make one token with those before, and where the text is cut, they are the
        tokens of the text alone.

        Args:
            before: what is read before it, maybe marked.
            text: any.
            limit: tokens at most; the text is cut after a whole character.
        """
        alone = self.encode(text, limit=limit, special=False)
        ahead = self.encode(before, special=False)
        if not ahead or (limit is not None and len(alone) >= limit):
            return alone
        whole = self.encode(before + text, special=False)
        return whole[len(ahead) :] if whole[: len(ahead)] == ahead else alone

    def shortened(self, text: str, tokens: int) -> str:
        """A text cut to so many tokens, with ` …` appended.

        It is cut after a whole character, and between words if there is a space near the end.

        Args:
            text: any; one that ends with ` …` gets no second one.
            tokens: at most, at least 0; the ` …` is not counted.
        """
        text = text.removesuffix(CUT)
        encoding = self._start(text, tokens)
        if len(encoding) > tokens:
            end = _between_characters(text, encoding.offsets[tokens][0])
            space = max((place for place in range(max(0, end - _WORD), end) if text[place].isspace()), default=0)
            text = text[: space if space and not text[end : end + 1].isspace() else end]
        return text.rstrip() + CUT if text.strip() else CUT.strip()

    def fitting(self, write: Callable[[str], str], text: str, limit: int, *, special: bool = True) -> tuple[int, ...]:
        """Tokens of a prompt around one text, which is shortened until the prompt fits.

        Args:
            write: text -> prompt, with the template marked.
            text: to shorten.
            limit: tokens at most.
            special: as for `encode`.

        Raises:
            RequestError: if the prompt is too long even without the text.
        """
        text = self.head(text, limit)
        tokens = self.encode(write(text), special=special)
        spare = 1
        while len(tokens) > limit:
            if text == CUT.strip():
                raise RequestError(
                    f"a prompt takes {len(tokens)} tokens without the text it is about, and {limit} is the limit",
                    next_step="shorten the prompt",
                )
            text = self.shortened(text, max(0, self.count(text) - (len(tokens) - limit) - spare))
            tokens, spare = self.encode(write(text), special=special), 2 * spare
        return tokens

    def head(self, text: str, limit: int) -> str:
        """The text, or a start of it that certainly has more tokens than the limit. The limit bounds the cost."""
        return text[: self._enough(text, limit)[0]]

    def count(self, text: str) -> int:
        """Number of tokens of a text alone."""
        return len(self._read(text))

    def _start(self, text: str, limit: int) -> Any:
        return self._enough(text, limit)[1]

    def rooms(self, limit: int) -> tuple[int, ...]:
        """Increasing numbers of characters to read until there are more tokens than the limit; the last one is enough
        even for the longest tokens."""
        return _DENSE * limit, _USUAL * limit, self._longest * limit

    def surely_above(self, tokens: int, limit: int) -> bool:
        """Whether a text has more tokens than the limit, given the number of tokens of a start of it."""
        return tokens > limit + _MARGIN

    def _enough(self, text: str, limit: int) -> tuple[int, Any]:
        """How many characters have more tokens than the limit, or all of them; and their encoding."""
        for room in self.rooms(max(limit, 1)):
            encoding = self._read(text[:room])
            if room >= len(text) or self.surely_above(len(encoding), limit):
                break
        return room, encoding

    def _read(self, text: str) -> Any:
        if _HALF.search(text):
            raise RequestError(
                "a text holds half a character (a lone surrogate), which is no text",
                next_step="send valid Unicode",
            )
        return self._copy.encode(text, add_special_tokens=False)

    def _id(self, token: str) -> int | None:
        found: int | None = self._copy.token_to_id(token)
        return found


def reader_of(document: Mapping[str, Any]) -> Callable[[Sequence[str]], list[list[int]]]:
    """What reads texts with a tokenizer that no base has yet: tokens of each, without special ones.

    Args:
        document: a `tokenizer.json`. Its control tokens are read as such: for words that we chose alone.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(json.dumps(document))
    return lambda texts: [each.ids for each in tokenizer.encode_batch(texts, add_special_tokens=False)]


def _document(tokenizer: Any) -> str:
    """A tokenizer as the JSON of its tokenizer.json.

    Raises:
        BaseError: if it is not a fast one.
    """
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise BaseError(
            f"the tokenizer {type(tokenizer).__name__} is not a fast one (allowed: one with a tokenizer.json)",
            next_step="save the base with its fast tokenizer, or take another base",
        )
    return str(backend.to_str())


_KNOWN: "WeakKeyDictionary[Any, PlainTokenizer]" = WeakKeyDictionary()
_ALIKE: "WeakValueDictionary[bytes, PlainTokenizer]" = WeakValueDictionary()
_MAKING = threading.Lock()


def _hide_controls(document: dict[str, Any]) -> dict[str, str]:
    """Rename the control tokens of a tokenizer.json to secret names, and remove truncation and padding.

    They are renamed in the vocabulary too: a Unigram model would find `</s>` in a text by itself.

    Returns:
        control tokens -> secret names.
    """
    document["truncation"] = document["padding"] = None
    secret = "".join(secrets.choice(string.ascii_lowercase) for _ in range(_SECRET))
    controls = [token for token in document["added_tokens"] if _is_control(token)]
    names = {token["content"]: f"{secret}{_letters(place)}" for place, token in enumerate(controls)}
    for token in controls:
        token["content"] = names[token["content"]]
    model = document["model"]
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(token, token): number for token, number in vocabulary.items()}
    elif isinstance(vocabulary, list):
        model["vocab"] = [[names.get(token, token), score] for token, score in vocabulary]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if "merges" in model:
        model["merges"] = [merge for merge in model["merges"] if not _touches(merge, names)]
    return names


def _is_control(token: Mapping[str, Any]) -> bool:
    """Special tokens, and added ones that look like one (`<tool_call>`); not added spaces or words."""
    content = token["content"]
    return bool(content.strip()) and (token["special"] or (len(content) > 1 and bool(_BRACKETS.search(content))))


def _letters(place: int) -> str:
    """A number as four letters: all names have one length, so that none is a prefix of another."""
    return "".join(string.ascii_lowercase[place // 26**power % 26] for power in (3, 2, 1, 0))


def _touches(merge: list[str] | str, names: Mapping[str, str]) -> bool:
    left, right = merge if isinstance(merge, list) else merge.split(" ", 1)
    return left in names or right in names or left + right in names


def _whole(encoding: Any, keep: int) -> int:
    """The number of tokens, at most `keep`, that ends with a complete character."""
    offsets = encoding.offsets
    end = offsets[keep][0]
    while keep > 1 and offsets[keep - 1][1] > end:
        keep -= 1
    return keep


def _between_characters(text: str, end: int) -> int:
    """An index at or before `end` that splits no character that a reader sees, such as a flag or an emoji with its skin
    tone; `end` itself in one that is longer than any that is written.
    """
    if text[: end + 1].isascii():
        return end
    at = 0
    for character in clusters(text[: end + _CHARACTER]):
        if at + len(character) > end:
            break
        at += len(character)
    return at if end - at < _CHARACTER else end
