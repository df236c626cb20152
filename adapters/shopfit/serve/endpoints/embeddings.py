"""`/v1/embeddings`: vectors of texts, by an encoder with a merchant's adapter, as OpenAI's API has them."""

import base64
import struct
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from shopfit.errors import RequestError
from shopfit.serve.endpoints.asking import Asks, InputBody, Usage, usage_of
from shopfit.serve.gateway import Ask, Turn
from shopfit.serve.json_route import example, json_router

router = json_router("answers")


class EmbeddingBody(InputBody):
    """Texts to embed."""

    input_type: Literal["query", "item"] | None = Field(
        None, description="Whether inputs are what a prompt asks (the default), or what may answer it, such as items."
    )
    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="Numbers (the default), or base64 of their little-endian float32."
    )
    dimensions: int | None = Field(None, ge=1, description="Only the base's own.")


class Embedding(BaseModel):
    """One input's vector, of length 1."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Embeddings(BaseModel):
    """The vectors of all inputs, in their order."""

    id: str
    object: Literal["list"]
    model: str
    data: list[Embedding]
    usage: Usage


@router.post(
    "/v1/embeddings",
    response_model=Embeddings,
    openapi_extra=example(
        {"model": "acme/product-recommendation", "input": ["Two-person tent", "Enamel mug"], "input_type": "item"}
    ),
)
async def embed(body: EmbeddingBody, asks: Asks) -> JSONResponse:
    """Embed texts with an adapter of any task, on a base that is an encoder."""
    inputs = body.inputs()
    async with asks.gateway.turn(asks.grant, body.model, [], body.user or asks.user) as turn:
        answers = await turn.ask_all([_question(turn, text, fields, body.input_type) for text, fields in inputs])
        _check_size(body.dimensions, answers[0]["vector"])
        encode = _base64 if body.encoding_format == "base64" else list
        data = [
            {"object": "embedding", "index": index, "embedding": encode(answer["vector"])}
            for index, answer in enumerate(answers)
        ]
        content = {"id": turn.id, "object": "list", "model": turn.version.name, "data": data}
        return JSONResponse({**content, "usage": usage_of(turn.read)}, headers=turn.headers)


def _question(turn: Turn, text: str | None, fields: dict[str, Any] | None, kind: str | None) -> Ask:
    if kind != "item":
        return Ask("embed", turn.fields(text, fields))
    if text is None or fields:
        raise RequestError(
            "an item is a text, and has no fields of a prompt",
            next_step='send `input`, or leave `"input_type": "item"` out',
        )
    return Ask("embed", {}, {"text": text})


def _check_size(wanted: int | None, vector: Sequence[float]) -> None:
    if wanted not in {None, len(vector)}:
        raise RequestError(
            f"dimensions is {wanted} (allowed: {len(vector)}, which the base has)", next_step="leave it out"
        )


def _base64(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
