"""Scores of answers under an encoder: the cosine of an answer's vector with that of the question.

A dual encoder (Sentence-BERT, arXiv:1908.10084): questions and answers are separate texts, pooled to vectors of length
1 as the base's profile says, which also says what cosine texts have that have nothing to do with each other. A text is
encoded once, however many questions share it. Answers of `choose` are classes with trained prototypes, if the adapter
has a head.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from shopfit.base.prefix import Prefix
from shopfit.base.profile import PLAIN, Profile
from shopfit.base.scoring.questions import ClassIndex, Question, Text, Tokens
from shopfit.base.scoring.scorer import Floats, Plan, QuestionBatch, Scorer, Trial, cut, keys_of

# score of two equal directions: at the temperature of 0.2 that suits decoders, similarities are then divided by 0.05
_SHARPNESS = 4.0
_TOKENS = 8192  # of a forward that only makes vectors, padding included


@dataclass(frozen=True, slots=True, kw_only=True)
class PairBatch(QuestionBatch):
    """B questions with A answers, laid out for one forward over R texts of T tokens, the longest first.

    Scores are not sums over tokens, so `lengths` are 1.

    Args:
        mask: (R, T) 1 for a token, 0 for padding.
        parts: rows and tokens of each run of texts of similar length; the rows sum to R.
        question: (A, M) rows of each answer's question, the last one repeated where it has fewer than M texts.
        answer: (A,) row of each answer's text, or of its class's prototype.
        classes: whether answers are classes.
        profile: of the base.
    """

    mask: Tensor
    parts: tuple[tuple[int, int], ...]
    question: Tensor
    answer: Tensor
    classes: bool
    profile: Profile

    def forward(self, model: Any, *, classes: Tensor | None = None, prefix: Prefix | None = None) -> Tensor:  # noqa: ARG002 - an encoder takes none
        """(A,) float32 similarity of each answer with the nearest of its question's texts, or its class's score."""
        return self.scores(self._vectors(model).float(), classes)

    def scores(self, vectors: Tensor, classes: Tensor | None) -> Tensor:
        """The same, of (R, D) vectors of the texts."""
        answers = pad(vectors, (0, 1))
        if self.classes:
            assert classes is not None, "an adapter that chooses among classes has learned each"
            answers = classes
        answers = answers[self.answer].unsqueeze(1)  # (A, 1, D + 1)
        near = (vectors[self.question] * answers[..., :-1]).sum(-1) + answers[..., -1]  # (A, M)
        scores: Tensor = _SHARPNESS * self.profile.similarity(near.amax(1))
        return scores

    def prompt_states(self, model: Any, states: Tensor) -> Tensor:
        """(B, D) the pooled states of the question's text, the first one if it has several."""
        firsts = [sum(self.counts[:place]) for place in range(len(self.counts))]
        rows = self.question[firsts, 0]
        pooled: Tensor = reading_of(model).profile.pooling.pool(states[rows], self.mask[rows])
        return pooled

    def row_keys(self, model: Any) -> list[tuple[bytes, int]]:
        """The tokens of each text; none on the plain path, which has an order of its own."""
        return [] if reading_of(model).plain else keys_of(self.mask != 0, self.input_ids)

    def _vectors(self, model: Any) -> Tensor:
        """(R, D) vectors of the texts. On a CPU, where padding costs as much as text, in one forward a part."""
        if self.classes or self.input_ids.device.type != "cpu" or reading_of(model).plain:
            return text_vectors(model, self.input_ids, self.mask)
        vectors, first = [], 0
        for rows, width in self.parts:
            last = first + rows
            vectors.append(text_vectors(model, self.input_ids[first:last, :width], self.mask[first:last, :width]))
            first = last
        return torch.cat(vectors)


def _asked(rows: Mapping[tuple[int, ...], int], question: Question, most: int) -> list[int]:
    """Rows of a question's texts, the last one repeated up to `most`."""
    found = [rows[text] for text in (question.prompt, *question.more)]
    return found + found[-1:] * (most - len(found))


