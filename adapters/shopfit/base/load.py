"""Load a base: its frozen model, its tokenizer and its fingerprint."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never, get_args

from shopfit.base.checkpoint import Checkpoint
from shopfit.base.families import check_settings, check_weights, kind_of
from shopfit.base.fingerprint import identify
from shopfit.base.folder import reason
from shopfit.base.locate import locate_base, whole_name
from shopfit.base.mapped import MappedFiles
from shopfit.base.own_code import without_own_code
from shopfit.base.packaged import PACKAGED, languages_of
from shopfit.base.quantizing import is_packed, keep_trainable, loading
from shopfit.base.sharding import NEXT, check_shardable, shard
from shopfit.base.text_length import longest_text
from shopfit.base.tokenizer_loading import open_tokenizer
from shopfit.errors import BaseError, Problem
from shopfit.recipe.methods import BaseKind
from shopfit.recipe.schema import Dtype

if TYPE_CHECKING:
    import torch

    from shopfit.base.placement import DeviceMap
    from shopfit.base.scoring.scorer import Scorer

_BESIDES = 1 << 22  # parameters that may be in no file, such as positions and an unused pooler


@dataclass(slots=True)
class Base:
    """A loaded base. Its weights are frozen and shared by every adapter.

    Args:
        name: as in the recipe.
        folder: of its files.
        fingerprint: SHA-256 over everything that loading reads.
        quantization: "none", "int8" or "nf4".
        model: the transformers model (one that writes, or an encoder).
        tokenizer: its tokenizer.
        max_length: most tokens of a text: of a prompt with its answer, or of a prompt alone.
        scorer: of its architecture.
        prefix_shape: of trained keys and values before a row: layers, heads, and dimension of a head; None if it takes
            none.
        legacy_fingerprint: its name in old bundles (docs/explanation/how-a-base-is-read.md); empty if it has none.
        placed: whether a device map says where its modules are.
        sharded: whether processes share its weights out: each of them makes the same forwards.
        rounding: by whom its weights were rounded, if not by bitsandbytes; empty if they were not, or by that.
        languages: that it reads, as tags of BCP 47; empty if nobody says it.
        measured_floor: of an encoder's cosines, where no file says it; it may differ by machine and precision.
    """

    name: str
    folder: Path
    fingerprint: str
    quantization: str
    model: Any
    tokenizer: Any
    max_length: int
    scorer: "Scorer[Any]"
    prefix_shape: tuple[int, int, int] | None = None
    legacy_fingerprint: str = ""
    placed: bool = False
    sharded: bool = False
    rounding: str = ""
    languages: tuple[str, ...] = ()
    measured_floor: float | None = None

    @property
    def device(self) -> "torch.device":
        """The device of the model's weights."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def dtype(self) -> str:
        """The dtype of weights that are not quantized: "float32", "bfloat16" or "float16"."""
        return str(self.model.dtype).removeprefix("torch.")

    @property
    def encoder(self) -> bool:
        """Whether it is an encoder, which generates no text."""
        return not self.scorer.writes_text

    @property
    def kind(self) -> BaseKind:
        """What its files say that it is."""
        return "encoder" if self.encoder else "encoder-decoder" if self.scorer.answers_apart else "decoder"

    def check_prefix_shape(self) -> tuple[int, int, int]:
        """The shape of trained keys and values before a row.

        Raises:
            BaseError: if the base takes none.
        """
        if self.prefix_shape is None:
            raise BaseError(
                f"the base {self.name} takes no trained prefix: not every layer has keys and values of one shape",
                next_step="use adapter.method lora or adalora, or another base, such as smollm2-135m",
            )
        return self.prefix_shape

    def known_by(self, fingerprint: str) -> bool:
        """Whether a fingerprint in a bundle or version, maybe a legacy one, is of this base."""
        return bool(fingerprint) and fingerprint in {self.fingerprint, self.legacy_fingerprint}


def load_base(
    name: str,
    home: Path,
    *,
    quantization: str = "none",
    device: str | None = None,
    dtype: str = "auto",
    device_map: "DeviceMap | None" = None,
    sharded: bool = False,
) -> Base:
    """Load the base called `name`, frozen and in eval mode, and check its scores against its plain forward.

    Args:
        name: as for `locate_base`.
        home: shopfit's home folder.
        quantization: "none", or "int8" / "nf4" by bitsandbytes (arXiv:2208.07339, 2305.14314).
        device: such as "cpu" or "cuda:0"; the first GPU if there is one by default.
        dtype: "float32", "bfloat16" or "float16", of weights that are not quantized; or "auto" (see
            `conversion.dtype_on`).
        device_map: places by the names of modules, as accelerate takes it, or "auto"; in place of `device`. The blocks
            of a decoder that is not quantized may be on several. Such a base serves, and is not trained on.
        sharded: whether the processes of torch's process group share its blocks out (see `sharding`). Such a base is
            trained on, and does not serve.

    Raises:
        BaseError: if the base is missing, damaged, or not supported, or the dtype is unknown.
    """
    if dtype not in {"auto", *get_args(Dtype)}:
        raise BaseError(
            f"a base has no numbers of type {dtype!r:.100} (allowed: auto, {', '.join(get_args(Dtype))})",
            next_step="leave `dtype` out: auto takes what the device computes best in",
        )
    folder, name = locate_base(name, home), whole_name(name)
    try:
        return _load(name, folder, quantization, device, dtype, device_map, sharded)
    except BaseError as error:
        if name not in PACKAGED:
            raise
        raise BaseError(
            error.message, problems=error.problems, next_step=f"remove that folder and run `shopfit base fetch {name}`"
        ) from error


