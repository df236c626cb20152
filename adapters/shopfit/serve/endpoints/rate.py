"""`/v1/rate`: a number for each input, by an adapter to rate."""

from typing import Literal

from pydantic import BaseModel
from starlette.responses import JSONResponse

from shopfit.serve.endpoints.asking import Asks, InputBody, Usage, answer_each
from shopfit.serve.json_route import example, json_router

router = json_router("answers")


class Rated(BaseModel):
    """One input's score, and how unsure it is: a standard deviation, in the score's unit."""

    index: int
    score: float
    spread: float | None


class Ratings(BaseModel):
    """The scores of all inputs, in their order."""

    id: str
    object: Literal["list"]
    model: str
    data: list[Rated]
    usage: Usage


@router.post(
    "/v1/rate",
    response_model=Ratings,
    openapi_extra=example({"model": "acme/review-stars", "input": "arrived cracked, but they sent another at once"}),
)
async def rate(body: InputBody, asks: Asks) -> JSONResponse:
    """Rate each input; `fields` may also name its `user` and `item`."""
    return await answer_each(body, asks, "rate", ("score", "spread"))
