"""The base that a vLLM server serves: what adapters for it must be, read from its files."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from shopfit.base.checkpoint import Checkpoint
from shopfit.base.fingerprint import identify
from shopfit.base.folder import reason
from shopfit.base.tensor_files import Piece
from shopfit.errors import BaseError, Problem

_PREFIX = "base_model.model."  # PEFT's, before the name of a layer
_MOST_SHOWN = 20


@dataclass(frozen=True, slots=True)
class ServedBase:
    """A base by its files.

    Args:
        fingerprints: those that bundles may name it by.
        shapes: of its tensors, by name.
    """

    fingerprints: frozenset[str]
    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def read(cls, name: str) -> "ServedBase":
        """Read a base; all of its weights are hashed, about a second for each gigabyte.

        Args:
            name: what vLLM was told to serve: a folder, or a Hub id that is in the local cache.

        Raises:
            BaseError: if its files are not here, or are damaged.
        """
        checkpoint = Checkpoint.open(_folder(name))
        identity = identify(checkpoint)
        return cls(
            frozenset({identity.fingerprint, identity.legacy} - {""}),
            {piece.name: piece.shape for piece in checkpoint.pieces},
        )

    def layer_problems(self, weights: Iterable[Piece], rank: int) -> list[Problem]:
        """Why LoRA weights do not fit this base; empty if they do.

        vLLM ignores weights of a layer that it does not find, and answers with the bare base.

        Args:
            weights: the tensors of an `adapter_model.safetensors`.
            rank: that each of them must have.
        """
        layers: dict[str, dict[str, tuple[int, ...]]] = {}
        problems = []
        for piece in weights:
            layer, found, part = piece.name.removesuffix(".weight").rpartition(".lora_")
            if (
                not found
                or part not in {"A", "B"}
                or not layer.startswith(_PREFIX)
                or not piece.name.endswith(".weight")
            ):
                problems.append(Problem(ascii(piece.name[:200]), "is no weight of LoRA"))
            else:
                layers.setdefault(layer.removeprefix(_PREFIX), {})[part] = piece.shape
        if not layers:
            problems.append(Problem("its weights", "change no layer"))
        for layer, parts in sorted(layers.items()):
            if what := self._layer_problem(layer, parts, rank):
                problems.append(Problem(ascii(layer[:200]), what))
        return problems[:_MOST_SHOWN]

    def _layer_problem(self, layer: str, parts: Mapping[str, tuple[int, ...]], rank: int) -> str:
        down, up = parts.get("A", ()), parts.get("B", ())
        if len(down) != 2 or len(up) != 2 or down[0] != rank or up[1] != rank:
            return f"has shapes {down} and {up}, which are not those of rank {rank}"
        # transformers' class for an architecture may put one name before those in the files, as GPT-2's `transformer.`
        names = (f"{layer}.weight", f"{layer.partition('.')[2]}.weight")
        shape = next((self.shapes[name] for name in names if name in self.shapes), None)
        if shape is None:
            return "is no layer of the base"
        if shape not in {(up[0], down[1]), (down[1], up[0])}:  # GPT-2 keeps its weights transposed
            return f"changes {up[0]} x {down[1]} numbers, the base has {' x '.join(map(str, shape))}"
        return ""


def _folder(name: str) -> Path:
    if Path(name).is_dir():
        return Path(name)
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, local_files_only=True))
    except Exception as error:  # not there, no Hub id, or no such library: whatever it is, adapters cannot be checked
        raise BaseError(
            f"the files of the base {name!r:.200} are not here: {reason(error)}",
            next_step="serve a local folder, or a Hub id that was downloaded before",
        ) from error