def _load(
    name: str,
    folder: Path,
    quantization: str,
    device: str | None,
    dtype: str,
    device_map: "DeviceMap | None",
    sharded: bool,
) -> Base:
    import torch

    from shopfit.base.conversion import dtype_on
    from shopfit.base.encoder_reading import read_as_saved, settle_floor
    from shopfit.base.int8_layers import ROUNDING, rounds, to_int8
    from shopfit.base.placement import block_devices, spread
    from shopfit.base.prepack import prepack
    from shopfit.base.scoring.architectures import scorers_of
    from shopfit.base.self_test import prefix_shape, proven
    from shopfit.base.vocabulary import check_vocabulary

    checkpoint = Checkpoint.open(folder)
    without_own_code(name, checkpoint)
    kind = kind_of(name, checkpoint)
    if sharded:
        check_shardable(name, kind, quantization)
    identity = identify(checkpoint)
    device = device or ("cuda:0" if torch.cuda.is_available() else "cpu")
    dtype = dtype_on(device, quantization) if dtype == "auto" else dtype
    ours = (quantization, dtype, device, device_map) == ("int8", "float32", "cpu", None)
    ours = ours and not sharded and kind != "encoder-decoder" and rounds(outline(name, checkpoint, kind))
    options: dict[str, Any] = {}
    if quantization != "none" and not ours:
        options = loading(quantization, getattr(torch, dtype), device, device_map, sharded=sharded)
    model, tokenizer = load_pretrained(
        name, checkpoint, loader_of(kind), kind=kind, dtype=getattr(torch, dtype), **options
    )
    if kind == "encoder":
        read_as_saved(model, checkpoint)
    if quantization == "none" and device_map is not None:
        spread(name, model, device_map)
    elif not options and not sharded:
        model.to(device)
    if quantization == "nf4":
        keep_trainable(model)
    model.requires_grad_(False).eval()
    longest = longest_text(name, model, kind)
    check_vocabulary(name, model, tokenizer, encoder=kind == "encoder")
    if sharded:
        shard(name, model, device)
    else:
        release = MappedFiles(checkpoint.weights).release
        if ours:
            to_int8(model, release)
        prepack(model, release)
    measured = settle_floor(model, tokenizer, longest) if kind == "encoder" else None
    quantized = quantization != "none"
    scorer = proven(name, model, scorers_of(name, kind, model, tokenizer), quantized=quantized)
    if block_devices(model) and scorer.path != "fast":
        raise BaseError(
            f"the base {name} is on several devices, and its family is on the plain path (allowed there: one device)",
            next_step="put it on one, in int8 or nf4 if it is too large; or let vLLM serve it",
        )
    if sharded and scorer.path != "fast":
        raise BaseError(f"the base {name} is of a family on the plain path, which is not sharded", next_step=NEXT)
    return Base(
        name=name,
        folder=folder,
        fingerprint=identity.fingerprint,
        quantization=quantization,
        model=model,
        tokenizer=tokenizer,
        max_length=longest,
        scorer=scorer,
        prefix_shape=prefix_shape(name, model, scorer, quantized=quantized),
        legacy_fingerprint=identity.legacy,
        placed=device_map is not None,
        sharded=sharded,
        rounding=ROUNDING if ours else "",
        languages=languages_of(name, checkpoint.profile),
        measured_floor=measured,
    )


