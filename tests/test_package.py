import re
import subprocess
import sys
from pathlib import Path

import shopfit

ROOT = Path(__file__).parents[1]


def test_every_public_name_is_there_and_sorted() -> None:
    assert list(shopfit.__all__) == sorted(shopfit.__all__)
    assert all(getattr(shopfit, name) is not None for name in shopfit.__all__)


def test_the_changelog_opens_with_this_version() -> None:
    first = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first is not None
    assert first[1] == shopfit.__version__


def test_files_fit_in_a_head_and_have_names() -> None:
    files = list((ROOT / "adapters").rglob("*.py"))
    assert len(files) > 50
    assert [str(path) for path in files if len(path.read_text().splitlines()) > 400] == []
    assert [str(path) for path in files if re.search(r"(utils?|helpers?|common|misc|manager)", path.stem)] == []


HEAVY = {"torch", "transformers", "peft", "sklearn"}


def test_requests_answers_and_errors_need_no_torch() -> None:
    """A gateway imports them, and holds no model."""
    tasks = sorted(
        path.stem for path in (ROOT / "adapters/shopfit/tasks").glob("*.py") if path.stem not in {"__init__", "losses"}
    )
    modules = ["errors", "documents", "settings", "registry.registry", "tasks", *(f"tasks.{name}" for name in tasks)]
    names = [name for name in shopfit.__all__ if name != "Engine"]
    code = f"""
import sys
from importlib import import_module
for module in {modules}:
    import_module("shopfit." + module)
from shopfit import {", ".join(names)}
print(*sorted({HEAVY} & set(sys.modules)))
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == []
