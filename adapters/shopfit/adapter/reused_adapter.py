"""PEFT's layers of one adapter, put on a base and taken off it again for many trainings: making them takes longer."""

from typing import Any

import torch

from shopfit.adapter.head import Head
from shopfit.adapter.initial_weights import Start
from shopfit.adapter.layer_lock import turns_of
from shopfit.adapter.trainable import MARKS, TrainableAdapter, replace_layers
from shopfit.methods.method import ADAPTER, Beginning, Factors


class ReusedAdapter(TrainableAdapter):
    """LoRA's layers, with the weights of whichever adapter was put on last.

    Args:
        adapter: fresh from `attach`, without a start; it is taken off its base.
    """

    def __init__(self, adapter: TrainableAdapter) -> None:
        super().__init__(adapter.base, adapter._method, adapter.peft, adapter._training)
        with adapter.detached_on_error():
            self.trunk = adapter.trunk
            self._layers: dict[str, Any] = {
                name: layer for name, layer in self.model.named_modules() if ADAPTER in getattr(layer, "lora_A", ())
            }
            self._first = {name: (down.clone(), up.clone()) for name, (down, up) in self.factors().items()}
            model = self.base.model.__dict__
            self._marks = {name: model[name] for name in MARKS if name in model}
            self.scale: float = next(iter(self._layers.values())).scaling[ADAPTER]
        self.detach()

    def factors(self) -> Factors:
        """Each layer's A (r, in) and B (out, r), without the scale."""
        return {
            name: (layer.lora_A[ADAPTER].weight.detach(), layer.lora_B[ADAPTER].weight.detach())
            for name, layer in self._layers.items()
        }

    def begin(self, start: Start) -> None:
        """Put the layers on the base, with the weights that a training begins with; if that fails, it is bare.

        Raises:
            BaseError: if the base is not free.
        """
        self.put_on(self._first)
        with self.detached_on_error():
            if start.factors is not None:
                self._method.initialise(self.peft, Beginning(self.base, (0,), start.factors))

    def put_on(self, factors: Factors, head: Head | None = None) -> None:
        """Put the layers on the base, with these weights; if that fails, it is bare.

        Args:
            factors: of each layer; ranks beyond the adapter's own are left out.
            head: of the adapter.

        Raises:
            BaseError: if the base is not free.
        """
        self._training = turns_of(self.base.model).train(self.base.name)
        self._on_base = True
        with self.detached_on_error(), torch.no_grad():
            replace_layers(self.base.model, self._layers)
            self.base.model.__dict__.update(self._marks)
            for name, (down, up) in self.factors().items():
                down.copy_(factors[name][0][: len(down)])
                up.copy_(factors[name][1][:, : up.shape[1]])
            self.prototypes = None
            if head is not None:
                self.train_head(head)

    def detach(self) -> None:
        """Take the layers off, if they are on; the base is as it was before."""
        if not self._on_base:
            return
        self._on_base = False
        replace_layers(self.base.model, {name: layer.get_base_layer() for name, layer in self._layers.items()})
        for name in self._marks:
            self.base.model.__dict__.pop(name, None)
        self.base.model.eval()
        self._training.end()
