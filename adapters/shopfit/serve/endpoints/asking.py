"""What endpoints share: the gateway and the key behind a request, and the fields that every body has."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Header, Security
from fastapi.security import HTTPBearer
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import JSONResponse

from shopfit.errors import RequestError
from shopfit.recipe.suggestions import shown
from shopfit.recipe.tasks import Task
from shopfit.registry import Grant
from shopfit.serve.gateway import Ask, Gateway, Turn

MOST_INPUTS = 1024
"""Inputs of one request."""
_LONGEST_USER = 512

Fields = dict[str, JsonValue]
"""Fields of a prompt, by name."""


@dataclass(frozen=True, slots=True)
class Asking:
    """A request with a valid key.

    Args:
        gateway: that answers.
        grant: what the key may do.
        user: as the header `x-shopfit-user` says; empty without.
    """

    gateway: Gateway
    grant: Grant
    user: str


_key = HTTPBearer(auto_error=False, scheme_name="key", description="An API key: `sf_…`.")


async def _asking(
    request: Request,
    _: Annotated[object, Security(_key)],  # for the API's docs: `KeyGuard` has checked it
    user: Annotated[
        str, Header(alias="x-shopfit-user", max_length=_LONGEST_USER, description="The same as a body's `user`.")
    ] = "",
) -> Asking:
    return Asking(request.app.state.gateway, request.state.grant, _as_sent(user))


def _as_sent(user: str) -> str:
    """A header's text, which clients write in UTF-8 and servers read as Latin-1: the same user as in a body."""
    try:
        return user.encode("latin-1").decode()
    except UnicodeError:
        return user


Asks = Annotated[Asking, Depends(_asking)]


def unsupported(why: str, *neutral: JsonValue) -> Any:
    """A field of another API's bodies that cannot be honoured. It is refused unless its value changes nothing.

    Args:
        why: it cannot be, in the field's words.
        neutral: values that change nothing, besides null.
    """
    return Field(None, description=f"not supported: {why}", json_schema_extra={"enum": [None, *neutral]})


def ignored(why: str) -> Any:
    """A field of another API's bodies that never changes an answer, so that it may have any value."""
    return Field(None, description=f"without effect: {why}")


class Body(BaseModel):
    """A request's body: names that it does not have are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _changes_nothing(cls, value: Any, info: ValidationInfo) -> Any:
        about = cls.model_fields[info.field_name or ""]
        neutral = about.json_schema_extra.get("enum") if isinstance(about.json_schema_extra, dict) else None
        if not isinstance(neutral, list) or any(same_json(value, one) for one in neutral):
            return value
        allowed = ", ".join(map(shown, neutral))
        raise PydanticCustomError("unsupported", "it is {why} (allowed: {allowed})", _told(about.description, allowed))


def _told(why: str | None, allowed: str) -> dict[str, Any]:
    return {"why": why or "", "allowed": allowed}


def same_json(value: Any, other: Any) -> bool:
    """Whether two values of JSON are the same: 0 and 0.0 are, 0 and false are not."""
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)


class AskBody(Body):
    """What every question to an adapter has."""

    model: str = Field(description="`merchant/recipe`, with `@alias` or `@number`; `@production` without.")
    user: str | None = Field(None, max_length=_LONGEST_USER, description="Your shopper: releases are sticky by it.")


def _no_token_ids(value: Any) -> Any:
    if isinstance(value, list) and value and isinstance(value[0], int | list):
        raise PydanticCustomError("token_ids", "token ids are not taken (allowed: a text, or a list of texts)")
    return value


Texts = Annotated[str | list[str], BeforeValidator(_no_token_ids)]
"""A text or several; not their tokens, which other models have others of."""


class InputBody(AskBody):
    """Texts, or the fields of prompts."""

    input: Texts | None = Field(None, description="Texts of the prompt's main field.")
    fields: Fields | list[Fields] | None = Field(
        None, description="Fields of the prompt by name; beside `input`, those that are not its text."
    )

    def inputs(self) -> list[tuple[str | None, Fields | None]]:
        """A text, fields, or both for each question. Raises as `paired` does."""
        return paired("input", self.input, self.fields)


def paired(
    name: str, texts: str | Sequence[str] | None, fields: Fields | Sequence[Fields] | None
) -> list[tuple[str | None, Fields | None]]:
    """A text, fields, or both for each question.

    Args:
        name: of the body's field that holds the texts.
        texts: one or several.
        fields: of each question, or the same ones for all.

    Raises:
        RequestError: if there are none, too many, or not as many texts as fields.
    """
    several = [texts] if isinstance(texts, str) else texts
    shared = fields if isinstance(fields, Mapping) else None
    each = None if isinstance(fields, Mapping) else fields
    count = len(several) if several is not None else len(each) if each is not None else int(bool(shared))
    if not 1 <= count <= MOST_INPUTS:
        raise RequestError(
            f"there are {count} inputs (allowed: 1 to {MOST_INPUTS:,} a request)",
            next_step=f"send `{name}`, `fields` or both",
        )
    if several is not None and each is not None and len(several) != len(each):
        raise RequestError(
            f"there are {len(several)} texts in `{name}` and {len(each)} objects in `fields`",
            next_step="send as many of each, or one object in `fields` for all",
        )
    given = [shared] * count if each is None else each
    return list(zip([None] * count if several is None else several, given, strict=True))


class Usage(BaseModel):
    """Tokens of a request."""

    prompt_tokens: int
    total_tokens: int


def usage_of(read: int, written: int | None = None) -> dict[str, int]:
    """Tokens as OpenAI's API tells them.

    Args:
        read: by forwards, prompts and answers that were scored.
        written: of generated texts; None where none are.
    """
    if written is None:
        return {"prompt_tokens": read, "total_tokens": read}
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


async def answer_each(
    body: InputBody,
    asks: Asking,
    kind: Task,
    names: Sequence[str],
    check: Callable[[Turn], None] = lambda _: None,
) -> JSONResponse:
    """Ask an adapter about each input, and answer with a list of what it says.

    Args:
        body: of the request.
        asks: whose it is.
        kind: the adapter's task.
        names: of the answer's fields that are shown.
        check: raises what is wrong with asking this version.

    Raises:
        ShopfitError: as the engine does.
    """
    inputs = body.inputs()
    async with asks.gateway.turn(asks.grant, body.model, [kind], body.user or asks.user) as turn:
        check(turn)
        answers = await turn.ask_all([Ask(kind, turn.fields(text, fields)) for text, fields in inputs])
        data = [{"index": index, **{name: answer[name] for name in names}} for index, answer in enumerate(answers)]
        content = {"id": turn.id, "object": "list", "model": turn.version.name, "data": data}
        return JSONResponse({**content, "usage": usage_of(turn.read)}, headers=turn.headers)
