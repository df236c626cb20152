"""A merchant's folder: who the merchant is, and where its catalog lies."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from shopfit.errors import DataError, Problem
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.catalog_reading import read_catalog
from shopfit.merchant.files import MerchantFile
from shopfit.recipe.languages import is_tag
from shopfit.recipe.mistakes import explain
from shopfit.recipe.names import HOUSE, SLUG, SLUG_RULE
from shopfit.recipe.plain_yaml import LARGEST, KeyPath, dotted, read_content
from shopfit.recipe.schema import Recipe
from shopfit.recipe.shipped import sample_merchants

DESCRIPTION = "merchant.yaml"


_TAG = re.compile(r"[a-zA-Z]{2,3}(-[a-zA-Z0-9]{2,8})*")


def is_language(tag: str) -> bool:
    """Whether a text can be a merchant's language."""
    return _TAG.fullmatch(tag) is not None and is_tag(tag)


def _a_language(tag: str) -> str:
    if not is_language(tag):
        raise ValueError("must be the tag of a language, such as en, zh, de or pt-BR (BCP 47)")
    return tag


class _Description(BaseModel):
    """The content of `merchant.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(pattern=rf"^{SLUG}$", description=f"the merchant's name: {SLUG_RULE}")
    language: Annotated[str, AfterValidator(_a_language)] = Field("en", description="a tag such as en or pt-BR")
    description: str = Field("", description="what the shop sells, in one line")
    share: bool = Field(False, description="whether its examples may warm-start other merchants' adapters")


@dataclass(frozen=True, slots=True, kw_only=True)
class Merchant:
    """A tenant and its data.

    Args:
        name: a slug; need not be the folder's name.
        language: BCP 47 tag of its texts.
        description: what the shop sells, in one line.
        share: whether its examples may warm-start other merchants' adapters.
        folder: holds `merchant.yaml`, the catalog and the example files.
    """

    name: str
    language: str = "en"
    description: str = ""
    share: bool = False
    folder: Path

    @classmethod
    def open(cls, folder: Path) -> "Merchant":
        """The merchant in `folder`.

        Raises:
            DataError: if the folder or its `merchant.yaml` is missing, or with every mistake in it.
        """
        path = folder / DESCRIPTION
        file = MerchantFile(folder, DESCRIPTION)
        if not file.exists():
            missing = (
                f"{folder} has no {DESCRIPTION}"
                if os.path.isdir(folder)  # noqa: PTH112 - False, too, where it may not be looked at
                else f"there is no merchant folder {folder}"
            )
            if os.path.isfile(folder):  # noqa: PTH113 - False, too, where it may not be looked at
                raise DataError(
                    f"{folder} is a file, and a merchant is a folder that holds {DESCRIPTION}",
                    next_step=f"give the folder instead, such as {folder.parent}",
                )
            samples = ", ".join(sample_merchants())
            raise DataError(
                f"{missing} (sample merchants: {samples or 'none'})",
                next_step=f"take a sample, or write {path} with the line `name: <merchant>`; a name is {SLUG_RULE}",
            )
        read, problems = read_content(file.read(LARGEST), path)
        described: _Description | None = None
        if read.readable and not isinstance(read.document, dict):
            problems.append(Problem(str(path), "describes nothing", "keys: name, language, description, share"))
        elif read.readable:

            def where(key: KeyPath) -> str:
                return f"{path}:{read.line(key)} {dotted(key)}".rstrip()

            try:
                described = _Description.model_validate(read.document)
            except ValidationError as error:
                mistakes = explain(error, _Description, read.document, where)
                problems += [mistake.problem for mistake in mistakes if mistake.path not in read.unread]
        if described is not None and described.name == HOUSE:
            problems.append(Problem(f"{path} name", f"{HOUSE!r} is the name that starters are kept under", SLUG_RULE))
        if problems or described is None:
            raise DataError(f"{path} is not valid", problems=problems, next_step="correct the keys named above")
        return cls(**described.model_dump(), folder=folder)

    def file(self, name: str, encoding: str = "utf-8") -> MerchantFile:
        """One of its files, which need not be there; nothing outside the folder can be opened by it."""
        return MerchantFile(self.folder, name, encoding)

    def catalog(self, file: str, recipe: Recipe | None = None) -> Catalog:
        """The catalog in a file of the folder.

        Args:
            file: its path inside the folder.
            recipe: whose `data` section says how its columns are called and written.

        Raises:
            DataError: with every bad row.
        """
        return read_catalog(self.file(file, "utf-8" if recipe is None else recipe.data.encoding), recipe)
