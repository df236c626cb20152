"""What Accelerate's configuration may ask for: the shipped files, and all that is refused in one message.

That a sharded base is trained on as a whole one is shown in test_processes.py.
"""

from pathlib import Path

import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env
from tests.base.tiny import save_tiny
from tests.tune.reviews import RECIPE

from shopfit.base.load import load_base
from shopfit.errors import BaseError, RecipeError, ShopfitError
from shopfit.recipe.loading import dump_recipe
from shopfit.recipe.schema import Recipe
from shopfit.settings import Settings
from shopfit.tune.run_context import base_of
from shopfit.tune.sharding import problems_of
from shopfit.tune.trainer import make_accelerator

FILES = Path(__file__).parents[2] / "deploy" / "accelerate"


def environment(name: str) -> dict[str, str]:
    """What Accelerate's launcher says to the processes that a shipped file starts."""
    asked = ["--config_file", str(FILES / name), "-m", "shopfit"]
    arguments, *_ = _validate_launch_command(launch_command_parser().parse_args(asked))
    assert (arguments.num_processes, arguments.num_machines, arguments.multi_gpu) == (4, 1, name == "ddp.yaml")
    return dict(prepare_multi_gpu_env(arguments))


def test_every_shipped_file_is_read_by_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sorted(path.name for path in FILES.iterdir()) == ["ddp.yaml", "fsdp2.yaml"]
    assert "ACCELERATE_USE_FSDP" not in environment("ddp.yaml")
    for key, value in environment("fsdp2.yaml").items():
        monkeypatch.setenv(key, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert list(problems_of(plugin)) == []


def test_settings_of_fsdp_that_would_mean_nothing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "false")  # which Accelerate writes to
    first = FullyShardedDataParallelPlugin(fsdp_version=1, cpu_ram_efficient_loading=False)
    assert [problem.where for problem in problems_of(first)] == ["fsdp_version"]
    other = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        reshard_after_forward=False,
        cpu_offload=True,
        cpu_ram_efficient_loading=True,
        activation_checkpointing=True,
    )
    assert [problem.where for problem in problems_of(other)] == [
        "fsdp_reshard_after_forward",
        "fsdp_offload_params",
        "fsdp_cpu_ram_efficient_loading",
        "fsdp_activation_checkpointing",
    ]


def test_fsdp_that_accelerate_does_not_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in environment("fsdp2.yaml").items():
        monkeypatch.setenv(key, value)
    with pytest.raises(ShopfitError, match="was asked for FSDP and runs NO on cpu, processes: 1") as refused:
        make_accelerator(RECIPE, shards=True)
    assert "ddp.yaml" in refused.value.next_step
    with pytest.raises(ShopfitError, match="`shopfit adapter` alone shards its base"):
        make_accelerator(RECIPE)
    older = {"VERSION": "1", "RESHARD_AFTER_FORWARD": "FULL_SHARD", "SYNC_MODULE_STATES": "true"}
    for key, value in older.items():
        monkeypatch.setenv(f"FSDP_{key}", value)
    with pytest.raises(ShopfitError, match=r"Accelerate refuses its configuration of FSDP: .* no available devices"):
        make_accelerator(RECIPE, shards=True)


@pytest.mark.parametrize(("key", "name"), [("DEEPSPEED", "DeepSpeed"), ("MEGATRON_LM", "Megatron-LM")])
def test_other_ways_to_shard_are_refused(key: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{key}", "true")
    with pytest.raises(ShopfitError, match=f"configured for {name}, which is not supported") as refused:
        make_accelerator(RECIPE, shards=True)
    assert "fsdp2.yaml" in refused.value.next_step


def test_dora_on_a_sharded_base_is_refused_before_it_is_loaded(tiny_base: Path, settings: Settings) -> None:
    recipe = dump_recipe(RECIPE) | {"base": str(tiny_base), "adapter": {"method": "lora", "dora": True}}
    with pytest.raises(RecipeError, match=r"DoRA does not work on the base .* where it is sharded") as refused:
        base_of(Recipe.model_validate(recipe), settings, "cpu", sharded=True)
    assert "adapter.dora=false" in refused.value.next_step


def test_bases_that_are_not_sharded_are_refused(tiny_base: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    home, both = tmp_path / "home", tmp_path / "both"
    save_tiny(both, "t5", "AutoModelForSeq2SeqLM", decoder_start_token_id=0)
    for base in (tiny_encoder, both):
        with pytest.raises(BaseError, match="only decoders are sharded"):
            load_base(str(base), home, device="cpu", sharded=True)
    with pytest.raises(BaseError, match="cannot be sharded in int8") as refused:
        load_base(str(tiny_base), home, quantization="int8", device="cpu", sharded=True)
    assert "nf4" in refused.value.next_step
