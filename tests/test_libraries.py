"""Threads for the cores that a process may use, a warning where others use them, and imports that wait."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from shopfit.libraries import compiled_late, crowded, openmp_waits

THREADS = (
    "from shopfit.libraries import share_cores; share_cores(); import os; print(os.environ.get('OMP_NUM_THREADS'))"
)


def threads(**environment: str) -> int:
    known = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, "-c", THREADS]
    done = subprocess.run(command, env=known | environment, capture_output=True, text=True, timeout=600, check=True)
    return int(done.stdout)


def test_a_quota_of_cores_bounds_the_threads() -> None:
    assert threads(LOKY_MAX_CPU_COUNT="1") == 1  # what stands for a container's quota, where there is none to test with
    assert threads(LOKY_MAX_CPU_COUNT="1", OMP_NUM_THREADS="2") == 2, "who sets it is heeded"


def test_threads_stay_awake_between_products_where_cores_are_free() -> None:
    assert openmp_waits(3.0) == {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "1000"}
    assert openmp_waits(50.0) == {"OMP_WAIT_POLICY": "PASSIVE"}
    said = "from shopfit.libraries import share_cores; share_cores(); import os; print(len(os.environ.get('{}', '')))"
    known = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    chosen = {"OMP_WAIT_POLICY": "PASSIVE"}
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        command = [sys.executable, "-c", said.format(name)]
        done = subprocess.run(command, env=known | chosen, capture_output=True, text=True, timeout=600, check=True)
        assert int(done.stdout) == len(chosen.get(name, "")), "who sets it is heeded"


@pytest.mark.parametrize("command", [["plan", "crema", "nothing"], ["predict", "no/thing", "x"], ["--version"]])
def test_numpy_multiplies_on_one_thread_in_every_command(command: list[str], tmp_path: Path) -> None:
    said = (
        f"import atexit, sys; sys.argv[1:] = {command}; from shopfit.cli import main\n"
        "@atexit.register\ndef tell():\n    import numpy, threadpoolctl\n    print(file=sys.stderr)\n"
        "    found = threadpoolctl.threadpool_info()\n"
        "    print({one['num_threads'] for one in found if one['internal_api'] == 'openblas'}, file=sys.stderr)\n"
        "main()"
    )
    known = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", said],
        env=known | {"SHOPFIT_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.stderr.endswith("\n{1}\n"), done.stderr


def test_busy_cores_are_told_of() -> None:
    assert crowded(0.9, 2) == ""
    assert crowded(2.0, 2).endswith("about 2.0 times as long as alone")
    assert crowded(9.0, 2) == "9.0 other processes are busy on 2 cores: this takes about 5.5 times as long as alone"


def test_what_imports_compile_is_compiled_when_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "peft", raising=False)  # which it is there for
    asked: list[object] = []

    def compiler(module: torch.fx.GraphModule, _inputs: object) -> object:
        asked.append(module)
        return module.forward

    with compiled_late():

        @torch.compile(backend=compiler)  # type: ignore[untyped-decorator]
        def twice(number: torch.Tensor) -> torch.Tensor:
            return 2 * number

        thrice = torch.compile(lambda number: 3 * number, backend=compiler)
    assert asked == []
    assert [float(twice(torch.tensor(4.0))) for _ in range(2)] == [8, 8]
    assert len(asked) == 1
    assert float(thrice(torch.tensor(4.0))) == 12
    assert len(asked) == 2


def test_an_adapter_is_put_on_without_torchs_compiler() -> None:
    said = (
        "import sys; from shopfit.libraries import compiled_late\nwith compiled_late(): import peft\n"
        "assert 'bitsandbytes' in sys.modules; print('torch._inductor.compile_fx' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, timeout=600, check=True)
    assert done.stdout.strip() == "False"
