"""A server that speaks as much of vLLM's API as the gateway asks for, on a real socket; transformers computes for it.

It knows no adapters: what it answers is the bare base's. What real vLLM servers answer is `make test-vllm`'s to show.
"""

import json
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch


class StandIn:
    """What the server is told to do, and what it was asked.

    Args:
        model: of transformers, a decoder.
        tokenizer: of it.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.url = ""
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.fails: tuple[int, str] | None = None
        """Status and message of every answer."""
        self.breaks_after: int | None = None
        """Events of a stream after which the connection is cut."""
        self.ends_after: int | None = None
        """Tokens after which the one for the end comes, whatever the model says."""
        self.holds = threading.Event()
        """Set: streams go on for ever after their first event, until the client is gone."""
        self.left = threading.Event()
        """Set when a client was gone in the middle of a stream."""
        self._model = model
        self._tokenizer = tokenizer

    def scored(self, prompt: list[int], tokens: list[int]) -> dict[str, Any]:
        """`logprobs` of one token behind a prompt: of the one that was written, and of those that were asked for."""
        with torch.inference_mode():
            logs = self._model(torch.tensor([prompt])).logits[0, -1].float().log_softmax(-1)
        best = int(logs.argmax())
        told = {f"token_id:{token}": logs[token].item() for token in (best, *tokens)}
        return {"tokens": [f"token_id:{best}"], "token_logprobs": [logs[best].item()], "top_logprobs": [told]}

    def written(
        self, prompt: list[int], most: int, stops: Sequence[str] = (), ends: Collection[int] = ()
    ) -> tuple[list[int], str | None]:
        """The greedy continuation with what ends it: a token, or a text, which is told."""
        ids = list(prompt)
        with torch.inference_mode():
            for count in range(most):
                best = int(self._model(torch.tensor([ids])).logits[0, -1].argmax())
                ids.append(self._tokenizer.eos_token_id if count == self.ends_after else best)
                if ids[-1] == self._tokenizer.eos_token_id or ids[-1] in ends:
                    break
                text = self._tokenizer.decode(ids[len(prompt) :])
                if (found := next((stop for stop in stops if stop in text), None)) is not None:
                    return ids[len(prompt) :], found
        return ids[len(prompt) :], None

    def events(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Of a stream: one a token, the last with why it ended, then the usage; in each that so far, if asked for.

        As of vLLM, what may become a stop is held back, and the log-probabilities are of all tokens.
        """
        counted = body["stream_options"].get("continuous_usage_stats", False)
        stops, ends = body.get("stop") or [], body.get("stop_token_ids") or []
        tokens, stop = self.written(body["prompt"], body["max_tokens"], stops, ends)
        ended = tokens[-1] in {self._tokenizer.eos_token_id, *ends}
        held = max(map(len, stops), default=1) - 1
        shown = 0
        for count, token in enumerate(tokens, start=1):
            last = count == len(tokens)
            text = self._tokenizer.decode(tokens[: count - (last and ended)])
            text = text[: text.index(stop)] if last and stop is not None else text
            sure = len(text) if last else max(shown, len(text.rstrip("\ufffd")) - held)
            choice = {"index": 0, "text": text[shown:sure], "logprobs": None, "finish_reason": None}
            shown = max(shown, sure)
            if "logprobs" in body:
                own = self._tokenizer.decode([token])
                choice["logprobs"] = {
                    "tokens": [own],
                    "token_logprobs": [-0.5],
                    "top_logprobs": [{own: -0.5, "x": -1.5}],
                }
            if last:
                choice |= {"finish_reason": "stop" if ended or stop is not None else "length", "stop_reason": stop}
            usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": count}
            yield {"choices": [choice]} | ({"usage": usage} if counted else {})
        told = {"prompt_tokens": len(body["prompt"]), "completion_tokens": len(tokens)}
        yield {"choices": [], "usage": told}


@contextmanager
def serving(model: Any, tokenizer: Any) -> Iterator[StandIn]:
    """The server, on a free port of this machine."""
    stand_in = StandIn(model, tokenizer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            stand_in.asked.append(body | {"path": self.path})
            stand_in.headers.append(dict(self.headers))
            if stand_in.fails is not None:
                status, message = stand_in.fails
                self._answer(status, {"error": {"message": message, "type": "x", "code": status}})
            elif body.get("stream"):
                self._stream(body)
            else:
                assert (body["max_tokens"], body["return_tokens_as_token_ids"]) == (1, True)
                assert len(body["logprob_token_ids"]) <= 128
                choices = [
                    {"index": index, "text": "", "logprobs": stand_in.scored(prompt, body["logprob_token_ids"])}
                    for index, prompt in enumerate(body["prompt"])
                ]
                self._answer(200, {"choices": choices[::-1]})

        def _answer(self, status: int, document: dict[str, Any]) -> None:
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _stream(self, body: dict[str, Any]) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            self.close_connection = True
            try:
                for number, event in enumerate(stand_in.events(body)):
                    if number == stand_in.breaks_after:
                        return
                    self._event(event)
                    while stand_in.holds.is_set():
                        self._event({"choices": [{"index": 0, "text": "x", "finish_reason": None}]})
                self.wfile.write(b"data: [DONE]\n\n")
            except OSError:
                stand_in.left.set()

        def _event(self, event: dict[str, Any]) -> None:
            self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
            self.wfile.flush()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stand_in.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        stand_in.holds.clear()
        server.shutdown()
        server.server_close()
        thread.join()
