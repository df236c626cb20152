"""A run's folder: what was asked, what happened, its log and its result. Whatever shows a run reads it from there.

run.json       who asked for what, and when
events.jsonl   what happened (`events`)
log.txt        what its process printed
result.json    what a job that answers with a document answered
lock           held by the process that works on it, as long as that lives
stop           there once somebody asked to stop training and keep the best weights
"""

import fcntl
import json
import os
import re
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

from shopfit.errors import Problem, ShopfitError, UnknownReference
from shopfit.recipe.names import is_slug
from shopfit.runs import events
from shopfit.runs.events import Event, Kind
from shopfit.settings import erasing_lock, runs

Job = Literal["adapter", "plan", "label-next", "curve", "compare"]
State = Literal["asked", "queued", "running", "done", "refused", "failed", "stopped", "lost"]
"""asked: not queued yet. lost: its process is gone and said nothing. A stopped, failed or lost one may go on."""
OVER: frozenset[State] = frozenset({"done", "refused", "failed", "stopped", "lost"})
"""Nothing more comes of these by themselves."""
KEPT = 100
"""Runs of one merchant that are kept after their end, the newest."""

_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}", re.ASCII)
_LOOKERS = 10  # tries for a lock that somebody may be looking at
_MOVES: frozenset[Kind] = frozenset({"queued", "started", "failed", "stopped", "ended"})


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody asked for.

    Args:
        job: "adapter" trains; "plan", "label-next", "curve" and "compare" answer with a document.
        merchant: whose run it is.
        recipe: name of a recipe, or its file.
        arguments: further ones of the command of that name.
        actor: who asked.
        at: when, in ISO 8601.
        promotes: whether whoever asked may decide which version answers; else a version is a candidate at most.
    """

    job: Job
    merchant: str
    recipe: str
    arguments: tuple[str, ...]
    actor: str
    at: str
    promotes: bool = True


@dataclass(frozen=True, slots=True)
class Run:
    """A run.

    Args:
        id: of it, which sorts by when it was asked for.
        asked: what it is to do.
        folder: that tells all of it.
    """

    id: str
    asked: Asked
    folder: Path

    @property
    def events(self) -> list[Event]:
        """What happened so far, oldest first."""
        return events.read(self.folder / "events.jsonl")

    def tell(self, kind: Kind, /, **facts: Any) -> None:
        """Add an event.

        Raises:
            ShopfitError: if it cannot be written.
        """
        try:
            events.append(self.folder / "events.jsonl", kind, **facts)
        except OSError as error:
            raise ShopfitError(
                f"the run {self.folder} cannot be written: {error.strerror}",
                next_step="free some space, or let this user write there",
            ) from error

    def state(self, told: Sequence[Event] | None = None) -> State:
        """Where it stands.

        Args:
            told: its events, if they were read before.
        """
        last = next((one for one in reversed(self.events if told is None else told) if one.kind in _MOVES), None)
        if last is None:
            return "asked"
        if last.kind == "started":
            return "running" if self.pid is not None else "lost"
        if last.kind == "ended":
            return "refused" if last.facts.get("refused") else "done"
        return {"queued": "queued", "failed": "failed", "stopped": "stopped"}[last.kind]  # type: ignore[return-value]

    @property
    def pid(self) -> int | None:
        """The process that works on it; None if none does."""
        try:
            with (self.folder / "lock").open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return int(file.read().decode() or "0") or None
                return None
        except (OSError, ValueError):
            return None

    @contextmanager
    def held(self, pid: int = 0) -> Iterator[None]:
        """The run is worked on by this process.

        Args:
            pid: of the one that is to end if the run is stopped; 0 for this one.

        Raises:
            ShopfitError: if another one works on it, or its folder cannot be written.
        """
        taken = ShopfitError(
            f"the run {self.id} of {self.asked.merchant} is under way already", next_step="wait for its end"
        )
        with _alone(lambda: (self.folder / "lock").open("a+b", buffering=0), f"the run {self.folder}", taken) as file:
            with suppress(OSError):  # a full disk: then nobody can signal it, and it goes on
                file.truncate(0)
                file.write(str(pid or os.getpid()).encode())
            try:
                yield
            finally:
                file.truncate(0)  # nobody is to signal a process that has ended

    @property
    def log(self) -> str:
        """What its process printed."""
        try:
            return (self.folder / "log.txt").read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    @property
    def result(self) -> Any:
        """The document that it answered with; None if there is none yet."""
        try:
            return json.loads((self.folder / "result.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return None

    @property
    def wants_best(self) -> bool:
        """Whether somebody asked the training to stop."""
        return (self.folder / "stop").exists()

    def keep_best(self) -> None:
        """Ask the training to stop, keep its best weights, and go on to evaluating them."""
        (self.folder / "stop").touch()

    def interrupt(self) -> bool:
        """Have the process that works on it end as on Ctrl-C, so that it can go on later; whether there was one."""
        pid = self.pid
        if pid is None:
            return False
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        return True


def locked(file: IO[bytes]) -> bool:
    """Lock a file for this process, unless another one has it; those who only look are waited for."""
    for _ in range(_LOOKERS):
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.02)
    return False


def create_run(
    home: Path,
    job: Job,
    merchant: str,
    recipe: str,
    arguments: Sequence[str] = (),
    *,
    actor: str,
    promotes: bool = True,
) -> Run:
    """Make the folder of a new run.

    Of the merchant's runs that are over, the newest `KEPT` stay; older ones are removed, with their logs.

    Args:
        home: SHOPFIT_HOME.
        job: what it is to do.
        merchant: whose it is.
        recipe: name of a recipe, or its file.
        arguments: further ones of the command.
        actor: who asked.
        promotes: whether whoever asked may decide which version answers.

    Raises:
        UnknownReference: if `merchant` cannot be one's name.
        ShopfitError: if it cannot be written, or the merchant is being erased.
    """
    now = datetime.now(UTC)
    asked = Asked(job, _merchant(merchant), recipe, tuple(arguments), actor, now.isoformat(), promotes)
    folder = runs(home, merchant) / f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    try:
        with _not_erasing(home, merchant):
            folder.mkdir(parents=True, mode=0o700)
            (folder / "run.json").write_text(json.dumps(asdict(asked), ensure_ascii=False, indent=2), encoding="utf-8")
    except OSError as error:
        raise ShopfitError(
            f"a run cannot be written to {folder}: {error.strerror}", next_step="free some space, or set SHOPFIT_HOME"
        ) from error
    _forget_old(home, merchant)
    return Run(folder.name, asked, folder)


@contextmanager
def no_new_runs(home: Path, merchant: str) -> Iterator[None]:
    """No run of a merchant is made, on this machine, as long as the context lasts: its files are removed meanwhile.

    Raises:
        ShopfitError: if somebody else removes them already, or the lock cannot be written.
    """
    lock = erasing_lock(home, _merchant(merchant))
    taken = ShopfitError(f"{merchant} is being erased already", next_step="wait for the end of that")
    with _alone(lambda: _opened(lock), str(lock), taken):
        yield


@contextmanager
def _not_erasing(home: Path, merchant: str) -> Iterator[None]:
    """Hold off an erasure for a moment. Raises ShopfitError if one is under way."""
    with _opened(erasing_lock(home, merchant)) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ShopfitError(
                f"{merchant} is being erased", next_step="wait for the end of that, and bring its data again"
            ) from None
        yield


def _opened(lock: Path) -> IO[bytes]:
    """A file to lock, in a folder that may be new."""
    lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return lock.open("a+b")


@contextmanager
def _alone(opens: Callable[[], IO[bytes]], what: str, taken: ShopfitError) -> Iterator[IO[bytes]]:
    """A file is locked for this process as long as the context lasts.

    Raises:
        ShopfitError: `taken` if another process has it, or that `what` cannot be written.
    """
    try:
        file = opens()
    except OSError as error:
        raise ShopfitError(
            f"{what} cannot be written: {error.strerror}", next_step="let this user write there"
        ) from error
    with file:
        if not locked(file):
            raise taken
        yield file


def _forget_old(home: Path, merchant: str) -> None:
    """Remove the oldest of a merchant's runs that are over."""
    if sum(_ID.fullmatch(one.name) is not None for one in _folders(runs(home, merchant))) <= KEPT:
        return
    over = [run for run in all_runs(home, merchant) if run.state() in OVER]
    for run in over[KEPT:]:
        shutil.rmtree(run.folder, ignore_errors=True)


