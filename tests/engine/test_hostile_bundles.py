"""Bundles that somebody wrote who means no good, or a disk that lies: each answers or is refused with its reason.

`SHOPFIT_FUZZ_CASES` says how many are tried.
"""

import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from tests.engine.conftest import ITEMS

from shopfit.adapter.artifacts import CATALOG, FUSION, HISTORY
from shopfit.adapter.bundle import MANIFEST, Bundle, HeldBundle, parse_manifest, seal
from shopfit.adapter.stack import Stack
from shopfit.adapter.weight_files import CONFIG, WEIGHTS
from shopfit.adapter.weights import load_weights
from shopfit.base.load import Base, load_base
from shopfit.engine import ChooseRequest, Engine, RankRequest, Tenant
from shopfit.engine.adapter_cache import AdapterCache
from shopfit.engine.adapter_loader import AdapterLoader
from shopfit.errors import BundleError, ShopfitError

CASES = int(os.environ.get("SHOPFIT_FUZZ_CASES", "150"))
QuickBundle = Callable[..., Bundle]
LORA_WEIGHTS, LORA_CONFIG = f"lora/{WEIGHTS}", f"lora/{CONFIG}"
LAYER = "base_model.model.model.layers.0.self_attn.q_proj"

Tensors = dict[str, torch.Tensor]


def contents_of(bundle: Bundle) -> dict[str, bytes]:
    return {
        str(path.relative_to(bundle.folder)): path.read_bytes() for path in bundle.folder.rglob("*") if path.is_file()
    }


def held(contents: dict[str, bytes]) -> HeldBundle:
    """As a registry gives it."""
    return HeldBundle(parse_manifest(contents[MANIFEST], MANIFEST), contents)


def with_weights(bundle: Bundle, change: Callable[[Tensors], Tensors | None]) -> HeldBundle:
    contents = contents_of(bundle)
    tensors = load(contents[LORA_WEIGHTS])
    changed = change(tensors)
    return held(contents | {LORA_WEIGHTS: save(contiguous(tensors if changed is None else changed))})


def contiguous(tensors: Tensors) -> Tensors:
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def with_manifest(bundle: Bundle, **said: Any) -> dict[str, bytes]:
    contents = contents_of(bundle)
    return contents | {MANIFEST: json.dumps(json.loads(contents[MANIFEST]) | said).encode()}


def swap(name: str, tensor: torch.Tensor) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        tensors[f"{LAYER}.{name}.weight"] = tensor

    return change


def drop(name: str) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        tensors.pop(f"{LAYER}.{name}.weight")

    return change


def cast(dtype: torch.dtype) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: tensor.to(dtype) for name, tensor in tensors.items()}


