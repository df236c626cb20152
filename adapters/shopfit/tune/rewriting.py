"""Texts that a model writes anew for the augmentation steps `paraphrase` and `back-translation`, once, before training.

What was written is kept in `<home>/rewrites/<merchant>`, a file a text, under a digest of the text, the model's
fingerprint and the step's settings. So a second run, another seed and another process find it there, and it goes when
the merchant does.
"""

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from shopfit.base.chat_template import ChatFormat
from shopfit.base.checkpoint import Checkpoint
from shopfit.base.encode import PlainTokenizer
from shopfit.base.families import writes
from shopfit.base.fingerprint import identify
from shopfit.base.load import Base, load_pretrained
from shopfit.base.locate import locate_base
from shopfit.errors import RecipeError
from shopfit.merchant.augmentation import Augmentation, texts_of
from shopfit.merchant.examples import Example, content_digest
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.splits import Splits
from shopfit.recipe.augmenting import BackTranslation, Paraphrase, Rewriting, Synonyms
from shopfit.recipe.languages import language_of
from shopfit.recipe.schema import Recipe
from shopfit.settings import rewrites

logger = logging.getLogger(__name__)

_LONGER = 3  # times as long, or as short, as the text: such an output is no rewrite of it
_QUOTES = " \t\r\n\"'\u201c\u201d\u00ab\u00bb"


@dataclass(slots=True)
class RewriteModel:
    """A loaded model that writes texts.

    Args:
        name: as the recipe calls it.
        fingerprint: SHA-256 over all that loading it reads.
        model: of transformers, causal or sequence-to-sequence.
        tokenizer: its own.
    """

    name: str
    fingerprint: str
    model: Any
    tokenizer: Any

    @classmethod
    def load(cls, name: str, home: Path, device: torch.device | str) -> "RewriteModel":
        """Load a model: safetensors only, and no code of its own.

        Args:
            name: packaged base, Hub id or local folder.
            home: shopfit's home folder.
            device: where it goes.

        Raises:
            BaseError: if it is missing, cannot be read, or writes no text.
        """
        from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

        checkpoint = Checkpoint.open(locate_base(name, home))
        kind = writes(name, checkpoint)
        loader = AutoModelForCausalLM if kind == "decoder" else AutoModelForSeq2SeqLM
        model, tokenizer = load_pretrained(name, checkpoint, loader, kind=None, dtype=torch.float32)
        identity = identify(checkpoint).fingerprint
        return cls(name, identity, model.to(device).eval(), tokenizer)

    def write(self, prompt: str, length: int, count: int, temperature: float | None, seed: int) -> list[str]:
        """Texts that answer a prompt. The same ones for the same seed; torch's random state is left as it was.

        Args:
            prompt: what is asked; it goes into the model's chat template if it has one.
            length: tokens of the text that is rewritten; the answer has half as many again at most, and a few.
            count: of texts.
            temperature: of sampling; None for the likeliest words.
            seed: of sampling.
        """
        tokens, device = self._encode(prompt), self.model.device
        sampling = {"do_sample": False} if temperature is None else {"do_sample": True, "temperature": temperature}
        pad = self.tokenizer.pad_token_id
        cuda = [device.index or 0] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda), torch.inference_mode():
            torch.manual_seed(seed)
            written = self.model.generate(
                **tokens,
                **sampling,
                num_return_sequences=count,
                max_new_tokens=length + length // 2 + 8,
                pad_token_id=self.tokenizer.eos_token_id if pad is None else pad,
            )
        start = 0 if self.model.config.is_encoder_decoder else tokens["input_ids"].shape[1]
        return [
            text.strip(_QUOTES) for text in self.tokenizer.batch_decode(written[:, start:], skip_special_tokens=True)
        ]

    def length(self, text: str) -> int:
        """Tokens of a text."""
        return self._plain.count(text)

    @property
    def _plain(self) -> PlainTokenizer:
        return PlainTokenizer.of(self.tokenizer)

    def _encode(self, prompt: str) -> Mapping[str, Any]:
        """What is asked, as plain text; a chat template's control tokens around it are real ones."""
        longest = int(getattr(self.model.config, "max_position_embeddings", 2048))
        chat = ChatFormat.of(self.tokenizer) if getattr(self.tokenizer, "chat_template", None) else None
        tokens = self._plain.fitting(str if chat is None else chat.prompt, prompt, longest, special=chat is None)
        input_ids = torch.tensor([tokens], device=self.model.device)
        return {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}


