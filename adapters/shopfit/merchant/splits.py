"""A merchant's examples, split: to train on, to stop training early, and to test."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal

from rapidfuzz import fuzz, process

from shopfit.errors import DataError, Problem
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.examples import Example, content_digest, load_examples
from shopfit.merchant.labels import Contradictions, contradictions, one_spelling, spellings_text
from shopfit.merchant.leaks import Leaks, remove_leaks
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.reading import SUFFIXES
from shopfit.merchant.sampling import draw, draw_balanced, hold_out
from shopfit.recipe.schema import Recipe
from shopfit.recipe.tasks import TASKS

logger = logging.getLogger(__name__)

TestKind = Literal["fixed", "held out", "pretext"]

VALID_FROM = 100
"""Training examples; of fewer, too few can be held out to say more than chance when to stop."""

_LEAST_VALID = 4
_CONTENT = ("id", "fields", "label", "relevant", "candidates", "output", "group", "weight")
_LATER = tuple(name for spec in TASKS.values() for name in spec.own_fields if name not in _CONTENT)  # of newer tasks
_MISSPELT = 85  # percent; names that are nearer are one name, misspelt


@dataclass(frozen=True, slots=True)
class Splits:
    """Examples by what they are for; no group is in two parts, and no test text is in train or valid.

    Args:
        train: the weights are fitted on these.
        valid: held out of train to stop early; empty where there are too few.
        test: the report is measured on these.
        labels: names of the answers that every question has: every label of `choose`; none where questions have their
            own.
        leaks: what was removed from train for being in the test set.
        test_kind: whether the test set is a file of its own, held out of the examples, or of the pretext pairs.
        digest: SHA-256 over all examples used.
        pretext: rank: pairs made from the catalog and from histories, to train on before the examples.
        merged: choose: of each label that had several spellings, how often each was written.
        contradictions: rows of the same text with different answers, before anything was taken out.
        absent: rank: the example file, if it is not there; pairs are made from the catalog instead.
    """

    train: list[Example]
    valid: list[Example]
    test: list[Example]
    labels: tuple[str, ...]
    leaks: Leaks
    test_kind: TestKind
    digest: str
    pretext: Sequence[Example] = ()
    merged: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    contradictions: Contradictions = field(default_factory=Contradictions)
    absent: str = ""

    @property
    def without_examples(self) -> str:
        """The message about an example file that is not there; empty if it is."""
        return f"no {self.absent}: pairs from the catalog" if self.absent else ""

    @property
    def label_counts(self) -> dict[str, int]:
        """choose: how many examples each label has to train on, those held out to stop early included."""
        counts = Counter(example.label for example in (*self.train, *self.valid))
        return {label: counts[label] for label in self.labels} if any(counts.keys() - {None}) else {}


def split(
    merchant: Merchant,
    recipe: Recipe,
    *,
    text: Callable[[Example], str],
    labels: Callable[[Recipe, Sequence[Example]], tuple[str, ...]],
    catalog: Catalog | None,
    history: Catalog | None,
) -> Splits:
    """Load and split a merchant's examples for a recipe.

    A held-out test set is the same for every `tune.seed`, so that seeds can be compared; few-shot sampling and the
    validation set follow the seed.

    Args:
        merchant: whose examples.
        recipe: its `data` and `tune` sections say how.
        text: what the prompt shows of an example, to find copies.
        labels: names the answers that every question has, from training examples, as the task does.
        catalog: rank: the items; None for plain titles.
        history: the items in `data.item_fields`; by default `catalog`.

    Raises:
        DataError: with every bad row, or if labels may be one or several, or if the examples are too few to train on
            or to measure, or if their file is not there: rank does without, unless another file has nearly its name.
    """
    data, seed = recipe.data, recipe.tune.seed
    rows, test, kind = _load(merchant, recipe, catalog, history)
    (rows, test), merged = one_spelling(recipe, rows, test)
    if merged:
        logger.warning("%s: %s", merchant.folder / data.file, spellings_text(merged))
    contrary = contradictions(rows, test, text)
    train, leaks = remove_leaks(rows, test, text, data.near_duplicate)
    if rows and data.shots != 0:  # else pretext pairs take the examples' place
        _check(recipe, train, test, leaks)
    names = labels(recipe, train)
    if data.shots is not None:
        sample = draw_balanced if recipe.spec.single_label else draw
        train = sample(train, data.shots, f"{seed}/shots")
    train, valid = _validation(recipe, train)
    digest = digest_of(train, valid, test)
    absent = "" if merchant.file(data.file).exists() else data.file
    return Splits(train, valid, test, names, leaks, kind, digest, merged=merged, contradictions=contrary, absent=absent)


def test_file_of(merchant: Merchant, recipe: Recipe) -> str | None:
    """The file of the fixed test set: `data.test_file`, else `<file>.test.<ext>` if it is there."""
    if recipe.data.test_file is not None:
        return recipe.data.test_file
    return beside(merchant, recipe, "test")


def beside(merchant: Merchant, recipe: Recipe, kind: str) -> str | None:
    """The file `<file>.<kind>.<ext>` beside the example file, if it is there."""
    file = PurePosixPath(recipe.data.file)
    name = str(file.with_name(f"{file.stem}.{kind}{file.suffix}"))
    return name if merchant.file(name).exists() else None


def _load(
    merchant: Merchant, recipe: Recipe, catalog: Catalog | None, history: Catalog | None
) -> tuple[list[Example], list[Example], TestKind]:
    """Candidates for training, the test set, and its kind."""
    data, test_file = recipe.data, test_file_of(merchant, recipe)
    if test_file is not None and merchant.file(test_file).resolved() == merchant.file(data.file).resolved():
        raise DataError(
            f"data.test_file is the training file {data.file}: what is trained on cannot be measured",
            next_step="name another test file, or leave data.test_file out to hold a part of the rows out",
        )
    absent = not merchant.file(data.file).exists()
    loaded: list[list[Example]] = []
    errors: list[DataError] = []
    for file in [data.file] if test_file is None else [data.file, test_file]:
        try:
            if absent and file == data.file and recipe.spec.from_catalog and not data.shots:
                if data.shots is None and (misspelt := _nearly(merchant, recipe, test_file)):
                    raise _mistaken(merchant, recipe, misspelt)
                loaded.append([])  # rank can train on pretext pairs
            else:
                loaded.append(load_examples(merchant, recipe, file, catalog=catalog, history=history))
        except DataError as error:
            errors.append(_without_examples(recipe, error) if absent and file == data.file else error)
    if len(errors) > 1:  # both files, at once
        problems = [each for error in errors for each in error.problems or [Problem(data.file, error.message)]]
        raise DataError(
            f"{data.file} and {test_file} have problems for recipe {recipe.name}",
            problems=problems,
            next_step=errors[0].next_step,
        )
    if errors:
        raise errors[0]
    if test_file is not None:
        return loaded[0], draw(loaded[1], data.max_test, "test"), "fixed"
    if absent:
        return [], [], "pretext"
    rows = loaded[0]
    count = min(round(data.test_fraction * len(rows)), data.max_test)
    train, test = hold_out(rows, count, "test")
    if not test:
        raise DataError(
            f"no test set can be held out of the {_count(rows)} in {data.file}: "
            f"they are too few, or of too few groups or examples a label",
            next_step=f"add examples, or a test set in a file of its own: {data.file} with `.test` before its suffix",
        )
    return train, test, "held out"


def check_there(merchant: Merchant, recipe: Recipe) -> None:
    """Refuse a recipe whose example file was named on purpose and is not there.

    Args:
        merchant: whose examples.
        recipe: its `data.file` was named; with `data.shots` of 0 the file is not read.

    Raises:
        DataError: if the file is not there.
    """
    if recipe.data.shots != 0 and not merchant.file(recipe.data.file).exists():
        raise merchant.file(recipe.data.file).missing()


def _nearly(merchant: Merchant, recipe: Recipe, test_file: str | None) -> str | None:
    """The file whose name, but for what follows its first dot, is nearly that of the example file, which is absent."""
    data = recipe.data
    wanted = PurePosixPath(data.file)
    others = (data.catalog, data.history_catalog, test_file, data.unlabeled or beside(merchant, recipe, "unlabeled"))
    taken = {PurePosixPath(name).name for name in others if name and PurePosixPath(name).parent == wanted.parent}
    folder = merchant.file(str(wanted.parent)).resolved()
    names = sorted(path.name for path in folder.iterdir() if path.suffix in SUFFIXES) if folder.is_dir() else []
    stems = {name: PurePosixPath(name).stem.casefold() for name in names if name not in taken}
    near = process.extractOne(wanted.stem.casefold(), stems, scorer=fuzz.ratio, score_cutoff=_MISSPELT)
    return None if near is None else str(near[2])


def _mistaken(merchant: Merchant, recipe: Recipe, near: str) -> DataError:
    """The message if the example file is not there, and another one may be meant."""
    file = recipe.data.file
    return DataError(
        f"there is no file {merchant.folder / file}; did you mean {near!r}?",
        next_step=f"name it so, or set data.file={PurePosixPath(file).with_name(near)}; to learn from the catalog "
        "alone, set data.shots=0",
    )


def _without_examples(recipe: Recipe, error: DataError) -> DataError:
    """What is to be said of an example file that is not there."""
    if recipe.spec.from_catalog:
        return error
    return DataError(
        f"{error.message}; task {recipe.task} needs examples, or a starter that is asked instead",
        next_step="put examples there (`shopfit label-next` proposes rows to label), or ask the house's starter, "
        f"house/{recipe.name}, if `shopfit starter ls` shows one",
    )


def _check(recipe: Recipe, train: Sequence[Example], test: Sequence[Example], leaks: Leaks) -> None:
    """Refuse what cannot be trained or measured."""
    file, shots = recipe.data.file, recipe.data.shots
    without = f" after {leaks.total} that the test set gives away" if leaks.total else ""
    if len(train) < 2:
        raise DataError(
            f"{file} leaves {_count(train)} to train on{without}; at least 2 are needed",
            next_step="add examples" + (", or other ones to the test set" if leaks.total else ""),
        )
    if recipe.spec.single_label:
        counts = Counter(str(example.label) for example in train)
        if len(counts) < 2:
            raise DataError(
                f"every training example in {file} has the label {next(iter(counts))!r}{without}",
                next_step="add examples of at least one other label",
            )
        if only := sorted({str(example.label) for example in test} - set(counts) - set(recipe.prompt.labels)):
            raise DataError(
                f"{'label' if len(only) == 1 else 'labels'} {', '.join(map(repr, only))} "
                f"{'is' if len(only) == 1 else 'are'} in the test set only{without}",
                next_step=f"add examples of {'it' if len(only) == 1 else 'them'} to {file}, "
                "or take the rows out of the test set",
            )
        if shots is not None and shots < len(counts):
            raise DataError(
                f"data.shots is {shots}, fewer than the {len(counts)} labels in {file}",
                next_step=f"set data.shots to {len(counts)} or more",
            )
    if shots is not None and shots > len(train):
        raise DataError(
            f"data.shots is {shots}, but {file} leaves {_count(train)} to train on{without}",
            next_step=f"set data.shots to {len(train)} or less, or leave it out",
        )


def _validation(recipe: Recipe, train: list[Example]) -> tuple[list[Example], list[Example]]:
    if len(train) < VALID_FROM:
        return train, []
    count = max(_LEAST_VALID, round(recipe.tune.valid_fraction * len(train)))
    rest, valid = hold_out(train, count, f"{recipe.tune.seed}/valid")
    if len(valid) < _LEAST_VALID or len(rest) < 2:
        logger.warning(
            "no validation set: the %d training examples are of too few groups, or too few a label", len(train)
        )
        return train, []
    return rest, valid


def digest_of(*parts: Sequence[Example]) -> str:
    """SHA-256 over the content of examples, part by part, whatever their order."""
    return content_digest([sorted(map(_content, part)) for part in parts])


def _content(example: Example) -> str:
    later = [value for name in _LATER if (value := getattr(example, name)) is not None]
    return content_digest([*(getattr(example, name) for name in _CONTENT), *later])


def _count(examples: Sequence[Example]) -> str:
    return "1 example" if len(examples) == 1 else f"{len(examples)} examples"
