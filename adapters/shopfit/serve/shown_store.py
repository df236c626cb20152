"""The files of the log of what was shown: Parquet through fsspec, a folder a merchant and a day."""

import logging
import secrets
from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import groupby
from typing import Any, Literal

from shopfit.errors import ShopfitError
from shopfit.registry import validation
from shopfit.registry.failures import masked
from shopfit.serve.shown_answer import MOST_PLACES, ShownAnswer
from shopfit.settings import expanded

logger = logging.getLogger(__name__)

COLUMNS: Mapping[str, tuple[Literal["time", "text", "integer", "number"], str]] = {
    "at": ("time", "when the answer was sent, in UTC, to the microsecond"),
    "answer": ("text", "its id, the same as in `x-shopfit-answer-id` and in feedback"),
    "recipe": ("text", "the adapter is `merchant/recipe`"),
    "version": ("text", "that answered, such as `acme/review-sentiment@7`"),
    "digest": ("text", "SHA-256 of that version's bundle, in hex"),
    "release": ("text", "why that version: `production`, `canary`, or `named` by number or another alias"),
    "propensity": (
        "number",
        "probability with which that version was chosen: the canary's share, what it leaves to production, or 1",
    ),
    "user": ("text", "pseudonym of the user: 32 hex digits of HMAC-SHA-256; null if the request named none"),
    "question": ("integer", "place of the question in its request, from 0"),
    "kind": ("text", "`choose`, `rank`, `recommend`, `generate` or `rate`; embeddings have no rows"),
    "place": ("integer", f"place in the answer, from 0; the first {MOST_PLACES} of a ranking, 0 otherwise"),
    "item": (
        "text",
        "id of the item that was ranked, its place in the request if texts were, or the label that was chosen; or null",
    ),
    "score": ("number", "of the item, as answered; the label's probability; the number that was rated; or null"),
    "share": ("number", "softmax of an item's score over all that were ranked; or null"),
    "prompt": ("text", "the prompt's fields as JSON, with `--shown-texts`; else null"),
    "text": ("text", "the text that was generated, with `--shown-texts`; else null"),
}
"""The columns of a file, in order: the type of each, and what it holds."""


class ShownStore:
    """Where the log lies. Its calls block.

    Args:
        address: a folder, or a URL that fsspec knows such as `s3://bucket/shown`.

    Raises:
        ShopfitError: if fsspec does not know the URL's protocol, or the package for it is missing.
    """

    def __init__(self, address: str) -> None:
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem

        self.address = masked(address)
        try:
            if "://" in address:
                self._files, root = url_to_fs(address, use_listings_cache=False)
            else:
                self._files, root = LocalFileSystem(), str(expanded(address).absolute())
        except Exception as error:  # each filesystem raises its own classes
            raise ShopfitError(
                f"the log of what was shown cannot be at {self.address!r}: {error}",
                next_step="name a folder or a URL that fsspec knows, and install the package for it",
            ) from error
        self._root = root.rstrip("/")
        self._local = isinstance(self._files, LocalFileSystem)

    def check(self) -> None:
        """Make sure that it can be written, where that is known without writing a file.

        Raises:
            ShopfitError: if its folder cannot be made.
        """
        if not self._local:
            return
        try:
            self._files.makedirs(self._root, exist_ok=True)
        except OSError as error:
            raise ShopfitError(
                f"the log of what was shown cannot be at {self.address!r}: {error.strerror}",
                next_step="name a folder that can be written",
            ) from error

    def write(self, shown: Sequence[ShownAnswer], *, texts: bool) -> list[ShownAnswer]:
        """Write answers, a file a merchant and day.

        Args:
            shown: answers.
            texts: whether the log holds prompts and generated texts.

        Returns:
            those that could not be written.
        """
        failed = []

        def folder(one: ShownAnswer) -> tuple[str, str]:
            return one.merchant, one.day

        for (merchant, day), found in groupby(sorted(shown, key=folder), key=folder):
            group = list(found)
            try:
                self._write(f"{self._root}/merchant={merchant}/day={day}", group, texts)
            except Exception:  # each filesystem raises its own classes
                logger.warning("the log of what was shown cannot be written to %s", self.address, exc_info=True)
                failed += group
        return failed

    def erase(self, merchant: str) -> int:
        """Remove all that it holds of a merchant.

        Returns:
            how many files that were.

        Raises:
            UnknownReference: if that cannot be a merchant's name.
            ShopfitError: if something cannot be removed.
        """
        folder = f"{self._root}/merchant={validation.merchant(merchant)}"
        try:
            files = self._files.find(folder) if self._files.exists(folder) else []
            if files:
                self._files.rm(folder, recursive=True)
        except Exception as error:  # each filesystem raises its own classes
            raise ShopfitError(
                f"the log of {merchant} at {self.address!r} cannot be removed: {error}",
                next_step="mend that, and run the same command again",
            ) from error
        return len(files)

    def _write(self, folder: str, shown: Sequence[ShownAnswer], texts: bool) -> None:
        import pyarrow.parquet

        rows = [row for one in shown for row in one.rows(texts=texts)]
        content = BytesIO()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema()), content, compression="zstd")
        name = f"{shown[0].at:%H%M%S}-{secrets.token_hex(8)}.parquet"
        self._files.makedirs(folder, exist_ok=True)
        if self._local:  # readers leave out names that begin with a dot: no file is seen half-written
            self._files.pipe_file(f"{folder}/.{name}", content.getvalue())
            self._files.mv(f"{folder}/.{name}", f"{folder}/{name}")
        else:
            self._files.pipe_file(f"{folder}/{name}", content.getvalue())


def schema() -> Any:
    """Arrow's schema of the files; `merchant` and `day` are in the names of their folders."""
    import pyarrow

    types = {
        "time": pyarrow.timestamp("us", tz="UTC"),
        "text": pyarrow.string(),
        "integer": pyarrow.int32(),
        "number": pyarrow.float64(),
    }
    return pyarrow.schema([(name, types[kind]) for name, (kind, _) in COLUMNS.items()])
