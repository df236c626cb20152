"""What is asked of vLLM servers behind one URL: completions of token ids, and nothing else of all their routes."""

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any, NoReturn

import httpx2

from shopfit.adapter.manifest_rules import printable
from shopfit.errors import BundleError, EngineEnded, Overloaded, RequestError

HEADER = "x-shopfit-adapter"
"""Names the version in each request: what a proxy before several vLLM servers spreads them by."""
_CONNECT = 5.0  # seconds; how long an answer may take is the caller's to say
_DATA, _DONE = "data: ", "data: [DONE]"
_ROUTE = "/v1/completions"
_SHOWN = 500  # characters of what a server says


class VllmClient:
    """Asks vLLM servers.

    Args:
        url: of one server, or of the proxy before several.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        timeout = httpx2.Timeout(None, connect=_CONNECT)
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=64)
        self._client = httpx2.AsyncClient(timeout=timeout, limits=limits, trust_env=False)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def complete(self, adapter: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """A completion.

        Args:
            adapter: its name for vLLM; see `PinnedName`.
            body: the request, but for `model`.

        Raises:
            RequestError: if the server says that the request cannot be answered.
            BundleError: if it does not serve the adapter.
            Overloaded: if it has too much to do.
            EngineEnded: if it cannot be reached, or ends before it has answered.
        """
        try:
            answer = await self._client.post(
                f"{self.url}{_ROUTE}", json={"model": adapter, **body}, headers={HEADER: adapter}
            )
        except httpx2.HTTPError as error:
            raise self._lost(error) from error
        if answer.status_code != httpx2.codes.OK:
            self._refuse(answer.status_code, answer.content, adapter)
        return self._parsed(answer.content)

    async def stream(self, adapter: str, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The events of a completion that is streamed. Leaving the loop ends it on the server. Raises as `complete`.

        The first event is empty: a server has taken the request. The others say how many tokens there are so far.
        """
        counted = {"include_usage": True, "continuous_usage_stats": True}
        asked = {"model": adapter, **body, "stream": True, "stream_options": counted}
        try:
            async with self._client.stream(
                "POST", f"{self.url}{_ROUTE}", json=asked, headers={HEADER: adapter}
            ) as answer:
                if answer.status_code != httpx2.codes.OK:
                    self._refuse(answer.status_code, await answer.aread(), adapter)
                yield {"choices": []}
                async for line in answer.aiter_lines():
                    if line == _DONE:
                        return
                    if line.startswith(_DATA):
                        event = self._parsed(line.removeprefix(_DATA))
                        if "error" in event:
                            self._refuse(_status(event), line.encode(), adapter)
                        yield event
        except httpx2.HTTPError as error:
            raise self._lost(error) from error
        raise self._lost(EOFError())  # the connection was closed in the middle

    def _refuse(self, status: int, content: bytes, adapter: str) -> NoReturn:
        said = _said(content)
        if status == httpx2.codes.NOT_FOUND:
            raise BundleError(
                f"the vLLM servers do not serve {adapter}",
                next_step="look into their log: the resolver writes why it refuses an adapter",
            )
        if status in {httpx2.codes.TOO_MANY_REQUESTS, httpx2.codes.SERVICE_UNAVAILABLE}:
            raise Overloaded(f"the vLLM servers have too much to do: {said}", next_step="try again in a moment")
        if status < httpx2.codes.INTERNAL_SERVER_ERROR:
            raise RequestError(f"vLLM refuses the request: {said}", next_step="correct what it names")
        raise EngineEnded(f"a vLLM server failed ({status}): {said}", next_step="send the request again in a moment")

    def _lost(self, error: Exception) -> EngineEnded:
        return EngineEnded(
            f"the vLLM servers did not answer ({type(error).__name__})", next_step="send the request again in a moment"
        )

    def _parsed(self, content: bytes | str) -> dict[str, Any]:
        try:
            found = json.loads(content)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise EngineEnded(
                "a vLLM server answered with what is no completion", next_step="check what --upstream names"
            )
        return found


def _status(event: Mapping[str, Any]) -> int:
    code = event["error"].get("code") if isinstance(event["error"], dict) else None
    return code if isinstance(code, int) else int(httpx2.codes.INTERNAL_SERVER_ERROR)


def _said(content: bytes) -> str:
    """The message in an error of OpenAI's shape, or what else was said."""
    text = content.decode("utf-8", "replace").removeprefix(_DATA)
    try:
        error = json.loads(text)["error"]
        text = str(error["message"])
    except (ValueError, KeyError, TypeError):
        pass
    return printable(text, _SHOWN)