BAD_WEIGHTS: dict[str, tuple[Callable[[Tensors], Tensors | None], str]] = {
    "A without B": (drop("lora_B"), "has no lora_B for 'model.layers.0.self_attn.q_proj'"),
    "B without A": (drop("lora_A"), "has no lora_A for"),
    "0-d": (swap("lora_A", torch.tensor(1.0)), r"lora_A \(\)"),
    "1-d": (swap("lora_B", torch.ones(64)), r"lora_B \(64,\)"),
    "3-d": (swap("lora_A", torch.ones(2, 64, 1)), r"lora_A \(2, 64, 1\)"),
    "A of another rank than B": (swap("lora_A", torch.ones(3, 64)), r"lora_A \(3, 64\), lora_B \(64, 2\)"),
    "another width": (lambda t: {k: v[:, :5] if "lora_A" in k else v for k, v in t.items()}, r"shape \(2, 5\)"),
    "no width": (lambda t: {k: v[:, :0] if "lora_A" in k else v for k, v in t.items()}, r"shape \(2, 0\)"),
    "rank 0": (lambda t: {k: v[:0] if "lora_A" in k else v[:, :0] for k, v in t.items()}, "layers of rank 0"),
    "a rank a layer": (
        lambda t: t | {f"{LAYER}.lora_A.weight": torch.ones(3, 64), f"{LAYER}.lora_B.weight": torch.ones(64, 3)},
        "layers of rank 2, 3",
    ),
    "another rank than the manifest's": (
        lambda t: {k: v[:1] if "lora_A" in k else v[:, :1] for k, v in t.items()},
        r"r: 2 \(allowed: 1, the rank of the weights",
    ),
    "nothing": (lambda _: {}, "holds no LoRA weights"),
    "integers": (cast(torch.int32), "as int32"),
    "truth": (cast(torch.bool), "as bool"),
    "complex numbers": (cast(torch.complex64), "as complex64"),
    "eight bits": (cast(torch.float8_e4m3fn), "as float8_e4m3fn"),
    "a layer that is not there": (
        lambda t: {k.replace("layers.0", "layers.9"): v for k, v in t.items()},
        r"model\.layers\.9",
    ),
    "no prefix": (lambda t: {k.removeprefix("base_model.model."): v for k, v in t.items()}, "is no LoRA weight"),
    "an empty name": (lambda t: t | {"": torch.ones(1)}, "'' , which|'', which is no LoRA weight"),
    "a layer without a name": (
        lambda t: t | {"base_model.model..lora_A": torch.ones(2, 2), "base_model.model..lora_B": torch.ones(2, 2)},
        "is no LoRA weight",
    ),
    "one weight twice": (lambda t: t | {f"{LAYER}.lora_A": torch.ones(2, 64)}, "under two names"),
    "an embedding": (lambda t: t | {f"{LAYER}.lora_embedding_A": torch.ones(2, 2)}, "is no LoRA weight"),
    "singular values": (lambda t: t | {f"{LAYER}.lora_E": torch.ones(2, 1)}, "is no LoRA weight"),
}


@pytest.mark.parametrize(("change", "message"), BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
def test_weights_that_are_none_are_refused(
    base: Base, quick_bundle: QuickBundle, change: Callable[[Tensors], Tensors | None], message: str
) -> None:
    with pytest.raises(ShopfitError, match=message) as refused:
        load_weights(with_weights(quick_bundle("acme"), change), base, Stack(base, 1))
    assert "acme/r" in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        b"\0" * 8,
        b"\xff" * 8 + b"{}",
        (10**12).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (9).to_bytes(8, "little") + b'{"a": 1} ',
        (2).to_bytes(8, "little") + b"\xff\xfe",
        b"PK\x03\x04 a zip, such as torch.save writes",
        (100_000).to_bytes(8, "little") + b"[" * 100_000,
    ],
)
@pytest.mark.parametrize("file", [LORA_WEIGHTS, "head.safetensors"])
def test_files_that_are_no_weights_are_refused(
    base: Base, quick_bundle: QuickBundle, content: bytes, file: str
) -> None:
    contents = contents_of(quick_bundle("acme")) | {file: content}
    with pytest.raises(BundleError, match=f"(?s){file}.* of acme/r"):
        load_weights(held(contents), base, Stack(base, 1))


