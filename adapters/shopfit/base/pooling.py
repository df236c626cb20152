"""Pooling: how a text's vector is made of the states of its tokens, as the base's own files ask for it.

These are the files of sentence-transformers (Sentence-BERT, arXiv:1908.10084): `modules.json` names what follows the
model, and the Pooling module's config.json says how it pools, in flags (`pooling_mode_cls_token`) or in newer folders
by name (`pooling_mode`). A base without them is pooled by the mean. Vectors have length 1, whether a Normalize follows
or not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, assert_never, get_args

from shopfit.errors import BaseError

Mode = Literal["cls", "lasttoken", "max", "mean", "mean_sqrt_len_tokens", "weightedmean"]

MODULES = "modules.json"
_USUAL = "1_Pooling"
_FLAGS: Mapping[str, Mode] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}
_AGAIN = "bring the file again"
_OTHER = "use an encoder whose vectors are one pooling of its last hidden states, such as minilm-l6"


@dataclass(frozen=True, slots=True)
class Pooling:
    """How token states become one vector.

    Args:
        mode: as sentence-transformers names it; weightedmean weighs by position (SGPT, arXiv:2202.08904).
        with_prompt: whether the tokens of what is written before a text are pooled, too.
    """

    mode: Mode = "mean"
    with_prompt: bool = True

    def pool(self, states: Any, mask: Any) -> Any:
        """(R, D) vectors, of any length. Tensors are torch's, which whoever only reads files need not have.

        Args:
            states: (R, T, D) last hidden states, padded on the right.
            mask: (R, T) 1 for a token, 0 for padding; a token a row at least.
        """
        if self.mode == "cls":
            return states[:, 0]
        if self.mode == "lasttoken":
            last = (mask.sum(1) - 1)[:, None, None].expand(-1, 1, states.shape[2])
            return states.gather(1, last).squeeze(1)
        shown = mask.unsqueeze(-1).to(states.dtype)  # (R, T, 1)
        match self.mode:
            case "max":
                return states.masked_fill(shown == 0, float("-inf")).amax(1)
            case "mean":
                return (states * shown).sum(1) / shown.sum(1)
            case "mean_sqrt_len_tokens":
                return (states * shown).sum(1) / shown.sum(1).sqrt()
            case "weightedmean":
                places = (mask.cumsum(1) * mask).float()  # (R, T) 1, 2, 3, ...
                shares = (places / places.sum(1, keepdim=True)).to(states.dtype)
                return (states * shares.unsqueeze(-1)).sum(1)
            case _:
                assert_never(self.mode)


MEAN = Pooling()


def saved_pooling(folder: Path, read: Callable[[str], Any]) -> Pooling | None:
    """The pooling that a base's files ask for; None if they say nothing.

    Args:
        folder: of the base, for messages.
        read: content of a JSON file of that folder by its name, None if there is none.

    Raises:
        BaseError: if the files are no modules, or name what is not done here: another module, several poolings.
    """
    modules = read(MODULES)
    name = _USUAL if modules is None else _place(folder / MODULES, modules)
    where = folder / name / "config.json"
    said = read(f"{name}/config.json")
    if said is None:
        if modules is None:
            return None
        raise BaseError(f"{folder / MODULES} names {name!r}, which holds no config.json", next_step=_AGAIN)
    if not isinstance(said, dict):
        raise BaseError(f"{where} is no object", next_step=_AGAIN)
    return Pooling(_mode(where, said), said.get("include_prompt", True) is not False)


def _place(where: Path, modules: Any) -> str:
    """The folder of the Pooling module, if it follows the model and nothing but Normalize follows it."""
    if not isinstance(modules, list) or not all(
        isinstance(each, dict) and isinstance(each.get("type"), str) and isinstance(each.get("path", ""), str)
        for each in modules
    ):
        raise BaseError(f"{where} is no list of modules with their types and paths", next_step=_AGAIN)
    kinds = [each["type"].rpartition(".")[2] for each in modules]
    if others := sorted(set(kinds) - {"Transformer", "Pooling", "Normalize"}):
        raise BaseError(
            f"{where} has {', '.join(others)[:200]} beside the model (allowed: Transformer, Pooling, Normalize)",
            next_step=_OTHER,
        )
    if kinds[:2] != ["Transformer", "Pooling"] or set(kinds[2:]) - {"Normalize"}:
        raise BaseError(
            f"{where} names {', '.join(kinds) or 'nothing'} (allowed: Transformer, Pooling, and maybe Normalize)",
            next_step=_AGAIN,
        )
    model, pooling = (each.get("path", "") for each in modules[:2])
    if model not in {"", "."}:
        raise BaseError(
            f"{where} has the model in {model!r:.200} (allowed: the folder itself)",
            next_step="move the model's files to the folder that holds modules.json, and set its path to an empty text",
        )
    return pooling or _USUAL


def _mode(where: Path, said: Mapping[str, Any]) -> Mode:
    """How a pooling is saved: by name, which counts if there are both, or in flags; the mean if neither is there."""
    named = said.get("pooling_mode")
    if named is not None:
        modes = named if isinstance(named, list) else [named]
    else:
        flags = {key: on for key, on in said.items() if key.startswith("pooling_mode_")}
        if wrong := [key for key, on in flags.items() if not isinstance(on, bool)]:
            raise BaseError(f"{where} has {wrong[0]} {said[wrong[0]]!r:.80} (allowed: true, false)", next_step=_AGAIN)
        modes = [_FLAGS.get(key, key) for key, on in flags.items() if on] or ["mean"]
    if len(modes) == 1 and isinstance(modes[0], str) and (mode := modes[0].lower()) in get_args(Mode):
        return mode  # type: ignore[return-value] # mypy does not narrow by get_args
    allowed = f"one of {', '.join(get_args(Mode))}"
    raise BaseError(f"{where} pools by {' and '.join(map(str, modes))[:200]} (allowed: {allowed})", next_step=_OTHER)
