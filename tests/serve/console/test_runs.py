"""Runs in the browser: what waits and what was done, live, stopped, gone on with; and whose they are."""

import json
import re

import httpx2
from playwright.sync_api import expect
from tests.serve.console.conftest import Visitor
from tests.serve.operated import Operated

from shopfit.runs import Run, create_run

SCRIPT = "<script>alert('x')</script>"
ARABIC = "مراجعة طويلة جدا"


def made(operated: Operated, merchant: str = "acme", recipe: str = "sentiment") -> Run:
    return create_run(operated.gateway.settings.home, "adapter", merchant, recipe, ["--instant"], actor="tests")


def trained(run: Run, steps: int = 40) -> None:
    run.tell("begin", steps=steps)
    for step in range(1, steps // 2 + 1):
        run.tell("step", step=step, loss=1 / step)
    for epoch in (1, 2):
        run.tell("epoch", epoch=epoch, train_loss=1 / epoch, valid=0.5 * epoch)


def test_a_run_under_way_is_shown_live_and_stops_by_hand(platform: Visitor, operated: Operated) -> None:
    run = made(operated)
    page = platform.page
    with run.held():
        run.tell("started")
        run.tell("stage", what="data", detail=f"24 rows {ARABIC} {SCRIPT}")
        platform.page.goto(f"{platform.url}/console/runs/acme/{run.id}")
        expect(page.get_by_role("cell", name=SCRIPT)).to_be_visible()
        trained(run)
        expect(page.get_by_text("step 20 of 40")).to_be_visible()
        expect(page.locator(".u-wrap")).to_have_count(2)
        platform.check_accessible()
        platform.shoot("run")
        page.get_by_role("button", name="Stop training, keep the best").click()
        expect(page.get_by_text("Its training ends after this step")).to_be_visible()
        assert run.wants_best
        run.tell("version", name="acme/sentiment@1", instant=False, metric="accuracy", k=10, value=0.9, promoted=True,
                 candidate=False, reason="It is better.")  # fmt: skip
        run.tell("ended", refused=False)
    expect(page.get_by_text("Done", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="acme/sentiment@1")).to_be_visible()
    page.reload()
    expect(page.get_by_text("Done", exact=True)).to_be_visible()


def test_a_slow_network_is_waited_for_and_one_that_is_gone_is_told(platform: Visitor, operated: Operated) -> None:
    page, run = platform.page, made(operated)
    network = page.context.new_cdp_session(page)
    slow = {"offline": False, "latency": 700, "downloadThroughput": 30_000, "uploadThroughput": 30_000}
    network.send("Network.emulateNetworkConditions", slow)
    with run.held():
        run.tell("started")
        page.goto(f"{platform.url}/console/runs/acme/{run.id}")
        expect(page.get_by_text("Under way")).to_be_visible()
        network.send("Network.emulateNetworkConditions", slow | {"offline": True})
        expect(page.get_by_role("alert")).to_contain_text("The server does not answer")
        network.send("Network.emulateNetworkConditions", slow)
        run.tell("stage", what="base", detail="is loaded")
        expect(page.get_by_role("cell", name="is loaded")).to_be_visible()
        expect(page.get_by_role("alert")).to_have_count(0)


def test_a_run_that_failed_says_the_row_the_reason_and_what_to_do(platform: Visitor, operated: Operated) -> None:
    run = made(operated)
    with run.held():
        run.tell("started")
        problems = [{"where": "reviews.jsonl:2 label", "what": f"it is {SCRIPT}", "allowed": "a text"}]
        run.tell("failed", message="some rows cannot be used", problems=problems, next="correct them")
    platform.open(f"/console/runs/acme/{run.id}")
    alert = platform.page.get_by_role("alert")
    for words in ("some rows cannot be used", "reviews.jsonl:2 label", SCRIPT, "correct them"):
        expect(alert).to_contain_text(words)
    platform.check_accessible()
    platform.shoot("run-failed")


def test_trainings_on_parts_of_the_examples_have_a_bar_and_other_stages_a_line(
    platform: Visitor, operated: Operated
) -> None:
    run, page = made(operated), platform.page
    with run.held():
        run.tell("started")
        run.tell("stage", what="evaluating", detail="adapter and base on 8 test examples")
        page.goto(f"{platform.url}/console/runs/acme/{run.id}")
        expect(page.get_by_text("evaluating: adapter and base on 8 test examples")).to_be_visible()
        run.tell("stage", what="folds", detail="fold 2 of 3: step 5 of 10, loss 0.069, 3900 s left at most")
        expect(page.get_by_text(re.compile(r"training 2 of 3, step 5 of 10 · at most 1 h \d min left"))).to_be_visible()
        expect(page.get_by_role("progressbar")).to_have_attribute("value", "0.5")
        platform.check_accessible()
        platform.shoot("run-folds")
        trained(run)
        expect(page.get_by_text("step 20 of 40")).to_be_visible()
        platform.page.get_by_role("link", name="中文").click()
        platform.settle()
        expect(page.get_by_role("rowheader", name="交叉验证")).to_be_visible()
        charts = [json.loads(one.get_attribute("data-chart") or "") for one in page.locator("[data-chart]").all()]
        assert [chart["x_name"] for chart in charts] == ["步", "轮"]
        assert [one["name"] for one in charts[1]["series"]] == ["损失", "留出数据"]
        expect(page.get_by_text(re.compile(r"已进行 \d+ (秒|分钟)"))).to_be_visible()
        platform.shoot("run-zh")


def test_a_run_that_was_refused_says_what_comes_next(platform: Visitor, operated: Operated) -> None:
    run, page = made(operated), platform.page
    with run.held():
        run.tell("started")
        run.tell("version", name="acme/sentiment@1", instant=False, metric="macro_f1", k=10, value=0.5, promoted=False,
                 candidate=False, reason="It does not beat the base.", n_train=17, n_test=8)  # fmt: skip
        run.tell("ended", refused=True)
    platform.open(f"/console/runs/acme/{run.id}")
    told = page.locator(".notice").filter(has_text="What comes next")
    expect(told).to_contain_text("learned from 17 and was tested on 8")
    for words in ("Bring data", "Learning curve", "Report"):
        place = told.get_by_role("link", name=words).get_attribute("href") or ""
        assert page.request.get(f"{platform.url}{place}").ok, place
    platform.check_accessible()
    platform.shoot("run-refused")
    told.get_by_role("link", name="Try @1").click()
    expect(page).to_have_url(re.compile("/console/try"))


def test_a_run_that_is_gone_without_a_word_goes_on_by_a_button(platform: Visitor, operated: Operated) -> None:
    run = made(operated, recipe="no-such-recipe")
    with run.held():
        run.tell("started")
    platform.open(f"/console/runs/acme/{run.id}")
    expect(platform.page.get_by_text("Ended without a word")).to_be_visible()
    platform.page.get_by_role("button", name="Go on").click()
    expect(platform.page.get_by_role("alert")).to_contain_text("no-such-recipe", timeout=120_000)
    assert [event.facts["resume"] for event in run.events if event.kind == "queued"] == [True]
    platform.open("/console/runs")
    platform.check_accessible()
    platform.shoot("runs")


def test_a_merchant_reads_no_other_merchants_name_and_no_place_of_the_server(operated: Operated) -> None:
    run, other = made(operated), made(operated, "rival")
    other.tell("queued", by="tests", resume=False)
    with run.held():
        run.tell("started")
        run.tell("stage", what="start", detail="mean of rival/sentiment@4, house/sentiment@1: lowest loss")
        run.tell("stage", what="merchant", detail="acme (/srv/shopfit/merchants/acme)")
        problems = [{"where": "/srv/shopfit/merchants/acme/reviews.jsonl:2", "what": "is bad", "allowed": ""}]
        run.tell("failed", message="rival/sentiment@4 is no start", problems=problems, next="")
    (run.folder / "log.txt").write_text("start  rival/sentiment@4 in /srv/shopfit/cache/abc\n")
    url, path = operated.gateway.url, f"/console/runs/acme/{run.id}"

    def seen(key: str, place: str) -> httpx2.Response:
        return httpx2.get(f"{url}{place}", headers={"cookie": f"shopfit_console={operated.gateway.keys[key]}"})

    for place in (path, f"{path}/now", f"{path}/log"):
        text = seen("acme", place).text
        assert "rival" not in text, place
        assert "/srv/" not in text, place
        assert "rival/sentiment@4" in seen("platform", place).text
    assert "reviews.jsonl:2" in seen("acme", path).text
    assert "house/sentiment@1" in seen("acme", path).text
    for place in ("/console/runs", path, "/console/registry/-/audit", "/console/label/acme/sentiment"):
        assert seen("asks", place).status_code == 403, place


def test_a_merchants_key_sees_and_changes_its_own_runs_alone(visitor: Visitor, operated: Operated) -> None:
    own, other = made(operated), made(operated, "rival")
    visitor.sign_in(operated.gateway.keys["acme"], "/console/runs")
    expect(visitor.page.get_by_role("table")).to_contain_text("acme")
    assert "rival" not in visitor.page.content()
    visitor.open(f"/console/runs/acme/{own.id}")
    expect(visitor.page.get_by_role("button", name=re.compile("Stop|Go on"))).to_have_count(0)
    url, cookie = operated.gateway.url, {"cookie": f"shopfit_console={operated.gateway.keys['acme']}"}
    for run in (f"rival/{other.id}", f"nobody/{other.id}", f"acme/{other.id}"):
        answers = [httpx2.get(f"{url}/console/runs/{run}{part}", headers=cookie) for part in ("", "/now", "/log")]
        assert [answer.status_code for answer in answers] == [404] * 3
        assert all("other" not in answer.text for answer in answers)