@pytest.mark.parametrize("numbers", [torch.ones(1, 7), torch.ones(128), torch.ones(0, 128), torch.ones(2000, 128)])
def test_a_prefix_that_fits_no_base_is_refused(base: Base, quick_bundle: QuickBundle, numbers: torch.Tensor) -> None:
    weights = f"native/{WEIGHTS}"
    contents = with_manifest(quick_bundle("acme"), method="prefix", rank=16, files={weights: "0" * 64})
    with pytest.raises(BundleError, match="of acme/r"):
        load_weights(held(contents | {weights: save({"prompt_embeddings": numbers})}), base, Stack(base, 1))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"merchant": "../acme"}, r"merchant: '\.\./acme'"),
        ({"recipe": "R"}, "recipe: 'R'"),
        ({"merchant": "a" * 10_000}, "merchant"),
        ({"method": "[/x]"}, r"method: '\[/x\]' \(allowed: lora, adalora, prefix\)"),
        ({"rank": 0}, "rank: 0"),
        ({"rank": 100_000}, "rank: 100000"),
        ({"rank": "many"}, "rank"),
        ({"metrics": {"loss": float("nan")}}, r"metrics\.loss: nan"),
        ({"metrics": {"loss": float("inf")}}, r"metrics\.loss: inf"),
        ({"vector": [float("nan")]}, r"vector\.0: nan"),
        ({"calibration": {"threshold": float("-inf")}}, r"calibration\.threshold"),
        ({"calibration": {"temperature": 0}}, r"calibration\.temperature: 0"),
        ({"interpolation": float("nan")}, "interpolation"),
        ({"labels": ["yes", "yes"]}, r"labels\.1: 'yes' is there twice"),
        ({"labels": ["yes", " "]}, r"labels\.1: ' ' is blank"),
        ({"labels": ["yes", "n\x1b[2Jo"]}, r"labels\.1: .* has control characters"),
        ({"labels": [str(number) for number in range(20_000)]}, "labels: there are 20000"),
        ({"labels": ["x" * 5000, "y"]}, r"labels\.0: .* has 5000 characters"),
        ({"files": {"../../etc/passwd": "0" * 64}}, "paths inside"),
        ({"files": {"/etc/passwd": "0" * 64}}, "paths inside"),
        ({"files": {"a\\..\\b": "0" * 64}}, "paths inside"),
        ({"files": {"a//b": "0" * 64}}, "paths inside"),
        ({"files": {"a": "0"}}, "64 of 0-9 and a-f"),
        ({"files": {str(number): "0" * 64 for number in range(5000)}}, "files: there are 5000"),
        ({"base": {"name": "b\x07", "fingerprint": "f"}}, r"base\.name"),
        ({"steps": -1}, "steps: -1"),
        ({"unknown": 1}, "unknown"),
        ({"schema": 2}, "schema"),
    ],
)
def test_a_manifest_that_says_what_cannot_be(quick_bundle: QuickBundle, said: dict[str, Any], message: str) -> None:
    bundle = quick_bundle("acme")
    contents = with_manifest(bundle, **said)
    with pytest.raises(BundleError, match=message):
        held(contents)
    (bundle.folder / MANIFEST).write_bytes(contents[MANIFEST])
    with pytest.raises(BundleError, match=message):
        Bundle.open(bundle.folder)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b'{"merchant": "\\ud800"}', b"[" * 100_000])
def test_a_manifest_that_is_none(quick_bundle: QuickBundle, content: bytes) -> None:
    with pytest.raises(BundleError, match="is not a valid manifest"):
        held(contents_of(quick_bundle("acme")) | {MANIFEST: content})


def test_a_recipe_of_another_kind_is_refused_as_the_bundles_own(quick_bundle: QuickBundle) -> None:
    bundle = quick_bundle("acme")
    for snapshot in ({}, {"name": "r"}, bundle.manifest.recipe_snapshot | {"task": "sing"}):
        with pytest.raises(BundleError, match="acme/r: the recipe snapshot"):
            Tenant.of(held(with_manifest(bundle, recipe_snapshot=snapshot)))
    with pytest.raises(BundleError, match="no labels"):
        Tenant.of(held(with_manifest(bundle, labels=[])))


@pytest.mark.parametrize("labels", [["good", "bad"], ["1", "nan"], ["1", "1e999"], ["3"], ["1", "1.0"]])
def test_levels_that_no_mean_can_be_made_of_are_refused(quick_bundle: QuickBundle, labels: list[str]) -> None:
    bundle = quick_bundle("acme", task="rate")
    assert Tenant.of(bundle).labels == ("1", "2", "3", "4", "5")
    with pytest.raises(BundleError, match="the labels of acme/r are not of its recipe"):
        Tenant.of(held(with_manifest(bundle, labels=labels)))


