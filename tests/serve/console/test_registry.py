"""Registry: merchants and versions, lineage, differences, audit, garbage, erasure; and that each sees its own alone."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, expect
from tests.serve.console.conftest import Visitor, visiting
from tests.serve.console.many import add_merchants, row_of
from tests.serve.operated import Operated
from tests.serve.shops import RECIPES, bundle_of

from shopfit.adapter.bundle import DataIdentity, SelfTrainingRound, seal
from shopfit.base.load import load_base
from shopfit.evaluation.gate import SystemResult, Verdict
from shopfit.evaluation.intervals import Interval
from shopfit.evaluation.report import Report
from shopfit.evaluation.summary import summary
from shopfit.merchant.kept_folder import kept_merchant
from shopfit.runs import create_run

REGISTRY = "/console/registry"
SENTIMENT = f"{REGISTRY}/acme/sentiment"
SCRIPT = "<script>document.title = 'owned'</script>"
HELD = "import sys, time; from pathlib import Path; from shopfit.runs import run_in; run = run_in(Path(sys.argv[1]))\n"
HELD += "with run.held():\n    run.tell('started'); print('held', flush=True); time.sleep(3600)"


@pytest.fixture(scope="module")
def versions(operated: Operated, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three more versions of acme/sentiment: one started from rival's, one from its own second, one was refused."""
    base, home = load_base(str(tiny_encoder), tmp_path_factory.mktemp("base")), tmp_path_factory.mktemp("versions")
    names = []
    for seed, start in ((7, "rival/sentiment@1"), (8, "acme/sentiment@2"), (9, "mean of house/sentiment@1, acme/x@3")):
        made = bundle_of(home / str(seed), base, "acme", "sentiment", seed=seed)
        told = report(seed)
        told.write(made.folder)
        (made.folder / "README.md").write_text(f"# acme/sentiment\n\n{SCRIPT}\n\n| start | {start} |\n")
        recipe = made.manifest.recipe_snapshot
        recipe["tune"]["lr"] = seed / 1000
        rounds = [SelfTrainingRound(number=1, pseudo_labels=12, before=0.8, after=0.9, kept=True)]
        more = {
            "start": start,
            "recipe_snapshot": recipe,
            "metrics": {"macro_f1": seed / 10},
            "data": DataIdentity(digest=str(seed), train=[str(row) for row in range(seed)], valid=[], test=["90"]),
            "self_training": rounds,
        }
        bundle = seal(made.folder, made.manifest.model_copy(update=more))
        refused = SCRIPT if seed == 9 else None
        kept = {"promote": seed == 8, "actor": f"tests {SCRIPT}"}
        names.append(operated.registry.publish(bundle, refused=refused, summary=summary(told), **kept).name)
    return names


def report(seed: int) -> Report:
    """A report of numbers that nobody measured."""

    def system(name: str, kind: str, value: float) -> SystemResult:
        return SystemResult(name, kind, {"macro_f1": Interval(value, value - 0.05, value + 0.05)})  # type: ignore[arg-type]

    systems = (
        system("base", "base", 0.4),
        system("adapter", "adapter", seed / 10),
        system("majority", "prior", 0.33),
        system("minilm-logreg", "baseline", 0.6),
    )
    return Report(
        merchant="acme",
        recipe="sentiment",
        task="choose",
        metric="macro_f1",
        k=10,
        n_train=64,
        n_test=200,
        test_kind="held out",
        systems=systems,
        gain_over_base=Interval(0.3, 0.2, 0.4),
        best_prior="majority",
        gain_over_prior=Interval(0.3, 0.2, 0.4),
        verdict=Verdict(seed == 8, f"It was measured. {SCRIPT}", candidate=seed == 7),
    )


def get(operated: Operated, token: str, path: str) -> httpx2.Response:
    """A page as a key sees it."""
    return httpx2.get(f"{operated.gateway.url}{path}", headers={"cookie": f"shopfit_console={token}"}, timeout=None)


def post(operated: Operated, token: str, path: str, form: dict[str, str]) -> httpx2.Response:
    """Send a form as a key."""
    found = re.search(r'name="csrf" content="([0-9a-f]+)"', get(operated, token, "/console").text)
    assert found
    headers = {"cookie": f"shopfit_console={token}", "origin": operated.gateway.url}
    return httpx2.post(f"{operated.gateway.url}{path}", data=form | {"csrf": found[1]}, headers=headers, timeout=None)


