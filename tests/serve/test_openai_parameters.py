"""Parameters of OpenAI's API, as its client sends them: honoured, without effect, or refused with what is allowed."""

from typing import Any

import openai
import pytest

WORDS = "acme/words"


def said(text: str) -> Any:
    return [{"role": "user", "content": text}]


REFUSED: list[tuple[str, Any]] = [
    ("frequency_penalty", 2.5),
    ("presence_penalty", -2.1),
    ("logit_bias", {"1": 5}),
    ("logit_bias", {"1": 5, "2": 0}),
    ("logit_bias", {"1": False}),
    ("tools", [{"type": "function", "function": {"name": "f"}}]),
    ("tool_choice", "required"),
    ("functions", [{"name": "f"}]),
    ("modalities", ["text", "audio"]),
    ("audio", {"voice": "alloy", "format": "mp3"}),
    ("reasoning_effort", "high"),
    ("verbosity", "low"),
    ("web_search_options", {}),
    ("temperature", 5.5),
    ("top_p", 0.0),
    ("n", 9),
    ("n", 0),
    ("max_tokens", 0),
    ("max_tokens", -1),
    ("max_completion_tokens", 5000),
    ("top_logprobs", 2),
    ("seed", 2**63),
    ("stop", ["a"] * 65),
    ("stop", [""]),
    ("stream_options", {"include_usage": True}),
    ("messages", []),
    ("messages", [{"role": "user", "content": "a", "name": "two words"}]),
    ("messages", [{"role": "assistant", "content": "a", "tool_calls": [{"id": "1"}]}]),
    ("messages", [{"role": "tool", "content": "a", "tool_call_id": "1"}]),
    ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://a"}}]}]),
    ("response_format", {"type": "json_schema"}),
    ("response_format", {"type": "grammar"}),
]


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_what_cannot_be_honoured_is_refused_by_its_name(client: openai.OpenAI, name: str, value: Any) -> None:
    options = {"model": WORDS, "messages": said("keep warm")} | {name: value}
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.chat.completions.create(**options)
    assert name in str(caught.value)
    assert str(caught.value.param).split(".")[0] in {name, "body"}
    assert caught.value.response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("best_of", 2),
        ("best_of", 0),
        ("echo", True),
        ("suffix", "."),
        ("logprobs", 21),
        ("prompt", [1, 2]),
        ("prompt", ["a"] * 1025),
    ],
)
def test_what_cannot_be_honoured_of_completions(client: openai.OpenAI, name: str, value: Any) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match=name):
        client.completions.create(**({"model": WORDS, "prompt": "keep warm"} | {name: value}))
    same = {"best_of": 1, "echo": False, "suffix": ""} | {name: None}
    client.completions.create(**({"model": WORDS, "max_tokens": 1} | same | {"prompt": "keep warm"}))  # type: ignore[call-overload]


def test_what_changes_nothing_is_taken(client: openai.OpenAI) -> None:
    neutral: dict[str, Any] = {
        "frequency_penalty": 0.0,
        "presence_penalty": 0,
        "logit_bias": {},
        "tools": [],
        "functions": [],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "modalities": ["text"],
        "metadata": {"a": "b"},
        "store": True,
        "service_tier": "auto",
        "safety_identifier": "somebody",
        "prompt_cache_key": "k",
        "reasoning_effort": "none",
        "verbosity": "medium",
        "user": "u1",
        "response_format": {"type": "text"},
        "stop": None,
    }
    plain = client.chat.completions.create(model=WORDS, messages=said("keep warm"))
    same = client.chat.completions.create(model=WORDS, messages=said("keep warm"), **neutral)
    assert same.choices == plain.choices


@pytest.mark.parametrize(
    "neutral",
    [
        {"logit_bias": {"50256": 0}},
        {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "none"},
        {"functions": [{"name": "f"}], "function_call": "none"},
        {"top_logprobs": None, "logprobs": False, "stream_options": None, "seed": None, "n": None, "stop": []},
        {"max_tokens": None, "temperature": None, "top_p": None, "response_format": None, "user": None},
    ],
)
def test_what_has_its_neutral_value_is_taken(client: openai.OpenAI, neutral: Any) -> None:
    plain = client.chat.completions.create(model=WORDS, messages=said("keep warm"))
    same = client.chat.completions.create(model=WORDS, messages=said("keep warm"), **neutral)
    assert same.choices == plain.choices


def test_every_answer_that_is_written_is_returned(client: openai.OpenAI) -> None:
    options: Any = {"model": WORDS, "prompt": "keep warm", "seed": 1, "temperature": 1.0}
    both = client.completions.create(n=2, best_of=2, **options)
    assert both.choices == client.completions.create(n=2, **options).choices
    with pytest.raises(openai.UnprocessableEntityError, match=r"`best_of` is 3 \(allowed: 2"):
        client.completions.create(n=2, best_of=3, **options)


def test_penalties(lenient: openai.OpenAI) -> None:
    options: Any = {"model": WORDS, "prompt": "keep warm", "max_tokens": 40, "temperature": 0}

    def text(**penalties: float) -> str:
        return lenient.completions.create(**options, **penalties).choices[0].text

    assert text() == text(frequency_penalty=0.0, presence_penalty=0.0)
    assert len({text(), text(frequency_penalty=2.0), text(presence_penalty=-2.0)}) == 3
    streamed = lenient.completions.create(frequency_penalty=2.0, stream=True, **options)
    assert "".join(part.choices[0].text for part in streamed) == text(frequency_penalty=2.0)
    chat = lenient.chat.completions.create(
        model=WORDS, messages=said("keep warm"), max_tokens=40, temperature=0, frequency_penalty=2.0
    )
    assert chat.choices[0].message.content == text(frequency_penalty=2.0)


def test_who_speaks(client: openai.OpenAI) -> None:
    def answer(messages: Any) -> str | None:
        return client.chat.completions.create(model=WORDS, messages=messages).choices[0].message.content

    talk = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "keep warm", "name": "anna"}]
    line = "System: be brief\nUser (anna): keep warm"
    assert answer(talk) == client.completions.create(model=WORDS, prompt=line).choices[0].text
    assert answer(talk[1:]) == answer(said("keep warm"))


def test_an_answer_is_taken_back_as_what_was_said(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(model=WORDS, messages=said("keep warm")).choices[0].message
    for back in (first, first.model_dump(), {**first.model_dump(), "annotations": [], "tool_calls": []}):
        talk: Any = [*said("keep warm"), back, *said("see at night")]
        assert client.chat.completions.create(model=WORDS, messages=talk).choices[0].finish_reason
