"""The main job through the command line: from a folder of examples to a version that answers."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Run, state, write_rows


def sentiment(shop: Path, *more: str) -> list[str]:
    return ["adapter", "acme", str(shop / "sentiment.yaml"), "--data", str(shop), "--no-instant", *more]


def test_a_promoted_adapter_answers_from_the_registry_alone(run: Run, shop: Path, home: Path) -> None:
    done = run(*sentiment(shop))
    assert done.returncode == 0, done.stderr
    assert tried(run, done.stdout)["version"] == "acme/sentiment@1"
    assert "test order 0 of many: arrived cracked" in done.stdout  # the first test example
    for shown in (
        " to train on",
        "lora, rank 4",
        "tuned",
        "base",
        "adapter",
        "majority",
        "acme/sentiment@1, promoted to @production",
        "shopfit predict acme/sentiment",
    ):
        assert shown in done.stdout
    assert state(home) == []
    shop.rename(shop.parent / "gone")
    answer = run("predict", "acme/sentiment", "lovely crema, would buy again", "--json")
    assert answer.returncode == 0, answer.stderr
    document = json.loads(answer.stdout)
    assert document["version"] == "acme/sentiment@1"
    assert len(document["answer"]["digest"]) == 64
    assert set(document["answer"]["probabilities"]) == {"negative", "positive"}


def tried(run: Run, shown: str) -> dict[str, object]:
    """The answer to the command that is printed to be tried, run as a shell would."""
    [line] = [line.split("try it", 1)[1] for line in shown.splitlines() if line.lstrip().startswith("try it")]
    program, *arguments = shlex.split(line)
    assert program == "shopfit"
    done = run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    document: dict[str, object] = json.loads(done.stdout)
    return document


def test_the_command_to_try_fits_the_recipe(run: Run, shop: Path) -> None:
    searches = [json.loads(line) for line in (shop / "searches.jsonl").read_text().splitlines()]
    write_rows(shop / "searches.jsonl", [row | {"history": ["lamp"]} for row in searches])
    done = run("adapter", "acme", str(shop / "products.yaml"), "--data", str(shop))
    assert done.returncode in {0, 3}, done.stderr
    assert '"history": ["lamp"]' in done.stdout
    assert "--top 5" in done.stdout
    tried(run, done.stdout)


def test_the_command_to_try_is_safe_in_a_shell(run: Run, shop: Path) -> None:
    """Texts that look like options or JSON, or that hold quotes, controls and ends of lines."""
    rows = [json.loads(line) for line in (shop / "reviews.test.jsonl").read_text().splitlines()]
    odd = '--it\'s "odd" $(x)\nand\x7f\u202e long' + " so" * 100
    rows[0]["text"] = odd
    write_rows(shop / "reviews.test.jsonl", rows)
    done = run(*sentiment(shop), PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "so so" in done.stdout
    tried(run, done.stdout)


def test_the_bundle_holds_all_that_the_design_asks_for(run: Run, shop: Path) -> None:
    document = json.loads(run(*sentiment(shop, "--json", "--set", "tune.interpolation=0.5")).stdout)
    folder = Path(document["bundle"])
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {
        "bundle.json",
        "report.json",
        "report.png",
        "README.md",
        "native/adapter_model.safetensors",
        "lora/adapter_model.safetensors",
        "lora/adapter_config.json",
    } <= files
    manifest = json.loads((folder / "bundle.json").read_text())
    assert manifest["metrics"]["accuracy"] == document["version"]["metrics"]["accuracy"]
    assert manifest["interpolation"] == 0.5
    assert "50% of the way kept" in (folder / "README.md").read_text()
    assert (
        manifest["base"]["name"]
        == json.loads((folder / "lora" / "adapter_config.json").read_text())["base_model_name_or_path"]
    )
    assert [row["kind"] for row in document["report"]["systems"]][:3] == ["base", "adapter", "prior"]


@pytest.mark.parametrize("method", ["adalora", "prefix"])
def test_other_methods_through_set(run: Run, shop: Path, method: str) -> None:
    done = run(*sentiment(shop, "--json", "--set", f"adapter.method={method}"))
    assert done.returncode in {0, 3}, done.stderr
    document = json.loads(done.stdout)
    assert document["version"]["method"] == method
    assert (Path(document["bundle"]) / "lora").is_dir() == (method != "prefix")


@pytest.mark.proof
@pytest.mark.parametrize("interpolation", ["1", "0.5"])
def test_dora_from_its_plan_to_its_evaluation(run: Run, shop: Path, interpolation: str) -> None:
    more = ["--set", "adapter.dora=true", "--set", f"tune.interpolation={interpolation}"]
    arguments = ["acme", str(shop / "sentiment.yaml"), "--data", str(shop)]
    planned = run("plan", *arguments, *more)
    assert "vLLM and others do not" in planned.stdout, planned.stderr
    document = json.loads(run(*sentiment(shop, "--json", *more)).stdout)
    folder, reference = Path(document["bundle"]), "acme/sentiment@1"
    assert not (folder / "lora").exists()
    assert (folder / "native" / "norm_scales.safetensors").exists()
    assert f"{document['version']['rank']}" == "4"
    assert json.loads(run("registry", "verify", "--json").stdout) == []
    again = json.loads(run("evaluate", reference, "--data", str(shop), "--json").stdout)
    wanted = {row["name"]: row["metrics"]["accuracy"]["value"] for row in document["report"]["systems"]}
    found = {row["name"]: row["metrics"]["accuracy"]["value"] for row in again["systems"]}
    assert found == {name: pytest.approx(value, abs=1e-6) for name, value in wanted.items()}
    assert json.loads(run("predict", reference, "lovely crema", "--json").stdout)["answer"]["label"]


def test_a_refused_adapter_is_registered_but_not_promoted(run: Run, shop: Path) -> None:
    done = run(*sentiment(shop, "--set", "gate.min_gain=1"))
    assert done.returncode == 3
    assert "acme/sentiment@1, registered as refused" in done.stdout
    assert run("predict", "acme/sentiment", "lovely").returncode == 2
    assert run("predict", "acme/sentiment@1", "lovely").returncode == 0


def test_what_is_better_but_not_proven_becomes_a_candidate(run: Run, shop: Path) -> None:
    command = sentiment(shop, "--set", "data.max_test=2", "--set", "data.shots=4", "--set", "tune.epochs=30")
    done = run(*command, "--set", "blend=false")
    assert done.returncode == 0, done.stderr
    for shown in (
        "The adapter is a candidate",
        "test rows would decide",
        "acme/sentiment@1, registered as @candidate; @production is unchanged",
        "shopfit predict acme/sentiment@1 ",
        "shopfit registry promote acme/sentiment@1",
    ):
        assert shown in " ".join(done.stdout.split()), shown
    assert run("predict", "acme/sentiment@candidate", "lovely").returncode == 0
    nothing = run("predict", "acme/sentiment", "lovely")
    assert nothing.returncode == 2
    assert "acme/sentiment@candidate" in nothing.stderr
    assert "shopfit registry promote acme/sentiment@1" in " ".join(nothing.stderr.split())
    assert run("registry", "promote", "acme/sentiment@1").returncode == 0
    assert run("predict", "acme/sentiment", "lovely").returncode == 0


def test_the_same_row_again_is_no_more_evidence(run: Run, shop: Path) -> None:
    rows = [json.loads(line) for line in (shop / "reviews.test.jsonl").read_text().splitlines()[:2]]
    write_rows(shop / "reviews.test.jsonl", rows * 15)
    few = ("--set", "data.shots=4", "--set", "tune.epochs=30", "--set", "blend=false", "--json")
    document = json.loads(run(*sentiment(shop, *few)).stdout)
    assert (document["promoted"], document["candidate"]) == (False, True)
    assert "2 test rows do not prove it" in document["reason"]


@pytest.mark.parametrize(("recipe", "held_out"), [("sentiment", 24), ("products", 15)])
def test_answers_from_cross_validation_join_few_test_rows(run: Run, shop: Path, recipe: str, held_out: int) -> None:
    """All of the examples, each answered by what has learned from others; nobody's answer is told twice."""
    if recipe == "products":  # all of the searches are examples then
        test = [json.loads(line) for line in (shop / "searches.jsonl").read_text().splitlines()[:3]]
        write_rows(shop / "searches.test.jsonl", [row | {"query": f"other {row['query']}"} for row in test])
    done = run(
        *("adapter", "acme", str(shop / f"{recipe}.yaml"), "--data", str(shop), "--json", "--no-instant"),
        *("--set", "data.max_test=3"),
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    report = document["report"]
    assert (report["n_test"], report["n_held_out"]) == (3, held_out)
    assert f"with {held_out} answers from cross-validation" in document["reason"]
    assert document["promoted"] != document["candidate"]


def test_rank_with_plan_predict_and_evaluate(run: Run, shop: Path) -> None:
    arguments = ["acme", str(shop / "products.yaml"), "--data", str(shop)]
    plan = json.loads(run("plan", *arguments, "--json").stdout)
    assert plan["examples"] + plan["valid"] + plan["test"] == 15
    assert plan["train_seconds"] > 0
    assert plan["without_examples"] == ""
    assert "(1 epoch)" in run("plan", *arguments, "--set", "tune.epochs=1").stdout
    assert plan["trainable_parameters"] > 0
    made = run("adapter", *arguments, "--no-instant", "--json")
    document = json.loads(made.stdout)
    reference = document["version"]["merchant"] + "/products@1"
    ranked = json.loads(
        run("predict", reference, "--query", "warm bag", "--history", "tent", "--top", "2", "--json").stdout
    )
    assert len(ranked["answer"]["items"]) == 2
    assert "tent" not in [item["id"] for item in ranked["answer"]["items"]]
    again = json.loads(run("evaluate", reference, "--data", str(shop), "--json").stdout)
    wanted = {row["name"]: row["metrics"]["mrr"]["value"] for row in document["report"]["systems"]}
    assert {row["name"]: pytest.approx(row["metrics"]["mrr"]["value"], abs=1e-6) for row in again["systems"]} == wanted


@pytest.mark.proof
def test_the_same_run_twice_is_bitwise_the_same_adapter(run: Run, run_anew: Run, shop: Path) -> None:
    bundles = [Path(json.loads(command(*sentiment(shop, "--json")).stdout)["bundle"]) for command in (run, run_anew)]
    weights = [(bundle / "native" / "adapter_model.safetensors").read_bytes() for bundle in bundles]
    assert weights[0] == weights[1]


def test_a_full_disk_registers_nothing(shop: Path, run: Run, tmp_path: Path) -> None:
    """A file-size limit makes the kernel refuse the weights, as a full disk would."""
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000));"
        "sys.argv[0] = 'shopfit'; from shopfit.cli import main; main()"
    )
    run("registry", "ls")  # the registry is there before the disk fills up
    done = subprocess.run(
        [sys.executable, "-c", script, *sentiment(shop)], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "nothing was registered" in done.stderr
    assert json.loads(run("registry", "ls", "--json").stdout) == []


BAD = [
    ("reviews.jsonl", None, "reviews.jsonl", "a missing file"),
    ("reviews.jsonl", "", "reviews.jsonl", "an empty file"),
    ("reviews.jsonl", '{"text": "a", "label": "positive"}\n' * 16 + "{broken\n", "17", "bad JSON in row 17"),
    (
        "reviews.jsonl",
        '{"text": "a b", "label": "positive"}\n{"text": "c d", "label": "positive"}\n',
        "label",
        "one class only",
    ),
    ("reviews.jsonl", '{"text": "a b", "label": "positive"}\n', "2", "fewer than two examples"),
    ("merchant.yaml", "nam: acme\n", "name", "a misspelt key"),
]


@pytest.mark.parametrize(("file", "content", "said", "why"), BAD, ids=[why for *_, why in BAD])
def test_bad_data_is_one_clear_message(
    run: Run, shop: Path, file: str, content: str | None, said: str, why: str
) -> None:
    if content is None:
        (shop / file).unlink()
    else:
        (shop / file).write_text(content)
    done = run(*sentiment(shop))
    assert done.returncode == 2, why
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert "Next: " in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(run("registry", "ls", "--json").stdout) == []


def test_unknown_names_are_one_clear_message(run: Run, shop: Path, tmp_path: Path) -> None:
    write_rows(shop / "searches.jsonl", [{"query": "a", "relevant": ["nope"]}] * 3)
    for arguments, said in (
        (["adapter", "nobody", "review-sentiment"], "sample merchant 'nobody'"),
        (["adapter", "acme", "review-sentimnt", "--data", str(shop)], "review-sentiment"),
        (["adapter", "other", str(shop / "sentiment.yaml"), "--data", str(shop)], "'acme'"),
        (sentiment(shop, "--set", "tune.epoch=3"), "epochs"),
        (sentiment(shop, "--set", "base=nowhere-base"), "nowhere-base"),
        (["adapter", "acme", str(shop / "products.yaml"), "--data", str(shop)], "nope"),
        (["predict", "acme/sentiment", "x"], "acme/sentiment"),
        (["predict", "acme/../x", "x"], "acme/../x"),
    ):
        done = run(*arguments)
        assert done.returncode == 2, arguments
        assert said in done.stderr, arguments
        assert "Next: " in done.stderr
        assert "Traceback" not in done.stderr


def test_an_edited_bundle_is_named(run: Run, shop: Path) -> None:
    document = json.loads(run(*sentiment(shop, "--json")).stdout)
    (Path(document["bundle"]) / "report.json").write_text("{}")
    assert run("predict", "acme/sentiment@1", "x").returncode == 0  # a damaged cache is brought again
    blobs = Path(document["bundle"]).parents[1] / "blobs"
    for blob in blobs.rglob("*"):
        if blob.is_file() and blob.stat().st_size > 10_000:
            blob.chmod(0o644)
            blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    verify = run("registry", "verify")
    assert verify.returncode == 2
    assert "acme/sentiment@1" in verify.stderr


def test_errors_are_json_too(run: Run) -> None:
    done = run("predict", "acme/none", "x", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["kind"] == "UnknownReference"


def test_bad_arguments_are_found_without_torch(shop: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "shopfit", *sentiment(shop, "--set", "tune.epochs=none")]
    probe = subprocess.run(command, capture_output=True, text=True, check=False)
    assert probe.returncode == 2
    assert "| torch\n" not in probe.stderr


@pytest.mark.parametrize("recipe", ["sentiment", "products"])
def test_a_training_that_diverges_becomes_no_version(run: Run, shop: Path, home: Path, recipe: str) -> None:
    wild = ("adapter.method=adalora", "adapter.alpha=1e20", "tune.lr=1", "tune.epochs=20")
    settings = [word for one in wild for word in ("--set", one)]
    done = run("adapter", "acme", str(shop / f"{recipe}.yaml"), "--data", str(shop), "--no-instant", *settings)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "the training diverged: the " in done.stderr
    assert " is not finite, on the examples " in done.stderr
    assert "lower tune.lr" in done.stderr
    assert "Traceback" not in done.stderr
    assert state(home) == []
    assert json.loads(run("registry", "ls", "--json").stdout) == []
