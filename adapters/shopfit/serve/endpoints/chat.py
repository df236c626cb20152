"""`/v1/chat/completions`: a text by an adapter to generate, as OpenAI's API answers a conversation."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError
from starlette.responses import JSONResponse, Response

from shopfit.serve.endpoints.asking import Asks, Body, Fields, ignored, unsupported, usage_of
from shopfit.serve.endpoints.event_stream import STREAMED, begin_stream
from shopfit.serve.endpoints.generating import (
    MOST_LOGPROBS,
    GenerateBody,
    GeneratedChunks,
    GeneratedUsage,
    chat_logprobs,
    envelope,
)
from shopfit.serve.gateway import Ask, Document, Turn
from shopfit.serve.json_route import example, json_router

router = json_router("answers")

_MOST_MESSAGES = 1024
_CALLS = {"tool_choice": "tools", "function_call": "functions"}
_TEXTS_ONLY = "an adapter reads texts only"


class TextPart(Body):
    """A part of a message."""

    type: Literal["text"] = Field(description=f"Images, sounds and files are not supported: {_TEXTS_ONLY}.")
    text: str
    prompt_cache_breakpoint: JsonValue = ignored("prompts are cached by their content")


class Message(Body):
    """What someone said."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(min_length=1)]
    name: str | None = Field(
        None, pattern=r"^[^\s<|\\/>]{1,64}$", description="Who of several with this role: `User (anna): …`."
    )
    annotations: JsonValue = unsupported("an adapter cites nothing", [])
    refusal: JsonValue = unsupported("an adapter does not refuse")
    audio: JsonValue = unsupported(_TEXTS_ONLY)
    tool_calls: JsonValue = unsupported("an adapter calls no tools", [])
    function_call: JsonValue = unsupported("an adapter calls no tools")

    @property
    def text(self) -> str:
        """All of it."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)

    @property
    def line(self) -> str:
        """All of it, behind who said it."""
        who = self.role.title() if self.name is None else f"{self.role.title()} ({self.name})"
        return f"{who}: {self.text}"


class ChatBody(GenerateBody):
    """A conversation, and how it is answered."""

    messages: list[Message] = Field(
        min_length=1,
        max_length=_MOST_MESSAGES,
        description="One is the text of the prompt's main field; of several, a line each is: `User: …`.",
    )
    fields: Fields | None = Field(None, description="The other fields of the prompt, by name.")
    max_completion_tokens: int | None = Field(None, ge=1, le=4096, description="The same as `max_tokens`.")
    logprobs: bool | None = Field(None, description="Whether the answer has the log-probabilities of its tokens.")
    top_logprobs: int | None = Field(None, ge=0, le=MOST_LOGPROBS, description="Others in each token's place.")

    audio: JsonValue = unsupported(_TEXTS_ONLY)
    function_call: JsonValue = unsupported("an adapter calls no tools", "none", "auto")
    functions: JsonValue = unsupported("an adapter calls no tools", [])
    modalities: JsonValue = unsupported(_TEXTS_ONLY, ["text"])
    moderation: JsonValue = unsupported("answers are not moderated")
    parallel_tool_calls: JsonValue = ignored("an adapter calls no tools")
    prediction: JsonValue = ignored("it changes no answer, only how fast it comes")
    reasoning_effort: JsonValue = unsupported("an adapter does not reason", "none")
    tool_choice: JsonValue = unsupported("an adapter calls no tools", "none", "auto")
    tools: JsonValue = unsupported("an adapter calls no tools", [])
    verbosity: JsonValue = unsupported("an adapter writes as long as it has learned to", "medium")
    web_search_options: JsonValue = unsupported("an adapter searches nothing")

    @model_validator(mode="before")
    @classmethod
    def _never_called(cls, body: Any) -> Any:
        """Tools that must not be called change nothing."""
        if not isinstance(body, dict):
            return body
        unused = {tools for choice, tools in _CALLS.items() if body.get(choice) == "none"}
        return {name: value for name, value in body.items() if name not in unused}

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        if self.max_tokens is not None and self.max_completion_tokens not in {None, self.max_tokens}:
            raise PydanticCustomError("max_tokens", "`max_tokens` and `max_completion_tokens` differ: send one")
        if self.top_logprobs is not None and not self.logprobs:
            raise PydanticCustomError("top_logprobs", "`top_logprobs` belongs to `logprobs`: true")
        return self

    @property
    def text(self) -> str:
        """The conversation as the text of a prompt's field."""
        if len(self.messages) == 1:
            return self.messages[0].text
        return "\n".join(message.line for message in self.messages)


