"""A process that reads, checks and writes catalogs of any size, so that the gateway's own answers wait for none."""

import json
import logging
import os
import socket
from pathlib import Path
from typing import Any

from shopfit.documents import document
from shopfit.errors import RequestError, ShopfitError, UnknownCatalog
from shopfit.recipe.suggestions import shown
from shopfit.registry import Registry, StoredCatalog
from shopfit.serve.engines.frames import FrameSocket, Message
from shopfit.settings import Settings
from shopfit.strict_json import parse_json

logger = logging.getLogger(__name__)

_NICE = 5  # what answers shoppers goes first


def main(connection: socket.socket) -> None:
    """Do what the gateway at the other end of a socket asks, one after the other; the process ends with it.

    Messages in: where the registry is; then to `put`, `patch` or `show` the catalog of a `merchant`, each with the body
    of the request. Out: the catalog's `state`, with its items if it was shown; or the `error`, and whether it has a
    `cause`.

    Args:
        connection: a connected stream socket.
    """
    os.setsid()  # a Ctrl-C is for the gateway
    os.nice(_NICE)
    frames = FrameSocket(connection)
    if (places := frames.receive()) is not None:
        _serve(frames, Settings(Path(places["home"]), places["registry"], places["blobs"]))
    os._exit(0)


def _serve(frames: FrameSocket, settings: Settings) -> None:
    registry: Registry | None = None
    while (message := frames.receive()) is not None and (body := frames.receive_content()) is not None:
        content = b""
        try:
            registry = registry or Registry.open(settings)
            reply, content = _answer(registry, message, body)
        except Exception as error:  # whatever it is, the gateway is told
            reply = {"error": _told(error).document(), "cause": error.__cause__ is not None}
        frames.send(reply)
        frames.send_content(content)


def _answer(registry: Registry, message: Message, body: bytes) -> tuple[Message, bytes]:
    merchant = message["merchant"]
    match message["do"]:
        case "put":
            sent = _read(body)
            items = sent if isinstance(sent, list) else _items(sent, list, "a list of items")
            stored = registry.put_catalog(merchant, items, actor=message["actor"])
        case "patch":
            changes = _items(_read(body), dict, "an object of items by id")
            stored = registry.patch_catalog(merchant, changes, actor=message["actor"])
        case _:
            current = registry.current_catalog(merchant)
            if current is None:
                raise UnknownCatalog(
                    f"no catalog of {merchant} was sent, so that its adapters use those in their bundles",
                    next_step="send one with PUT, or change items with PATCH",
                )
            catalog, stored = current
            items = ",".join(_json(dict(item.fields)) for item in catalog.values())
            return {}, f'{_json(_state(stored))[:-1]},"items":[{items}]}}'.encode()
    return {"state": _state(stored)}, b""


def _told(error: Exception) -> ShopfitError:
    if isinstance(error, ShopfitError):
        return error
    logger.error("a catalog could not be worked on", exc_info=error)
    return ShopfitError(
        f"the catalog could not be worked on: {type(error).__name__}",
        next_step="other requests go on; please report this one if it comes again",
    )


def _read(body: bytes) -> Any:
    try:
        return parse_json(body)
    except ValueError as error:
        raise RequestError(f"the request's body is not JSON: {error}", next_step="correct it") from None


def _items(sent: Any, kind: type, allowed: str) -> Any:
    if not isinstance(sent, dict) or sent.keys() != {"items"} or not isinstance(sent["items"], kind):
        raise RequestError(
            f'the request\'s body is {shown(sent)} (allowed: {{"items": …}} with {allowed})', next_step="correct it"
        )
    return sent["items"]


def _state(stored: StoredCatalog) -> dict[str, Any]:
    told = document(stored)
    named = {"object": "catalog", "count": told.pop("items"), "began_from": told.pop("base")}
    del told["actor"]
    return {**told, **named}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
