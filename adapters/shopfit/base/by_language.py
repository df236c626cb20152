"""Which packaged base reads a merchant's language: `base: auto-language` and `serve.encoder: auto` are settled here."""

from collections.abc import Mapping, Sequence

from shopfit.base.packaged import PACKAGED
from shopfit.recipe.languages import language_of
from shopfit.recipe.methods import BaseKind
from shopfit.recipe.schema import AUTO, AUTO_LANGUAGE, Recipe

_USUAL = "minilm-l6"  # of what was made before there was another


def packaged_for(kind: BaseKind, tag: str) -> str:
    """The name of the smallest packaged base of a kind that reads a language; where none does, of the one that reads
    most languages.

    Args:
        kind: "encoder" or "decoder".
        tag: of the language, in BCP 47.
    """
    bases = [base for base in PACKAGED.values() if base.kind == kind]  # each reads more than those before it
    language = language_of(tag)
    return next((base for base in bases if language in base.languages), bases[-1]).name


def settled(recipe: Recipe, tag: str) -> Recipe:
    """A recipe whose base and encoder are named, for texts in a language.

    Args:
        recipe: whose base may be `auto-language`, and whose `serve.encoder` may be `auto`.
        tag: of the language, in BCP 47.
    """
    base, language = recipe.base, language_of(tag)
    if base == AUTO_LANGUAGE:
        named = {language_of(known): name for known, name in recipe.bases.items()}
        base = named.get(language) or packaged_for("decoder" if recipe.spec.written else "encoder", tag)
    encoder = packaged_for("encoder", tag) if recipe.serve.encoder == AUTO else recipe.serve.encoder
    serve = recipe.serve.model_copy(update={"encoder": encoder})
    return recipe.model_copy(update={"base": base, "bases": {}, "serve": serve})


def merchants_by_base(recipe: Recipe, languages: Mapping[str, str]) -> dict[str, list[str]]:
    """The bases that a recipe is on for merchants, and whose it is each.

    Args:
        recipe: whose base may be `auto-language`.
        languages: by merchant, the tag of its language.
    """
    found: dict[str, list[str]] = {}
    for name, tag in languages.items():
        found.setdefault(settled(recipe, tag).base, []).append(name)
    return found


def several_bases(found: Mapping[str, Sequence[str]]) -> str:
    """Bases, with the first merchants that each is for, to be shown."""
    return "; ".join(f"{base} for {', '.join(names[:3])}{', …' if names[3:] else ''}" for base, names in found.items())


def encoder_of(recipe: Recipe) -> str:
    """The encoder that search and score fusion of a settled recipe embed with; those of before name none."""
    return usual_encoder(recipe.serve.encoder)


def usual_encoder(name: str) -> str:
    """The encoder that a recipe's `serve.encoder` stands for: where it was never settled, the first that there was."""
    return _USUAL if name == AUTO else name


def cannot_read(base: str, languages: tuple[str, ...], tag: str) -> str:
    """What to say of a base for texts in a language that it does not read; empty if it does, or nobody says it."""
    if not languages or language_of(tag) in map(language_of, languages):
        return ""
    reads = ", ".join(languages[:5]) + (f" and {len(languages) - 5} more" if len(languages) > 5 else "")
    return f"{base} reads {reads}, not {tag}, which merchant.yaml says: expect little of what it answers"


def short_name(encoder: str) -> str:
    """How systems that embed with an encoder are called: `minilm` of minilm-l6; `encoder`, if it is not packaged."""
    return PACKAGED[encoder].short if encoder in PACKAGED else "encoder"
