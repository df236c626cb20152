"""Put a finished adapter on a base, answer with it, take it off again."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from shopfit.adapter.bundle import Bundle
from shopfit.base.load import Base
from shopfit.errors import BaseError

_OPAQUE = "a000"  # PEFT matches adapter names by substring, so a name never carries meaning


@dataclass(frozen=True, slots=True)
class Worn:
    """A base with at most one adapter on it.

    Args:
        model: the causal language model.
        peft: PEFT's model around it for prefix tuning, else None.
        prefix_length: virtual tokens before every row.
    """

    model: Any
    peft: Any = None
    prefix_length: int = 0

    def prefix(self, rows: int) -> Any:
        """The cache that stands before each of `rows` rows, or None."""
        return None if self.peft is None else self.peft.get_prompt(batch_size=rows)


def check_base(bundle: Bundle, base: Base) -> None:
    """Refuse an adapter that was trained on another base.

    Raises:
        BaseError: saying both fingerprints.
    """
    wanted = bundle.manifest.base
    if wanted.fingerprint != base.fingerprint:
        raise BaseError(
            f"the adapter {bundle.manifest.merchant}/{bundle.manifest.recipe} was trained on {wanted.name} "
            f"with fingerprint {wanted.fingerprint}, "
            f"but the base loaded is {base.name} with fingerprint {base.fingerprint}",
            next_step="load the base it was trained on, or train the adapter again on this one",
        )


@contextmanager
def wearing(base: Base, bundle: Bundle | None) -> Iterator[Worn]:
    """The base with the bundle's adapter on it, for as long as the context lasts; the bare base for None.

    Raises:
        BaseError: if the adapter belongs to another base.
    """
    if bundle is None:
        yield Worn(base.model)
        return
    from peft import PeftModel

    check_base(bundle, base)
    if bundle.lora is None:
        peft = PeftModel.from_pretrained(base.model, bundle.native, adapter_name=_OPAQUE)
        peft.eval()
        yield Worn(base.model, peft, int(peft.peft_config[_OPAQUE].num_virtual_tokens))
        return
    peft = PeftModel.from_pretrained(
        base.model, bundle.lora, adapter_name=_OPAQUE, autocast_adapter_dtype=base.quantization != "none"
    )
    try:
        peft.eval()
        yield Worn(peft.get_base_model())
    finally:
        peft.unload()
        base.model.__dict__.pop("peft_config", None)
