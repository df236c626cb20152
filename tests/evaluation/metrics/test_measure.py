import subprocess
import sys
from pathlib import Path

import evaluate
import numpy as np
import pytest

from shopfit.errors import RecipeError
from shopfit.evaluation import ChoosePredictions, measure
from shopfit.evaluation.metrics import module
from shopfit.recipe.tasks import METRICS
from shopfit.tasks import DEFINED
from shopfit.tasks.metric import metric

PREDICTIONS = ChoosePredictions(("a", "b"), np.array([[0.9, 0.1], [0.4, 0.6]]), np.array([0, 1]))


def test_every_metric_a_recipe_may_name_has_a_module_that_says_what_it_is() -> None:
    assert set(DEFINED) == set(METRICS)
    for name in METRICS:
        found = module(name)
        assert isinstance(found, evaluate.Metric)
        assert found.metric == name
        assert found.description != type(found).__mro__[1].__doc__
        assert "predictions" in found.inputs_description


def test_no_metric_is_defined_twice() -> None:
    defined = DEFINED["mrr"]
    with pytest.raises(ValueError, match=r"'mrr' of .*test_measure is there already, in shopfit\.tasks\.rank"):
        metric("mrr")(lambda predictions, k: defined.of(predictions, k))
    assert DEFINED["mrr"] is defined


def test_modules_combine() -> None:
    combined = evaluate.combine([module("accuracy"), module("log_loss")])
    found = combined.compute(predictions=[[0.9, 0.1], [0.4, 0.6]], references=[0, 1])
    assert found == measure(PREDICTIONS, ["accuracy", "log_loss"])


def test_batches_add_up() -> None:
    found = module("accuracy")
    found.add_batch(predictions=[[0.9, 0.1]], references=[0])
    found.add_batch(predictions=[[0.9, 0.1]], references=[1])
    assert found.compute() == {"accuracy": 0.5}


def test_measuring_writes_no_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import numpy as np; from shopfit.evaluation import ChoosePredictions, measure;"
        "print(measure(ChoosePredictions(('a', 'b'), np.array([[.9, .1]]), np.array([0])), ['accuracy']))"
    )
    monkeypatch.setenv("HF_HOME", str(home / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'accuracy': 1.0}"
    assert not list((home / "hf").rglob("*.arrow"))
    assert not (home / "hf" / "evaluate").exists()
    assert not (home / "hf" / "metrics").exists()


def test_a_metric_of_another_task_is_refused_with_the_ones_allowed() -> None:
    with pytest.raises(RecipeError, match=r"'mrr' is not a metric of task choose[\s\S]*accuracy, macro_f1"):
        measure(PREDICTIONS, ["accuracy", "mrr"])
    with pytest.raises(RecipeError, match="there is no metric 'f1'"):
        module("f1")


def test_asking_for_nothing_and_twice_for_one() -> None:
    assert measure(PREDICTIONS, []) == {}
    assert measure(PREDICTIONS, ["accuracy", "accuracy"]) == {"accuracy": 1.0}


def test_importing_evaluation_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'sklearn', 'matplotlib', 'evaluate', 'datasets', 'bm25s', 'rich', 'transformers', 'pandas'}"
    script = f"import shopfit.evaluation, sys; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
