"""Every shipped recipe on its sample merchant with LoRA, and review-sentiment with AdaLoRA and prefix tuning as well.

`make bench-recipes`: each run is the whole main job, in a process of its own; the peer is the bare base.
"""

import json
import subprocess
import sys
import time

from shopfit.libraries import quiet
from shopfit.recipe.tasks import METRICS
from tests.bench.results import Row, publish

RUNS = (
    ("trailhead", "product-recommendation", "lora"),
    ("trailhead", "ad-recommendation", "lora"),
    ("trailhead", "content-recommendation", "lora"),
    ("trailhead", "behaviour-prediction", "lora"),
    ("crema", "review-sentiment", "lora"),
    ("crema", "review-sentiment", "adalora"),
    ("crema", "review-sentiment", "prefix"),
    ("foliant", "support-intent", "lora"),
    ("foliant", "user-profile", "lora"),
    ("crema", "review-stars", "lora"),
    ("foliant", "review-stars", "lora"),
    ("trailhead", "review-stars", "lora"),
)


def measure() -> list[Row]:
    """A row a run: the recipe's metric for adapter and base, and what the gate said."""
    rows = []
    for merchant, recipe, method in RUNS:
        started = time.perf_counter()
        command = [sys.executable, "-m", "shopfit", "adapter", merchant, recipe, "--set", f"adapter.method={method}"]
        done = subprocess.run([*command, "--json"], stdout=subprocess.PIPE, text=True, check=False)
        report = json.loads(done.stdout)["report"]
        seconds = time.perf_counter() - started
        metric = report["metric"]
        value = {row["name"]: row["metrics"][metric]["value"] for row in report["systems"]}
        others = [row["name"] for row in report["systems"] if row["kind"] != "adapter"]
        best = max(others, key=lambda name: METRICS[metric].merit(value[name]))
        what = f"{merchant}/{recipe} {method}, {seconds:.0f} s; best other: {best} {value[best]:.3f}"
        promoted = report["verdict"]["promote"]
        rows.append(Row(what, value["adapter"], value["base"], metric, "gate promotes", promoted))
    return rows


if __name__ == "__main__":
    quiet()
    publish("bench-recipes", measure())