def test_merchants_are_listed_with_their_disk(platform: Visitor, operated: Operated) -> None:
    platform.open(REGISTRY)
    rows = platform.page.locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.filter(has_text="acme")).to_contain_text(re.compile(r"sentiment @\d in production"))
    platform.check_accessible()
    platform.shoot("registry")
    platform.open(f"{REGISTRY}?q=nothing-like-it")
    expect(platform.page.get_by_role("link", name="Show all")).to_be_visible()
    platform.shoot("registry-empty")


def test_versions_and_their_lineage(platform: Visitor, versions: list[str]) -> None:
    platform.open(SENTIMENT)
    page = platform.page
    expect(page.locator("tbody tr")).to_have_count(4)
    expect(page.locator("svg .edge.start")).to_have_count(4)
    expect(page.locator("svg .edge.after")).to_have_count(1)
    expect(page.locator("svg .node.outside")).to_have_count(3)
    expect(page.get_by_role("row").filter(has_text="@production")).to_contain_text("in production after @1")
    platform.check_accessible()
    platform.shoot("registry-adapter")
    page.get_by_role("link", name="Version 2, candidate, candidate").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("acme/sentiment@2")
    assert page.title() != "owned"


def test_a_version_tells_what_it_is_and_text_stays_text(platform: Visitor, versions: list[str]) -> None:
    platform.open(f"{SENTIMENT}/3")
    page = platform.page
    expect(page.get_by_role("img", name="Learning curve")).to_be_visible()
    assert page.locator("img.picture").evaluate("image => image.naturalWidth") > 500
    page.get_by_text("Model card").click()
    expect(page.locator("details pre")).to_contain_text(SCRIPT)
    page.get_by_text(re.compile(r"Files \(\d+\)")).click()
    expect(page.get_by_role("cell", name=re.compile("[0-9a-f]{64}")).first).to_be_visible()
    assert "owned" not in page.title()
    platform.check_accessible()
    platform.shoot("registry-version")
    expect(page.get_by_role("link", name="Remove")).to_have_count(0)
    platform.open(f"{SENTIMENT}/2")
    promote = page.get_by_role("link", name="Compare and promote")
    expect(promote).to_have_attribute("href", re.compile("a=acme/sentiment%403&b=acme/sentiment%402"))


def test_two_versions_are_compared_key_by_key(platform: Visitor, versions: list[str]) -> None:
    platform.open(f"{SENTIMENT}/diff?a=2&b=3")
    page = platform.page
    expect(page.get_by_role("row").filter(has_text="macro_f1")).to_contain_text("+0.100")
    expect(page.get_by_role("row").filter(has_text="tune.lr")).to_contain_text("0.008")
    expect(page.get_by_role("row").filter(has_text="to learn")).to_contain_text("+1")
    platform.check_accessible()
    platform.shoot("registry-diff")
    page.get_by_label("First").select_option("1")
    page.get_by_role("button", name="Show").click()
    expect(page).to_have_url(re.compile("a=1&b=3"))


def test_the_audit_is_filtered_and_paged(platform: Visitor, operated: Operated, versions: list[str]) -> None:
    platform.open("/console/registry/-/audit")
    page = platform.page
    platform.check_accessible()
    platform.shoot("registry-audit")
    page.get_by_label("Merchant").fill("rival")
    page.get_by_role("button", name="Search").click()
    expect(page).to_have_url(re.compile("merchant=rival"))
    platform.settle()
    page.get_by_label("Action").select_option("publish")
    expect(page).to_have_url(re.compile("action=publish"))
    expect(page.locator("tbody tr")).to_have_count(4)
    assert "acme" not in page.locator("tbody").inner_text()
    total, entries = operated.registry.audit_page(skip=1, most=3)
    everything = operated.registry.audit()
    assert total == len(everything)
    assert entries == everything[-4:-1][::-1]
    assert get(operated, operated.gateway.keys["platform"], "/console/registry/-/audit?action=x").status_code == 404
    platform.open("/console/registry/-/audit?merchant=nobody")
    page.get_by_role("link", name="Show all").click()
    expect(page).to_have_url(re.compile("/registry/-/audit$"))


