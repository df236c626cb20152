"""A smaller encoder for some languages: the pieces of its vocabulary that texts in them use, and no others.

Most of a multilingual encoder are the vectors of its pieces (96 of 118 million numbers of multilingual-e5-small). What
is kept of the model is kept bit by bit; a text whose pieces are all kept has the very vector that it had
(arXiv:2010.05609).
"""

import itertools
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from shopfit.base.checkpoint import CONFIG, Checkpoint
from shopfit.base.description import describe
from shopfit.base.encode import reader_of
from shopfit.base.encoder_reading import without_pooler
from shopfit.base.families import kind_of
from shopfit.base.folder import copy_terms
from shopfit.base.kept_pieces import kept_pieces
from shopfit.base.load import load_pretrained, load_tokenizer, loader_of
from shopfit.base.locate import locate_base
from shopfit.base.profile import write_profile
from shopfit.base.written_words import spellings, title, upper, words_of
from shopfit.errors import BaseError, ShopfitError
from shopfit.recipe.languages import is_tag, language_of

TOKENS = 31_000
_TYPES = ("Unigram", "WordPiece")
_ASKED = 5_000  # the most frequent words of a language, whose pieces are looked for in the end
_UNKNOWN = 0.001  # share of their pieces that may be unknown beside those that the whole base does not know


@dataclass(frozen=True, slots=True)
class Shrunk:
    """What became of a base.

    Args:
        folder: of the smaller one.
        pieces: of the vocabulary, before and after.
        parameters: numbers of the model, before and after.
    """

    folder: Path
    pieces: tuple[int, int]
    parameters: tuple[int, int]


def shrink(
    name: str,
    home: Path,
    folder: Path,
    *,
    languages: Sequence[str] = (),
    corpus: Iterable[str] = (),
    tokens: int = TOKENS,
    say: Callable[[str], object] = lambda _: None,
) -> Shrunk:
    """Write a smaller base.

    Args:
        name: of an encoder, as for `locate_base`.
        home: shopfit's home folder.
        folder: of the result; must not be there yet, or be empty.
        languages: tags of BCP 47; those with a list of words in the package `wordfreq`.
        corpus: texts whose pieces are all kept.
        tokens: pieces that are kept at most, 1,000 or more; those of the corpus and signs are, even if they are more.
        say: told of each stage.

    Raises:
        BaseError: if the base is no encoder, or its tokenizer is of a kind that is not shrunk.
        ShopfitError: if a language is not known, neither languages nor a corpus are given, `wordfreq` is not installed,
            the folder is not empty, or so few pieces leave letters of a language unknown.
    """
    corpus = list(corpus)
    if not languages and not corpus:
        raise ShopfitError("nothing was given to keep pieces for", next_step="name --languages, or files with --corpus")
    _check(folder, languages, tokens)
    checkpoint = Checkpoint.open(locate_base(name, home))
    if (kind := kind_of(name, checkpoint)) != "encoder":
        raise BaseError(f"the base {name} is of the kind {kind} (allowed: encoder)", next_step="shrink an encoder")
    document = _document(name, checkpoint)
    pieces = _pieces(document)
    tokenizer = load_tokenizer(checkpoint)
    say(f"{name}: reading which of its {len(pieces):,} pieces texts use")
    prompts = (checkpoint.profile.query, checkpoint.profile.passage)
    kept = sorted(kept_pieces(document, tokenizer, pieces, prompts, languages, corpus, tokens))
    places = {old: new for new, old in enumerate(kept)}
    smaller_document = _renumbered(document, places)
    if languages:
        _check_unknown(document, smaller_document, languages)
    say(f"{name}: writing {len(kept):,} of them, and the model")
    model, _ = load_pretrained(name, checkpoint, loader_of("encoder"), kind="encoder", dtype=torch.float32)
    without_pooler(model)
    before = sum(weight.numel() for weight in model.parameters())
    table = model.get_input_embeddings()
    rows = table.weight.detach()[torch.tensor(kept)].clone()
    _check_padding(name, model, table.padding_idx, places)
    smaller = torch.nn.Embedding(len(kept), rows.shape[1], padding_idx=places.get(table.padding_idx), _weight=rows)
    model.set_input_embeddings(smaller)
    model.config.vocab_size = len(kept)
    for key in ("pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id", "mask_token_id"):
        if getattr(model.config, key, None) in places:
            setattr(model.config, key, places[getattr(model.config, key)])
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        ready = Path(temporary) / "ready"
        model.save_pretrained(ready)
        (ready / "tokenizer.json").write_text(json.dumps(smaller_document, ensure_ascii=False), "utf-8")
        _write_settings(checkpoint, ready, places)
        read = {language_of(tag) for tag in languages}
        known = checkpoint.profile.languages
        write_profile(ready, checkpoint.profile, languages=[each for each in known if each in read] or sorted(read))
        (ready / "README.md").write_text(_card(name, checkpoint, languages), "utf-8")
        copy_terms(checkpoint.folder, ready)
        Checkpoint.open(ready)
        if folder.is_dir():
            folder.rmdir()
        ready.rename(folder)
    after = before - table.weight.numel() + rows.numel()
    return Shrunk(folder, (len(pieces), len(kept)), (before, after))


