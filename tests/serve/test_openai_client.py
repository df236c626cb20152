"""The `openai` package as a client: it finds what it expects, in every shape that it knows."""

import asyncio
import base64
import json
import struct
from typing import Any

import openai
import pytest
from tests.serve.gateways import ServedGateway

WORDS, SENTIMENT = "acme/words", "acme/sentiment"
LONG: Any = {"type": "string", "minLength": 60, "maxLength": 80}
SCHEMA: Any = {
    "type": "object",
    "properties": {"word": {"enum": ["lamp", "bag"]}, "sure": {"type": "boolean"}},
    "required": ["word", "sure"],
    "additionalProperties": False,
}


def as_format(schema: Any) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


def said(text: str) -> Any:
    return [{"role": "user", "content": text}]


def test_it_lists_only_the_models_of_its_key(client: openai.OpenAI) -> None:
    listed = list(client.models.list())
    assert [model.id for model in listed] == ["acme/products", "acme/sentiment", "acme/stars", "acme/words"]
    assert {model.owned_by for model in listed} == {"acme"}
    assert client.models.retrieve(WORDS).id == WORDS
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("rival/words")


def test_a_completion(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=WORDS, prompt="see at night")
    assert answer.object == "text_completion"
    assert answer.model == "acme/words@1"
    assert answer.id.startswith("ans_")
    assert answer.choices[0].finish_reason in {"stop", "length"}
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    raw = client.completions.with_raw_response.create(model=WORDS, prompt="see at night")
    assert raw.headers["x-shopfit-version"] == "acme/words@1"
    assert len(raw.headers["x-shopfit-digest"]) == 64
    assert raw.headers["x-shopfit-answer-id"] == raw.parse().id != answer.id
    assert raw.parse().choices == answer.choices  # greedy, as the recipe says


def test_prompts_and_choices_come_in_their_order(client: openai.OpenAI) -> None:
    def drawn(prompt: Any, n: int) -> list[str]:
        made = client.completions.create(model=WORDS, prompt=prompt, n=n, seed=7, temperature=2.0, max_tokens=12)
        assert [choice.index for choice in made.choices] == list(range(len(made.choices)))
        return [choice.text for choice in made.choices]

    both = drawn(["see at night", "keep warm"], 3)
    assert len(both) == 6
    assert both == drawn("see at night", 3) + drawn("keep warm", 3)
    assert len(set(both[:3])) > 1  # one seed, and yet not thrice the same
    assert drawn("see at night", 8)[:3] == both[:3]


def test_what_stops_an_answer(client: openai.OpenAI) -> None:
    short = client.completions.create(model=WORDS, prompt="keep warm", max_tokens=1)
    assert short.choices[0].finish_reason == "length"
    assert short.usage is not None
    assert short.usage.completion_tokens == 1
    whole = client.completions.create(model=WORDS, prompt="keep warm", max_tokens=40, extra_body={"json_schema": LONG})
    text = whole.choices[0].text
    cut = client.completions.create(
        model=WORDS, prompt="keep warm", max_tokens=40, stop=[text[5:8]], extra_body={"json_schema": LONG}
    )
    assert cut.choices[0].finish_reason == "stop"
    assert cut.choices[0].text == text[: text.index(text[5:8])].rstrip()


def test_a_stream_is_the_whole_answer_in_parts(lenient: openai.OpenAI) -> None:
    options: dict[str, Any] = {
        "model": WORDS,
        "prompt": "keep warm",
        "max_tokens": 64,
        "extra_body": {"json_schema": LONG},
    }
    whole = lenient.completions.create(**options)
    chunks = list(lenient.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text
    assert len(chunks) > 3
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_the_choices_of_a_stream_are_told_apart(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {
        "model": WORDS,
        "messages": said("keep warm"),
        "n": 3,
        "seed": 1,
        "temperature": 1.5,
        "response_format": as_format(LONG),
    }
    whole = client.chat.completions.create(**options, max_completion_tokens=64)
    parts: dict[int, str] = {}
    for chunk in client.chat.completions.create(**options, max_completion_tokens=64, stream=True):
        (choice,) = chunk.choices
        parts[choice.index] = parts.get(choice.index, "") + (choice.delta.content or "")
    assert parts == {choice.index: choice.message.content for choice in whole.choices}


def test_a_chat(client: openai.OpenAI, gateway: ServedGateway) -> None:
    answer = client.chat.completions.create(model=WORDS, messages=said("see at night"))
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content == (
        client.completions.create(model=WORDS, prompt="see at night").choices[0].text
    )
    parts = [{"type": "text", "text": "see at "}, {"type": "text", "text": "night"}]
    same = client.chat.completions.create(model=WORDS, messages=[{"role": "user", "content": parts}])  # type: ignore[list-item,misc]
    assert same.choices[0].message.content == answer.choices[0].message.content
    talk = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "keep warm"}]
    several = client.chat.completions.create(model=WORDS, messages=talk, seed=3, temperature=1.0)  # type: ignore[arg-type]
    one = client.completions.create(model=WORDS, prompt="System: be brief\nUser: keep warm", seed=3, temperature=1.0)
    assert several.choices[0].message.content == one.choices[0].text


