"""AdaLoRA: LoRA whose ranks start at `init_rank` and are pruned by importance to `rank` on average (arXiv:2303.10512).

PEFT leaves its schedule and its penalty to the caller: both are here.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from shopfit.errors import BundleError
from shopfit.methods.low_rank import DEFAULT_ALPHA, NO_PLAIN_FORM, LowRankMethod, compress, shown
from shopfit.methods.method import ADAPTER
from shopfit.recipe.adapter_section import Adapter

_AVERAGES, _PATTERN = ("ipt", "exp_avg_ipt", "exp_avg_unc"), "rank_pattern"
_EPSILON = 1e-5  # what PEFT adds to the rank it divides by


class AdaLora(LowRankMethod):
    """AdaLoRA. A layer's update is B diag(E) A, and pruning sets values of E to zero."""

    name = "adalora"
    peft_type = "ADALORA"
    parts = "ABE"
    converted = frozenset(
        {"r", "lora_alpha", "init_r", "target_r", "tinit", "tfinal", "deltaT", "beta1", "beta2", "orth_reg_weight"}
        | {"total_step", "rank_pattern"}  # they describe which singular values are left, as the weights do
    )

    def slot_rank(self, settings: Adapter) -> int:
        """`init_rank`: some layers may keep it."""
        return settings.init_rank or settings.rank + max(1, settings.rank // 2)

    def config(self, settings: Adapter, *, total_steps: int, task_type: str) -> Any:
        """PEFT's configuration: nothing is pruned in the first tenth of the steps, nor in the last third."""
        from peft import AdaLoraConfig

        init_rank = self.slot_rank(settings)
        return AdaLoraConfig(
            task_type=task_type,
            init_r=init_rank,
            target_r=settings.rank,
            # PEFT divides by init_r: this keeps the recipe's scale of alpha / rank
            lora_alpha=settings.alpha * init_rank / settings.rank,
            lora_dropout=settings.dropout,
            target_modules=settings.targets,
            total_step=total_steps,
            tinit=total_steps // 10,
            tfinal=total_steps // 3,
            deltaT=max(1, total_steps // 20),
        )

    def initialise_layer(self, layer: Any, down: Tensor, up: Tensor) -> None:
        """Initialise a layer with the product's singular values and vectors."""
        a, b, e = layer.lora_A[ADAPTER], layer.lora_B[ADAPTER], layer.lora_E[ADAPTER]
        scale = layer.scaling[ADAPTER] / (float(layer.ranknum[ADAPTER]) + _EPSILON)
        u, s, v = compress(down, up, len(a))
        a[: len(v)], b[:, : len(s)] = v, u
        e[: len(s), 0] = s / scale

    def plain(
        self,
        parts: Mapping[str, Tensor],
        config: Mapping[str, Any],
        module: str,  # noqa: ARG002 - all modules have one scale
        where: str,
    ) -> tuple[Tensor, Tensor]:
        """Drop pruned singular values, and multiply the others into A."""
        keep = (parts["E"] != 0).squeeze(1)
        return (parts["E"] * parts["A"])[keep], parts["B"][:, keep] * _scale(config, where)

    def ranks(self, peft: Any) -> dict[str, int]:
        """Singular values that are not pruned, of each layer."""
        layers = peft.get_base_model().named_modules()
        found = {name: layer.lora_E[ADAPTER] for name, layer in layers if ADAPTER in getattr(layer, "lora_E", ())}
        return {name: int((values != 0).sum()) for name, values in found.items()}

    def penalty(self, peft: Any) -> Tensor | float:
        """The weighted orthogonality penalty of the singular vectors, which PEFT only adds to its own losses."""
        terms = []
        for name, weight in peft.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                gram = weight @ weight.T if "lora_A" in name else weight.T @ weight
                terms.append((gram - torch.eye(len(gram), device=gram.device)).norm())
        share = float(peft.peft_config[ADAPTER].orth_reg_weight)
        return share * torch.stack(terms).mean()

    def after_step(self, peft: Any, step: int) -> None:
        """Update the importance of every singular value and prune on schedule."""
        config = peft.peft_config[ADAPTER]
        if step == config.total_step - config.tfinal == 1:
            # in a run of one step, PEFT would prune before it has measured any importance
            peft.base_model.rankallocator.update_ipt(peft.base_model.model)
        for name, weight in peft.named_parameters():
            if "lora_" in name and weight.requires_grad and weight.grad is None:
                weight.grad = torch.zeros_like(weight)  # of a layer that this step left out (LayerDrop); PEFT reads all
        peft.base_model.update_and_allocate(step)

    def averages(self, peft: Any) -> dict[str, Tensor]:
        """Importance of each number with its moving averages, and which singular values are left."""
        allocator = peft.base_model.rankallocator
        found = {
            f"{kind}/{name}": value.detach().to("cpu", copy=True)
            for kind in _AVERAGES
            for name, value in getattr(allocator, kind).items()
        }
        pattern = peft.peft_config[ADAPTER].rank_pattern or {}
        return found | {f"{_PATTERN}/{name}": torch.tensor(left) for name, left in pattern.items()}

    def put_averages(self, peft: Any, averages: Mapping[str, Tensor]) -> None:
        """Put back what `averages` returned."""
        allocator, device = peft.base_model.rankallocator, next(peft.parameters()).device
        for kind in _AVERAGES:
            mine = {name.partition("/")[2]: value for name, value in averages.items() if name.startswith(f"{kind}/")}
            setattr(allocator, kind, {name: value.to(device) for name, value in mine.items()})
        names = [name % "lora_E" for name in allocator.name_set]  # in the order of PEFT's own configuration
        pattern = {name: averages[key].tolist() for name in names if (key := f"{_PATTERN}/{name}") in averages}
        peft.peft_config[ADAPTER].rank_pattern = pattern or None

    def settled(self, peft: Any, step: int) -> bool:
        """Ranks are only within the budget after the last pruning."""
        config = peft.peft_config[ADAPTER]
        return bool(step >= config.total_step - config.tfinal)


def _scale(config: Mapping[str, Any], where: str) -> float:
    """The scale of an update, as PEFT computes it."""
    alpha, rank = config.get("lora_alpha", DEFAULT_ALPHA), config.get("init_r", 12)
    if type(rank) is not int or rank < 1 or type(alpha) not in {int, float} or alpha <= 0:
        raise BundleError(
            f"{where} has init_r={shown(rank)} and lora_alpha={shown(alpha)} (allowed: numbers above 0)",
            next_step=NO_PLAIN_FORM,
        )
    return float(alpha) / (rank + _EPSILON)


METHOD = AdaLora()
