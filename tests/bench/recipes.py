"""Every shipped recipe on its sample merchant with LoRA, and one each with AdaLoRA and prefix tuning as well.

`make bench-recipes`: each run is the whole main job, in a process of its own; the peer of its metric is the bare base,
that of its time and memory what `shopfit plan` said before. RUNS= names a part of them, such as trailhead/product.
"""

import json
import subprocess
import sys
import time
from typing import Any

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
    ("foliant", "support-intent", "lora"),
    ("foliant", "user-profile", "lora"),
    ("foliant", "user-profile", "prefix"),
    ("crema", "review-stars", "lora"),
    ("foliant", "review-stars", "lora"),
    ("trailhead", "review-stars", "lora"),
)


_TIME, _MEMORY = 0.30, 0.15  # that a plan may be off by


def measure(only: str = "") -> list[Row]:
    """Rows of a run: the recipe's metric for adapter and base, what the gate said; time and memory, and the plan's.

    Args:
        only: a part of the names of the runs that are wanted, such as "trailhead/product"; all by default.
    """
    rows = []
    for merchant, recipe, method in RUNS:
        if only not in f"{merchant}/{recipe} {method}":
            continue
        options = [merchant, recipe, "--set", f"adapter.method={method}", "--json"]
        planned = _said(["plan", *options])[0]
        started = time.perf_counter()
        done = _said(["adapter", *options])[-1]
        seconds = time.perf_counter() - started
        report = done["report"]
        metric = report["metric"]
        value = {row["name"]: row["metrics"][metric]["value"] for row in report["systems"]}
        others = [row["name"] for row in report["systems"] if row["kind"] != "adapter"]
        best = max(others, key=lambda name: METRICS[metric].merit(value[name]))
        what = f"{merchant}/{recipe} {method}"
        promoted = report["verdict"]["promote"]
        note = f"{what}; best other: {best} {value[best]:.3f}"
        rows.append(Row(note, value["adapter"], value["base"], metric, "gate promotes", promoted))
        for name, took, plan, unit, most in (
            ("time", seconds, planned["seconds"], "s", _TIME),
            ("memory", report["peak_memory_mb"], planned["peak_memory_mb"], "MB", _MEMORY),
        ):
            ratio = plan / took
            reach = f"within {most:.0%}"
            rows.append(
                Row(f"{what}: {name}; peer: as planned", took, plan, unit, reach, abs(ratio - 1) <= most, ratio)
            )
    return rows


def _said(command: list[str]) -> list[dict[str, Any]]:
    """The JSON documents that a command prints."""
    done = subprocess.run([sys.executable, "-m", "shopfit", *command], stdout=subprocess.PIPE, text=True, check=False)
    decoder, found, text = json.JSONDecoder(), [], done.stdout.strip()
    while text:
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:].strip()
    return found


if __name__ == "__main__":
    quiet()
    publish("bench-recipes", measure(*sys.argv[1:]))
