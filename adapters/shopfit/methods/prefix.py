"""Prefix tuning: trained keys and values before every row, in every layer (arXiv:2101.00190)."""

from collections.abc import Sequence
from typing import Any

import torch

from shopfit.base.encode import PlainTokenizer
from shopfit.base.load import Base
from shopfit.base.prefix import Prefix, unchanged_by_reading
from shopfit.base.scoring.questions import Question
from shopfit.methods.method import ADAPTER, Beginning, Form, PeftMethod, no_recomputing
from shopfit.recipe.adapter_section import Adapter


class PrefixTuning(PeftMethod):
    """Prefix tuning. The base's layers are never touched."""

    name = "prefix"
    peft_type = "PREFIX_TUNING"
    form = Form.PREFIX
    adds_up = False  # sums of different merchants' prefixes are no useful prefix

    def size_in_words(self, settings: Adapter) -> str:
        """Its number of virtual tokens."""
        return f"{settings.virtual_tokens} virtual tokens"

    def slot_rank(self, settings: Adapter) -> int:  # noqa: ARG002
        """0: it takes no slot."""
        return 0

    def config(self, settings: Adapter, *, total_steps: int, task_type: str) -> Any:  # noqa: ARG002
        """PEFT's configuration."""
        from peft import PrefixTuningConfig

        return PrefixTuningConfig(task_type=task_type, num_virtual_tokens=settings.virtual_tokens)

    def initialise(self, peft: Any, beginning: Beginning) -> None:
        """Initialise with the base's keys and values of the opening, then overwrite the first tokens from the start."""
        prefix = beginning.prefix
        if prefix is None or prefix.shape[3] < peft.peft_config[ADAPTER].num_virtual_tokens:
            _open_with(peft, beginning.base, beginning.opening)
        if prefix is not None:
            with torch.no_grad():
                # (layers, 2, heads, n, dim) back to PEFT's (n, layers * 2 * heads * dim)
                weight = peft.prompt_encoder[ADAPTER].embedding.weight
                rows = prefix.permute(3, 0, 1, 2, 4).flatten(1)[: len(weight)]
                weight[: len(rows)] = rows.to(weight)

    def prefix(self, peft: Any, rows: int) -> Prefix | None:
        """The trained keys and values, repeated for `rows` rows."""
        virtual = int(peft.peft_config[ADAPTER].num_virtual_tokens)
        device = peft.prompt_encoder[ADAPTER].embedding.weight.device
        cache = peft.get_prompt(batch_size=rows)
        return Prefix(
            unchanged_by_reading(cache) if peft.training else cache, torch.full((rows,), virtual, device=device)
        )

    def recompute(self, peft: Any, beginning: Beginning) -> None:
        """Recompute activations behind the prefix.

        transformers takes the cache away from layers that are recomputed, as a layer that is run twice would add to it
        twice. In training nothing is added to a prefix, so layers may keep it. Families whose model takes it away
        itself are found by a trial.
        """
        super().recompute(peft, beginning)
        for layer in _recomputed_layers(peft):
            layer._can_checkpoint_with_cache = True
        base, token = beginning.base, tuple(beginning.opening[:1])
        weight = peft.prompt_encoder[ADAPTER].embedding.weight
        peft.train()
        try:
            batch = base.scorer.collate([Question(token, (token,))]).to(base.device)
            scores = batch.forward(peft.get_base_model(), prefix=self.prefix(peft, 1))
            (slope,) = torch.autograd.grad(scores.sum(), weight)
        except RuntimeError:  # the prefix is not read: shapes do not fit, or there is no gradient
            slope = torch.zeros_like(weight)
        finally:
            peft.eval()
        layers = peft.peft_config[ADAPTER].num_layers
        if not slope.view(len(slope), layers, -1).abs().sum((0, 2)).all():
            raise no_recomputing(base, "it does not read a prefix where activations are recomputed")

    def unload(self, peft: Any) -> None:
        """Let the layers be as transformers has them."""
        for layer in _recomputed_layers(peft):
            layer.__dict__.pop("_can_checkpoint_with_cache", None)


def _recomputed_layers(peft: Any) -> list[Any]:
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [layer for layer in peft.get_base_model().modules() if isinstance(layer, GradientCheckpointingLayer)]


def _open_with(peft: Any, base: Base, tokens: Sequence[int]) -> None:
    """Initialise a prefix with the base's keys and values of these tokens, repeated until there are enough."""
    from peft import initialize_kv_prefix_from_past_key_values

    wanted = peft.peft_config[ADAPTER].num_virtual_tokens
    between = PlainTokenizer.of(base.tokenizer).encode("\n\n", special=False)
    read = list(tokens)
    while len(read) < wanted:
        read += [*between, *tokens]
    with torch.no_grad(), peft.disable_adapter():
        kept = peft(input_ids=torch.tensor([read], device=base.device), use_cache=True).past_key_values
    initialize_kv_prefix_from_past_key_values(peft, past_key_values=kept)


METHOD = PrefixTuning()
