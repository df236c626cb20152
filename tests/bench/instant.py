"""`make bench-instant`: how long the version takes that needs no training, and what it is worth.

With a folder of real data: the head in closed form against mean directions and logistic regression, all on the bare
encoder's vectors, by the examples of each intent (CLINC150, Bitext).
"""

import csv
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from torch import Tensor
from torch.nn.functional import normalize

from shopfit.adapter.discriminant import WORDS, discriminant, worth_of_words
from shopfit.base.embed import Embedder
from shopfit.libraries import quiet
from shopfit.merchant.merchant import Merchant
from shopfit.onboarding import onboard
from shopfit.recipe.loading import load_recipe
from shopfit.settings import Settings
from tests.bench.results import ROOT, Row, publish

Vectors = tuple[Tensor, list[int]]
JOBS = (  # merchant, recipe, settings, seconds in a new process and in a warm one, least metric
    ("foliant", "support-intent", ("data.shots=75",), 8.0, 3.0, None),
    ("trailhead", "product-recommendation", (), None, 10.0, 0.75),
)
SHOTS = (1, 2, 5, 10, 20, 50)
DRAWS = 5


def times() -> list[Row]:
    """Seconds of the instant version, in a process of its own and in one that has made another."""
    found = []
    for merchant, name, overrides, cold, warm, least in JOBS:
        with tempfile.TemporaryDirectory() as home:
            (Path(home) / "bases").symlink_to(Settings.from_environment().home / "bases")
            changes = [word for one in overrides for word in ("--set", one)]
            command = [sys.executable, "-m", "shopfit", "adapter", merchant, name, "--instant", *changes]
            started = time.perf_counter()
            subprocess.run(command, env=os.environ | {"SHOPFIT_HOME": home}, stdout=subprocess.DEVNULL, check=True)
            seconds = time.perf_counter() - started
            settings = Settings(Path(home), f"sqlite:///{home}/registry.db", str(Path(home) / "blobs"))
            recipe = load_recipe(name, overrides=("tune.steps=0", *overrides))
            folder = ROOT / "recipes" / "samples" / merchant
            took = []
            for _ in range(4):
                started = time.perf_counter()
                done = onboard(Merchant.open(folder), recipe, settings=settings, actor="bench")
                took.append(time.perf_counter() - started)
        assert done is not None
        reached, again = done.report.adapter.metrics[recipe.evaluate.metric].value, min(took[1:])
        what = f"{merchant}/{name}"
        limit = "" if cold is None else f"at most {cold:.0f} s"
        found += [
            Row(
                f"{what}: instant, a new process", seconds, None, "s", limit, None if cold is None else seconds <= cold
            ),
            Row(f"{what}: instant, a warm process", again, None, "s", f"at most {warm:.0f} s", again <= warm),
            Row(
                f"{what}: instant, {recipe.evaluate.metric}",
                reached,
                None,
                "",
                "" if least is None else f"at least {least}",
                None if least is None else reached >= least,
            ),
        ]
    return found


def heads(data: Path) -> list[Row]:
    """Macro-F1 of the discriminant, of mean directions and of logistic regression, the mean of all draws."""
    embed = Embedder.load(Settings.from_environment().home, device="cpu")
    clinc = json.loads((data / "intents" / "clinc_dev.json").read_text(encoding="utf-8"))
    with (data / "intents" / "bitext_train.csv").open(encoding="utf-8") as file:
        rows = [(row["utterance"], row["intent"]) for row in csv.DictReader(file)]
    random.Random(0).shuffle(rows)
    domains = [
        ([row for row in clinc["train"] if row[1] in names], [row for row in clinc["val"] if row[1] in names])
        for names in clinc["domains"].values()
    ]
    found = []
    for name, sets in (("CLINC150, 6 domains of 15", domains), ("Bitext, 27", [(rows[:1500], rows[1500:3000])])):
        for shots in SHOTS[: 6 if name.startswith("CLINC") else 5]:
            ours, means, regression = _compared(embed, sets, shots)
            found += [
                Row(f"{name}, {shots} a label; peer: mean directions", ours, means, "macro-F1", "", None),
                Row(f"{name}, {shots} a label; peer: logistic regression", ours, regression, "macro-F1", "", None),
            ]
    return found


def _compared(embed: Embedder, sets: Any, shots: int) -> tuple[float, float, float]:
    scores: list[tuple[float, float, float]] = []
    for train, test in sets:
        labels = sorted({label for _, label in train})
        words = torch.from_numpy(embed([label.replace("_", " ") for label in labels]))
        (x, y), (asked, gold) = (_vectors(embed, part, labels) for part in (train, test))
        for seed in range(DRAWS):
            draw = random.Random(seed)
            of = [[place for place, label in enumerate(y) if label == each] for each in range(len(labels))]
            places = [place for some in of for place in draw.sample(some, min(shots, len(some)))]
            vectors, classes = x[places], [y[place] for place in places]
            weights, biases = discriminant(vectors, classes, words, worth_of_words(vectors, classes, words))
            member = torch.nn.functional.one_hot(torch.tensor(classes), len(labels)).float()
            means = normalize(WORDS * words + member.T @ vectors, dim=-1)
            model = LogisticRegression(C=10, class_weight="balanced", max_iter=1000).fit(vectors.numpy(), classes)
            answers = (asked @ weights.T + biases).argmax(1), (asked @ means.T).argmax(1), model.predict(asked.numpy())
            one, two, three = (float(f1_score(gold, np.asarray(said), average="macro")) for said in answers)
            scores.append((one, two, three))
    one, two, three = (statistics.mean(column) for column in zip(*scores, strict=True))
    return one, two, three


def _vectors(embed: Embedder, rows: Any, labels: list[str]) -> Vectors:
    return torch.from_numpy(embed([text for text, _ in rows])), [labels.index(label) for _, label in rows]


if __name__ == "__main__":
    quiet()
    publish("bench-instant", [*times(), *(heads(Path(sys.argv[1])) if len(sys.argv) > 1 else [])])
