"""`/v1/completions`: texts by an adapter to generate, as OpenAI's API completes prompts."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError
from starlette.responses import JSONResponse, Response

from shopfit.errors import RequestError
from shopfit.serve.endpoints.asking import MOST_INPUTS, Asks, Fields, Texts, paired, unsupported, usage_of
from shopfit.serve.endpoints.event_stream import STREAMED, begin_stream
from shopfit.serve.endpoints.generating import (
    MOST_LOGPROBS,
    GenerateBody,
    GeneratedChunks,
    GeneratedUsage,
    envelope,
    text_logprobs,
)
from shopfit.serve.gateway import Ask, Document, Turn
from shopfit.serve.json_route import example, json_router

router = json_router("answers")


class CompletionBody(GenerateBody):
    """Prompts, and how they are completed."""

    prompt: Texts | None = Field(None, description="Texts of the prompt's main field.")
    fields: Fields | list[Fields] | None = Field(
        None, description="Fields of the prompt by name; beside `prompt`, those that are not its text."
    )
    logprobs: int | None = Field(
        None, ge=0, le=MOST_LOGPROBS, description="Log-probabilities of tokens and of so many others in their places."
    )

    best_of: int | None = Field(None, description="Only as many as `n`: every answer that is written is returned.")
    echo: JsonValue = unsupported("an answer is the text that was written", False)
    suffix: JsonValue = unsupported("a text is written to its end", "")

    @model_validator(mode="after")
    def _returns_all(self) -> Self:
        if self.best_of not in {None, self.n or 1}:
            raise PydanticCustomError(
                "best_of", "`best_of` is {best_of} (allowed: {n}, as `n`)", {"best_of": self.best_of, "n": self.n or 1}
            )
        return self


class TextLogprobs(BaseModel):
    """Log-probabilities of tokens, in the model's own distribution."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    """One text."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length"]


class Completion(BaseModel):
    """The texts of all prompts: `n` of the first, then `n` of the next."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: GeneratedUsage


@router.post(
    "/v1/completions",
    response_model=Completion,
    responses=STREAMED,
    openapi_extra=example(
        {"model": "acme/user-profile", "prompt": "Orders: One Pan. Review: read it in a day", "max_tokens": 64}
    ),
)
async def complete(body: CompletionBody, asks: Asks) -> Response:
    """Write a text for each prompt; with `stream`, as server-sent events."""
    inputs = paired("prompt", body.prompt, body.fields)
    choices = body.choices(logprobs=body.logprobs)
    if (count := len(inputs) * len(choices)) > MOST_INPUTS:
        raise RequestError(
            f"{len(inputs)} prompts with {len(choices)} answers each are {count} (allowed: {MOST_INPUTS:,} a request)",
            next_step="send fewer in one request",
        )
    async with AsyncExitStack() as held:
        turn = await held.enter_async_context(
            asks.gateway.turn(asks.grant, body.model, ["generate"], body.user or asks.user)
        )
        prompts = [turn.fields(text, fields) for text, fields in inputs]
        questions = [Ask("generate", fields, options) for fields in prompts for options in choices]
        if body.stream:
            return await begin_stream(held, turn, questions, _TextChunks(turn, body))
        answers = await turn.ask_all(questions)
        shown = [_choice(index, answer, body) for index, answer in enumerate(answers)]
        content = {**envelope(turn, "text_completion"), "choices": shown, "usage": usage_of(turn.read, turn.written)}
        return JSONResponse(content, headers=turn.headers)


def _choice(index: int, answer: Document, body: CompletionBody) -> Document:
    logprobs = None if body.logprobs is None else text_logprobs(answer["tokens"])
    return {"index": index, "text": answer["text"], "logprobs": logprobs, "finish_reason": answer["finish"]}


class _TextChunks(GeneratedChunks):
    """Parts as `/v1/completions` streams them.

    Args:
        turn: that answers.
        body: of the request.
    """

    def __init__(self, turn: Turn, body: CompletionBody) -> None:
        super().__init__(turn, "text_completion", with_usage=body.with_usage)
        self._body = body
        self._offsets: dict[int, int] = {}

    def begin(self) -> list[Document]:
        """Nothing."""
        return []

    def part(self, index: int, text: str, tokens: Sequence[Mapping[str, Any]]) -> Document:
        """A text."""
        logprobs = None
        if self._body.logprobs is not None:
            start = self._offsets.get(index, 0)
            logprobs = text_logprobs(tokens, start)
            self._offsets[index] = start + sum(len(token["text"]) for token in tokens)
        return self.choice({"index": index, "text": text, "logprobs": logprobs, "finish_reason": None})

    def end(self, index: int, answer: Document) -> Document:
        """Why it ended."""
        return self.choice({"index": index, "text": "", "logprobs": None, "finish_reason": answer["finish"]})
