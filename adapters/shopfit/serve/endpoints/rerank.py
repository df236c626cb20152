"""`/v1/rerank` and `/v2/rerank`: texts or items by how well they fit a query, as Cohere's and Jina's APIs rank them.

What is ranked are `documents`, or without any the merchant's catalog.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.responses import JSONResponse

from shopfit.errors import RequestError
from shopfit.serve.endpoints.asking import AskBody, Asks, Body, Fields, Usage, ignored, unsupported, usage_of
from shopfit.serve.gateway import Ask, Document
from shopfit.serve.json_route import example, json_router

router = json_router("answers")

_MOST = 10_000
_OWN_LENGTH = "a text is cut where the base's context ends"
_EXAMPLE = example(
    {"model": "acme/product-recommendation", "query": "tent for two", "documents": ["Two-person tent", "Enamel mug"]}
)


class RerankDocument(Body):
    """A text with whatever else is known of it, which is returned; or an item of the catalog by its id alone."""

    model_config = ConfigDict(extra="allow")

    text: str | None = None
    id: str | None = None

    @property
    def is_text(self) -> bool:
        """Whether it is a text, and not an item."""
        return self.text is not None


class RerankBody(AskBody):
    """A query, and what is ranked by it."""

    query: str | None = Field(None, description="What the shopper types.")
    documents: Annotated[list[str | RerankDocument], Field(min_length=1, max_length=_MOST)] | None = Field(
        None, description="All texts, or all items; the catalog by default, less what is sold out or in the history."
    )
    fields: Fields | None = Field(None, description="The other fields of the prompt, by name, such as `history`.")
    top_n: int | None = Field(
        None,
        ge=1,
        le=_MOST,
        description="How many; all documents by default, or of a catalog the recipe's `serve.top`.",
    )
    return_documents: bool | None = Field(
        None, description="Whether texts are returned; items of a catalog always are."
    )

    max_chunks_per_doc: JsonValue = unsupported(_OWN_LENGTH)
    max_tokens_per_doc: JsonValue = unsupported(_OWN_LENGTH)
    priority: JsonValue = ignored("merchants share an engine equally")
    rank_fields: JsonValue = unsupported("a document is ranked by its `text`", ["text"])
    relevant_spans: JsonValue = unsupported("a document is ranked as a whole")
    truncation: JsonValue = unsupported(_OWN_LENGTH, True)


class ReturnedDocument(BaseModel):
    """A document as it was sent; of a catalog's item the id, and the title as its text."""

    model_config = ConfigDict(extra="allow")

    text: str


class Reranked(BaseModel):
    """One document.

    Args:
        index: its place in what was asked; of a catalog, in that.
        relevance_score: its share of all that were ranked, 0 to 1: a softmax of the adapter's scores.
        document: itself.
    """

    index: int
    relevance_score: float
    document: ReturnedDocument | None = None


class ApiVersion(BaseModel):
    """Of the endpoint."""

    version: str


class ReadTokens(BaseModel):
    """Tokens of the request, as Cohere's API tells them."""

    input_tokens: int
    output_tokens: int


class Meta(BaseModel):
    """What Cohere's clients read."""

    api_version: ApiVersion
    tokens: ReadTokens


class Reranking(BaseModel):
    """Documents, the best first."""

    id: str
    object: Literal["list"]
    model: str
    results: list[Reranked]
    meta: Meta
    usage: Usage


@router.post("/v1/rerank", response_model=Reranking, openapi_extra=_EXAMPLE)
async def rerank(body: RerankBody, asks: Asks) -> JSONResponse:
    """Rank documents as Cohere's first API and Jina's do."""
    return await _rerank(body, asks, "1")


@router.post("/v2/rerank", response_model=Reranking, openapi_extra=_EXAMPLE)
async def rerank_again(body: RerankBody, asks: Asks) -> JSONResponse:
    """Rank documents as Cohere's second API does. It takes and answers the same as `/v1/rerank`."""
    return await _rerank(body, asks, "2")


async def _rerank(body: RerankBody, asks: Asks, version: str) -> JSONResponse:
    options = _options(body)
    async with asks.gateway.turn(asks.grant, body.model, ["rank"], body.user or asks.user) as turn:
        answer = await turn.ask(Ask("rank", turn.fields(body.query, body.fields, name="query"), options))
        results = [
            {"index": item["place"], "relevance_score": item["share"], **_returned(item, body)}
            for item in answer["items"]
        ]
        tokens = {"input_tokens": turn.read, "output_tokens": 0}
        content = {
            "id": turn.id,
            "object": "list",
            "model": turn.version.name,
            "results": results,
            "meta": {"api_version": {"version": version}, "tokens": tokens},
            "usage": usage_of(turn.read),
        }
        return JSONResponse(content, headers=turn.headers)


def _options(body: RerankBody) -> dict[str, Any]:
    """The engine's options.

    Raises:
        RequestError: if documents are neither all texts nor all items.
    """
    if body.documents is None:
        return {} if body.top_n is None else {"top": body.top_n}
    top = body.top_n or len(body.documents)
    documents = [RerankDocument(text=one) if isinstance(one, str) else one for one in body.documents]
    if all(one.is_text for one in documents):
        return {"documents": [one.text for one in documents], "top": top}
    if any(one.is_text or one.id is None for one in documents):
        raise RequestError(
            'documents are neither all texts nor all items (allowed: texts, {"text": …}, or {"id": …})',
            next_step="rank texts in one request, and items of the catalog in another",
        )
    return {"candidates": [one.id for one in documents], "top": top}


def _returned(item: Document, body: RerankBody) -> Document:
    """The document of a result, if it is returned."""
    if body.documents is None:
        return {"document": {"id": item["id"], "title": item["title"], "text": item["title"]}}
    sent = body.documents[item["place"]]
    if isinstance(sent, RerankDocument) and not sent.is_text:
        return {"document": {**sent.model_dump(exclude_none=True), "title": item["title"], "text": item["title"]}}
    if not body.return_documents:
        return {}
    return {"document": {"text": sent} if isinstance(sent, str) else sent.model_dump(exclude_none=True)}
