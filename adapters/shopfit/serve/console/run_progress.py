"""How far a run has come, in the few steps that people follow, read from its folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shopfit.runs import OVER, Event, Run, State, all_runs, lane_of, waiting

Step = Literal["wait", "read", "instant", "train", "measure"]
Mark = Literal["done", "now", "next", "skipped"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come.

    Args:
        run: it.
        state: where it stands.
        steps: what it does, each with its mark.
        before: runs that are done before it, while it waits.
        step: of the training, the one that was last told of; 0 before.
        of: steps of the training; 0 before it.
        epochs: that are over, with their numbers.
        instant: what is told of the version that needed no training; None without.
        trained: the same of the one that was trained; None before.
        failed: what is told of its failure; None without.
        heard: the last stage that it told of.
    """

    run: Run
    state: State
    steps: Sequence[tuple[Step, Mark]]
    before: int
    step: int
    of: int
    epochs: Sequence[dict[str, Any]]
    instant: dict[str, Any] | None
    trained: dict[str, Any] | None
    failed: dict[str, Any] | None
    heard: str

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it by itself."""
        return self.state in OVER


def progress_of(home: Path, run: Run) -> Progress:
    """How far a run has come.

    Args:
        home: SHOPFIT_HOME.
        run: of the job "adapter".
    """
    told = run.events
    state = run.state(told)
    told = told[max((place for place, one in enumerate(told) if one.kind == "queued"), default=0) :]
    versions = [one.facts for one in run.events if one.kind == "version"]
    instant = next((one for one in versions if one["instant"]), None)
    trained = next((one for one in reversed(versions) if not one["instant"]), None)
    begun = [one for one in told if one.kind == "begin"]
    since = told[told.index(begun[-1]) :] if begun else []
    steps = [one for one in since if one.kind == "step"]
    queue = waiting(home, lane_of(run.asked.job)) if state == "queued" else []
    failed = next((one.facts for one in reversed(told) if one.kind == "failed"), None)
    stages = [one for one in told if one.kind == "stage"]
    return Progress(
        run=run,
        state=state,
        steps=_marked(told, state, "--instant" in run.asked.arguments, instant is not None),
        before=sum(one.run.id < run.id for one in queue),
        step=steps[-1].facts["step"] if steps else 0,
        of=begun[-1].facts["steps"] if begun else 0,
        epochs=[one.facts for one in since if one.kind == "epoch"],
        instant=instant,
        trained=trained,
        failed=failed if state == "failed" else None,
        heard=str(stages[-1].facts["what"]) if stages else "",
    )


def newest_run(home: Path, merchant: str, recipe: str, job: str) -> Run | None:
    """The run of a job that was asked for last; None if none was."""
    return next((run for run in all_runs(home, merchant) if (run.asked.job, run.asked.recipe) == (job, recipe)), None)


def _marked(told: Sequence[Event], state: State, only_instant: bool, instant: bool) -> list[tuple[Step, Mark]]:
    """Each step with its mark: those before the one that is under way are done."""
    steps: list[Step] = ["wait", "read", "instant", *([] if only_instant else ["train", "measure"])]  # type: ignore[list-item]
    at = len(steps) if state in ("done", "refused") else _place(told, instant)
    marks: list[tuple[Step, Mark]] = []
    for place, step in enumerate(steps):
        mark: Mark = "done" if place < at else "next" if place > at or state in OVER else "now"
        if step == "instant" and mark == "done" and not instant and not only_instant:
            mark = "skipped"
        marks.append((step, mark))
    return marks


def _place(told: Sequence[Event], instant: bool) -> int:
    kinds = [one.kind for one in told]
    if "started" not in kinds:
        return 0
    stages = [str(one.facts["what"]) for one in told if one.kind == "stage"]
    over = instant or any(one.kind == "stage" and one.facts["what"] == "instant" for one in told)
    if over:
        after = told[_last(told, "version", "instant") + 1 :]
        measured = any(one.kind == "stage" and one.facts["what"] == "evaluating" for one in after)
        return 4 if measured else 3
    return 2 if "base" in stages else 1


def _last(told: Sequence[Event], kind: str, stage: str) -> int:
    """The place where the instant version was settled."""
    found = [
        place
        for place, one in enumerate(told)
        if (one.kind == kind and one.facts.get("instant")) or (one.kind == "stage" and one.facts["what"] == stage)
    ]
    return found[-1] if found else -1
