"""`/v1/recommend`: what a shopper should see. Search finds items, rules filter them, an adapter ranks them."""

from typing import Literal

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from shopfit.errors import RequestError
from shopfit.recipe.item_rules import Rules
from shopfit.serve.endpoints.asking import AskBody, Asks, Fields, Usage, usage_of
from shopfit.serve.gateway import Ask
from shopfit.serve.json_route import example, json_router

router = json_router("answers")

_MOST = 10_000


class RecommendBody(AskBody):
    """A shopper, as far as is known."""

    query: str | None = Field(None, description="What the shopper types.")
    history: list[str] | None = Field(
        None, max_length=_MOST, description="Ids of items that the shopper saw or bought, oldest first."
    )
    k: int | None = Field(None, ge=1, le=_MOST, description="How many items; the recipe's `serve.top` by default.")
    rules: Rules | None = Field(None, description="Besides those of the recipe: an item must pass both.")
    fields: Fields | None = Field(None, description="The other fields of the prompt, by name.")


class Recommended(BaseModel):
    """One item. Scores are comparable within one answer only; `reasons` has that of each stage."""

    index: int
    id: str
    title: str
    score: float
    reasons: dict[str, float]


class Recommendations(BaseModel):
    """Items, best first; none if none passes the rules."""

    id: str
    object: Literal["list"]
    model: str
    data: list[Recommended]
    usage: Usage


@router.post(
    "/v1/recommend",
    response_model=Recommendations,
    openapi_extra=example(
        {
            "model": "acme/product-recommendation",
            "query": "tent for two",
            "k": 3,
            "rules": {"max_price": 300},
            "user": "u-1",
        }
    ),
)
async def recommend(body: RecommendBody, asks: Asks) -> JSONResponse:
    """Recommend items of the merchant's current catalog."""
    fields = dict(body.fields or {})
    if body.history and "history" in fields:
        raise RequestError("history is given twice", next_step="leave it out of `fields`")
    if body.history:
        fields["history"] = list(body.history)
    rules = None if body.rules is None else body.rules.model_dump(exclude_unset=True)
    options = {"k": body.k, "rules": rules}
    async with asks.gateway.turn(asks.grant, body.model, ["rank"], body.user or asks.user) as turn:
        answer = await turn.ask(Ask("recommend", turn.fields(body.query, fields, name="query"), options))
        shown = ("id", "title", "score", "reasons")
        data = [{"index": place, **{name: item[name] for name in shown}} for place, item in enumerate(answer["items"])]
        content = {"id": turn.id, "object": "list", "model": turn.version.name, "data": data}
        return JSONResponse({**content, "usage": usage_of(turn.read)}, headers=turn.headers)
