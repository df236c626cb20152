"""A run as its page shows it, made of nothing but its folder."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from shopfit.runs import Event, Run, State
from shopfit.runs.folder import Asked
from shopfit.serve.console.wording import Wording

_MOST_POINTS = 600
_TELLS = frozenset({"stage", "begin", "step", "epoch"})
_PART = re.compile(r"(\d+) of (\d+): step (\d+) of (\d+), loss [^,]+, (\d+) s left at most$")  # as `Heartbeat` says it
_UNDER_WAY: frozenset[State] = frozenset({"queued", "running"})
_AGAIN: frozenset[State] = frozenset({"stopped", "failed", "lost"})


@dataclass(frozen=True, slots=True)
class Stage:
    """A resolved choice or a finished stage.

    Args:
        at: when.
        what: in a word or two.
        detail: in a line.
        seconds: until the next one; None for the last.
    """

    at: datetime
    what: str
    detail: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Now:
    """What a run is at, while it is not in the training that makes its adapter.

    Args:
        what: the stage.
        detail: of it.
        part: of the trainings on parts of the examples, the one under way; 0 if there is none.
        parts: how many there are.
        step: of that training.
        steps: of it.
        left: seconds that it still takes at most; None if nobody can tell.
    """

    what: str
    detail: str
    part: int = 0
    parts: int = 0
    step: int = 0
    steps: int = 0
    left: float | None = None

    @property
    def share(self) -> float:
        """How much of all these trainings is done, from 0 to 1."""
        return (self.part - 1 + self.step / self.steps) / self.parts if self.parts and self.steps else 0.0


@dataclass(frozen=True, slots=True)
class RunView:
    """A run.

    Args:
        id: of it.
        asked: what it is to do.
        state: where it stands.
        asked_at: when it was asked for.
        began: when its process began last; None before.
        ended: when it ended; None before.
        turn: how many wait before it; None if it does not wait, or that is not told.
        stages: of the last start.
        steps: of the training that is under way, or was last; 0 before.
        step: the last one done.
        now: what it is at beside that training; None if it is not under way, or in that.
        left: seconds that the training still takes, about; None if nobody can tell yet.
        losses: of steps: numbers and losses.
        epochs: numbers, losses and metrics on what was held out.
        versions: that it registered.
        failure: message, problems and next step, if it failed.
        stopping: whether it was asked to stop and keep the best.
    """

    id: str
    asked: Asked
    state: State
    asked_at: datetime
    began: datetime | None
    ended: datetime | None
    turn: int | None
    stages: list[Stage]
    steps: int
    step: int
    now: Now | None
    left: float | None
    losses: tuple[list[int], list[float]]
    epochs: list[dict[str, Any]]
    versions: list[dict[str, Any]]
    failure: dict[str, Any] | None
    stopping: bool

    @property
    def under_way(self) -> bool:
        """Whether it goes on or waits."""
        return self.state in _UNDER_WAY

    @property
    def may_go_on(self) -> bool:
        """Whether it can be queued again, to go on from what it kept."""
        return self.state in _AGAIN

    @property
    def trains(self) -> bool:
        """Whether its training can be asked to end with its best weights."""
        return self.state == "running" and self.asked.job == "adapter" and 0 < self.step < self.steps

    @property
    def refused(self) -> dict[str, Any] | None:
        """The version that the gate refused, if that is how it ended."""
        last = self.versions[-1] if self.versions else None
        return last if self.state == "refused" and last is not None and "n_train" in last else None

    def chart(self, t: Wording) -> dict[str, Any]:
        """Its losses for `charts.js`, in the reader's words."""
        numbers, losses = self.losses
        return {"x": numbers, "series": [{"name": t("run.loss"), "values": losses}], "x_name": t("run.step")}

    def epoch_chart(self, t: Wording) -> dict[str, Any]:
        """Its epochs for `charts.js`, in the reader's words."""
        series = [{"name": t("run.loss"), "values": [one["train_loss"] for one in self.epochs]}]
        if any(one.get("valid") is not None for one in self.epochs):
            series.append({"name": t("run.held_out"), "values": [one.get("valid") for one in self.epochs]})
        return {"x": [one["epoch"] for one in self.epochs], "series": series, "x_name": t("run.epoch")}


