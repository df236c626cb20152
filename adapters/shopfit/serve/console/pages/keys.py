"""Keys: those that there are, making one, and revoking one. A merchant's administrator has its own merchant's alone."""

from typing import Annotated, Literal

from fastapi import Form
from starlette.responses import Response

from shopfit.errors import RegistryError, RegistryUnavailable, ScopeMissing
from shopfit.registry import Key
from shopfit.registry.grant import SCOPES, read_expiry
from shopfit.registry.validation import expiry
from shopfit.serve.console.confirming import confirm
from shopfit.serve.console.routes import BadForm, NoPage, Paged, Visit, Visits, page_router, query_of

router = page_router()

_PLACE = "/console/serving/keys"


@router.get("/serving/keys")
async def keys(
    visit: Visits, q: str = "", state: Literal["", "active", "expired", "revoked"] = "", page: int = 1
) -> Response:
    """The list, the newest first."""
    _check(visit)
    search = q.strip().lower()
    every = await visit.gateway.threads.run(visit.gateway.kept.keys, visit.grant.merchant)
    found = [key for key in every if state in ("", key.state) and (not search or _is_found(key, search))]
    paged = Paged(found, page)
    filters = {"q": q, "state": state}
    return visit.page(
        "serving_keys.html",
        keys=paged.rows,
        every=len(every),
        **paged.place,
        filters=filters,
        query=lambda **more: query_of(filters | more),
    )


@router.get("/serving/keys/new")
async def new_key(visit: Visits, merchant: str = "") -> Response:
    """The form of a new one."""
    _check(visit)
    return visit.page("serving_key_new.html", scopes=SCOPES, merchant=visit.grant.merchant or merchant)


@router.post("/serving/keys")
async def make_key(
    visit: Visits,
    whose: Annotated[Literal["merchant", "platform"], Form()] = "merchant",
    merchant: Annotated[str, Form()] = "",
    scope: Annotated[list[str], Form()] = [],  # noqa: B006 - FastAPI copies it
    name: Annotated[str, Form()] = "",
    expires: Annotated[str, Form()] = "",
    new: Annotated[bool, Form()] = False,
) -> Response:
    """Make one, and show it once."""
    _check(visit)
    owner = None if whose == "platform" else merchant.strip()
    if owner == "":
        raise BadForm("whose key it is to be is not said", next_step="name the merchant, or choose the platform")
    if visit.grant.merchant is not None and owner != visit.grant.merchant:
        raise ScopeMissing(
            f"this key makes keys of {visit.grant.merchant} alone", next_step="ask whoever runs the platform"
        )
    try:
        ends = expiry(read_expiry(expires.strip())) if expires.strip() else None
        if visit.grant.expires is not None and (ends is None or ends > visit.grant.expires):
            raise BadForm(
                "the new key would last longer than the one that makes it",
                next_step=f"let it end at {visit.grant.expires:%Y-%m-%d} or before",
            )
        registry, who = visit.gateway.registry, visit.actor
        issued = await visit.gateway.threads.run(
            lambda: registry.create_key(owner, scope, expires=ends, name=name.strip(), new=new, actor=who)
        )
    except RegistryUnavailable:
        raise
    except RegistryError as error:
        raise BadForm(error.message, problems=error.problems, next_step=error.next_step) from None
    return visit.page("serving_key_made.html", key=issued.key, token=issued.token)


@router.get("/serving/keys/{id_}/revoke")
async def ask_to_revoke(visit: Visits, id_: str) -> Response:
    """Say what will change."""
    key, t = await _find(visit, id_), visit.t
    lines = [t("keys.revoke_what"), t("keys.revoke_whose", whose=key.merchant or t("serving.of_platform"))]
    if key.name:
        lines.append(t("keys.revoke_name", name=key.name))
    return confirm(
        visit,
        t("keys.revoke_title", id=key.id),
        action=f"{_PLACE}/{key.id}/revoke",
        button=t("keys.revoke"),
        back=_PLACE,
        lines=lines,
        warning=t("keys.revoke_own") if key.id == visit.grant.key else "",
        danger=True,
    )


@router.post("/serving/keys/{id_}/revoke")
async def revoke_key(visit: Visits, id_: str) -> Response:
    """Revoke it for good."""
    key = await _find(visit, id_)
    registry, who = visit.gateway.registry, visit.actor
    await visit.gateway.threads.run(lambda: registry.revoke_key(key.id, actor=who))
    return visit.to(_PLACE)


def _check(visit: Visit) -> None:
    visit.check("admin", visit.grant.merchant)


def _is_found(key: Key, search: str) -> bool:
    return any(search in text.lower() for text in (key.merchant or "", key.name, key.id))


async def _find(visit: Visit, id_: str) -> Key:
    _check(visit)
    found = await visit.gateway.threads.run(visit.gateway.kept.keys, visit.grant.merchant)
    key = next((one for one in found if one.id == id_), None)
    if key is None:
        raise NoPage("there is no such key, or not for this key", next_step="go back to the list of keys")
    return key
