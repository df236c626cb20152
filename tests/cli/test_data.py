"""`shopfit data check`: what was understood of a merchant's files."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from shopfit.cli.data import command

RECIPE = """
name: products
task: rank
data: {file: searches.jsonl, catalog: catalog.csv}
prompt: {template: "Search: {query}\\nProduct:"}
evaluate: {metric: mrr}
"""


def merchant(folder: Path, catalog: str, searches: list[dict[str, Any]]) -> Path:
    (folder / "merchant.yaml").write_text("name: acme\n")
    (folder / "products.yaml").write_text(RECIPE)
    (folder / "catalog.csv").write_text(catalog, encoding="utf-8")
    (folder / "searches.jsonl").write_text("".join(json.dumps(row) + "\n" for row in searches))
    return folder


def check(folder: Path, *more: str, recipe: str | None = None) -> Result:
    arguments = ["check", "acme", *([recipe] if recipe else []), "--data", str(folder), *more]
    return CliRunner().invoke(command, arguments)


SEARCHES = [{"query": f"warm thing {number}", "relevant": ["1"], "at": 1700000000 + number} for number in range(8)]
TOLD = "id;title;description\n1;Zelt;for two and their dog\n2;Plane;keeps the rain off\n"
FINE = "id;title;price;in_stock\n1;Zelt;1.299,00 €;backorder\n2;Plane;;0\n"


def test_every_column_is_told(tmp_path: Path) -> None:
    folder = merchant(tmp_path, FINE, SEARCHES)
    done = check(folder, "--json", recipe=str(folder / "products.yaml"))
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    catalog, examples = document["files"]
    columns = {column["name"]: column for column in catalog["columns"]}
    assert (columns["price"]["kind"], columns["price"]["form"]) == ("number", "decimal comma, EUR")
    assert (columns["price"]["filled"], columns["price"]["missing"], columns["price"]["most"]) == (1, 1, 1299)
    assert columns["in_stock"]["counts"] == {"true": 1, "false": 1}
    at = {column["name"]: column for column in examples["columns"]}["at"]
    assert (at["kind"], at["form"], at["least"][:10]) == ("time", "seconds since 1970", "2023-11-14")
    assert document["problems"] == []
    assert "NaN" not in done.stdout


def test_what_cannot_be_known_is_told_with_the_columns(tmp_path: Path) -> None:
    folder = merchant(tmp_path, FINE.replace("1.299,00 €", "1.299"), SEARCHES)
    done = check(folder, "--json", recipe=str(folder / "products.yaml"))
    assert done.exit_code == 2
    document = json.loads(done.stdout)
    assert "'1.299' is 1.299 or 1299" in document["problems"][0]["what"]
    assert "decimal=comma" in document["next"]
    named = check(folder, "--json", "--set", "data.decimal=comma", recipe=str(folder / "products.yaml"))
    assert named.exit_code == 0


def test_without_a_recipe_every_file_is_told(tmp_path: Path) -> None:
    folder = merchant(tmp_path, FINE, [{"text": "[bold]x", "label": "Yes"}, {"text": "y", "label": "no"}])
    done = check(folder)
    assert done.exit_code == 0, done.output
    assert "catalog.csv: catalog, 2 rows" in done.output
    assert "number (decimal comma, EUR)" in done.output
    assert "Yes 1, no 1" in done.output
    assert "[bold]x" in done.output


def test_labels_and_contradictions_are_told(tmp_path: Path) -> None:
    rows = [{"text": f"thing {number}", "label": ("Yes", "no", "yes")[number % 3]} for number in range(12)]
    rows += [{"text": "thing 0", "label": "no"}]
    (tmp_path / "merchant.yaml").write_text("name: acme\n")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "r.yaml").write_text(
        "name: r\ntask: choose\ndata: {file: rows.jsonl, test_fraction: 0.2}\n"
        "prompt: {template: '{text}'}\nevaluate: {metric: accuracy}\n"
    )
    counted = json.loads(check(tmp_path, "--json", recipe=str(tmp_path / "r.yaml")).stdout)["examples"]
    assert set(counted["labels"]) == {"Yes", "no"} or set(counted["labels"]) == {"yes", "no"}
    assert [len(spellings) for spellings in counted["spellings_merged"].values()] == [2]
    assert sum(counted["contradictions"].values()) > 0


@pytest.mark.parametrize("labels", ["", ", labels: {Positive: good, Negative: bad}"])
def test_what_was_written_for_a_label_is_told(tmp_path: Path, labels: str) -> None:
    written = ["positive", "Positive", "positive", "Negative"] * 4
    rows = [{"text": f"thing {number * number:x} {number}", "label": label} for number, label in enumerate(written)]
    (tmp_path / "merchant.yaml").write_text("name: acme\n")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "r.yaml").write_text(
        "name: r\ntask: choose\ndata: {file: rows.jsonl, test_fraction: 0.2}\n"
        f"prompt: {{template: '{{text}}'{labels}}}\nevaluate: {{metric: accuracy}}\n"
    )
    done = check(tmp_path, recipe=str(tmp_path / "r.yaml"))
    assert done.exit_code == 0, done.output
    label = "Positive" if labels else "positive"
    assert f"spellings merged: {label}: 12 rows (written 'positive' 8, 'Positive' 4)\n" in done.output
    assert "label (3 as written)" in done.output
    assert "{" not in done.output


def test_an_example_file_that_is_not_there(tmp_path: Path) -> None:
    folder = merchant(tmp_path, TOLD, SEARCHES)
    recipe = str(folder / "products.yaml")
    done = check(folder, "--set", "data.file=serches.jsonl", recipe=recipe)
    assert done.exit_code != 0
    assert "did you mean 'searches.jsonl'?" in str(done.exception)
    (folder / "searches.jsonl").rename(folder / "searches.test.jsonl")
    done = check(folder, recipe=recipe)
    assert done.exit_code == 0, done.output
    assert "no searches.jsonl: pairs from the catalog" in done.output
    document = json.loads(check(folder, "--json", recipe=recipe).stdout)
    assert document["without_examples"] == "no searches.jsonl: pairs from the catalog"
    assert check(folder, "--set", "data.file=questions.jsonl", recipe=recipe).exit_code != 0
    assert check(folder, "--set", "data.file=questions.jsonl", "--set", "data.shots=0", recipe=recipe).exit_code == 0


def test_a_file_is_no_merchants_folder(tmp_path: Path) -> None:
    folder = merchant(tmp_path, FINE, SEARCHES)
    done = check(folder / "searches.jsonl")
    assert done.exit_code != 0
    assert "searches.jsonl is a file" in str(done.exception)
    assert f"give the folder instead, such as {folder}" in str(done.exception)


def test_what_an_adapter_would_refuse_is_refused_after_all_is_said(tmp_path: Path) -> None:
    folder = merchant(tmp_path, FINE, SEARCHES)
    recipe = folder / "products.yaml"
    (folder / "searches.unlabeled.jsonl").write_text("{broken\n")
    done = check(folder, recipe=str(recipe))
    assert done.exit_code != 0
    assert "searches.jsonl: examples, 8 rows" in done.output
    assert "searches.unlabeled.jsonl" in str(done.exception)
    (folder / "searches.unlabeled.jsonl").unlink()
    (folder / "searches.jsonl").unlink()
    done = check(folder, recipe=str(recipe))
    assert done.exit_code != 0
    assert "catalog.csv: catalog, 2 rows" in done.output
    assert "train: 0" in done.output
    assert "there are no examples in searches.jsonl" in str(done.exception)
    (folder / "catalog.csv").write_text(TOLD)
    assert check(folder, recipe=str(recipe)).exit_code == 0  # such a catalog teaches to rank


def test_one_row_is_one_row(tmp_path: Path) -> None:
    folder = merchant(tmp_path, "id;title\n1;Zelt\n", [{"text": "x", "label": "yes"}])
    done = check(folder)
    assert "catalog.csv: catalog, 1 row\n" in done.output
    assert "1 filled; 1 to 1 character;" in done.output
    assert "label (1 as written)" in done.output


def test_labels_that_the_recipe_does_not_name(tmp_path: Path) -> None:
    rows = [{"text": f"thing {number}", "label": ("good", "bad", "so-so")[number % 3]} for number in range(12)]
    (tmp_path / "merchant.yaml").write_text("name: acme\n")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "r.yaml").write_text(
        "name: r\ntask: choose\ndata: {file: rows.jsonl, test_fraction: 0.2}\n"
        "prompt: {template: '{text}', labels: {good: good, bad: bad}}\nevaluate: {metric: accuracy}\n"
    )
    document = json.loads(check(tmp_path, "--json", recipe=str(tmp_path / "r.yaml")).stdout)
    assert "prompt.labels" in document["next"]
    assert "data.label_aliases" in document["next"]
    assert "data.columns" not in document["next"]
