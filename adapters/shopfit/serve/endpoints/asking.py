"""What endpoints share: the gateway and the key behind a request, and the fields that every body has."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.requests import Request

from shopfit.errors import RequestError
from shopfit.registry import Grant
from shopfit.serve.gateway import Gateway

MOST_INPUTS = 1024
"""Inputs of one request."""
_LONGEST_USER = 512


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


async def _asking(request: Request) -> Asking:
    gateway: Gateway = request.app.state.gateway
    grant = await gateway.authentication.grant(request)
    return Asking(gateway, grant, request.headers.get("x-shopfit-user", "")[:_LONGEST_USER])


Asks = Annotated[Asking, Depends(_asking)]


class Body(BaseModel):
    """A request's body: names that it does not have are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class AskBody(Body):
    """What every question to an adapter has."""

    model: str = Field(description="`merchant/recipe`, with `@alias` or `@number`; `@production` without.")
    user: str | None = Field(None, max_length=_LONGEST_USER, description="Your shopper: releases are sticky by it.")


class InputBody(AskBody):
    """Texts, or the fields of prompts."""

    input: str | list[str] | None = Field(None, description="Texts of the prompt's main field.")
    fields: dict[str, JsonValue] | list[dict[str, JsonValue]] | None = Field(
        None, description="Fields of the prompt by name; beside `input`, those that are not its text."
    )

    def inputs(self) -> list[tuple[str | None, dict[str, Any] | None]]:
        """A text, fields, or both for each question.

        Raises:
            RequestError: if there are none, too many, or not as many texts as fields.
        """
        texts = [self.input] if isinstance(self.input, str) else self.input
        fields = self.fields if isinstance(self.fields, list) else None
        count = len(texts) if texts is not None else len(fields) if fields is not None else int(bool(self.fields))
        if not 1 <= count <= MOST_INPUTS:
            raise RequestError(
                f"there are {count} inputs (allowed: 1 to {MOST_INPUTS:,} a request)",
                next_step="send `input`, `fields` or both",
            )
        if texts is not None and fields is not None and len(texts) != len(fields):
            raise RequestError(
                f"there are {len(texts)} texts in `input` and {len(fields)} objects in `fields`",
                next_step="send as many of each, or one object in `fields` for all",
            )
        given = fields if fields is not None else [self.fields if isinstance(self.fields, dict) else None] * count
        return list(zip(texts if texts is not None else [None] * count, given, strict=True))


class Usage(BaseModel):
    """Tokens of a request."""

    prompt_tokens: int
    total_tokens: int
