"""Languages as merchants name them: tags of BCP 47, of which the first part is the language (ISO 639)."""

from functools import cache


@cache
def is_tag(text: str) -> bool:
    """Whether a text is a tag of a language that there is, such as `en` or `zh-Hant-TW`."""
    import langcodes

    try:
        return text.isascii() and langcodes.get(text).is_valid()
    except ValueError:  # LanguageTagError is one
        return False


_ONE = {"nb": "no", "nn": "no", "fil": "tl"}  # names of one language, of which bases and lists of words say either
_ONE |= dict.fromkeys(("yue", "wuu", "nan", "hak"), "zh")  # written as Chinese is


@cache
def language_of(tag: str) -> str:
    """The language of a tag, by its shortest code: `zh` of `zh-Hant-TW`, of `yue` and of `zho`."""
    import langcodes

    standard = langcodes.get(langcodes.standardize_tag(tag, macro=True))
    found = standard.language or tag.lower()
    return _ONE.get(found, found)
