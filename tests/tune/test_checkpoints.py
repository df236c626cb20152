"""A training that is ended at any step goes on, bitwise as if it had never ended."""

import errno
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tune.process_cases import ITEMS, KINDS, LABELS, METHODS, PROMPTS, Case, load_bases, save_bases

from shopfit.adapter.initial_weights import Start
from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.recipe.schema import Recipe
from shopfit.signals import held_back
from shopfit.tune.checkpoints import Checkpoints, Kept
from shopfit.tune.trainer import Trainer, Tuned, make_accelerator
from shopfit.tune.training_callback import NoCallback
from shopfit.tune.training_dataset import TrainingSet

NOISY = {"epochs": 2, "patience": 1}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Base]:
    folder = tmp_path_factory.mktemp("checkpoints")
    save_bases(folder)
    return load_bases(folder)


class Killed(BaseException):
    """What no training catches, as it catches no SIGKILL."""


class Killing(NoCallback):
    """Ends a training after a number of its steps."""

    def __init__(self, after: int = 1, error: type[BaseException] = Killed) -> None:
        self._left, self._error = after, error

    def step(self, step: int, loss: float) -> None:  # noqa: ARG002
        self._left -= 1
        if self._left == 0:
            raise self._error


class Seen(NoCallback):
    """The steps that a training takes."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def step(self, step: int, loss: float) -> None:  # noqa: ARG002
        self.steps.append(step)


def fit(
    bases: dict[str, Base],
    case: Case,
    checkpoints: Checkpoints | None = None,
    callback: NoCallback | None = None,
    **tune: Any,
) -> Tuned:
    base, recipe = bases[case.kind], noisy(case, **tune)
    prompter = Prompter(recipe, base.tokenizer, ITEMS if case.task == "rank" else None, scorer=base.scorer)
    train, valid = case.examples[:-3], case.examples[-3:]
    training_set = TrainingSet(train, valid, LABELS.get(case.task, ()), prompter)
    return Trainer(base, make_accelerator(recipe), callback, checkpoints).fit(training_set, recipe)


def noisy(case: Case, **tune: Any) -> Recipe:
    """The case's recipe with dropout, three epochs and early stopping."""
    recipe = case.recipe
    adapter = recipe.adapter.model_copy(update={} if case.method == "prefix" else {"dropout": 0.2})
    serve = recipe.serve.model_copy(update={"max_new_tokens": 2})
    changed = recipe.tune.model_copy(update=NOISY | tune)
    return recipe.model_copy(update={"adapter": adapter, "tune": changed, "serve": serve})


def ended_after_every_step(bases: dict[str, Base], case: Case, folder: Path) -> tuple[Tuned, int]:
    for ended in range(1000):
        try:
            return fit(bases, case, Checkpoints(folder, every=0.0), Killing()), ended
        except Killed:
            pass
    raise AssertionError("it never ends")


def outcome(tuned: Tuned, folder: Path) -> list[object]:
    """Everything a training comes to, its files included."""
    tuned.adapter.save(folder)
    tuned.adapter.detach()
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    held_out = [
        {name: str(getattr(answers, name)) for name in answers.__dataclass_fields__} for answers in tuned.held_out
    ]
    return [files, tuned.steps, tuned.best_epoch, tuned.stopped_early, tuned.curve, held_out]


CASES = [
    Case(kind, task, method, 11, 1 + number % 2)
    for number, (kind, task, method) in enumerate(
        (kind, task, method) for kind in KINDS for task in PROMPTS for method in METHODS
    )
    if (kind != "encoder" or task != "generate") and (kind == "decoder" or method != "prefix")
] + [
    Case("encoder", "choose", "adalora", 11, 1, {"adversarial": 0.5, "contrastive": 0.3}),
    Case("decoder", "rank", "lora", 11, 1, {"lr_ratio": 4.0, "interpolation": 0.75}),
    Case("decoder", "choose", "lora", 11, 1, {"optimizer": "adamw-8bit"}),
    Case("decoder", "choose", "adalora", 11, 1, {"steps": 5}),
    Case("decoder", "choose", "lora", 11, 2, adapter={"layers": "last:1"}),
    Case("decoder", "rank", "dora", 11, 1, adapter={"layers": "last:1"}),
    Case("encoder", "choose", "lora", 11, 1, {"contrastive": 0.3}, {"layers": "last:1"}),
    Case("encoder", "rank", "adalora", 11, 2, adapter={"layers": "last:1"}),
]


@pytest.mark.proof
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_ended_after_every_step_it_comes_to_the_same_bit_by_bit(
    case: Case, bases: dict[str, Base], tmp_path: Path
) -> None:
    whole = outcome(fit(bases, case), tmp_path / "whole")
    torch.rand(3)  # what else happened must not matter
    tuned, ended = ended_after_every_step(bases, case, tmp_path / "run")
    assert ended == tuned.steps
    assert outcome(tuned, tmp_path / "parts") == whole
    again = fit(bases, case, Checkpoints(tmp_path / "run"), Killing())  # no step is left to end it
    assert outcome(again, tmp_path / "again") == whole


def test_a_signal_waits_for_the_end_of_the_step_which_is_then_kept(bases: dict[str, Base], tmp_path: Path) -> None:
    case = CASES[0]
    whole = outcome(fit(bases, case), tmp_path / "whole")
    checkpoints = Checkpoints(tmp_path / "run", every=1e9)  # nothing but the signal has it written
    with pytest.raises(KeyboardInterrupt):
        fit(bases, case, checkpoints, Killing(3, KeyboardInterrupt))
    assert checkpoints.steps == 3
    seen = Seen()
    tuned = fit(bases, case, Checkpoints(tmp_path / "run"), seen)
    assert seen.steps[0] == 4
    assert outcome(tuned, tmp_path / "parts") == whole


