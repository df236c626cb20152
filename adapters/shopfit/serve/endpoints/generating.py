"""What `/v1/completions` and `/v1/chat/completions` share: OpenAI's parameters, choices, and log-probabilities.

Parameters of OpenAI's that change an answer are honoured or refused, never ignored; see `unsupported` and `ignored`.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from shopfit.serve.endpoints.asking import AskBody, Body, ignored, same_json, unsupported, usage_of
from shopfit.serve.gateway import Document, Turn

MOST_CHOICES = 8
"""Answers to one prompt."""
MOST_LOGPROBS = 20
"""Most probable tokens in each place."""
_MOST_STOPS = 64
_SEEDS = 2**63  # as many as the engine takes

Stops = Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=_MOST_STOPS)]


def _biases(value: Any) -> Any:
    """Those that change something."""
    if not isinstance(value, dict):
        return value
    return {token: bias for token, bias in value.items() if not same_json(bias, 0)}


class StreamOptions(Body):
    """How a stream is sent."""

    include_usage: bool | None = Field(None, description="A last event with the tokens of the request.")
    include_obfuscation: bool | None = ignored("events are not padded")


class NamedSchema(Body):
    """A JSON schema as OpenAI's API names it."""

    name: str
    description: str | None = ignored("the adapter has learned what its answers mean")
    schema_: dict[str, Any] = Field(alias="schema", description="That the answer follows; 32 KB at most.")
    strict: bool | None = ignored("an answer always follows its schema")


class ResponseFormat(Body):
    """Text, any JSON object, or JSON that follows a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = None

    @model_validator(mode="after")
    def _schema_where_it_belongs(self) -> Self:
        if (self.json_schema is not None) != (self.type == "json_schema"):
            raise PydanticCustomError(
                "response_format", "`json_schema` belongs to the type json_schema, which needs it, and to no other"
            )
        return self


class GenerateBody(AskBody):
    """The parameters that both endpoints have."""

    temperature: float | None = Field(None, ge=0, le=5, description="0 is greedy; the recipe's by default.")
    top_p: float | None = Field(None, gt=0, le=1, description="Share that is drawn from; the recipe's by default.")
    max_tokens: int | None = Field(None, ge=1, le=4096, description="Tokens at most; the recipe's by default.")
    stop: str | Stops | None = Field(None, description="Texts that end the answer and are not part of it.")
    seed: int | None = Field(None, gt=-_SEEDS, lt=_SEEDS, description="The same one gives the same answers.")
    frequency_penalty: float | None = Field(
        None, ge=-2, le=2, description="Taken from a token's logit for each time that the answer has it already."
    )
    presence_penalty: float | None = Field(
        None, ge=-2, le=2, description="Taken from a token's logit once if the answer has it already."
    )
    n: int | None = Field(None, ge=1, le=MOST_CHOICES, description="Answers to each prompt.")
    stream: bool | None = Field(None, description="Whether the answer is sent as it is written.")
    stream_options: StreamOptions | None = Field(None, description="Only with `stream`.")
    response_format: ResponseFormat | None = Field(None, description="JSON; the recipe's own schema by default.")
    json_schema: dict[str, Any] | None = Field(None, description="The same as a `response_format` with this schema.")

    logit_bias: Annotated[JsonValue, BeforeValidator(_biases)] = unsupported("tokens are no part of this API", {})
    metadata: JsonValue = ignored("nothing is stored by it")
    prompt_cache_key: JsonValue = ignored("prompts are cached by their content, each merchant's apart")
    prompt_cache_options: JsonValue = ignored("prompts are cached by their content, each merchant's apart")
    prompt_cache_retention: JsonValue = ignored("prompts are cached by their content, each merchant's apart")
    safety_identifier: JsonValue = ignored("`user` says whose request it is")
    service_tier: JsonValue = ignored("all requests are served alike")
    store: JsonValue = ignored("answers are not stored")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError("stream_options", "`stream_options` belongs to `stream`: true")
        if self.json_schema is not None and self.response_format is not None:
            raise PydanticCustomError("json_schema", "`json_schema` and `response_format` say the same: send one")
        return self

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with the tokens of the request."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def choices(self, **more: Any) -> list[dict[str, Any]]:
        """The engine's options for each answer to one prompt; those not given are left to the recipe.

        Args:
            more: that only one of the endpoints has.
        """
        stops = [self.stop] if isinstance(self.stop, str) else self.stop
        options = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "frequency_penalty": self.frequency_penalty,
            "presence_penalty": self.presence_penalty,
            "max_new_tokens": self.max_tokens,
            "stop": stops,
            "json_schema": self._schema,
            **more,
        }
        given = {name: value for name, value in options.items() if value is not None}
        if self.seed is None:
            return [given] * (self.n or 1)
        first = [{**given, "seed": self.seed}]  # the same seed would give every choice the same answer
        return first + [{**given, "seed": (self.seed + choice) % _SEEDS} for choice in range(1, self.n or 1)]

    @property
    def _schema(self) -> dict[str, Any] | None:
        if self.response_format is None or self.response_format.type == "text":
            return self.json_schema
        named = self.response_format.json_schema
        return {"type": "object"} if named is None else named.schema_


class GeneratedUsage(BaseModel):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


def envelope(turn: Turn, kind: str) -> Document:
    """What every answer and every event of a stream begins with.

    Args:
        turn: that answers.
        kind: `object` of OpenAI's API.
    """
    return {
        "id": turn.id,
        "object": kind,
        "created": int(time.time()),
        "model": turn.version.name,
        "system_fingerprint": f"fp_{turn.version.digest[:12]}",
    }


class GeneratedChunks:
    """What the events of both APIs' streams share.

    Args:
        turn: that answers.
        kind: `object` of OpenAI's API.
        with_usage: whether a last event tells the tokens.
    """

    def __init__(self, turn: Turn, kind: str, *, with_usage: bool) -> None:
        self._turn = turn
        self._with_usage = with_usage
        self._envelope = envelope(turn, kind) | ({"usage": None} if with_usage else {})

    def choice(self, choice: Document) -> Document:
        """The event of one choice."""
        return {**self._envelope, "choices": [choice]}

    def usage(self) -> Document | None:
        """The tokens."""
        if not self._with_usage:
            return None
        return {**self._envelope, "choices": [], "usage": usage_of(self._turn.read, self._turn.written)}


def chat_logprobs(tokens: Iterable[Mapping[str, Any]]) -> Document:
    """Tokens of an engine's answer as chat completions show them."""
    content = [
        {**_token(token["text"], token["logprob"]), "top_logprobs": [_token(*one) for one in token["top"]]}
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def _token(text: str, logprob: float) -> Document:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def text_logprobs(tokens: Iterable[Mapping[str, Any]], start: int = 0) -> Document:
    """Tokens of an engine's answer as completions show them.

    Args:
        tokens: with their log-probabilities.
        start: characters of the tokens before them.
    """
    shown: Document = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for token in tokens:
        shown["tokens"].append(token["text"])
        shown["token_logprobs"].append(token["logprob"])
        shown["top_logprobs"].append({**dict(reversed(token["top"])), token["text"]: token["logprob"]})
        shown["text_offset"].append(start)
        start += len(token["text"])
    return shown