def load_pretrained(
    name: str, checkpoint: Checkpoint, loader: Any, *, kind: BaseKind | None, dtype: "torch.dtype", **options: Any
) -> tuple[Any, Any]:
    """Load a model and its tokenizer from the files of a checkpoint and nothing else, without remote code.

    Args:
        name: of the base, for messages.
        checkpoint: its files.
        loader: class of transformers, such as `AutoModel`.
        kind: to check its settings, "decoder", "encoder" or "encoder-decoder"; None if it is neither.
        dtype: of its weights.
        options: for the model's `from_pretrained`: how it is quantized and where it is placed.

    Raises:
        BaseError: if they cannot be loaded, or weights are missing, unexpected or of another shape.
    """
    from transformers import AutoConfig

    from shopfit.base.conversion import convert, dtype_to_read

    plain: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    with checkpoint.alone() as shown, _as_base_error(checkpoint, shown):
        config = AutoConfig.from_pretrained(shown, **plain)
        if kind is not None:
            check_settings(name, kind, config)
        attention = _attention(loader, config)
        empty, mapped = _outline(name, checkpoint, loader, config, attention, dtype), not options
        model, loaded = loader.from_pretrained(
            shown,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are reported below, all together
            attn_implementation=attention,
            dtype=dtype_to_read(empty, checkpoint.pieces, dtype) if mapped else dtype,
            **plain,
            **options,
        )
    with checkpoint.alone() as shown, _as_base_error(checkpoint, shown, "the tokenizer of the base"):
        tokenizer = open_tokenizer(shown)
    check_weights(name, kind, loaded)
    _check_place(name, model)
    files = MappedFiles(checkpoint.weights)
    if mapped:
        convert(model, empty, files.release)
    else:
        files.release_but([*model.parameters(), *model.buffers()])
    _check_finite(name, model, files)
    model.config._name_or_path = model.name_or_path = tokenizer.name_or_path = str(checkpoint.folder)
    return model, tokenizer


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """The tokenizer of a base whose model is elsewhere, from the files of a checkpoint and nothing else.

    Raises:
        BaseError: if it cannot be loaded.
    """
    with checkpoint.alone() as shown, _as_base_error(checkpoint, shown, "the tokenizer of the base"):
        return open_tokenizer(shown)


@contextlib.contextmanager
def _as_base_error(checkpoint: Checkpoint, shown: Path, what: str = "the base") -> Iterator[None]:
    """Whatever a library raises for files that it cannot make sense of, as one error that names the base's folder."""
    try:
        yield
    except BaseError:
        raise
    except BaseException as error:
        # tokenizers panics on some files: Rust's PanicException is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        why = reason(error).replace(str(shown), str(checkpoint.folder))
        raise BaseError(
            f"{what} in {checkpoint.folder} cannot be loaded: {type(error).__name__}: {why}",
            next_step="check that transformers can load that folder",
        ) from error


def _attention(loader: Any, config: Any) -> str:
    """PyTorch's SDPA attention if the model supports it and caps no scores inside of it, else eager."""
    capped = getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None
    supported = getattr(loader._model_mapping[type(config)], "_supports_sdpa", False)
    return "sdpa" if supported and not capped else "eager"


def loader_of(kind: BaseKind) -> Any:
    """transformers' class that loads a kind of base."""
    from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    match kind:
        case "decoder":
            return AutoModelForCausalLM
        case "encoder-decoder":
            return AutoModelForSeq2SeqLM
        case "encoder":
            return AutoModel
        case _:
            assert_never(kind)


def outline(name: str, checkpoint: Checkpoint, kind: BaseKind) -> Any:
    """A base's model without its weights: on the meta device, where they take no memory.

    Args:
        name: of the base, for messages.
        checkpoint: its files.
        kind: "decoder", "encoder" or "encoder-decoder".

    Raises:
        BaseError: if its settings describe no model, one that is refused, or a far larger one than its weights.
    """
    import torch
    from transformers import AutoConfig

    loader = loader_of(kind)
    with checkpoint.alone() as shown, _as_base_error(checkpoint, shown):
        config = AutoConfig.from_pretrained(shown, trust_remote_code=False, local_files_only=True)
        check_settings(name, kind, config)
        return _outline(name, checkpoint, loader, config, _attention(loader, config), torch.float32)


def _outline(name: str, checkpoint: Checkpoint, loader: Any, config: Any, attention: str, dtype: "torch.dtype") -> Any:
    """Refuse a config.json that describes a far larger model than its weights, before memory is allocated for it."""
    import torch

    with torch.device("meta"):
        empty = loader.from_config(config, attn_implementation=attention, dtype=dtype)
    described = sum(part.numel() for part in (*empty.parameters(), *empty.buffers()))
    held = sum(math.prod(piece.shape) for piece in checkpoint.pieces)
    if described > 2 * held + _BESIDES:
        raise BaseError(
            f"the config.json of the base {name} describes a model of {described} numbers, its weights hold {held}",
            next_step="bring weights and config.json again, from one place",
        )
    return empty


def _check_place(name: str, model: Any) -> None:
    if len(places := sorted({str(weight.device) for weight in model.parameters()})) > 1 or "meta" in places:
        raise BaseError(
            f"the device map puts the base {name} on {', '.join(places)} (allowed: one device for a quantized one)",
            next_step="put it on one device, in int8 or nf4 if it is too large; or let vLLM serve it",
        )


def _check_finite(name: str, model: Any, mapped: MappedFiles) -> None:
    import torch

    bad = []
    for key, weight in model.named_parameters():
        if weight.is_floating_point() and weight.numel() and not is_packed(weight):
            if not bool(torch.stack(weight.aminmax()).isfinite().all()):
                bad.append(key)
            mapped.release(weight)
    if bad:
        raise BaseError(
            f"the base {name} has weights that are not finite",
            problems=[Problem(key, "holds NaN or infinity") for key in bad],
            next_step="bring its weights again; with `dtype` float16, use float32 or bfloat16",
        )
