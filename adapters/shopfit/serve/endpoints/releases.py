"""`/v1/releases`, `/v1/promote` and `/v1/rollback`: which version answers, without a restart."""

from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from shopfit.registry import Reference, Release, Version
from shopfit.serve.authentication import check_scope
from shopfit.serve.endpoints.asking import Asking, Asks, Body
from shopfit.serve.endpoints.changes import actor, adapter_to_change, change
from shopfit.serve.json_route import example, json_router

router = json_router("releases")

Kind = Literal["canary", "shadow"]


class ReleaseBody(Body):
    """A version that is to get a part of its adapter's traffic."""

    model: str = Field(description="The version: `merchant/recipe@number`, or `@alias` as it is now.")
    kind: Kind = Field(description="`canary` answers a part of the users; `shadow` is asked, too, and never answers.")
    share: float = Field(gt=0, le=1, description="That part: above 0, at most 1.")


class VersionBody(Body):
    """A version that is to be in production."""

    model: str = Field(description="`merchant/recipe@number`, or `@alias` as it is now.")


class AdapterBody(Body):
    """An adapter."""

    model: str = Field(description="`merchant/recipe`.")


class ReleaseShown(BaseModel):
    """A release under way."""

    model: str
    version: str
    digest: str
    kind: Kind
    share: float


class ReleasesShown(BaseModel):
    """All that the key reaches."""

    object: Literal["list"]
    data: list[ReleaseShown]


class Promoted(BaseModel):
    """The version in production now."""

    model: str
    version: str
    digest: str


@router.get("/v1/releases", response_model=ReleasesShown)
async def list_releases(asks: Asks) -> JSONResponse:
    """The canaries and shadows under way."""
    check_scope(asks.grant, "promote", asks.grant.merchant)
    found = await asks.gateway.threads.run(asks.gateway.registry.releases, asks.grant.merchant)
    return JSONResponse({"object": "list", "data": [_release(one) for one in found]})


@router.post(
    "/v1/releases",
    response_model=ReleaseShown,
    openapi_extra=example({"model": "acme/review-sentiment@8", "kind": "canary", "share": 0.1}),
)
async def start_release(body: ReleaseBody, asks: Asks) -> JSONResponse:
    """Give a version a part of its adapter's traffic, in place of the version that had it."""
    reference = adapter_to_change(asks, body.model, "promote")
    registry, who = asks.gateway.registry, actor(asks)
    release = await change(asks, lambda: registry.start_release(reference, kind=body.kind, share=body.share, actor=who))
    return JSONResponse(_release(release))


@router.delete("/v1/releases", response_model=ReleaseShown)
async def end_release(
    asks: Asks, model: Annotated[str, Query(description="`merchant/recipe`.")], kind: Kind
) -> JSONResponse:
    """Take a release's part of the traffic back. The answer is the release that ended."""
    reference = adapter_to_change(asks, model, "promote")
    registry, who = asks.gateway.registry, actor(asks)
    release = await change(asks, lambda: registry.end_release(_adapter(reference), kind=kind, actor=who))
    return JSONResponse(_release(release))


@router.post(
    "/v1/promote",
    response_model=Promoted,
    openapi_extra=example({"model": "acme/review-sentiment@8"}),
)
async def promote(body: VersionBody, asks: Asks) -> JSONResponse:
    """Put a version in production. One that the gate refused stays refused."""
    reference = adapter_to_change(asks, body.model, "promote")
    registry, who = asks.gateway.registry, actor(asks)
    return await _in_production(asks, await change(asks, lambda: registry.promote(reference, actor=who)))


@router.post(
    "/v1/rollback",
    response_model=Promoted,
    openapi_extra=example({"model": "acme/review-sentiment"}),
)
async def rollback(body: AdapterBody, asks: Asks) -> JSONResponse:
    """Put the version back that was in production before."""
    reference = adapter_to_change(asks, body.model, "promote")
    registry, who = asks.gateway.registry, actor(asks)
    return await _in_production(asks, await change(asks, lambda: registry.rollback(_adapter(reference), actor=who)))


async def _in_production(asks: Asking, version: Version) -> JSONResponse:
    await asks.gateway.adapters.refresh(Reference(version.merchant, version.recipe))
    model = f"{version.merchant}/{version.recipe}"
    return JSONResponse({"model": model, "version": version.name, "digest": version.digest})


def _adapter(reference: Reference) -> str:
    """What is meant: the adapter, or, to be refused by the registry, one of its versions."""
    adapter = f"{reference.merchant}/{reference.recipe}"
    return adapter if reference == Reference.parse(adapter) else str(reference)


def _release(release: Release) -> dict[str, Any]:
    return {
        "model": f"{release.merchant}/{release.recipe}",
        "version": release.name,
        "digest": release.digest,
        "kind": release.kind,
        "share": release.share,
    }
