"""Answers by themselves: their parts, their lines, and their form as JSON."""

import json

from shopfit.documents import document
from shopfit.tasks.choose import ChooseAnswer
from shopfit.tasks.embeddings import EmbedAnswer, EmbedRequest
from shopfit.tasks.generate import GenerateAnswer, TextPart, WrittenToken
from shopfit.tasks.rank_answers import RankAnswer, RankedItem, RankRequest, RecommendedItem

TOKENS = [WrittenToken("a", -0.5, (("a", -0.5), ("b", -1.0))), WrittenToken("b", -2.0)]


def test_parts_of_a_text_are_texts_that_join() -> None:
    parts = [TextPart("a", TOKENS[:1]), TextPart(""), TextPart("b", TOKENS[1:])]
    joined = TextPart.joined(parts)
    assert isinstance(joined, TextPart)
    assert (joined, joined.tokens) == ("ab", tuple(TOKENS))
    assert json.dumps(document(joined)) == '"ab"'
    assert type(TextPart.joined(["a", "b"])) is str
    assert TextPart.joined(["a", "b"]) == "ab"


def test_what_an_answer_took_is_in_its_document_alone() -> None:
    taken = {"version": "acme/r@1", "digest": "d", "read": 7, "written": 2, "waited": 0.25}
    answers = [
        ChooseAnswer("a", {"a": 0.75, "b": 0.25}, **taken),
        RankAnswer((RankedItem("t", "Tent", -1.5, 0.75, 4),), **taken),
        GenerateAnswer.of("ab", "stop", tuple(TOKENS)),
        EmbedAnswer((0.6, 0.8)),
    ]
    assert [answer.lines for answer in answers] == [
        [" 75.0%  a", " 25.0%  b"],
        [" -1.500  Tent  (t)"],
        ["ab"],
        ["0.600000 0.800000"],
    ]
    for answer in answers[:2]:
        assert {name: document(answer)[name] for name in taken} == taken
    assert document(answers[1])["items"] == [{"id": "t", "title": "Tent", "score": -1.5, "share": 0.75, "place": 4}]
    assert document(answers[2])["tokens"][0] == {"text": "a", "logprob": -0.5, "top": [["a", -0.5], ["b", -1.0]]}
    assert document(answers[3])["vector"] == [0.6, 0.8]
    assert document(RecommendedItem("t", "Tent", 1.0, 1.0, 0, {"bm25": 2.0}))["reasons"] == {"bm25": 2.0}


def test_options_are_the_fields_that_one_kind_of_request_has() -> None:
    assert EmbedRequest.options() == ["text"]
    assert RankRequest.options() == ["candidates", "top", "documents"]
    assert EmbedRequest("acme/r", text="x").fields == {}