def find_run(home: Path, merchant: str, id_: str) -> Run:
    """A merchant's run.

    Raises:
        UnknownReference: if there is none of that id.
    """
    found = _read(runs(home, _merchant(merchant)) / id_) if _ID.fullmatch(id_) else None
    if found is None:
        raise UnknownReference(
            f"{merchant} has no run of that id", next_step=f"run `shopfit run ls {merchant}` to see those there are"
        )
    return found


def run_in(folder: Path) -> Run:
    """The run in a folder.

    Raises:
        UnknownReference: if there is none.
    """
    found = _read(folder)
    if found is None:
        raise UnknownReference(f"there is no run in {folder}", next_step="give the folder of a run, or leave --run out")
    return found


def all_runs(home: Path, merchant: str | None = None) -> list[Run]:
    """Every run, or those of a merchant; the newest first."""
    folders = [runs(home, _merchant(merchant))] if merchant is not None else _folders(runs(home, ""))
    found = (_read(folder) for one in folders if one.is_dir() for folder in _folders(one) if _ID.fullmatch(folder.name))
    return sorted((run for run in found if run is not None), key=lambda run: run.id, reverse=True)


def _folders(folder: Path) -> list[Path]:
    try:
        return [one for one in folder.iterdir() if not one.name.startswith(".") and one.is_dir()]
    except OSError:
        return []


def _read(folder: Path) -> Run | None:
    try:
        kept = json.loads((folder / "run.json").read_bytes())
        return Run(folder.name, Asked(**kept | {"arguments": tuple(kept["arguments"])}), folder)
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
        return None


def _merchant(name: str) -> str:
    if not is_slug(name):
        raise UnknownReference(
            "this cannot be a merchant's name", problems=[Problem("merchant", repr(name[:80]))], next_step="correct it"
        )
    return name
