"""What can go wrong, one class a kind of user mistake.

ShopfitError                 any of them; `exit_code` is what the command line returns, `http_status` what HTTP answers
├── RecipeError              a recipe file or a `--set` override
├── DataError                a merchant's folder, examples or catalog
├── BaseError                a base that is missing, altered, or not the one an adapter was trained on
├── BundleError              a bundle on disk that is incomplete or edited
├── UnknownReference         a reference such as `acme/review-sentiment@7` that is malformed or names nothing
│   ├── UnknownVersion       a reference to an adapter that is there, and to no version of it
│   ├── UnknownMerchant      a merchant of whom the registry has nothing, or what is no merchant's name
│   ├── UnknownRelease       a canary or shadow that an adapter does not have
│   └── UnknownCatalog       a catalog that a merchant does not have
├── UnknownAnswer            an answer that a merchant was never given
├── RegistryError            the registry does not allow something, or cannot do it
│   └── RegistryUnavailable  its database or its blob store cannot be reached, read or written
├── KeyRefused               an API key that is malformed, unknown, expired or revoked
├── ScopeMissing             an API key that may not do this
├── RequestError             a request to an engine that it cannot answer
├── LimitExceeded            a merchant that has used up what it may have in this time
├── Overloaded               an engine that has as many requests as it may hold
├── EngineEnded              an engine that was closed, or whose thread or process has ended
└── DeadlineExceeded         a request whose time was up before its answer
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Self

_LONGEST = 4096  # characters of a line: as long as a path may be


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake, in one line.

    Args:
        where: file and line, key path, or row.
        what: the value seen and what is wrong with it.
        allowed: what would be accepted; empty if `what` says it.
    """

    where: str
    what: str
    allowed: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f" (allowed: {self.allowed})" if self.allowed else "")


def _line(text: str) -> str:
    """A text, without the middle if somebody's path or value makes it endless."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST * 3 // 4]} … {text[-_LONGEST // 4 :]}"


class ShopfitError(Exception):
    """A mistake the user can mend. `cure` says what mends its kind, `next_step` what mends this one.

    Args:
        message: what is wrong and where, in one line.
        problems: every single mistake, all at once.
        next_step: what to do now, as an instruction.
    """

    exit_code = 2
    http_status: ClassVar[int] = 500
    cure: ClassVar[str] = "Do what the line that begins with `Next:` says."
    shown_problems = 20
    _more: ClassVar[tuple[str, ...]] = ()

    def __init__(self, message: str, *, problems: Sequence[Problem] = (), next_step: str = "") -> None:
        super().__init__(_line(message))
        self.message = _line(message)
        self.problems = tuple(problems)
        self.next_step = next_step

    @property
    def lines(self) -> list[str]:
        """The message, a line a problem, and the next step; each is one line to whoever shows it."""
        lines = [self.message]
        lines += [_line(f"  {problem}") for problem in self.problems[: self.shown_problems]]
        if (more := len(self.problems) - self.shown_problems) > 0:
            lines.append(f"  … and {more} more")
        if self.next_step:
            lines.append(f"Next: {self.next_step}")
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def document(self) -> dict[str, Any]:
        """It as JSON: message, kind (the name of its class), problems, next step, and what its class has besides."""
        problems = [asdict(problem) for problem in self.problems]
        known = {"message": self.message, "kind": type(self).__name__, "problems": problems, "next": self.next_step}
        return known | {name: getattr(self, name) for name in self._more}

    @staticmethod
    def from_document(document: Mapping[str, Any]) -> "ShopfitError":
        """The error that another process made a document of, of its class; of ShopfitError if there is no such class.

        Args:
            document: as `document` makes it.
        """
        return _KINDS.get(str(document["kind"]), ShopfitError)._of(document)

    @classmethod
    def _of(cls, document: Mapping[str, Any]) -> Self:
        problems = [Problem(**problem) for problem in document["problems"]]
        more = {name: document[name] for name in cls._more}
        return cls(document["message"], problems=problems, next_step=document["next"], **more)


class RecipeError(ShopfitError):
    """A recipe file or an override is not valid."""

    cure = (
        "Correct each line that is named, then run `shopfit recipe validate` on the file. `shopfit recipe "
        "show` prints every key."
    )


class Diverged(ShopfitError):  # noqa: N818 - reads as what it is
    """A training's numbers are no longer finite."""

    cure = "Train again with a lower `tune.lr`: a tenth is a good try."


class DataError(ShopfitError):
    """A merchant's folder, examples or catalog cannot be used."""

    http_status = 422
    cure = "Correct the rows that are named; `shopfit data check` lists them all, and trains nothing."


class BaseError(ShopfitError):
    """A base is missing, altered, or not the one an adapter was trained on."""

    http_status = 503
    cure = (
        "Run `shopfit base ls` to see what is there and `shopfit base fetch` to bring it. An adapter needs "
        "the base that it was trained on."
    )


class BundleError(ShopfitError):
    """A bundle on disk is incomplete or was edited."""

    http_status = 503
    cure = (
        "Run `shopfit registry verify` to find every damaged version. Put its files back from a backup, roll "
        "back, or train again."
    )


