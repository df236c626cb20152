"""`/v1/classify`: the label of each input, by an adapter to choose."""

from typing import Literal

from pydantic import BaseModel
from starlette.responses import JSONResponse

from shopfit.serve.endpoints.asking import Asks, InputBody, Usage, answer_each
from shopfit.serve.json_route import example, json_router

router = json_router("answers")


class Classified(BaseModel):
    """One input's label."""

    index: int
    label: str
    probabilities: dict[str, float]
    sure: bool


class Classification(BaseModel):
    """The labels of all inputs, in their order."""

    id: str
    object: Literal["list"]
    model: str
    data: list[Classified]
    usage: Usage


@router.post(
    "/v1/classify",
    response_model=Classification,
    openapi_extra=example({"model": "acme/review-sentiment", "input": ["arrived cracked", "the best cup I have had"]}),
)
async def classify(body: InputBody, asks: Asks) -> JSONResponse:
    """Choose a label for each input. `sure` says whether its probability reaches the recipe's `serve.precision`."""
    return await answer_each(body, asks, "choose", ("label", "probabilities", "sure"))