def test_a_merchant_sees_nothing_of_another(operated: Operated, versions: list[str]) -> None:
    token = operated.registry.create_key("acme", ["admin"], actor="tests").token
    pages = [
        *(f"{REGISTRY}{rest}" for rest in ("", "?q=acme", "/acme/sentiment", "/acme/sentiment/2", "/acme/sentiment/3")),
        *(
            f"{SENTIMENT}/diff?a=2&b=3",
            f"{SENTIMENT}/1/remove",
            "/console/registry/-/audit",
            "/console/registry/-/erase/acme",
        ),
    ]
    for page in pages:
        answer = get(operated, token, page)
        assert answer.status_code == 200, page
        assert "rival" not in answer.text.replace('class="rival"', ""), page
        assert "<script>document" not in answer.text, page
    assert "another merchant&#39;s adapter" in get(operated, token, f"{SENTIMENT}/2").text
    theirs = f"{REGISTRY}/rival"
    others = [theirs, *(f"{theirs}/sentiment{rest}" for rest in ("", "/1", "/1/report.png", "/1/remove", "/diff"))]
    others += [
        "/console/registry/-/erase/rival",
        "/console/registry/-/erase/rival/receipt",
        "/console/registry/-/audit?merchant=rival",
    ]
    for page in others:
        there, missing = (get(operated, token, one) for one in (page, page.replace("rival", "nobody")))
        assert there.status_code == missing.status_code == 404, page
        assert there.text.replace("rival", "nobody") == missing.text, page
    assert get(operated, token, "/console/registry/-/gc").status_code == 403
    for place in (f"{theirs}/sentiment/1/remove", "/console/registry/-/erase/rival"):
        assert post(operated, token, place, {"name": "rival"}).status_code == 404
    for place in (f"{SENTIMENT}/2/remove", "/console/registry/-/erase/acme"):
        assert post(operated, operated.gateway.keys["acme"], place, {"name": "acme"}).status_code == 403
    for path in ("/..%2f..%2fetc/passwd", "/acme/..%2fsentiment", "/acme/sentiment/0", "/acme/sentiment/x", "/%00"):
        assert get(operated, token, f"{REGISTRY}{path}").status_code in (404, 422)


@pytest.mark.parametrize("merchant", ["audit", "gc", "erase"])
def test_no_page_takes_the_place_of_a_merchant_or_a_recipe(
    operated: Operated, tiny_encoder: Path, tmp_path: Path, merchant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RECIPES, "erase", RECIPES["sentiment"])
    bundle = bundle_of(tmp_path / merchant, load_base(str(tiny_encoder), tmp_path), merchant, "erase", seed=13)
    version = operated.registry.publish(bundle, promote=True, actor="tests")
    token = operated.registry.create_key(merchant, ["admin"], actor="tests", new=True).token
    assert get(operated, token, f"{REGISTRY}/{merchant}").headers["location"] == f"{REGISTRY}?q={merchant}"
    for page in ("/erase", "/erase/1"):
        answer = get(operated, token, f"{REGISTRY}/{merchant}{page}")
        assert answer.status_code == 200, page
        assert version.name.rpartition("@")[0] in answer.text, page


def test_a_version_is_removed_after_a_confirmation(platform: Visitor, operated: Operated, versions: list[str]) -> None:
    platform.open(f"{SENTIMENT}/4")
    page = platform.page
    page.get_by_role("link", name="Remove").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("never given again")
    platform.shoot("registry-remove")
    dialog.get_by_role("button", name="Remove").click()
    expect(page.locator("tbody tr")).to_have_count(3)
    token = operated.gateway.keys["platform"]
    refused = post(operated, token, f"{SENTIMENT}/3/remove", {})
    assert refused.status_code == 409
    assert "production" in refused.text


def test_garbage_is_shown_before_it_goes(platform: Visitor, operated: Operated) -> None:
    blobs = Path(operated.gateway.settings.blobs)
    stray = blobs / "00" / ("0" * 64)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"x" * 5000)
    platform.open("/console/registry/-/gc?grace=0")
    page = platform.page
    platform.check_accessible()
    platform.shoot("registry-gc")
    assert stray.exists()
    page.locator("main").get_by_role("button", name="Free disk").click()
    expect(page.get_by_role("status")).to_contain_text("are free")
    assert not stray.exists()
    assert operated.classify().status_code == 200


