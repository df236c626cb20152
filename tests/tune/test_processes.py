"""Several processes train one adapter: the same on each as one alone would, and registered once."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.tune.process_cases import (
    KINDS,
    SHARDED,
    Case,
    cases,
    load_bases,
    load_decoder,
    save_bases,
    train,
)

LOST = "another process of this run has ended or cannot be reached, so this one ends too; nothing was registered"
REVIEWS = [
    ("lovely crema", "positive"),
    ("arrived cracked", "negative"),
    ("would buy again", "positive"),
    ("the box was wet", "negative"),
]


@pytest.fixture
def shop(tmp_path: Path, tiny_base: Path) -> Path:
    """A merchant's folder with a recipe beside it."""
    folder = tmp_path / "acme"
    folder.mkdir()
    (folder / "merchant.yaml").write_text("name: acme\n")
    for name, count in (("reviews.jsonl", 24), ("reviews.test.jsonl", 8)):
        rows = [
            {"text": f"{REVIEWS[row % 4][0]}, {name[:9]} order number {row}{row}{row}", "label": REVIEWS[row % 4][1]}
            for row in range(count)
        ]
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "name": "sentiment",
        "task": "choose",
        "base": str(tiny_base),
        "data": {
            "file": "reviews.jsonl",
            "near_duplicate": 1.0,
            "augment": [{"step": "typos"}, {"step": "paraphrase", "model": str(tiny_base), "versions": 1}],
        },
        "prompt": {"template": "Review: {text}\nSentiment:"},
        "tune": {"epochs": 2, "lr": 0.01, "adversarial": 0.5, "contrastive": 0.2},
        "evaluate": {"metric": "accuracy"},
    }
    (tmp_path / "sentiment.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def launched(*command: str) -> "subprocess.Popen[str]":
    """The same Python command in two processes that train together on the CPU."""
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv-backend", "c10d"]
    return subprocess.Popen(
        [sys.executable, *launcher, "--rdzv-endpoint", "localhost:0", "-m", *command],
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_make_one_version(shop: Path, home: Path) -> None:
    recipe = str(shop.parent / "sentiment.yaml")
    running = launched("shopfit", "adapter", "acme", recipe, "--data", str(shop), "--json")
    stdout, stderr = running.communicate(timeout=1200)
    start = stdout.find("{")
    assert start >= 0, stderr
    answer = json.loads(stdout[start:])
    assert (answer["version"]["number"], answer["instant"]["number"]) == (2, 1)
    manifest = json.loads((Path(answer["bundle"]) / "bundle.json").read_text())
    assert manifest["processes"] == 2
    assert len(list((home / "rewrites").glob("*/*.json"))) == len(manifest["data"]["train"])
    assert manifest["steps"] == 2 * 3  # 19 or 20 examples are 3 steps of 8, on any number of processes


@pytest.mark.usefixtures("shop")
def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    save_bases(tmp_path)
    running = launched("tests.tune.process_cases", str(tmp_path), str(tmp_path))
    bases = load_bases(tmp_path)
    alone = {case.name: train(case, bases) for case in cases()}
    whole = {"none": bases, "nf4": load_decoder(tmp_path, "nf4")}
    unsharded = {name: {case.name: train(case, whole[name]) for case in trained} for name, trained in SHARDED.items()}
    _, stderr = running.communicate(timeout=1200)
    assert running.returncode == 0, stderr
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first.pop("processes") == second.pop("processes") == {"processes": 2}
    for quantization, wanted in unsharded.items():
        ranks = [done.pop(quantization) for done in (first, second)]
        measured, nothing = (done.pop("job") for done in ranks)
        assert not measured["sharded"]
        assert measured["accuracy"] > 0.75
        assert nothing == {}  # the first process alone measures
        assert sum(done.pop("held")["held"] for done in ranks) == pytest.approx(1)
        for name, one in wanted.items():
            assert_same([done[name] for done in ranks], one, f"{quantization} {name}")
    patterns = 0
    for case in cases():
        one, *ranks = (done[case.name] for done in (alone, first, second))
        assert_same(ranks, one, case.name)
        if not case.tune:  # else there are more forwards than one a row
            assert sorted(one["read"]) == sorted(ranks[0]["read"] + ranks[1]["read"]), case.name
            if case.kind == "decoder":  # others read answers apart, or have another embedding
                assert sorted(one["read"]) == sorted([*range(case.rows)] * case.epochs), case.name
        if case.method == "adalora" and len(ranks[0]["ranks"]) == len(ranks[1]["ranks"]):
            assert ranks[0]["ranks"] == ranks[1]["ranks"], case.name
            patterns += len(set(map(tuple, ranks[0]["ranks"]))) > 1
    assert patterns  # something was pruned on the way


def assert_same(ranks: list[dict[str, Any]], one: dict[str, Any], name: str) -> None:
    """Two processes came to bitwise the same weights, and to those of one process."""
    for mine, other, wanted in zip(ranks[0]["state"], ranks[1]["state"], one["state"], strict=True):
        assert torch.equal(mine, other), name
        torch.testing.assert_close(mine, wanted, rtol=0, atol=1e-5, msg=name)
    assert ranks[0]["losses"] == ranks[1]["losses"] == pytest.approx(one["losses"], abs=1e-5), name


@pytest.mark.parametrize("kind", KINDS)
def test_forwards_of_a_step_add_up_to_one(kind: str, tmp_path: Path) -> None:
    save_bases(tmp_path)
    bases = load_bases(tmp_path)
    of_kind = {
        "decoder": Case(kind, "generate", "adalora", 9, 1),
        "encoder": Case(kind, "rank", "lora", 9, 1, {"negatives": 2}),
        "encoder-decoder": Case(kind, "choose", "lora", 9, 1, {"adversarial": 0.5, "contrastive": 0.3}),
    }
    case = of_kind[kind]
    whole = train(case, bases)
    for times in (2, 4):
        parts = train(replace(case, accumulate=times), bases)
        for mine, wanted in zip(parts["state"], whole["state"], strict=True):
            torch.testing.assert_close(mine, wanted, rtol=0, atol=1e-5)
        assert parts["losses"] == pytest.approx(whole["losses"], abs=1e-5)


def started(shop: Path, *more: str) -> "list[subprocess.Popen[str]]":
    """The main job in two processes, each of which is ended by itself."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    asked = ["adapter", "acme", str(shop.parent / "sentiment.yaml"), "--data", str(shop), "--no-instant", *more]
    known = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
    return [
        subprocess.Popen(
            [sys.executable, "-u", "-m", "shopfit", *asked],
            env=os.environ | known | {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


def told(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith("error: ")]


def test_what_ends_the_first_process_before_any_training_ends_the_other_with_one_message(shop: Path) -> None:
    (shop / "merchant.yaml").write_text("name: acme\nlanguage: de\n")  # which has no synonyms
    first, second = started(shop, "--set", 'data.augment=[{"step": "synonyms"}]')
    try:
        said = [running.communicate(timeout=600)[1] for running in (first, second)]
    finally:
        first.kill()
        second.kill()
    assert "synonyms" in told(said[0])[0], said[0]
    assert told(said[1]) == [f"error: {LOST}"], said[1]
    assert "Traceback" not in said[0] + said[1]
    assert (first.returncode, second.returncode) == (2, 2)


def test_a_killed_process_ends_the_other(shop: Path, home: Path) -> None:
    first, second = started(shop, "--set", "tune.epochs=1000", "--set", "data.augment=[]")
    try:
        assert first.stdout is not None
        for line in first.stdout:
            if "folds" in line:  # which train first
                break
        second.kill()
        _, stderr = first.communicate(timeout=600)
    finally:
        first.kill()
        second.kill()
        second.communicate()
    assert first.returncode == 2, stderr
    assert told(stderr) == [f"error: {LOST}"], stderr
    assert "Traceback" not in stderr
    assert not (home / "blobs").exists() or not list((home / "blobs").rglob("*.safetensors"))
