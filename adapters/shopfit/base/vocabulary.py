"""Checks that a tokenizer fits the model's vocabulary."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shopfit.base.encode import PlainTokenizer
from shopfit.base.folder import reason
from shopfit.errors import BaseError, Problem

_TRIED = "The shop sells 2 tents. 店铺 магазин"
_KINDS = ("bos_token", "eos_token", "sep_token", "cls_token", "unk_token")
_SHOWN = 5


def check_vocabulary(name: str, model: Any, tokenizer: Any, *, encoder: bool) -> None:
    """Refuse a tokenizer with tokens that the model has no embedding for; set the end and padding tokens.

    Args:
        name: of the base, for messages.
        model: of transformers.
        tokenizer: gets a padding token if it has none or one beyond the embedding, and for a decoder an end token if it
            has none and the settings name one.
        encoder: whether the model is an encoder.

    Raises:
        BaseError: naming the numbers of tokens and embeddings, or the missing token.
    """
    rows = _embedded(name, model)
    if (head := model.get_output_embeddings()) is not None:
        rows = min(rows, int(head.weight.shape[0]) if head.weight.dim() == 2 else rows)
    try:
        vocabulary = tokenizer.get_vocab()
        plain = PlainTokenizer.of(tokenizer)
        ids, whole = plain.encode(_TRIED, special=False), plain.encode(_TRIED)
    except BaseError:
        raise
    except Exception as error:
        raise BaseError(
            f"the tokenizer of the base {name} cannot be used: {type(error).__name__}: {reason(error)}",
            next_step="bring the tokenizer's files again",
        ) from error
    beyond = {token: number for token, number in vocabulary.items() if number >= rows}
    if tokenizer.pad_token in beyond:
        tokenizer.pad_token = None  # added for training elsewhere; what fills rows up is masked, so another one will do
    if made := _made(beyond, whole, plain, tokenizer):
        raise BaseError(
            f"the tokenizer of the base {name} has {max(vocabulary.values()) + 1} tokens, its model {rows} rows: "
            f"it would make {', '.join(f'{token!r:.40} ({beyond[token]})' for token in made[:_SHOWN])}",
            next_step="bring the tokenizer that the model was trained with",
        )
    if len(set(ids)) < 2:  # no tokens, or all of them are unknown
        raise BaseError(
            f"the tokenizer of the base {name} tells no word of {_TRIED!r} from another",
            next_step="bring the tokenizer that the model was trained with",
        )
    _check_meant(name, model, rows)
    if not encoder and tokenizer.eos_token_id is None:
        _name(tokenizer, "eos_token", [next(_numbers(model.config.eos_token_id), None)])
    if tokenizer.pad_token_id is None:
        named = (tokenizer.eos_token_id, tokenizer.sep_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id)
        _name(tokenizer, "pad_token", [model.config.pad_token_id, *named])  # any will do: it is masked
    needed = {"a padding token": tokenizer.pad_token_id} | ({} if encoder else {"an end token": tokenizer.eos_token_id})
    if missing := [what for what, token in needed.items() if token is None]:
        raise BaseError(
            f"the tokenizer of the base {name} names no {' and no '.join(what.split(' ', 1)[1] for what in missing)}",
            next_step="name `eos_token` and `pad_token` in tokenizer_config.json, as the model was trained with them",
        )


def _made(beyond: Mapping[str, int], whole: Sequence[int], plain: PlainTokenizer, tokenizer: Any) -> list[str]:
    """Those of the tokens that can get into a prompt: by its text, around it, or by the chat template.

    No text makes a control token, so one that is nowhere else is never met.
    """
    named = {token for kind in _KINDS if (token := getattr(tokenizer, kind)) is not None}
    template = str(getattr(tokenizer, "chat_template", None) or "")
    return sorted(
        token
        for token, number in beyond.items()
        if token not in plain.controls or number in whole or token in named or token in template
    )


def _embedded(name: str, model: Any) -> int:
    """Number of tokens that the model has embeddings of."""
    try:
        return int(model.get_input_embeddings().weight.shape[0])
    except (AttributeError, NotImplementedError) as error:
        raise BaseError(
            f"the base {name} has no table of embeddings, a row for each token",
            next_step="use a base that reads tokens, such as minilm-l6",
        ) from error


def _check_meant(name: str, model: Any, rows: int) -> None:
    """Refuse special token ids outside of the vocabulary."""
    sources = (("config.json", model.config), ("generation_config.json", getattr(model, "generation_config", None)))
    problems = [
        Problem(f"{file}: {key}", f"is {token!r:.40}", f"null, or 0 to {rows - 1}")
        for file, settings in sources
        for key in ("bos_token_id", "eos_token_id", "pad_token_id")
        for token in _tokens(getattr(settings, key, None))
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < rows
    ]
    if problems:
        raise BaseError(
            f"the base {name} names tokens that are not in its vocabulary of {rows}",
            problems=problems,
            next_step="correct those files",
        )


def _tokens(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


def _numbers(value: Any) -> Iterator[int]:
    yield from (token for token in _tokens(value) if isinstance(token, int))


def _name(tokenizer: Any, kind: str, choices: list[int | None]) -> None:
    """Set the tokenizer's token of this kind to the first choice that exists."""
    token = next((each for each in choices if each is not None), None)
    word = None if token is None else tokenizer.convert_ids_to_tokens(token)
    if isinstance(word, str):
        setattr(tokenizer, kind, word)
