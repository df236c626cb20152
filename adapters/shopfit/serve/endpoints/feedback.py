"""`/v1/feedback`: what came of answers."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, Field, JsonValue
from starlette.responses import JSONResponse

from shopfit.errors import DataError, Problem, RequestError, UnknownAnswer
from shopfit.registry import Feedback
from shopfit.serve.authentication import check_scope
from shopfit.serve.endpoints.asking import Asking, Asks, Body
from shopfit.serve.json_route import example, json_router

router = json_router("feedback")

_MOST = 1000  # events of one request
_BAD, _MEND = "there are events that cannot be kept, so none is", "correct those, and send all of them again"
_NAMES = {"answer_id": "answer", "user_hash": "user"}  # of the registry, and here
_LATEST = timedelta(minutes=5)  # that the sender's clock may be ahead


class Event(Body):
    """What somebody did with an answer, or says about it."""

    answer: str = Field(pattern=r"^ans_[0-9a-z]{8,60}$", description="The answer's id: `x-shopfit-answer-id`.")
    kind: Literal["click", "purchase", "dismissal", "label", "correction"]
    item: str | None = Field(None, min_length=1, max_length=2000, description="Of a click, purchase or dismissal.")
    value: JsonValue = Field(None, description="The right label, the corrected text or number; at most 10 KB.")
    version: str | None = Field(None, max_length=200, description="`x-shopfit-version` of the answer.")
    user: str | None = Field(None, max_length=512, description="Your shopper; only a keyed hash is kept.")
    event: str | None = Field(None, min_length=1, max_length=200, description="Your id of it: it is kept once.")
    at: Annotated[AwareDatetime, Field(strict=False)] | None = Field(None, description="When; now by default.")


class FeedbackBody(Body):
    """Events, kept all or none."""

    merchant: str | None = Field(None, max_length=200, description="Whose they are; a key of the platform must say it.")
    events: list[Event] = Field(min_length=1, max_length=_MOST)


class Kept(BaseModel):
    """How many events there were, and how many of them were not known already."""

    object: Literal["feedback"]
    events: int
    new: int


@router.post(
    "/v1/feedback",
    response_model=Kept,
    openapi_extra=example(
        {
            "events": [
                {
                    "answer": "ans_97c7ea10d5222cb658164c4aa8a2ecc53a1f0c7be2d94f60a1b2c3d4",
                    "kind": "click",
                    "item": "tent-2",
                    "event": "e-1",
                }
            ]
        }
    ),
)
async def add_feedback(body: FeedbackBody, asks: Asks) -> JSONResponse:
    """Say what came of answers: clicks, purchases, dismissals, right labels, corrections."""
    merchant = _merchant(asks, body.merchant)
    problems = [problem for place, event in enumerate(body.events) for problem in _problems(place, event)]
    if problems:
        raise RequestError(_BAD, problems=problems, next_step=_MEND)
    ids = asks.gateway.answer_ids
    where = [
        f"events.{place}.answer" for place, event in enumerate(body.events) if not ids.is_of(event.answer, merchant)
    ]
    if where:
        raise UnknownAnswer(
            "there are events of answers that this merchant was never given, so none is kept",
            problems=[
                Problem(place, "no answer has this id", "the `x-shopfit-answer-id` of an answer") for place in where
            ],
            next_step="send each answer's id as it was given, with a key of the merchant it was given to",
        )
    now = datetime.now(UTC)
    rows = [_row(asks, merchant, event, now) for event in body.events]
    try:
        new = await asks.gateway.threads.run(asks.gateway.registry.add_feedback, rows)
    except DataError as error:
        raise RequestError(_BAD, problems=[_renamed(one) for one in error.problems], next_step=_MEND) from None
    return JSONResponse({"object": "feedback", "events": len(rows), "new": new})


def _merchant(asks: Asking, named: str | None) -> str:
    if asks.grant.merchant is None and named is None:
        raise RequestError(
            "this key is the platform's, so it must be said whose events these are", next_step="send `merchant`"
        )
    merchant = asks.grant.merchant if named is None else named
    check_scope(asks.grant, "feedback", merchant)
    assert merchant is not None
    return merchant


def _problems(place: int, event: Event) -> list[Problem]:
    where, found = f"events.{place}", []
    if event.kind in ("label", "correction") and event.value is None:
        found.append(Problem(f"{where}.value", "it is missing", "what is right"))
    if event.at is not None and event.at > datetime.now(UTC) + _LATEST:
        found.append(Problem(f"{where}.at", f"{event.at.isoformat()} is in the future"))
    return found


def _row(asks: Asking, merchant: str, event: Event, now: datetime) -> Feedback:
    more: dict[str, Any] = {"item": event.item, "value": event.value, "version": event.version, "event": event.event}
    user = asks.gateway.user_hashes.of(merchant, event.user or "")
    return Feedback(merchant, event.answer, event.kind, event.at or now, user_hash=user, **more)


def _renamed(problem: Problem) -> Problem:
    """A problem of the registry, which counts rows from 1 and has its own names for fields."""
    row, _, name = problem.where.partition(" ")
    return replace(problem, where=f"events.{int(row.partition(':')[2]) - 1}.{_NAMES.get(name, name)}")