@pytest.fixture
def gone(operated: Operated, tiny_encoder: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A merchant with a version, a key, data, and a run that a process works on."""
    home = operated.gateway.settings.home
    bundle = bundle_of(tmp_path / "gone", load_base(str(tiny_encoder), tmp_path), "gone", "sentiment", seed=11)
    operated.registry.publish(bundle, promote=True, actor="tests")
    kept_merchant(home, "gone", description="A shop")
    run = create_run(home, "adapter", "gone", "sentiment", actor="tests")
    command = [sys.executable, "-c", HELD, str(run.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_merchant_is_erased_with_a_receipt(
    platform: Visitor, operated: Operated, gone: "subprocess.Popen[str]"
) -> None:
    home = operated.gateway.settings.home
    platform.open("/console/registry/-/erase/gone")
    page = platform.page
    expect(page.locator("main")).to_contain_text("under way or wait: 1.")
    platform.check_accessible()
    platform.shoot("registry-erase")
    page.get_by_label("Type the merchant's name").fill("gon")
    page.locator("main").get_by_role("button", name="Erase gone").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was erased")
    assert operated.registry.versions("gone")
    assert gone.poll() is None
    page.get_by_label("Type the merchant's name").fill("gone")
    page.locator("main").get_by_role("button", name="Erase gone").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("gone is erased", timeout=120_000)
    gone.wait()
    platform.check_accessible()
    platform.shoot("registry-receipt")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the receipt").click()
    told = json.loads(Path(download.value.path()).read_text())
    assert told["merchant"] == "gone"
    assert list(told["versions"]) == ["gone/sentiment@1"]
    assert not operated.registry.versions("gone")
    assert not (home / "runs" / "gone").exists()
    assert not (home / "merchants" / "gone").exists()
    platform.open("/console/registry/-/audit?merchant=gone")
    expect(page.locator("tbody")).to_contain_text("erased: 1 versions")


def test_a_merchant_erases_itself_and_has_the_receipt(
    browser: Browser, operated: Operated, tiny_encoder: Path, tmp_path: Path
) -> None:
    bundle = bundle_of(tmp_path / "own", load_base(str(tiny_encoder), tmp_path), "own", "sentiment", seed=12)
    operated.registry.publish(bundle, promote=True, actor="tests")
    token = operated.registry.create_key("own", ["admin"], actor="tests").token
    for one in visiting(browser, operated.gateway.url):
        one.sign_in(token, "/console/registry/-/erase/own")
        one.page.get_by_label("Type the merchant's name").fill("own")
        one.page.locator("main").get_by_role("button", name="Erase own").click()
        expect(one.page.get_by_role("heading", level=1)).to_have_text("own is erased", timeout=120_000)
        with one.page.expect_download() as download:
            one.page.get_by_role("link", name="Download the receipt").click()
        assert json.loads(Path(download.value.path()).read_text())["keys"] == 1
    anew = operated.registry.create_key("own", ["admin"], actor="tests", new=True).token  # another shop takes the name
    audit = get(operated, anew, "/console/registry/-/audit").text
    assert "key-create" in audit
    assert "own/sentiment" not in audit
    assert get(operated, anew, "/console/registry/-/erase/own/receipt").status_code == 404
    assert get(operated, anew, "/console/registry/-/erase/own/receipt.json").status_code == 404
    everything = get(operated, operated.gateway.keys["platform"], "/console/registry/-/audit?merchant=own").text
    assert "own/sentiment" in everything


def test_it_speaks_chinese(platform: Visitor, versions: list[str]) -> None:
    platform.page.get_by_role("link", name="中文").click()
    for place, name in (
        (REGISTRY, "registry"),
        (SENTIMENT, "registry-adapter"),
        (f"{SENTIMENT}/3", "registry-version"),
    ):
        platform.open(place)
        platform.shoot(f"{name}-zh")
    for place in ("/diff?a=1&b=2", "/1/remove"):
        platform.open(f"{SENTIMENT}{place}")
        platform.check_accessible()


def test_ten_thousand_merchants(platform: Visitor, operated: Operated) -> None:
    settings = operated.gateway.settings
    add_merchants(settings, 10_000, row_of(settings, "acme", "products"))
    page = platform.page
    platform.open(REGISTRY)
    expect(page.locator("dl.tiles")).to_contain_text("10,00")
    expect(page.locator("tbody tr")).to_have_count(50)
    platform.open(f"{REGISTRY}?q=shop-09999")
    expect(page.locator("tbody tr")).to_have_count(1)
    platform.open("/console?q=shop-0512")
    expect(page.locator("tbody tr")).to_have_count(10)
    platform.open("/console/serving/quotas?page=3")
    expect(page.locator("tbody tr")).to_have_count(50)