@pytest.mark.parametrize("file", [CATALOG, HISTORY])
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "line 2"),
        ("[]", "it is no item"),
        ("3", "it is no item"),
        ('{"id": "x"}', "its title is no text"),
        ('{"id": "x", "title": "   "}', "its title is no text"),
        ('{"id": 5, "title": "X"}', "its id is no text"),
        ('{"id": NaN, "title": "X"}', "its id is no text"),
        ('{"id": "tent", "title": "Another"}', "twice"),
        ('{"id": "x", "title": "X", "price": "9"}', "its price"),
        ('{"id": "x", "title": "X", "price": -1}', "its price"),
        ('{"id": "x", "title": "X", "price": true}', "its price"),
        ('{"id": "x", "title": "X", "min_age": [1]}', "its min_age"),
        ('{"id": "x", "title": "X", "in_stock": "no"}', "its in_stock"),
        ('{"id": "x", "title": "\\ud800"}', "half a character"),
        ("[" * 100_000, "line 2"),
    ],
)
def test_items_that_are_none(quick_bundle: QuickBundle, file: str, line: str, message: str) -> None:
    contents = contents_of(quick_bundle("acme", task="rank"))
    first = json.dumps({"id": "tent", "title": "Tent"})
    with pytest.raises(BundleError, match=f"{file} of acme/r is not a catalog: .*{message}"):
        Tenant.of(held(contents | {file: f"{first}\n{line}\n".encode()}))


def test_a_line_too_long_is_no_item(quick_bundle: QuickBundle) -> None:
    contents = contents_of(quick_bundle("acme", task="rank"))
    line = json.dumps({"id": "x", "title": "y" * (4 * 1024**2)}).encode()
    with pytest.raises(BundleError, match=r"catalog\.jsonl of acme/r has \d+ bytes in line 1 "):
        Tenant.of(held(contents | {CATALOG: line}))


def test_a_hundred_thousand_items_are_read(quick_bundle: QuickBundle) -> None:
    contents = contents_of(quick_bundle("acme", task="rank"))
    lines = [json.dumps({"id": f"i{number}", "title": f"Item {number}"}) for number in range(100_000)]
    tenant = Tenant.of(held(contents | {CATALOG: "\n".join(lines).encode()}))
    assert tenant.catalog is not None
    assert len(tenant.catalog) == 100_000


def test_bytes_that_are_no_text_are_no_items(quick_bundle: QuickBundle) -> None:
    contents = contents_of(quick_bundle("acme", task="rank"))
    with pytest.raises(BundleError, match=r"catalog\.jsonl of acme/r is not a catalog"):
        Tenant.of(held(contents | {CATALOG: b'{"id": "x", "title": "\xff"}'}))


def test_a_number_that_is_none_is_missing_in_a_catalog_of_before(quick_bundle: QuickBundle) -> None:
    contents = contents_of(quick_bundle("acme", task="rank"))
    line = b'{"id": "tent", "title": "Tent", "price": NaN, "min_age": 1e999, "brand": null, "weight": -Infinity}\n'
    tenant = Tenant.of(held(contents | {CATALOG: line}))
    assert tenant.catalog is not None
    assert dict(tenant.catalog["tent"].fields) == {"id": "tent", "title": "Tent"}


def test_no_catalog_is_written_with_numbers_that_are_none(tmp_path: Path) -> None:
    from shopfit.adapter.artifacts import write_items
    from shopfit.merchant.catalog import Catalog, Item

    fields = {"id": "x", "title": "X", "price": float("nan"), "size": math.inf, "min_age": 3.5}
    write_items(tmp_path / CATALOG, Catalog({"x": Item("x", "X", fields)}))
    assert json.loads((tmp_path / CATALOG).read_text()) == {"id": "x", "title": "X", "min_age": 3.5}


@pytest.mark.parametrize(
    ("blend", "message"),
    [
        ({"weights": {"adapter": float("nan")}, "shares": [0.5, 0.5]}, "NaN"),
        ({"weights": {"adapter": float("inf")}, "shares": [0.5, 0.5]}, "Infinity"),
        ({"weights": {"magic": 1}, "shares": [0.5, 0.5]}, "'magic' is no part of a blend"),
        ({"weights": {"bm25": 1}, "shares": [0.5, 0.5]}, "'bm25' is no part of a blend"),
        ({"weights": {"majority": 1}, "shares": [1.0]}, r"shares: 1 numbers \(allowed: 2"),
        ({"weights": {"majority": 1}, "shares": [1.0, 0.0]}, "shares"),
        ({"weights": {"minilm": 1}, "shares": [0.5, 0.5], "centroids": [[1, 0]]}, "centroids"),
        ({"weights": {"minilm": 1}, "shares": [0.5, 0.5], "centroids": [[1, 0], [1]]}, "centroids"),
        ({"weights": {"minilm": 1}, "shares": [0.5, 0.5], "centroids": [[1, 0], [float("nan"), 1]]}, "NaN"),
        ({"weights": {"item-likes": 1}, "shares": [0.5, 0.5], "likes": {"x": [-9, 1]}}, "likes"),
        ({"weights": {}}, "weights"),
        ([], "dictionary"),
    ],
)
def test_a_blend_that_is_none(quick_bundle: QuickBundle, blend: Any, message: str) -> None:
    contents = contents_of(quick_bundle("acme"))
    with pytest.raises(BundleError, match=f"(?s)blend.json of acme/r is not a blend.*{message}"):
        Tenant.of(held(contents | {FUSION: json.dumps(blend).encode()}))