class TokenLogprob(BaseModel):
    """A token's log-probability, in the model's own distribution."""

    token: str
    logprob: float
    bytes: list[int]


class WrittenLogprob(TokenLogprob):
    """The same of a token that was written."""

    top_logprobs: list[TokenLogprob]


class ChatLogprobs(BaseModel):
    """Log-probabilities of an answer."""

    content: list[WrittenLogprob]
    refusal: None


class ChatMessage(BaseModel):
    """What the adapter wrote."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(BaseModel):
    """One answer."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(BaseModel):
    """The answers to a conversation."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: GeneratedUsage


@router.post(
    "/v1/chat/completions",
    response_model=ChatCompletion,
    responses=STREAMED,
    openapi_extra=example(
        {
            "model": "acme/user-profile",
            "messages": [{"role": "user", "content": "Orders: One Pan. Review: read it in a day"}],
        }
    ),
)
async def chat(body: ChatBody, asks: Asks) -> Response:
    """Answer a conversation; with `stream`, as server-sent events."""
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    choices = body.choices(max_new_tokens=body.max_completion_tokens or body.max_tokens, logprobs=logprobs)
    async with AsyncExitStack() as held:
        turn = await held.enter_async_context(
            asks.gateway.turn(asks.grant, body.model, ["generate"], body.user or asks.user)
        )
        fields = turn.fields(body.text, body.fields)
        questions = [Ask("generate", fields, options) for options in choices]
        if body.stream:
            return await begin_stream(held, turn, questions, _ChatChunks(turn, body))
        answers = await turn.ask_all(questions)
        shown = [_choice(index, answer, body) for index, answer in enumerate(answers)]
        content = {**envelope(turn, "chat.completion"), "choices": shown, "usage": usage_of(turn.read, turn.written)}
        return JSONResponse(content, headers=turn.headers)


def _choice(index: int, answer: Document, body: ChatBody) -> Document:
    return {
        "index": index,
        "message": {"role": "assistant", "content": answer["text"], "refusal": None},
        "logprobs": chat_logprobs(answer["tokens"]) if body.logprobs else None,
        "finish_reason": answer["finish"],
    }


class _ChatChunks(GeneratedChunks):
    """Parts as `/v1/chat/completions` streams them.

    Args:
        turn: that answers.
        body: of the request.
    """

    def __init__(self, turn: Turn, body: ChatBody) -> None:
        super().__init__(turn, "chat.completion.chunk", with_usage=body.with_usage)
        self._body = body

    def begin(self) -> list[Document]:
        """Who speaks, in each choice."""
        delta = {"role": "assistant", "content": "", "refusal": None}
        return [self._chunk(index, delta) for index in range(self._body.n or 1)]

    def part(self, index: int, text: str, tokens: Sequence[Mapping[str, Any]]) -> Document:
        """A text."""
        return self._chunk(index, {"content": text}, chat_logprobs(tokens) if self._body.logprobs else None)

    def end(self, index: int, answer: Document) -> Document:
        """Why it ended."""
        return self._chunk(index, {}, finish=answer["finish"])

    def _chunk(
        self, index: int, delta: Document, logprobs: Document | None = None, finish: str | None = None
    ) -> Document:
        return self.choice({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish})
