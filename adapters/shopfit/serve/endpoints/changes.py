"""What endpoints that change the registry share: who may, what is meant, and that the change is seen at once."""

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from shopfit.errors import RegistryError, RegistryUnavailable, ShopfitError
from shopfit.registry import Reference
from shopfit.registry.grant import Scope
from shopfit.serve.adapters import named_reference
from shopfit.serve.authentication import check_scope
from shopfit.serve.endpoints.asking import Asking

T = TypeVar("T")


class Conflict(ShopfitError):  # noqa: N818 - reads as what it is
    """The registry does not allow a change, as it is now."""

    http_status = 409
    cure = (
        "Look at the state first: `shopfit registry show`, `shopfit release ls`. Then ask for a change that it allows."
    )


def actor(asks: Asking) -> str:
    """Who changes something, for the audit: the key's public id."""
    return f"key {asks.grant.key}"


def adapter_to_change(asks: Asking, model: str, scope: Scope) -> Reference:
    """The adapter or version that a request is about.

    Raises:
        ScopeMissing: if the key may not do this with any adapter.
        UnknownReference: if `model` is no name, or another merchant's.
    """
    check_scope(asks.grant, scope, asks.grant.merchant)
    return named_reference(model, asks.grant, scope)


async def change(asks: Asking, call: Callable[[], T]) -> T:
    """Change the registry, and have this gateway see it at once; others do in less than a second.

    Raises:
        Conflict: if the registry does not allow it.
        ShopfitError: whatever else the change raises.
    """
    try:
        changed = await asks.gateway.threads.run(call)
    except RegistryUnavailable:
        raise
    except RegistryError as error:  # it was reached, and says no
        raise Conflict(error.message, problems=error.problems, next_step=error.next_step) from None
    await see(asks)
    return changed


async def see(asks: Asking) -> None:
    """Have this gateway see at once what was changed; if the registry fails only now, it sees that a moment later."""
    with suppress(ShopfitError):
        await asks.gateway.state.refresh()
