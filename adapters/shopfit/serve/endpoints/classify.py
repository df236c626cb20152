"""`/v1/classify`: the label of each input, by an adapter to choose."""

from typing import Literal

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from shopfit.errors import RequestError
from shopfit.serve.endpoints.asking import Asks, InputBody, Usage, answer_each
from shopfit.serve.gateway import Turn
from shopfit.serve.json_route import example, json_router

router = json_router("answers")


class ClassifyBody(InputBody):
    """Texts to be labelled."""

    sure: bool = Field(
        False, description="Whether to refuse unless the adapter can say how sure it is: `serve.precision` is set."
    )


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
async def classify(body: ClassifyBody, asks: Asks) -> JSONResponse:
    """Choose a label for each input.

    `sure` says whether its probability reaches the recipe's `serve.precision`; without one it is always true.
    """
    check = _check_sure if body.sure else lambda _: None
    return await answer_each(body, asks, "choose", ("label", "probabilities", "sure"), check)


def _check_sure(turn: Turn) -> None:
    if not turn.facts.tells_sure:
        raise RequestError(
            f"{turn.version.name} cannot say which answers are sure: its recipe sets no serve.precision",
            next_step="train it again with `--set serve.precision=0.95`, or leave `sure` out",
        )
