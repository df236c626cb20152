"""The matrix of methods, quantizations and kinds of bases: a walk through a cell, and the table in the docs.

`python -m tests.tune.matrix` writes the table to docs/reference/what-works-on-what.md. Under torch's launcher,
`python -m tests.tune.matrix FOLDER HOME KIND=BASE …` walks every cell that works, in as many processes as there are.
"""

import gc
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple, get_args

from shopfit.recipe.adapter_section import Adapter
from shopfit.recipe.methods import BaseKind, Limit, Quantization

PAGE = Path(__file__).parents[2] / "docs/reference/what-works-on-what.md"
BEGIN, END = "<!-- matrix: written by python -m tests.tune.matrix -->", "<!-- /matrix -->"

VARIANTS: Mapping[str, dict[str, Any]] = {
    "LoRA": {"method": "lora"},
    "DoRA": {"method": "lora", "dora": True},
    "AdaLoRA": {"method": "adalora"},
    "prefix": {"method": "prefix", "virtual_tokens": 4},
}
KINDS, QUANTIZATIONS = get_args(BaseKind), get_args(Quantization)
LABELS = ["negative", "positive"]
ASKED = {"text": "lovely crema, and the delivery was quick"}


class Cell(NamedTuple):
    """A cell of the matrix."""

    variant: str
    quantization: Quantization
    kind: BaseKind

    @property
    def adapter(self) -> Adapter:
        """The `adapter` section that asks for it."""
        return Adapter.model_validate(VARIANTS[self.variant] | {"rank": 2})

    @property
    def limit(self) -> Limit | None:
        """Why it does not work."""
        return self.adapter.limit(self.quantization, self.kind)

    @property
    def named(self) -> str:
        """As a name of a file."""
        return "-".join(self)


CELLS = [Cell(*each) for each in product(VARIANTS, QUANTIZATIONS, KINDS)]


def walk(base: Any, cell: Cell, accelerator: Any, folder: Path, **tune: Any) -> dict[str, Any]:
    """Train a cell's adapter for a few steps, and write its bundle on the first process.

    Args:
        base: of the cell.
        cell: one that works.
        accelerator: of the run.
        folder: for the bundle.
        tune: more for the recipe's `tune` section.

    Returns:
        "still": names of weights that did not move; "digest": of all weights; "answer": of the adapter on its base.
    """
    import torch
    from tests.engine.conftest import recipe_of

    from shopfit.adapter.bundle import DataIdentity, seal
    from shopfit.base.prompt import Prompter
    from shopfit.evaluation.assess import ask
    from shopfit.merchant.examples import Example
    from shopfit.tune.bundle_writer import save
    from shopfit.tune.trainer import Trainer
    from shopfit.tune.training_dataset import TrainingSet

    def fit(**more: Any) -> Any:
        settings = {"lr": 0.05, "epochs": 3, "batch_size": 2, "temperature": 1.0, **tune, **more}
        recipe = recipe_of(base, "choose", adapter=cell.adapter.model_dump(), tune=settings)
        prompter = Prompter(recipe, base.tokenizer, scorer=base.scorer)
        rows = [
            ("lovely crema", "positive"),
            ("arrived cracked", "negative"),
            ("quick", "positive"),
            ("wet", "negative"),
        ]
        examples = [Example(str(row), {"text": text}, label=label) for row, (text, label) in enumerate(rows)]
        training_set = TrainingSet(examples, [], LABELS, prompter)
        return recipe, prompter, Trainer(base, accelerator).fit(training_set, recipe)

    def weights(adapter: Any) -> dict[str, torch.Tensor]:
        named = {name: weight for name, weight in adapter.peft.named_parameters() if weight.requires_grad}
        named |= {} if adapter.prototypes is None else {"head": adapter.prototypes}
        return {name: weight.detach().clone() for name, weight in named.items()}

    *_, first = fit(steps=1, lr=1e-12, gradient_checkpointing=False)
    before = weights(first.adapter)
    first.adapter.detach()
    recipe, prompter, tuned = fit()
    after = weights(tuned.adapter)
    moved = {name: float((after[name] - before[name]).abs().max()) for name in after if ".lora_E." not in name}
    digest = hashlib.sha256(b"".join(weight.numpy().tobytes() for weight in after.values())).hexdigest()
    (answer,) = ask(tuned.adapter, base, prompter, LABELS, [Example("a", ASKED)])
    if accelerator.is_main_process:
        data = DataIdentity(digest="d", train=[], valid=[], test=[])
        seal(folder, save(tuned, base, recipe, folder, merchant="acme", labels=LABELS, data=data, share=False))
    else:
        tuned.adapter.detach()
    still = [name for name, size in moved.items() if size < 1e-4]
    return {"still": still, "digest": digest, "answer": [float(score) for score in answer]}


def walk_in_ranks(folder: Path, home: Path, bases: Mapping[str, str]) -> None:
    """Walk every cell that works, one after another, in this rank of several; the first one writes what came of it."""
    from accelerate import Accelerator
    from accelerate.utils import gather_object

    from shopfit.base.load import load_base

    accelerator = Accelerator()
    found: dict[str, Any] = {"processes": accelerator.num_processes}
    for quantization, kind in product(QUANTIZATIONS, KINDS):
        base = load_base(bases[kind], home, quantization=quantization, device="cpu")
        for cell in working(quantization, kind):
            walked = walk(base, cell, accelerator, folder / cell.named)
            found[cell.named] = walked | {"digests": gather_object([walked["digest"]])}
        gc.freeze()  # each training looks for garbage, and need not look through all that was imported
    if accelerator.is_main_process:
        (folder / "walked.json").write_text(json.dumps(found))
    accelerator.end_training()


def working(quantization: str, kind: str) -> Iterator[Cell]:
    """The cells of a base that work."""
    return (cell for cell in CELLS if (cell.quantization, cell.kind) == (quantization, kind) and cell.limit is None)


def table() -> str:
    """The part of the page that says what works on what."""
    lines = [f"| method | base in | {' | '.join(KINDS)} |", "| --- | --- |" + " --- |" * len(KINDS)]
    limits: dict[str, int] = {}
    for variant, quantization in product(VARIANTS, QUANTIZATIONS):
        cells = []
        for kind in KINDS:
            limit = Cell(variant, quantization, kind).limit
            note = (
                "" if limit is None else f"{limit.what}: {limit.why}. The nearest that works: `--set {limit.nearest}`."
            )
            cells.append("yes" if limit is None else f"no ({limits.setdefault(note, len(limits) + 1)})")
        lines.append(f"| {variant} | {quantization} | {' | '.join(cells)} |")
    notes = [fill(f"{number}. {note}", 120, subsequent_indent="   ") for note, number in limits.items()]
    return "\n".join([*lines, "", *notes])


def written(page: str) -> str:
    """The page with the table in it."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    if sys.argv[1:]:
        folder, home, *bases = sys.argv[1:]
        walk_in_ranks(Path(folder), Path(home), dict(base.split("=", 1) for base in bases))
    else:
        PAGE.write_text(written(PAGE.read_text()))
