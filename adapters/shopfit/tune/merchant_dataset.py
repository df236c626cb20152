"""A merchant as a recipe sees it: what its prompts show, and its examples, split and checked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from shopfit.adapter.manifest_rules import label_problems
from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.errors import DataError
from shopfit.evaluation.wording import trained_on
from shopfit.merchant.examples import Example
from shopfit.merchant.labels import spellings_text
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.pretext import hold_out_pairs, pretext_pairs
from shopfit.merchant.splits import Splits, digest_of, split
from shopfit.merchant.spoken import language_note
from shopfit.merchant.unlabeled import load_unlabeled, unlabeled_file_of, without_copies
from shopfit.recipe.schema import Recipe
from shopfit.tasks import task_of
from shopfit.tune.training_dataset import TrainingSet


@dataclass(frozen=True, slots=True)
class MerchantDataset:
    """One merchant's data for one recipe, read without any base.

    Args:
        merchant: whose it is.
        recipe: that reads it.
        shown: a prompter without a tokenizer: it shows texts.
        splits: the examples.
        unlabeled: rows for self-training, where the recipe wants it.
    """

    merchant: Merchant
    recipe: Recipe
    shown: Prompter
    splits: Splits
    unlabeled: Sequence[Example] = ()

    @classmethod
    def read(cls, merchant: Merchant, recipe: Recipe) -> "MerchantDataset":
        """Read a merchant's catalogs and examples.

        Raises:
            DataError: with every bad row.
        """
        data = recipe.data
        catalog = merchant.catalog(data.catalog, recipe) if data.catalog else None
        history = merchant.catalog(data.history_catalog, recipe) if data.history_catalog else None
        shown = Prompter(recipe, None, catalog, history)
        splits = split(
            merchant,
            recipe,
            text=lambda example: shown.text(example.fields),
            labels=task_of(recipe.task).labels,
            catalog=catalog,
            history=history,
        )
        if problems := list(label_problems(splits.labels)):  # else they would be refused when all is trained
            raise DataError(
                f"no adapter of {recipe.name} can be kept with these labels of {merchant.name}",
                problems=problems,
                next_step="write them otherwise in the example file, or say what they mean in data.label_aliases",
            )
        return cls(merchant, recipe, shown, splits)

    def with_unlabeled(self) -> "MerchantDataset":
        """The same, with pretext pairs and the rows for self-training, each where the recipe wants it.

        Raises:
            DataError: with every bad row, or if there is nothing to make pairs from.
        """
        recipe, splits = self.recipe, self.splits
        examples = [*splits.train, *splits.valid]
        pretext = recipe.spec.items and (recipe.data.pretext or not examples)
        if not pretext and not recipe.tune.self_training.rounds:
            return self
        rows: list[Example] = []
        if not pretext or unlabeled_file_of(self.merchant, recipe) is not None:
            catalog, history = self.shown.catalog, self.shown.history
            rows = load_unlabeled(self.merchant, recipe, catalog=catalog, history=history)
            rows = without_copies(rows, splits.test, examples, self.text, recipe.data.near_duplicate)
        if not pretext:
            return replace(self, unlabeled=rows)
        pairs = pretext_pairs(
            recipe,
            self.shown.catalog,
            rows,
            [*splits.test, *splits.valid],
            text=self.text,
            examples=len(examples),
        )
        test = splits.test
        if not test:
            pairs, test = hold_out_pairs(recipe, pairs, self.text)
        digest = digest_of(splits.train, splits.valid, test, pairs)
        return replace(self, splits=replace(splits, pretext=pairs, test=test, digest=digest))

    def tell(self, reporter: Callable[[str, str], None]) -> None:
        """Announce what there is to learn from, and what was taken out of it."""
        merchant, recipe, splits = self.merchant, self.recipe, self.splits
        reporter("merchant", f"{merchant.name}, {merchant.description or 'no description'} ({merchant.folder})")
        reporter("recipe", f"{recipe.name}: {recipe.task}, metric {recipe.evaluate.metric}")
        reporter("examples", _count(splits))
        if note := self.language_note:
            reporter("language", note)
        if splits.absent:
            reporter("examples", splits.without_examples)
        if recipe.spec.single_label:
            reporter("labels", ", ".join(f"{label} {count}" for label, count in splits.label_counts.items()))
        if splits.merged:
            reporter("labels", spellings_text(splits.merged))
        if splits.contradictions.total:
            reporter("contradict", str(splits.contradictions))
        told = {str(row.label) for row in (*splits.train, *splits.valid)}
        if recipe.spec.single_label and (unseen := sorted(set(splits.labels) - told)):
            reporter("labels", f"no example to train on: {', '.join(unseen)}; what they mean is left to their words")
        if recipe.tune.self_training.rounds:
            reporter("unlabeled", f"{len(self.unlabeled)} rows that repeat no example")
        if splits.leaks.total:
            leaks = splits.leaks
            reporter(
                "leaks",
                f"taken out of train: {leaks.duplicates} duplicate, {leaks.near_duplicates} near-duplicate, "
                f"{leaks.shared_groups} of a test group",
            )

    @property
    def language_note(self) -> str:
        """What to say of the rows' languages; empty if they are in the merchant's."""
        rows = (*self.splits.train, *self.splits.valid, *self.splits.test)
        return language_note((self.shown.query_text(row.fields) for row in rows), self.merchant.language)

    def text(self, example: Example) -> str:
        """What the prompt shows of an example."""
        return self.shown.text(example.fields)

    def prompter(self, base: Base) -> Prompter:
        """What writes its prompts for a base.

        Raises:
            DataError: with every row, label and item that the recipe shows nothing of.
        """
        recipe, splits = self.recipe, self.splits
        prompter = Prompter(recipe, base.tokenizer, self.shown.catalog, self.shown.history, scorer=base.scorer)
        rows = (*splits.train, *splits.valid, *splits.test, *splits.pretext, *self.unlabeled)
        if problems := prompter.problems(rows, splits.labels):
            raise DataError(
                f"recipe {recipe.name} shows nothing of some of what {self.merchant.name} has",
                problems=problems,
                next_step="complete or take out what is named above, or change the recipe's prompt",
            )
        return prompter

    def training_set(self, base: Base) -> TrainingSet:
        """What there is to learn from."""
        splits = self.splits
        return TrainingSet(splits.train, splits.valid, splits.labels, self.prompter(base), splits.pretext)


def _count(splits: Splits) -> str:
    pairs = trained_on(len(splits.train) + len(splits.valid), len(splits.pretext))
    parts = [
        *([pairs] if splits.pretext else []),
        *([f"{len(splits.train)} to train on"] if splits.train else []),
        *([f"{len(splits.valid)} held out to stop early"] if splits.valid else []),
        f"{len(splits.test)} to test ({splits.test_kind})",
    ]
    return ", ".join(parts)
