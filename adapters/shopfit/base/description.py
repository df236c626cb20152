"""What a base is, by its files alone: nothing of its weights is loaded, the model is only outlined."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shopfit.base.checkpoint import TEMPLATE, Checkpoint
from shopfit.base.families import kind_of
from shopfit.base.folder import file_in, settings_in
from shopfit.base.load import outline
from shopfit.base.locate import locate_base
from shopfit.base.own_code import without_own_code
from shopfit.base.packaged import PACKAGED, languages_of
from shopfit.base.scoring.architectures import path_of
from shopfit.base.scoring.scorer import ScoringPath
from shopfit.base.text_length import longest_text
from shopfit.errors import BaseError
from shopfit.recipe.methods import BaseKind

_MOST_TEXT = 1 << 20  # bytes read of a README or LICENSE
_BLOCK, _BLOCKS = 64, 256  # of NF4: weights with one scale, and scales with one scale of their own


@dataclass(frozen=True, slots=True)
class Description:
    """What is known of a base before it is loaded.

    Args:
        family: transformers' model_type.
        kind: "decoder" or "encoder".
        path: that it takes unless the proof finds otherwise; see docs/explanation/how-a-base-is-read.md.
        context: most tokens of a text.
        chat_template: whether it has one.
        license: as its files say it; empty if they do not.
        pooling: of an encoder's vectors; empty for a decoder.
        prompts: that an encoder reads before a text that asks, and before one that is found.
        languages: that it reads, as tags of BCP 47; empty if nobody says it.
        parameters: numbers that are learned; tied ones count once.
        memory: bytes that its weights take, by precision.
    """

    family: str
    kind: BaseKind
    path: ScoringPath
    context: int
    chat_template: bool
    license: str
    pooling: str
    prompts: tuple[str, str]
    languages: tuple[str, ...]
    parameters: int
    memory: Mapping[str, int]


def kind_by_files(name: str, home: Path) -> BaseKind:
    """What kind of base a name stands for, by its files alone; of a packaged one, by its name.

    Args:
        name: as for `locate_base`.
        home: shopfit's home folder.

    Raises:
        BaseError: if it is missing, or its family is not supported.
    """
    if name in PACKAGED:
        return PACKAGED[name].kind
    return kind_of(name, Checkpoint.open(locate_base(name, home)))


def describe(name: str, checkpoint: Checkpoint) -> Description:
    """Describe a base.

    Args:
        name: of the base.
        checkpoint: its files.

    Raises:
        BaseError: if it would be refused for its settings or the size of its weights.
    """
    without_own_code(name, checkpoint)
    kind = kind_of(name, checkpoint)
    model = outline(name, checkpoint, kind)
    said = settings_in(checkpoint.folder, "tokenizer_config.json") or {}
    return Description(
        family=str(checkpoint.config["model_type"]),
        kind=kind,
        context=longest_text(name, model, kind),
        chat_template=TEMPLATE in checkpoint.files or bool(said.get("chat_template")),
        license=PACKAGED[name].license if name in PACKAGED else _license(checkpoint.folder),
        path=path_of(kind, model),
        pooling=checkpoint.profile.pooling.mode if kind == "encoder" else "",
        prompts=(checkpoint.profile.query, checkpoint.profile.passage),
        languages=languages_of(name, checkpoint.profile),
        parameters=sum(weight.numel() for weight in model.parameters()),
        memory=_memory(model),
    )


def _memory(model: Any) -> dict[str, int]:
    """Bytes of the weights by precision. Quantized are linear layers, but for the output head, as bitsandbytes does it;
    the rest is float32 then.
    """
    from torch import nn

    head = model.get_output_embeddings()
    layers = [module for module in model.modules() if isinstance(module, nn.Linear) and module is not head]
    linear, rows = sum(layer.weight.numel() for layer in layers), sum(layer.out_features for layer in layers)
    every = sum(weight.numel() for weight in model.parameters())
    rest = 4 * (every - linear)
    scales = linear // _BLOCK
    return {
        "float32": 4 * every,
        "bfloat16": 2 * every,
        "int8": rest + linear + 4 * rows,
        "nf4": rest + linear // 2 + scales + 4 * (scales // _BLOCKS),
    }


def _license(folder: Path) -> str:
    """As the model card's front matter says it (https://huggingface.co/docs/hub/model-cards), else the first line of
    a LICENSE file.
    """
    import yaml

    card = _text(folder, "README.md")
    if card.startswith("---\n") and "\n---" in card[4:]:
        try:
            said = yaml.safe_load(card[4:].partition("\n---")[0])
        except (yaml.YAMLError, RecursionError, ValueError):  # a card that nobody can read says nothing
            said = None
        if isinstance(said, dict) and isinstance(said.get("license"), str | list):
            named = said.get("license_name") if said["license"] == "other" else said["license"]
            return ", ".join(map(str, named)) if isinstance(named, list) else str(named or "other")
    for name in ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING"):
        if line := next((line.strip() for line in _text(folder, name).splitlines() if line.strip()), ""):
            return line[:80]
    return ""


def _text(folder: Path, name: str) -> str:
    try:
        path = file_in(folder, name)
    except BaseError:  # not needed to load: what leads elsewhere is not followed
        return ""
    if path is None:
        return ""
    with path.open("rb") as file:
        return file.read(_MOST_TEXT).decode("utf-8", "replace").replace("\r\n", "\n")