@pytest.mark.parametrize(
    ("blend", "message"),
    [
        ({"weights": {"mean": 1}}, "mean"),
        ({"weights": {"mean": 1}, "mean": float("nan")}, "NaN"),
        ({"weights": {"bm25": 1}, "mean": 3}, "'bm25' is no part of a blend"),
        ({"weights": {"minilm": 1}, "mean": 3}, "coefficients"),
        ({"weights": {"user-bias": 1}, "mean": 3, "users": {"ann": "x"}}, "users"),
    ],
)
def test_a_blend_that_is_none_of_ratings(quick_bundle: QuickBundle, blend: Any, message: str) -> None:
    contents = contents_of(quick_bundle("acme", task="rate"))
    with pytest.raises(BundleError, match=f"(?s)blend.json of acme/r is not a blend.*{message}"):
        Tenant.of(held(contents | {FUSION: json.dumps(blend).encode()}))


def test_weights_swapped_after_a_bundle_was_opened_are_not_served(base: Base, quick_bundle: QuickBundle) -> None:
    mine, other = quick_bundle("acme", seed=1), quick_bundle("rival", seed=2)
    opened = [mine, Bundle.open(mine.folder), Tenant.of(mine)]
    with Engine(base) as engine:
        before = engine.choose([ChooseRequest(mine, {"text": "lovely"})])[0]
    digest = mine.digest
    for file in (LORA_WEIGHTS, MANIFEST):
        (mine.folder / file).write_bytes((other.folder / file).read_bytes())
    assert mine.digest == digest
    for adapter in opened:
        with Engine(base) as engine, pytest.raises(BundleError, match=r"was changed after the bundle was sealed"):
            engine.choose([ChooseRequest(adapter, {"text": "lovely"})])
    (mine.folder / LORA_WEIGHTS).unlink()
    with Engine(base) as engine, pytest.raises(BundleError, match=r"adapter_model\.safetensors is missing"):
        engine.choose([ChooseRequest(mine, {"text": "lovely"})])
    assert before.label in {"positive", "negative"}


def test_files_do_not_stay_in_memory_beside_what_was_read_of_them(base: Base, quick_bundle: QuickBundle) -> None:
    library = AdapterLoader(base, Stack(base, 1), AdapterCache(1 << 30), None, None)
    loaded = library.load(Tenant.of(held(contents_of(quick_bundle("acme", task="rank")))))
    assert isinstance(loaded.tenant.bundle, HeldBundle)
    assert not loaded.tenant.bundle.contents
    assert loaded.tenant.catalog
    library.close()


# what comes below is tried at random


@pytest.fixture(scope="module")
def served(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(load_base(str(tiny_base), tmp_path_factory.mktemp("home")), slots=2) as engine:
        yield engine


def any_json() -> st.SearchStrategy[Any]:
    numbers = st.one_of(st.integers(-(10**20), 10**20), st.floats())
    scalars = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=20), st.sampled_from(["", "\x00", "../x"]))
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=6,
    )


@st.composite
def torn(draw: st.DrawFn, content: bytes) -> bytes:
    """Some bytes changed, lost or added: mostly at the start, where the headers are."""
    place = draw(st.integers(0, len(content)) | st.integers(0, min(200, len(content))))
    return content[:place] + draw(st.binary(max_size=12)) + content[place + draw(st.integers(0, 40)) :]