def _check(folder: Path, languages: Sequence[str], tokens: int) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ShopfitError(f"{folder} is there already, and not empty", next_step="name a new folder with --to")
    if unknown := [tag for tag in languages if not is_tag(tag)]:
        raise ShopfitError(f"{', '.join(unknown)[:200]} is no language", next_step="give tags such as zh or en")
    if tokens < 1000:
        raise ShopfitError(f"--tokens is {tokens} (allowed: 1000 or more)", next_step="give more")


def _check_padding(name: str, model: Any, padding: int | None, places: Mapping[int, int]) -> None:
    """Refuse a base whose positions are counted from the number of its padding token, if that changes."""
    counted = any(
        place.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None
        for place, module in model.named_modules()
    )
    if counted and padding is not None and places.get(padding) != padding:
        raise BaseError(
            f"the positions of {name} are counted from its padding token, whose number {padding} would change",
            next_step="shrink another encoder, such as e5-small-multilingual",
        )


def _document(name: str, checkpoint: Checkpoint) -> dict[str, Any]:
    path = checkpoint.files.get("tokenizer.json")
    document: dict[str, Any] = {} if path is None else json.loads(path.read_text("utf-8"))
    kind = document.get("model", {}).get("type", "none")
    if kind not in _TYPES:
        raise BaseError(
            f"the tokenizer of {name} is of the type {kind} (allowed: {', '.join(_TYPES)}, in a tokenizer.json)",
            next_step="shrink another encoder, such as e5-small-multilingual",
        )
    return document


def _pieces(document: Mapping[str, Any]) -> dict[str, int]:
    """Pieces, and their numbers."""
    vocabulary = document["model"]["vocab"]
    if not isinstance(vocabulary, dict):
        vocabulary = {piece: place for place, (piece, _) in enumerate(vocabulary)}
    return vocabulary | {token["content"]: token["id"] for token in document["added_tokens"]}


def _check_unknown(before: Mapping[str, Any], after: Mapping[str, Any], languages: Sequence[str]) -> None:
    """Refuse a vocabulary that does not know the letters of a language."""
    whole, smaller = _unknown_by(before), _unknown_by(after)
    for tag in languages:
        words = [each for word in itertools.islice(words_of(tag), _ASKED) for each in spellings(word, tag)]
        texts = [each for word in words for each in (word, title(word, tag), upper(word, tag))]
        was, would = whole(texts), smaller(texts)
        if would > was + _UNKNOWN:
            raise ShopfitError(
                f"of the pieces of the most frequent words of {tag}, {would:.1%} would be unknown ({was:.1%} are to "
                "the whole base)",
                next_step="give more --tokens, or fewer languages",
            )


def _unknown_by(document: Mapping[str, Any]) -> Callable[[list[str]], float]:
    """What gives the share of a tokenizer's pieces of some texts that are unknown."""
    model, read = document["model"], reader_of(document)
    unknown = model["unk_id"] if model["type"] == "Unigram" else model["vocab"].get(model["unk_token"])

    def share(texts: list[str]) -> float:
        ids = [each for one in read(texts) for each in one]
        return ids.count(unknown) / max(1, len(ids))

    return share


def _renumbered(document: Mapping[str, Any], places: Mapping[int, int]) -> dict[str, Any]:
    """The tokenizer with the pieces that are kept, under their new numbers."""
    model, vocabulary = dict(document["model"]), document["model"]["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {piece: places[place] for piece, place in vocabulary.items() if place in places}
    else:
        model["vocab"] = [pair for place, pair in enumerate(vocabulary) if place in places]
    if isinstance(model.get("unk_id"), int):
        model["unk_id"] = places[model["unk_id"]]
    added = [{**token, "id": places[token["id"]]} for token in document["added_tokens"]]
    behind = _special(document.get("post_processor"), places)
    return {
        **document,
        "model": model,
        "added_tokens": added,
        "post_processor": behind,
        "truncation": None,
        "padding": None,
    }


def _card(name: str, checkpoint: Checkpoint, languages: Sequence[str]) -> str:
    """Whose weights these are, and under which license."""
    terms = describe(name, checkpoint).license
    said = f"---\nlicense: {json.dumps(terms)}\n---\n" if terms else ""
    what = f" for {', '.join(languages)}" if languages else ""
    return f"{said}\nThe encoder {Path(name).name}{what}, by `shopfit base shrink`: its vocabulary has fewer pieces.\n"


def _special(part: Any, places: Mapping[int, int]) -> Any:
    """What is put around a text, with its numbers: `ids` of TemplateProcessing, pairs of the older kinds."""
    if isinstance(part, dict):
        return {
            key: [places[each] for each in value] if key == "ids" else _special(value, places)
            for key, value in part.items()
        }
    if isinstance(part, list):
        if len(part) == 2 and isinstance(part[0], str) and isinstance(part[1], int):
            return [part[0], places[part[1]]]
        return [_special(each, places) for each in part]
    return part


def _write_settings(checkpoint: Checkpoint, ready: Path, places: Mapping[int, int]) -> None:
    """The tokenizer's settings, with the numbers of its control tokens."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if name in checkpoint.files:
            said = json.loads(checkpoint.files[name].read_text("utf-8"))
            if isinstance(known := said.get("added_tokens_decoder"), dict):
                said["added_tokens_decoder"] = {
                    str(places[int(place)]): token for place, token in known.items() if int(place) in places
                }
            (ready / name).write_text(json.dumps(said, ensure_ascii=False), "utf-8")
    assert (ready / CONFIG).is_file()
