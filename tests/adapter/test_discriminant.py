"""The head in closed form: its scores are log densities of Gaussians around each label's mean."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor
from torch.nn.functional import normalize

from shopfit.adapter.discriminant import SPREAD, WORDS, discriminant, worth_of_words
from shopfit.adapter.head import Head, read_head, write_head
from shopfit.errors import BundleError

SIZE, LABELS = 6, 3


def drawn(counts: list[int], seed: int = 0) -> tuple[Tensor, list[int], Tensor]:
    """Vectors of length 1 around each label's words, their labels, and the words."""
    generator = torch.Generator().manual_seed(seed)
    words = normalize(torch.randn(LABELS, SIZE, generator=generator), dim=-1)
    classes = [label for label, count in enumerate(counts) for _ in range(count)]
    noise = torch.randn(len(classes), SIZE, generator=generator)
    return normalize(words[classes] + 0.3 * noise, dim=-1), classes, words


def test_scores_differ_as_log_densities_do() -> None:
    vectors, classes, words = drawn([40, 7, 3])
    weights, biases = discriminant(vectors, classes, words)
    x, told = vectors.double().numpy(), words.double().numpy()
    of = [x[np.array(classes) == label] for label in range(LABELS)]
    middle = np.mean([each.mean(0) for each in of], axis=0)
    centres = [
        (WORDS * (told[label] - told.mean(0)) + (each - middle).sum(0)) / (WORDS + len(each))
        for label, each in enumerate(of)
    ]
    apart = np.concatenate([each - middle - centre for each, centre in zip(of, centres, strict=True)])
    around = (apart**2).sum() / apart.size
    spread = (apart.T @ apart + SPREAD * around * np.eye(SIZE)) / (SPREAD + len(apart))
    texts = normalize(torch.randn(20, SIZE, generator=torch.Generator().manual_seed(9)), dim=-1)
    ours = (texts @ weights.T + biases).double().numpy()
    theirs = np.stack([multivariate_normal(middle + centre, spread).logpdf(texts.numpy()) for centre in centres], 1)
    ours, theirs = ours - ours[:, :1], theirs - theirs[:, :1]
    np.testing.assert_allclose(ours, theirs * (ours[0, 1] / theirs[0, 1]), rtol=1e-4, atol=1e-5)
    assert weights.square().sum().item() == pytest.approx(LABELS, rel=1e-5)


def test_without_examples_the_words_decide() -> None:
    words = torch.eye(LABELS, SIZE)
    weights, biases = discriminant(torch.empty(0, SIZE), [], words)
    assert (words @ weights.T + biases).argmax(1).tolist() == [0, 1, 2]


@pytest.mark.parametrize("counts", [[1, 0, 0], [1, 1, 1], [2, 0, 5]])
def test_few_examples_and_labels_without_any(counts: list[int]) -> None:
    vectors, classes, words = drawn(counts)
    weights, biases = discriminant(vectors, classes, words)
    assert weights.isfinite().all()
    assert biases.isfinite().all()
    assert (vectors @ weights.T + biases).argmax(1).tolist() == classes


def test_equal_texts_under_all_labels_are_no_division_by_zero() -> None:
    text = normalize(torch.ones(1, SIZE), dim=-1)
    weights, biases = discriminant(text.repeat(3, 1), [0, 1, 2], text.repeat(LABELS, 1))
    assert torch.cat((weights.flatten(), biases)).isfinite().all()


def test_many_examples_of_a_label_do_not_make_it_likelier() -> None:
    vectors, classes, words = drawn([5, 5, 5])
    again = vectors[:5].repeat(20, 1)
    alike = discriminant(vectors, classes, words)
    more = discriminant(torch.cat((vectors, again)), [*classes, *[0] * len(again)], words)
    texts = normalize(words.mean(0, keepdim=True) + 0.01 * vectors, dim=-1)
    shares = [(texts @ weights.T + biases).mul(5).softmax(1)[:, 0].mean().item() for weights, biases in (alike, more)]
    assert shares[1] < shares[0] + 0.1


def test_words_that_tell_all_are_worth_more_than_one_example() -> None:
    """Vectors that lie just beside their label's words, with noise in all other directions."""
    generator = torch.Generator().manual_seed(0)
    words = torch.eye(LABELS, 200)
    classes = [label for label in range(LABELS) for _ in range(5)]
    noise = torch.randn(len(classes), 200, generator=generator)
    vectors = normalize(words[classes] + 0.4 * noise, dim=-1)
    assert worth_of_words(vectors, classes, words) == 10
    misleading = words[[1, 2, 0]]
    assert worth_of_words(vectors, classes, misleading) == 1


@pytest.mark.parametrize("counts", [[0, 0, 0], [1, 5, 5], [2, 0, 5]])
def test_words_are_worth_one_example_where_none_can_be_held_out(counts: list[int]) -> None:
    assert worth_of_words(*drawn(counts)) == WORDS


def test_its_file_gives_the_same_scores() -> None:
    vectors, classes, words = drawn([4, 4, 4])
    head = Head(("a", "b", "c"), *discriminant(vectors, classes, words))
    read = read_head(write_head(head), head.labels, "head.safetensors")
    assert torch.equal(read.classes, head.classes)
    plain = Head(head.labels, 3 * head.prototypes)
    cosines = read_head(write_head(plain), head.labels, "head.safetensors").classes
    torch.testing.assert_close(cosines[:, :-1], normalize(head.prototypes, dim=-1))
    assert not cosines[:, -1].any()


@pytest.mark.parametrize("biases", [torch.zeros(2), torch.zeros(3, 1), torch.tensor([0.0, float("nan"), 0.0])])
def test_biases_that_fit_no_label_are_refused(biases: Tensor) -> None:
    head = Head(("a", "b", "c"), torch.eye(3), biases)
    with pytest.raises(BundleError, match=r"head.safetensors holds (no head for the labels a, b, c|rows that are not)"):
        read_head(write_head(head), head.labels, "head.safetensors")