def ready_to_augment(
    splits: Splits, recipe: Recipe, merchant: Merchant, base: Base, home: Path, reporter: Callable[[str, str], None]
) -> Splits:
    """Everything that augmentation needs before training, checked and prepared.

    Args:
        splits: the merchant's examples.
        recipe: its `data.augment` says what is done.
        merchant: whose they are.
        base: models run on its device.
        home: shopfit's home folder.
        reporter: told what is done.

    Returns:
        the same, the training examples with what models wrote for them.

    Raises:
        RecipeError: if a step cannot be done for this merchant or on this machine.
        BaseError: if a model cannot be used.
    """
    steps, train = recipe.data.augment, splits.train
    if not steps:
        return splits
    Augmentation(recipe)  # finds out what is not installed
    if any(isinstance(step, Synonyms) for step in steps) and language_of(merchant.language) != "en":
        raise RecipeError(
            f"data.augment: synonyms are English, and the language of {merchant.name} is {merchant.language}",
            next_step="take the step synonyms out, or correct `language` in merchant.yaml",
        )
    reporter("augment", ", ".join(f"{step.step} in {step.chance:.0%} of the examples" for step in steps))
    for step in (step for step in steps if isinstance(step, Rewriting)):
        cache = RewriteCache(step, home, merchant.name, base.device)
        train = _rewritten(train, recipe, step, cache, reporter)
    return replace(splits, train=train)


def _rewritten(
    examples: Sequence[Example],
    recipe: Recipe,
    step: Rewriting,
    cache: "RewriteCache",
    reporter: Callable[[str, str], None],
) -> list[Example]:
    """Examples with the texts that one step's model wrote for them."""
    done, fit = [], 0
    for example in examples:
        written = {name: cache.versions(text) for name, text in texts_of(recipe, example.fields).items()}
        fit += sum(map(len, written.values()))
        done.append(replace(example, rewrites={**example.rewrites, step.step: written}))
    reporter(
        "augment",
        f"{step.step} by {step.model}: {fit} texts of use for {len(done)} examples, {cache.found} from before",
    )
    return done


class RewriteCache:
    """The rewrites of one augmentation step: written by its models, and kept on disk.

    Args:
        step: names the models and their settings.
        home: shopfit's home folder.
        merchant: whose texts they are.
        device: where models run.

    Raises:
        BaseError: if a model is missing or cannot be read.
    """

    def __init__(self, step: Rewriting, home: Path, merchant: str, device: torch.device | str) -> None:
        self._step = step
        self._folder = rewrites(home, merchant)
        back = step.back if isinstance(step, BackTranslation) else None
        self._writer = RewriteModel.load(step.model, home, device)
        self._back = self._writer if back in {None, step.model} else RewriteModel.load(str(back), home, device)
        settings = step.model_dump(mode="json", exclude={"chance", "model", "back"})
        self._identity = [settings, self._writer.fingerprint, self._back.fingerprint]
        self.found = 0  # texts whose versions were there already

    def versions(self, text: str) -> list[str]:
        """What the step makes of a text: different from it, from each other, and of about its length; may be empty."""
        digest = content_digest([self._identity, text])
        kept = self._folder / f"{digest}.json"
        written = _read(kept)
        if written is None:
            written = list(self._write(text, seed=int(digest[:8], 16)))
            _keep(kept, written)
        else:
            self.found += 1
        fit = (one for one in written if one.casefold() != text.strip().casefold() and _of_like_length(one, text))
        return list(dict.fromkeys(fit))

    def _write(self, text: str, seed: int) -> Iterator[str]:
        step, model = self._step, self._writer
        match step:
            case BackTranslation():
                asked = _asked(step.prompt, text, step.language, step.through)
                for pivot in model.write(asked, model.length(text), step.versions, step.temperature, seed):
                    asked = _asked(step.prompt, pivot, step.through, step.language)
                    yield from self._back.write(asked, self._back.length(pivot), 1, None, seed) if pivot else ()
            case Paraphrase():
                asked = _asked(step.prompt, text)
                yield from model.write(asked, model.length(text), step.versions, step.temperature, seed)


def _asked(prompt: str, text: str, source: str = "", target: str = "") -> str:
    """A prompt filled in; the text last, so that nothing in it is taken for a placeholder."""
    return prompt.replace("{source}", source).replace("{target}", target).replace("{text}", text)


def _of_like_length(one: str, text: str) -> bool:
    return bool(one) and len(text) / _LONGER <= len(one) <= len(text) * _LONGER


def _read(path: Path) -> list[str] | None:
    """What was kept; None if nothing was, or not all of it."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return kept if isinstance(kept, list) and all(isinstance(one, str) for one in kept) else None


def _keep(path: Path, written: list[str]) -> None:
    """Written whole or not at all; where the disk is full it is not kept, only logged."""
    half = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        half.write_text(json.dumps(written, ensure_ascii=False), encoding="utf-8")
        half.replace(path)
    except OSError as error:
        half.unlink(missing_ok=True)
        logger.warning("what a model wrote could not be kept in %s: %s", path.parent, error)