class UnknownReference(ShopfitError):  # noqa: N818 - reads as what it is
    """A reference is malformed or names nothing in the registry."""

    http_status = 404
    cure = (
        "Run `shopfit registry ls`, or ask `GET /v1/models`, to see the names there are. A merchant sees its own alone."
    )


class UnknownVersion(UnknownReference):
    """A reference names an adapter that is there, and no version of it.

    Args:
        message: which, in one line.
        versions: that are there, oldest first: `@1`, or `@2 (refused)`.
        problems: as of any error.
        next_step: what to do now.
    """

    cure = "Take one of the versions that the message lists, or leave `@…` out for the one in production."

    _more = ("versions",)

    def __init__(
        self, message: str, *, versions: Sequence[str], problems: Sequence[Problem] = (), next_step: str = ""
    ) -> None:
        super().__init__(message, problems=problems, next_step=next_step)
        self.versions = tuple(versions)


class UnknownMerchant(UnknownReference):
    """The registry has nothing of a merchant, or a name cannot be one's."""

    cure = "Run `shopfit registry ls` to see the merchants there are. A name is 1-63 of a-z, 0-9 and hyphens."


class UnknownRelease(UnknownReference):
    """An adapter has no such release."""

    cure = "Run `shopfit release ls` to see the canaries and shadows there are."


class UnknownAnswer(ShopfitError):  # noqa: N818 - reads as what it is
    """No answer of such an id was given to the merchant."""

    http_status = 404
    cure = "Send the id from the header `x-shopfit-answer-id` with a key of the merchant that got the answer."


class UnknownCatalog(UnknownReference):
    """A merchant has no catalog in the registry."""

    cure = "Send the whole catalog first: `PUT /v1/merchants/{merchant}/catalog`."


class RegistryError(ShopfitError):
    """The registry does not allow something as it is now, or cannot do it."""

    http_status = 503
    cure = (
        "Do what the message says. `shopfit registry show` tells the state of one version, `shopfit registry "
        "audit` who changed it."
    )


class RegistryUnavailable(RegistryError):  # noqa: N818 - reads as what it is
    """The registry's database or its blobs cannot be reached, read or written; the message says where they are."""

    cure = "Bring the database or the blob store back; nothing has to be restarted. The log says which of them it is."


class KeyRefused(ShopfitError):  # noqa: N818 - reads as what it is
    """An API key is not accepted. Whoever presents it learns no more; why is for the platform's logs.

    Args:
        why: what is wrong with it. It is expired or revoked only to who has the whole key.
        key: id of the key that is expired or revoked.
    """

    http_status = 401
    cure = (
        "Send the whole key in one header, `Authorization: Bearer sf_…`, or make another one with `shopfit key create`."
    )

    def __init__(self, why: Literal["malformed", "unknown", "expired", "revoked"], key: str | None = None) -> None:
        super().__init__(
            "this API key is not valid",
            next_step="check that all of it was copied (sf_…), or ask whoever runs the platform for another",
        )
        self.why = why
        self.key = key

    @classmethod
    def _of(cls, document: Mapping[str, Any]) -> Self:  # noqa: ARG003 - why it was refused is told to nobody
        return cls("unknown")


class ScopeMissing(ShopfitError):  # noqa: N818 - reads as what it is
    """An API key is valid, and may not do this."""

    http_status = 403
    cure = (
        "Use a key with the scope that the message names, of this merchant or of the platform: `shopfit key "
        "create --scope`."
    )


class RequestError(ShopfitError):
    """An engine cannot answer this request."""

    http_status = 422
    cure = "Correct each field that is named. The page on HTTP lists what every endpoint takes."


class LimitExceeded(ShopfitError):  # noqa: N818 - reads as what it is
    """A merchant has used up what it may have in this time.

    Args:
        message: which limit it is, in one line.
        retry_after: seconds until there is room again, 0 or more.
        problems: as of any error.
        next_step: what to do now.
    """

    http_status = 429
    cure = "Wait for the seconds in `retry-after`, or raise the limit with `shopfit limit set`."
    _more = ("retry_after",)

    def __init__(
        self, message: str, *, retry_after: float, problems: Sequence[Problem] = (), next_step: str = ""
    ) -> None:
        super().__init__(message, problems=problems, next_step=next_step)
        self.retry_after = retry_after


class Overloaded(ShopfitError):  # noqa: N818 - reads as what it is
    """An engine has as many requests as it may hold."""

    http_status = 503
    cure = "Send it again after the seconds in `retry-after`. If it comes often, add machines or raise `--queue`."


class EngineEnded(ShopfitError):  # noqa: N818 - reads as what it is
    """An engine was closed, or its serving thread or its process has ended: the same request may be sent again."""

    http_status = 503
    cure = "Send the same request again: the engine is started anew. If it comes often, see whether memory ran out."


class DeadlineExceeded(ShopfitError, TimeoutError):  # noqa: N818 - reads as what it is
    """A request's time was up before it was answered."""

    http_status = 504
    cure = "Ask for less at once, or give answers more time: `--timeout` of `shopfit serve`."


_KINDS: dict[str, type[ShopfitError]] = {
    name: kind for name, kind in list(globals().items()) if isinstance(kind, type) and issubclass(kind, ShopfitError)
}