def view_of(run: Run, words: Callable[[str], str], queue: Sequence[str] | None) -> RunView:
    """A run as it is now.

    Args:
        run: that is shown.
        words: makes of what shopfit wrote what the reader may read.
        queue: ids of the runs that wait in its lane; None if they are not told.
    """
    told = [replace(event, facts=_worded(event.facts, words)) for event in run.events]
    state = run.state(told)
    starts = [index for index, event in enumerate(told) if event.kind == "started"]
    latest = told[starts[-1] :] if starts else []
    begins = [index for index, event in enumerate(latest) if event.kind == "begin"]
    training = latest[begins[-1] :] if begins else []
    steps = int(training[0].facts["steps"]) if training else 0
    done = [event for event in training if event.kind == "step"]
    over = next((event for event in latest if event.kind in ("failed", "stopped", "ended")), None)
    now = datetime.now(UTC)
    return RunView(
        id=run.id,
        asked=replace(run.asked, arguments=tuple(map(words, run.asked.arguments)), recipe=words(run.asked.recipe)),
        state=state,
        asked_at=datetime.fromisoformat(run.asked.at),
        began=latest[0].at if latest and state != "queued" else None,
        ended=over.at if over is not None and state not in _UNDER_WAY else None,
        turn=queue.index(run.id) if state == "queued" and queue and run.id in queue else None,
        stages=_stages(latest),
        steps=steps,
        step=int(done[-1].facts["step"]) if done else 0,
        now=_now(latest, now) if state == "running" else None,
        left=_left(training, steps, now) if state == "running" else None,
        losses=_thinned(done),
        epochs=[event.facts for event in training if event.kind == "epoch"],
        versions=[event.facts for event in told if event.kind == "version"],
        failure=over.facts if over is not None and over.kind == "failed" and state == "failed" else None,
        stopping=run.wants_best and state == "running",
    )


def _stages(told: Sequence[Event]) -> list[Stage]:
    found = [event for event in told if event.kind == "stage"]
    following = [*(event.at for event in found[1:]), None][: len(found)]
    return [
        Stage(
            event.at,
            str(event.facts.get("what", "")),
            str(event.facts.get("detail", "")),
            None if after is None else (after - event.at).total_seconds(),
        )
        for event, after in zip(found, following, strict=True)
    ]


def _now(told: Sequence[Event], now: datetime) -> Now | None:
    """What the last line of a run says, if that is of a stage."""
    last = next((event for event in reversed(told) if event.kind in _TELLS), None)
    if last is None or last.kind != "stage":
        return None
    what, detail = str(last.facts.get("what", "")), str(last.facts.get("detail", ""))
    if (said := _PART.search(detail)) is None:
        return Now(what, detail)
    part, parts, step, steps, left = map(int, said.groups())
    return Now(what, detail, part, parts, step, steps, max(0.0, left - (now - last.at).total_seconds()))


def _left(training: Sequence[Event], steps: int, now: datetime) -> float | None:
    """Seconds that are left, by how long the steps so far took; a training that goes on began in its middle."""
    done = [event for event in training if event.kind == "step"]
    if not done or steps <= 0:
        return None
    first, last = done[0], done[-1]
    passed = int(last.facts["step"]) - int(first.facts["step"])
    began = first if passed > 0 else training[0]
    count = passed if passed > 0 else int(last.facts["step"])
    each = (last.at - began.at).total_seconds() / max(1, count)
    return max(0.0, each * (steps - int(last.facts["step"])) - (now - last.at).total_seconds())


def _thinned(done: Sequence[Event]) -> tuple[list[int], list[float]]:
    """The steps of a chart, every second or fifth or so of very many."""
    every = max(1, -(-len(done) // _MOST_POINTS))
    kept = [event for index, event in enumerate(done) if index % every == 0 or index == len(done) - 1]
    return [int(event.facts["step"]) for event in kept], [float(event.facts["loss"]) for event in kept]


def _worded(value: Any, words: Callable[[str], str]) -> Any:
    """Every text in plain JSON as the reader may read it."""
    if isinstance(value, str):
        return words(value)
    if isinstance(value, dict):
        return {name: _worded(one, words) for name, one in value.items()}
    return [_worded(one, words) for one in value] if isinstance(value, list) else value