def runs(lengths: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Rows and tokens of each run of texts of similar length.

    Args:
        lengths: of the texts, descending.
    """
    return tuple((len(run), lengths[run[0]]) for run in cut(lengths, len(lengths) * lengths[0], torch.device("cpu")))


def fill_up(texts: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """R texts as (R, T) tokens, padded on the right, and their (R, T) attention mask."""
    width = max(map(len, texts))
    input_ids = torch.full((len(texts), width), pad)
    mask = torch.zeros((len(texts), width), dtype=torch.long)
    for row, tokens in enumerate(texts):
        input_ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    return input_ids, mask


@dataclass(frozen=True, slots=True)
class Reading:
    """How an encoder reads texts. It is kept on the model, so that whoever makes vectors makes the same ones.

    Args:
        profile: of the base.
        plain: whether only texts of one length share a forward, without padding and without a mask: for models whose
            states depend on it. Slower where lengths differ.
    """

    profile: Profile = PLAIN
    plain: bool = False


_READING = "shopfit_reading"  # the attribute of a model


def read_as(model: Any, reading: Reading) -> None:
    """Set how a model reads texts, once it is loaded."""
    setattr(model, _READING, reading)


def reading_of(model: Any) -> Reading:
    """How a model reads texts: in the usual way, pooled by the mean and padded, unless something else was set."""
    found: Reading = getattr(model, _READING, _USUAL)
    return found


_USUAL = Reading()


def text_vectors(model: Any, input_ids: Tensor, mask: Tensor) -> Tensor:
    """(R, D) pooled last hidden states of each text's tokens, of length 1.

    Args:
        model: an encoder of transformers.
        input_ids: (R, T).
        mask: (R, T) 1 for a token, 0 for padding, which is on the right.
    """
    reading = reading_of(model)
    if not reading.plain:
        hidden = model(input_ids=input_ids, attention_mask=mask).last_hidden_state  # (R, T, D)
        return normalize(reading.profile.pooling.pool(hidden, mask), dim=-1)
    lengths = mask.sum(1)
    parts, order = [], []
    for length in sorted(set(lengths.tolist()), reverse=True):
        rows = (lengths == length).nonzero().squeeze(1)
        hidden = model(input_ids=input_ids[rows, :length]).last_hidden_state
        parts.append(normalize(reading.profile.pooling.pool(hidden, mask[rows, :length]), dim=-1))
        order.append(rows)
    return torch.cat(parts)[torch.cat(order).argsort()]


def read_texts(model: Any, texts: Sequence[Tokens], pad: int) -> Tensor:
    """(N, D) float32 vectors of N texts, one or more, in forwards over those of similar length.

    Args:
        model: an encoder of transformers.
        texts: tokens of each.
        pad: padding token id.
    """
    parts, order = [], []
    for batch in cut([len(text) for text in texts], _TOKENS, model.device):
        input_ids, mask = fill_up([texts[place] for place in batch], pad)
        parts.append(text_vectors(model, input_ids.to(model.device), mask.to(model.device)).float())
        order += batch
    return torch.cat(parts)[torch.tensor(order).argsort()]


@dataclass(frozen=True, slots=True)
class DualEncoderScorer(Scorer[Text]):
    """Scores by the cosine of texts' vectors. A row is a text, and its result is its vector.

    Args:
        profile: of the base.
    """

    profile: Profile = PLAIN

    writes_text = False
    peft_task = "FEATURE_EXTRACTION"
    compares_texts = True
    path = "fast"

    @property
    def prompts(self) -> tuple[str, str]:
        """Those of the base's profile."""
        return self.profile.query, self.profile.passage

    def collate(self, questions: Sequence[Question]) -> PairBatch:
        """Make a batch of B questions with each of their texts once. Their answers are all classes, or none is."""
        texts = {text for question in questions for text in (question.prompt, *question.more)}
        answers = [answer for question in questions for answer in question.answers]
        texts |= {answer for answer in answers if not isinstance(answer, ClassIndex)}
        ordered = sorted(texts, key=lambda text: (-len(text), text))
        rows = {text: row for row, text in enumerate(ordered)}
        most = 1 + max(len(question.more) for question in questions)
        of = [_asked(rows, question, most) for question in questions for _ in question.answers]
        classes = [isinstance(answer, ClassIndex) for answer in answers]
        assert all(classes) or not any(classes), "answers are compared with answers of their own kind"
        places = [answer.row if isinstance(answer, ClassIndex) else rows[answer] for answer in answers]
        input_ids, mask = fill_up(ordered, self.pad)
        return PairBatch(
            input_ids=input_ids,
            mask=mask,
            parts=runs([len(text) for text in ordered]),
            question=torch.tensor(of),
            answer=torch.tensor(places),
            lengths=torch.ones(len(of)),
            counts=tuple(len(question.answers) for question in questions),
            classes=all(classes),
            profile=self.profile,
        )

    def plan(
        self, questions: Sequence[Question], *, classes: Floats | None = None, known: Mapping[Tokens, Floats] = {}
    ) -> Plan[Text]:
        """The texts of B questions that must be encoded, each once."""
        comparisons = [_comparison(question, classes, known) for question in questions]
        texts: dict[Tokens, bool] = {}
        for one in comparisons:
            for part in one.asked:
                if isinstance(part, tuple):
                    texts.setdefault(part, one.recurring)
            for part in one.answers:
                if isinstance(part, tuple):
                    texts.setdefault(part, one.recurring_answers)

        def scores(results: Sequence[Floats]) -> list[Floats]:
            found = dict(zip(texts, results, strict=True))
            return [_SHARPNESS * self.profile.similarity(one.nearest(found)) for one in comparisons]

        return Plan([Text(ids, recurring) for ids, recurring in texts.items()], scores)

    def compute(self, model: Any, rows: Sequence[Text], prefix: Prefix | None = None) -> list[Floats]:  # noqa: ARG002 - an encoder takes none
        """(D,) vectors of the texts, of length 1."""
        input_ids, mask = fill_up([row.ids for row in rows], self.pad)
        with torch.inference_mode():
            vectors = text_vectors(model, input_ids.to(model.device), mask.to(model.device))
        return list(vectors.double().cpu().numpy())

    def apart(self, model: Any, row: Text) -> int:
        """On the plain path the text's length, else 0: any texts share a forward."""
        return row.tokens if reading_of(model).plain else 0

    def take_plain_path(self, model: Any) -> bool:
        """Read only texts of one length together from now on; False if that is done already."""
        reading = reading_of(model)
        read_as(model, replace(reading, plain=True))
        return not reading.plain

    def trials(self, model: Any, tokens: Sequence[int]) -> list[Trial]:
        """Texts in a batch, padded or of one length, against each alone, by the model's forward and the pooling."""
        texts = [tokens[:14], tokens[14:17], tokens[17:18], tokens[3:6]]
        rows, mask = (part.to(model.device) for part in fill_up(texts, self.pad))
        pooling, alone = reading_of(model).profile.pooling, []
        for text in texts:
            row = torch.tensor([text], device=model.device)
            alone.append(pooling.pool(model(input_ids=row).last_hidden_state, torch.ones_like(row))[0])
        wanted = normalize(torch.stack(alone).float(), dim=-1)
        return [("vectors of texts side by side", text_vectors(model, rows, mask).float(), wanted)]


@dataclass(frozen=True, slots=True)
class _Comparison:
    """One question and its answers: vectors (D,) where they are known, classes (D + 1,), or texts to encode."""

    asked: Sequence[Floats | Tokens]
    answers: Sequence[Floats | Tokens]
    recurring: bool  # whether the question's texts recur
    recurring_answers: bool

    def nearest(self, found: Mapping[Tokens, Floats]) -> Floats:
        """(A,) cosine of each answer with the nearest of the question's texts, or its class's score."""
        asked, answers = (
            np.stack([found[part] if isinstance(part, tuple) else part for part in parts])
            for parts in (self.asked, self.answers)
        )
        width = asked.shape[1]  # a class has one number more, its bias
        cosines: Floats = (answers[:, :width] @ asked.T).max(1) + answers[:, width:].sum(1)
        return cosines


def _comparison(question: Question, classes: Floats | None, known: Mapping[Tokens, Floats]) -> _Comparison:
    asked: list[Floats | Tokens] = [question.prompt, *question.more]
    if question.recurring:
        asked = [known.get(text, text) for text in (question.prompt, *question.more)]
    answers: list[Floats | Tokens] = []
    for answer in question.answers:
        if isinstance(answer, ClassIndex):
            assert classes is not None, "an adapter that chooses among classes has learned each"
            answers.append(classes[answer.row])
        else:
            answers.append(known.get(answer, answer))
    return _Comparison(asked, answers, question.recurring, question.recurring_answers)
