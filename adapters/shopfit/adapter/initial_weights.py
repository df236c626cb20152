"""Initial weights of an adapter: from scratch, or from other adapters of the same base."""

from dataclasses import dataclass, replace
from typing import assert_never

import torch
from torch import Tensor

from shopfit.adapter.bundle import Bundle, HeldBundle, Manifest
from shopfit.adapter.head import Head
from shopfit.adapter.kernels import check_finite
from shopfit.adapter.weights import Dora, check_prefix, head_of, read_weights
from shopfit.base.load import Base
from shopfit.errors import BundleError
from shopfit.methods import METHODS, Form
from shopfit.methods.method import Factors
from shopfit.recipe.adapter_section import Adapter
from shopfit.recipe.languages import language_of
from shopfit.recipe.schema import Recipe


@dataclass(frozen=True, slots=True)
class Start:
    """Weights to start from: LoRA factors or a prefix, or neither to start from scratch.

    Args:
        name: for messages and manifests, such as `scratch` or `house/review-sentiment@3`.
        factors: plain LoRA by layer name, scale folded into B.
        prefix: (layers, 2, heads, n, dim) keys and values of n virtual tokens.
        head: prototypes of labels, on an encoder.
        offsets: of a prefix that is kept as it is: subtracted from the scores of the labels, in their order; none by
            default.
        labels: those that the weights were trained on.
        languages: of the texts that they were trained on, of a starter.
        kept: whether the weights are used as they are, without training.
        keeps_head: whether a start that is kept keeps its head, too, if that knows all of the merchant's labels;
            otherwise the head is made of the merchant's examples and this one.
    """

    name: str = "scratch"
    factors: Factors | None = None
    prefix: Tensor | None = None
    head: Head | None = None
    offsets: tuple[float, ...] = ()
    labels: frozenset[str] = frozenset()
    languages: frozenset[str] = frozenset()
    kept: bool = False
    keeps_head: bool = False

    @property
    def title(self) -> str:
        """Its name, and whether it is used without training."""
        return f"{self.name} as it is" if self.kept else self.name

    def as_it_is(self, language: str) -> "Start":
        """The same, kept without training. Of the language that it was trained on, its head is worth more than a few
        examples; in another one texts lie otherwise around it.

        Args:
            language: tag of the merchant's, in BCP 47.
        """
        return replace(self, kept=True, keeps_head=language_of(language) in map(language_of, self.languages))

    @property
    def scratch(self) -> bool:
        """Whether there is nothing to start from."""
        return self.factors is None and self.prefix is None


def can_start(manifest: Manifest) -> bool:
    """Whether other adapters can start from the weights of one: not from DoRA's, whose norm scales are no factors."""
    return manifest.plain or METHODS[manifest.method].form is not Form.FACTORS


def start_from(bundle: Bundle | HeldBundle, name: str, base: Base) -> Start:
    """Take the weights of a finished adapter as a start.

    Args:
        bundle: the finished adapter.
        name: its reference.
        base: the base that the new adapter is for.

    Raises:
        BaseError: if it was trained on another base.
        BundleError: if its weights cannot be read, or are not finite, or it is DoRA.
    """
    weights, labels = read_weights(bundle, base), frozenset(bundle.manifest.labels)
    if isinstance(weights, Tensor):
        check_prefix(weights, name)
        return Start(name, prefix=weights, labels=labels)
    if isinstance(weights, Dora):
        raise BundleError(
            f"{name} is DoRA, which scales the base's own outputs: no other adapter can start from that",
            next_step="start from an adapter of LoRA or AdaLoRA, which DoRA can start from too, or set `start: auto`",
        )
    check_finite(weights, torch.float32, name)
    languages = frozenset(bundle.manifest.languages)
    return Start(name, factors=weights, head=head_of(bundle), labels=labels, languages=languages)


def recipe_for(recipe: Recipe, start: Start) -> Recipe:
    """The recipe of what is trained from a start, or of what the start is if it is kept as it is.

    Args:
        recipe: the merchant's.
        start: a prefix that is kept as it is has a length of its own, whatever the recipe's method is.
    """
    if not start.kept or start.prefix is None:
        return recipe
    adapter = Adapter(method="prefix", virtual_tokens=start.prefix.shape[3])
    tune = recipe.tune.model_copy(update={"lr_ratio": 1.0})  # of A and B, which a prefix has not
    return recipe.model_copy(update={"adapter": adapter, "tune": tune})


def start_for(method: str, start: Start) -> Start:
    """The start, or scratch if the method has another form: a prefix cannot start from LoRA factors, nor vice versa."""
    match METHODS[method].form:
        case Form.FACTORS:
            fits = start.factors is not None
        case Form.PREFIX:
            fits = start.prefix is not None
        case other:
            assert_never(other)
    return start if fits else Start()