def test_held_back_signals_take_effect_at_the_end_and_a_second_one_at_once() -> None:
    told: list[str] = []
    before = signal.signal(signal.SIGTERM, lambda *_: told.append("ended"))
    try:
        with held_back():
            os.kill(os.getpid(), signal.SIGTERM)
            assert told == []
        assert told == ["ended"]
        with held_back():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            assert told == ["ended"] * 2
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_step_that_a_second_signal_ended_in_its_middle_is_not_kept(bases: dict[str, Base], tmp_path: Path) -> None:
    case = CASES[0]
    whole = outcome(fit(bases, case), tmp_path / "whole")
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    hooks, embeddings = [], bases[case.kind].model.get_input_embeddings()

    class Twice(NoCallback):
        def step(self, step: int, loss: float) -> None:  # noqa: ARG002
            if step == 2:  # the next one is ended in its forward
                hooks.append(embeddings.register_forward_pre_hook(kill_twice))

    def kill_twice(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)

    try:
        with pytest.raises(KeyboardInterrupt):
            fit(bases, case, Checkpoints(tmp_path / "run", every=0.0), Twice())
    finally:
        signal.signal(signal.SIGTERM, before)
        for hook in hooks:
            hook.remove()
    seen = Seen()
    tuned = fit(bases, case, Checkpoints(tmp_path / "run"), seen)
    assert seen.steps[0] == 3
    assert outcome(tuned, tmp_path / "parts") == whole


def test_a_run_that_is_over_leaves_what_others_kept(tmp_path: Path) -> None:
    kept = Kept({"weights/0": torch.ones(8)}, {"steps": 1})
    folder = tmp_path / "checkpoints" / "acme" / "r"
    one, other = Checkpoints(folder), Checkpoints(folder)
    assert one.write("a", kept)
    assert other.write("b", kept)
    one.clear()
    assert one.read("a") is None
    assert other.read("b") is not None
    other.clear()
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("changed", ["rows", "recipe", "seed", "start"])
def test_a_training_of_anything_else_starts_anew(changed: str, bases: dict[str, Base], tmp_path: Path) -> None:
    case = CASES[0]
    with pytest.raises(Killed):
        fit(bases, case, Checkpoints(tmp_path / "run", every=0.0), Killing(4))
    other = {"rows": replace(case, rows=12), "recipe": replace(case, tune={"lr": 2e-3}), "seed": case, "start": case}
    seen = Seen()
    checkpoints = Checkpoints(tmp_path / "run")
    if changed == "start":
        base, recipe = bases[case.kind], noisy(case)
        prompter = Prompter(recipe, base.tokenizer, scorer=base.scorer)
        training_set = TrainingSet(case.examples[:-3], case.examples[-3:], LABELS["choose"], prompter)
        tuned = Trainer(base, make_accelerator(recipe), seen, checkpoints).fit(training_set, recipe, Start("other"))
    else:
        tuned = fit(bases, other[changed], checkpoints, seen, **({"seed": 8} if changed == "seed" else {}))
    tuned.adapter.detach()
    assert seen.steps[0] == 1


def test_a_damaged_checkpoint_starts_the_training_anew(
    bases: dict[str, Base], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    case = CASES[0]
    whole = outcome(fit(bases, case), tmp_path / "whole")
    with pytest.raises(Killed):
        fit(bases, case, Checkpoints(tmp_path / "run", every=0.0), Killing(4))
    (path,) = (tmp_path / "run").iterdir()
    path.write_bytes(path.read_bytes()[:-7])
    with caplog.at_level(logging.WARNING):
        tuned = fit(bases, case, Checkpoints(tmp_path / "run"))
    assert "starts anew" in caplog.text
    assert outcome(tuned, tmp_path / "anew") == whole


def test_a_full_disk_leaves_the_last_checkpoint_and_the_training_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import resource

    checkpoints = Checkpoints(tmp_path / "run")
    assert checkpoints.write("a", Kept({"weights/0": torch.ones(8)}, {"steps": 1}))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a write over the limit fails, as on a full disk
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                assert not checkpoints.write("a", Kept({"weights/0": torch.ones(4096)}, {"steps": 2}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert caplog.text.count("goes on without new checkpoints") == 1
    assert os.strerror(errno.EFBIG) in caplog.text
    kept = checkpoints.read("a")
    assert kept is not None
    assert kept.facts == {"steps": 1}
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["a.safetensors"]


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.tune.process_cases import load_bases
from tests.tune.test_checkpoints import CASES, Killing, fit
from shopfit.tune.checkpoints import Checkpoints

class Kill(Killing):
    def step(self, step, loss):
        if step == 3:
            os.kill(os.getpid(), signal.SIGKILL)

fit(load_bases(Path(sys.argv[1])), CASES[0], Checkpoints(Path(sys.argv[2]), every=0.0), Kill())
"""


def test_a_process_that_was_killed_goes_on_in_another_one(
    bases: dict[str, Base], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path / "bases"
    save_bases(folder)
    told = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), str(tmp_path / "run")], capture_output=True, text=True, check=False
    )
    assert told.returncode == -signal.SIGKILL, told.stderr
    seen = Seen()
    tuned = fit(load_bases(folder), CASES[0], Checkpoints(tmp_path / "run"), seen)
    assert seen.steps[0] == 4
    assert outcome(tuned, tmp_path / "parts") == outcome(fit(load_bases(folder), CASES[0]), tmp_path / "whole")


@pytest.fixture(autouse=True)
def _no_leftovers(bases: dict[str, Base]) -> Iterator[None]:
    yield
    for base in bases.values():
        assert not any("lora" in name for name, _ in base.model.named_parameters())