@st.composite
def retold(draw: st.DrawFn, content: bytes) -> bytes:
    """A JSON object with another value at one of its keys, or a key of its parts."""
    document = json.loads(content)
    here: Any = document
    while True:
        keys = [*here] if isinstance(here, dict) else [*range(len(here))]
        key = draw(st.sampled_from(keys)) if keys and draw(st.integers(0, 9)) else draw(st.text(max_size=8))
        inner = here[key] if key in keys else None
        if isinstance(inner, dict | list) and inner and draw(st.booleans()):
            here = inner
            continue
        if isinstance(here, dict):
            here[key] = draw(any_json())
        else:
            here.append(draw(any_json()))
        return json.dumps(document).encode("utf-8", "surrogatepass")


@st.composite
def reshaped(draw: st.DrawFn, content: bytes) -> bytes:
    """Weights with tensors of other shapes, types and names."""
    tensors = load(content)
    for name in draw(st.lists(st.sampled_from(sorted(tensors)), min_size=1, max_size=3, unique=True)):
        tensor = tensors.pop(name)
        name = draw(st.sampled_from([name, name, "", name + ".weight", name.replace(".weight", ""), name[17:]]))
        shape = draw(st.lists(st.integers(0, 5), max_size=3) | st.just(list(tensor.shape)))
        kinds = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.bool, torch.complex64]
        value = draw(st.floats(width=32) | st.sampled_from([1e30, 0.0, 1.0, math.nan]))
        if draw(st.integers(0, 4)):
            tensors[name] = torch.full(shape, value).to(draw(st.sampled_from(kinds)))
    return save(tensors)


@st.composite
def hostile(draw: st.DrawFn, contents: dict[str, bytes]) -> dict[str, bytes]:
    """A bundle's files with one or two of them changed."""
    contents = dict(contents)
    for file in draw(st.lists(st.sampled_from(sorted(contents)), min_size=1, max_size=2, unique=True)):
        ways = [torn(contents[file])]
        if file.endswith(".json"):
            ways += [retold(contents[file])] * 3
        if file.endswith(".safetensors"):
            ways += [reshaped(contents[file])] * 2
        try:
            contents[file] = draw(st.one_of(ways))
        except ValueError:  # it is no JSON any more
            contents[file] = draw(st.binary(max_size=100))
    return contents


@pytest.mark.parametrize("task", ["choose", "rank"])
@settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_whatever_a_bundle_holds_it_answers_or_is_refused(
    served: Engine, quick_bundle: QuickBundle, tmp_path: Path, task: str, data: st.DataObject
) -> None:
    contents = data.draw(hostile(_sound(quick_bundle, tmp_path, task)))
    said = _asked(served, contents)
    assert len(said) < 20_000
    strange = [line for line in said.split("\n") if not line.isprintable()]
    assert strange == []


def _asked(engine: Engine, contents: dict[str, bytes]) -> str:
    """Why the bundle is refused; empty if it answers."""
    try:
        tenant = Tenant.of(held(contents))
        numbers: list[float] = []
        if tenant.recipe.task == "choose":
            [answer] = engine.choose([ChooseRequest(tenant, {"text": "lovely crema"})])
            numbers += answer.probabilities.values()
        elif tenant.recipe.task == "rank":
            [ranked] = engine.rank([RankRequest(tenant, {"query": "sleep"}, ITEMS, top=2)])
            numbers += [item.score for item in ranked.items]
    except ShopfitError as error:
        return str(error)
    assert all(map(math.isfinite, numbers))
    return ""


_SOUND: dict[tuple[str, str], dict[str, bytes]] = {}


def _sound(quick_bundle: QuickBundle, tmp_path: Path, task: str) -> dict[str, bytes]:
    key = (str(tmp_path), task)
    if key not in _SOUND:
        bundle = quick_bundle("acme", task=task)
        said: dict[str, Any] = {"weights": {"adapter": 1.0}}
        if task == "choose":
            said |= {"shares": [0.5, 0.5]}
        (bundle.folder / FUSION).write_text(json.dumps(said))
        _SOUND[key] = contents_of(seal(bundle.folder, bundle.manifest))
    return _SOUND[key]
