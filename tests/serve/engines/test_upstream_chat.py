"""Chats by way of vLLM: it gets the same token ids, is told what ends a turn, and answers as our own engine does."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.base.chats import chat_base
from tests.engine.conftest import TEMPLATES, quick_bundle, quick_bundle_on
from tests.serve.engines.vllm_stand_in import serving

from shopfit.adapter.bundle import Bundle
from shopfit.base.load import Base, load_base
from shopfit.engine import ChooseRequest, Engine, GenerateRequest, RateRequest
from shopfit.errors import BaseError, RequestError
from shopfit.registry import Registry
from shopfit.serve.engines.upstream import UpstreamEngine
from shopfit.settings import Settings

__all__ = ["quick_bundle", "quick_bundle_on"]


@pytest.fixture
def base(tmp_path: Path, home: Path) -> Base:
    return load_base(str(chat_base(tmp_path / "chats")), home)


def test_chats_are_answered_as_our_own_engine_does(
    base: Base, settings: Settings, quick_bundle: Callable[..., Bundle]
) -> None:
    tasks = ("choose", "rate", "generate")
    review, need = {"text": "lovely crema"}, {"input": "keep <|im_end|> warm"}
    with Registry.open(settings) as registry, serving(base.model, base.tokenizer) as server:
        names = {}
        for task in tasks:
            chat = {"template": TEMPLATES[task], "format": "chat", "system": "You know coffee."}
            bundle = quick_bundle("acme", recipe=task, task=task, scale=0.0, prompt=chat)
            names[task] = registry.publish(bundle, promote=True, actor="ada").name
        requests = [
            ChooseRequest(names["choose"], review),
            RateRequest(names["rate"], review),
            GenerateRequest(names["generate"], need),
        ]
        asked = {"registry": registry, "settings": settings, "quantization": "none", "encoder": None, "queue": 4}
        with UpstreamEngine.load(server.url, base.name, **asked) as upstream:
            chosen, rated, written = [upstream.submit(request).result() for request in requests]
            for schema, why in (
                ({"type": "object"}, None),
                ({"enum": ["bag", "bags"]}, "a turn of acme/generate@1 ends"),
            ):
                bound = upstream.submit(GenerateRequest(names["generate"], need, json_schema=schema)).exception()
                assert (bound is None) if why is None else (isinstance(bound, RequestError) and why in bound.message)
        with Engine(base, registry=registry, cache=settings.cache) as engine:
            ours = engine.answer(requests)
        end = base.tokenizer.convert_tokens_to_ids("<|im_end|>")
        writing = next(one for one in server.asked if one.get("stream"))
        assert any(end in one.get("logprob_token_ids", []) for one in server.asked)  # an answer's turn ends
        assert writing["stop_token_ids"] == [end]
        assert writing["prompt"].count(end) == 2  # of the system's turn and the user's, not of the text
        template = Path(base.folder) / "chat_template.jinja"
        template.write_text(template.read_text().replace("assistant", "model"))
        with UpstreamEngine.load(server.url, base.name, **asked) as changed:
            assert isinstance(changed.submit(requests[0]).exception(), BaseError)
    assert chosen.probabilities == pytest.approx(ours[0].probabilities, abs=1e-5)
    assert rated.score == pytest.approx(ours[1].score, abs=1e-4)
    assert (written.text, written.finish, written.read) == (ours[2].text, ours[2].finish, ours[2].read)