def test_the_helper_for_streams_takes_ours(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {
        "model": WORDS,
        "messages": said("see at night"),
        "extra_body": {"json_schema": {"enum": [5]}},
    }
    with client.chat.completions.stream(**options) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert "content.done" in kinds
    assert final.choices[0].message.content == "5"


@pytest.mark.parametrize("response_format", [as_format(SCHEMA), {"type": "json_object"}])
def test_an_answer_follows_its_schema(client: openai.OpenAI, response_format: Any) -> None:
    answer = client.chat.completions.create(
        model=WORDS,
        messages=said("keep warm"),
        response_format=response_format,
        max_tokens=200,
        temperature=1.0,
        seed=1,
    )
    if answer.choices[0].finish_reason == "stop":
        written = json.loads(answer.choices[0].message.content or "")
        assert isinstance(written, dict)
        if response_format["type"] == "json_schema":
            assert written.keys() == {"word", "sure"}
    else:
        assert response_format["type"] == "json_object"  # a random model may not come to its end


def test_log_probabilities_of_a_completion(lenient: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": WORDS, "prompt": "keep warm", "logprobs": 3, "max_tokens": 6}
    shown = lenient.completions.create(**options).choices[0].logprobs
    assert shown is not None
    assert shown.tokens
    assert shown.token_logprobs
    assert shown.top_logprobs
    assert shown.text_offset
    assert len(shown.tokens) == len(shown.token_logprobs) == len(shown.top_logprobs) == len(shown.text_offset)
    for token, logprob, top in zip(shown.tokens, shown.token_logprobs, shown.top_logprobs, strict=True):
        assert logprob <= 0
        assert top[token] == logprob
        assert 3 <= len(top) <= 4 or len(top) < 3  # texts of two tokens may be the same
    parts = [chunk.choices[0].logprobs for chunk in lenient.completions.create(**options, stream=True)]
    together = [part for part in parts if part is not None]
    assert [token for part in together for token in part.tokens or []] == shown.tokens
    assert [place for part in together for place in part.text_offset or []] == shown.text_offset


def test_log_probabilities_of_a_chat(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": WORDS, "messages": said("keep warm"), "max_tokens": 6}
    shown = client.chat.completions.create(**options, logprobs=True, top_logprobs=2).choices[0].logprobs
    assert shown is not None
    assert shown.content
    for token in shown.content:
        assert bytes(token.bytes or []).decode() == token.token
        assert len(token.top_logprobs) == 2
        assert token.top_logprobs[0].logprob >= token.top_logprobs[1].logprob
        assert token.top_logprobs[0].logprob == token.logprob  # greedy
    alone = client.chat.completions.create(**options, logprobs=True).choices[0].logprobs
    assert alone is not None
    assert [token.token for token in alone.content or []] == [token.token for token in shown.content]
    assert all(token.top_logprobs == [] for token in alone.content or [])
    streamed = client.chat.completions.create(**options, logprobs=True, top_logprobs=2, stream=True)
    parts = [chunk.choices[0].logprobs for chunk in streamed]
    assert [token for part in parts if part is not None for token in part.content or []] == shown.content


def test_answers_come_raw_and_streamed_by_the_client(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": WORDS, "messages": said("keep warm")}
    whole = client.chat.completions.create(**options)
    with client.chat.completions.with_streaming_response.create(**options) as response:
        assert response.parse().choices == whole.choices
    with client.models.with_streaming_response.list() as response:
        assert [model.id for model in response.parse()] == [model.id for model in client.models.list()]
    raw = client.models.with_raw_response.retrieve("acme/words@1")
    assert raw.parse().id == "acme/words@1"
    stream = client.chat.completions.with_raw_response.create(stream=True, **options).parse()
    stream.close()  # nobody reads it
    assert client.chat.completions.create(**options).choices == whole.choices


async def _asked(gateway: ServedGateway) -> tuple[Any, list[Any], Any]:
    options: dict[str, Any] = {"model": WORDS, "messages": said("keep warm")}
    async with openai.AsyncOpenAI(
        base_url=f"{gateway.url}/v1", api_key=gateway.keys["acme"], max_retries=0, _strict_response_validation=True
    ) as client:
        whole, stream, vectors = await asyncio.gather(
            client.chat.completions.create(**options),
            client.chat.completions.create(stream=True, **options),
            client.embeddings.create(model=SENTIMENT, input="lovely crema", encoding_format="float"),
        )
        return whole, [chunk async for chunk in stream], vectors


def test_the_async_client(gateway: ServedGateway, lenient: openai.OpenAI) -> None:
    whole, chunks, vectors = asyncio.run(_asked(gateway))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    own = lenient.embeddings.create(model=SENTIMENT, input="lovely crema").data[0].embedding
    assert vectors.data[0].embedding == pytest.approx(own, abs=1e-6)


def test_embeddings(lenient: openai.OpenAI) -> None:
    def vectors(**options: Any) -> list[Any]:
        return [one.embedding for one in lenient.embeddings.create(model=SENTIMENT, **options).data]

    (first,) = vectors(input="lovely crema", encoding_format="float")
    assert sum(number * number for number in first) == pytest.approx(1, abs=1e-4)
    assert vectors(input="lovely crema") == [pytest.approx(first, abs=1e-6)]  # base64 inside
    both = vectors(input=["lovely crema", "arrived cracked"], encoding_format="float")
    assert both[0] == pytest.approx(first, abs=1e-5)
    assert both[1] != pytest.approx(first, abs=1e-2)
    (packed,) = vectors(input="lovely crema", encoding_format="base64")
    assert struct.unpack(f"<{len(first)}f", base64.b64decode(packed)) == pytest.approx(first, abs=1e-6)
    assert vectors(input="lovely crema", dimensions=len(first), encoding_format="float") == [pytest.approx(first)]
    item = vectors(input="lovely crema", encoding_format="float", extra_body={"input_type": "item"})
    assert len(item[0]) == len(first)
    used = lenient.embeddings.create(model=SENTIMENT, input="lovely crema").usage
    assert used.prompt_tokens == used.total_tokens > 0


def test_embeddings_are_of_the_merchants_own_adapter(lenient: openai.OpenAI, gateway: ServedGateway) -> None:
    mine = lenient.embeddings.create(model=SENTIMENT, input="lovely crema").data[0].embedding
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.keys["rival"]) as other:
        theirs = other.embeddings.create(model="rival/sentiment", input="lovely crema").data[0].embedding
    assert theirs != pytest.approx(mine, abs=1e-3)


@pytest.mark.parametrize(
    ("options", "said_of_it"),
    [
        ({"input": [1, 2, 3]}, "token ids are not taken"),
        ({"input": [[1, 2], [3]]}, "token ids are not taken"),
        ({"input": "a", "dimensions": 3}, "dimensions is 3"),
        ({"input": []}, "there are 0 inputs"),
        ({"input": ["a"] * 1025}, "there are 1025 inputs"),
        ({"input": "a", "model": WORDS}, "encoder"),
    ],
)
def test_embeddings_that_are_refused(lenient: openai.OpenAI, options: Any, said_of_it: str) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match=said_of_it):
        lenient.embeddings.create(**({"model": SENTIMENT, "encoding_format": "float"} | options))


def test_errors_are_the_clients_own_classes(gateway: ServedGateway, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.completions.create(model="rival/words", prompt="a")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.UnprocessableEntityError, match="/v1/classify"):
        client.completions.create(model=SENTIMENT, prompt="a")
    with pytest.raises(openai.UnprocessableEntityError, match="gives_nothing"):
        client.completions.create(model=WORDS, prompt="a", extra_body={"gives_nothing": 1})
    with (
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.keys["feedback"], max_retries=0) as other,
        pytest.raises(openai.PermissionDeniedError),
    ):
        other.models.list()
    for key, wanted in (("sf_wrong", openai.AuthenticationError), (gateway.keys["feedback"], openai.NotFoundError)):
        with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as other, pytest.raises(wanted):
            other.completions.create(model=WORDS, prompt="a")


def test_an_error_before_a_stream_is_no_stream(client: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError):
        client.completions.create(model=WORDS, prompt="a", stream=True, extra_body={"json_schema": {"type": "nothing"}})
