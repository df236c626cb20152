"""Labelling: by keyboard, by two people, from any file; what is said lands in the merchant's folder."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Browser, expect
from tests.serve.console.conftest import Visitor, visiting
from tests.serve.operated import Operated

from shopfit.runs import LANES, all_runs, create_run, find_run
from shopfit.runs.folder import locked
from shopfit.runs.queue import lane_lock
from shopfit.runs.worker import command_of
from shopfit.settings import merchant_folder

PAGE = "/console/label/crema/review-sentiment"
TEXTS = [f"Review number {number}: the burrs are {'dull' if number % 3 else 'sharp'}." for number in range(30)]


@pytest.fixture
def folder(operated: Operated) -> Iterator[Path]:
    """Where crema's data will lie; nothing is there yet, and nothing stays."""
    home = operated.gateway.settings.home
    yield merchant_folder(home, "crema")
    shutil.rmtree(merchant_folder(home, "crema"), ignore_errors=True)
    shutil.rmtree(home / "runs" / "crema", ignore_errors=True)


@pytest.fixture
def no_worker(operated: Operated) -> Iterator[None]:
    """Runs wait: somebody else has the queue."""
    files = [lane_lock(operated.gateway.settings.home, lane) for lane in LANES]
    with ExitStack() as stack:
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            assert locked(stack.enter_context(file.open("a+b")))
        yield


@pytest.fixture
def key(operated: Operated) -> str:
    """A key that may label crema's rows."""
    return operated.registry.create_key("crema", ["publish"], new=True, actor="tests").token


@pytest.fixture
def labeller(visitor: Visitor, folder: Path, key: str) -> Visitor:
    """Somebody with crema's key, who brought thirty rows."""
    visitor.sign_in(key, PAGE)
    expect(visitor.page.get_by_role("heading", name="There are no rows to label")).to_be_visible()
    bring(visitor, "\n".join(TEXTS))
    return visitor


def bring(visitor: Visitor, typed: str) -> None:
    visitor.page.get_by_label("Rows without an answer").fill(typed)
    visitor.page.get_by_role("button", name="Add them").click()
    expect(visitor.page.locator("#said")).to_contain_text("Rows added")
    visitor.settle()


def shows(visitor: Visitor, text: str) -> None:
    expect(visitor.page.locator("#row")).to_have_text(text)


def counts(visitor: Visitor, **wanted: int) -> None:
    for name, count in wanted.items():
        expect(visitor.page.locator(f"[data-count={name}]")).to_have_text(str(count))


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_twenty_rows_are_labelled_by_keyboard_alone(labeller: Visitor, folder: Path, key: str) -> None:
    page, began = labeller.page, datetime.now(UTC)
    before = len(read(folder / "reviews.jsonl"))
    assert before == 132, "the sample's own examples are still there"
    labeller.check_accessible()
    labeller.shoot("label")
    for place in range(20):
        shows(labeller, TEXTS[place])
        page.keyboard.press("2" if place % 3 == 0 else "1")
        counts(labeller, sitting=place + 1)
    expect(page.locator("#row")).to_be_focused()
    expect(page.locator("#said")).to_contain_text("negative")
    labelled = read(folder / "reviews.jsonl")[before:]
    assert [row["text"] for row in labelled] == TEXTS[:20]
    assert [row["label"] for row in labelled] == ["positive" if place % 3 == 0 else "negative" for place in range(20)]
    assert {row["labeled_by"] for row in labelled} == {f"key {key.split('_')[1]}"}
    assert all(began <= datetime.fromisoformat(row["labeled_at"]) <= datetime.now(UTC) for row in labelled)
    assert len({row["id"] for row in labelled}) == 20

    page.reload()
    shows(labeller, TEXTS[20])
    counts(labeller, sitting=20, labelled=before + 20, waiting=10, skipped=0, none=0)

    page.keyboard.press("s")
    counts(labeller, skipped=1)
    shows(labeller, TEXTS[21])
    page.keyboard.press("0")
    counts(labeller, none=1)
    shows(labeller, TEXTS[22])
    assert len(read(folder / "reviews.jsonl")) == before + 20, "neither is an example"
    assert [mark["said"] for mark in read(folder / "review-sentiment.labeling.jsonl")] == ["skip", "none"]

    page.keyboard.press("u")
    shows(labeller, TEXTS[21])
    page.keyboard.press("Control+z")
    shows(labeller, TEXTS[20])
    page.keyboard.press("u")
    shows(labeller, TEXTS[19])
    counts(labeller, sitting=19, labelled=before + 19, skipped=0, none=0)
    assert read(folder / "reviews.jsonl")[before:] == labelled[:19]
    page.reload()
    shows(labeller, TEXTS[19])

    page.get_by_label("Keys").uncheck()
    page.keyboard.press("1")
    page.get_by_label("Rows without an answer").press("1")
    page.wait_for_timeout(300)
    counts(labeller, sitting=19)


def test_two_people_at_once(labeller: Visitor, browser: Browser, operated: Operated, folder: Path) -> None:
    for other in visiting(browser, labeller.url):
        other.sign_in(operated.gateway.keys["platform"], PAGE)
        shows(other, TEXTS[0])
        labeller.page.keyboard.press("1")
        expect(labeller.page.locator("#row")).not_to_have_text(TEXTS[0])
        other.page.keyboard.press("2")
        expect(other.page.locator("#said")).to_contain_text("Your answer was not kept")
        expect(other.page.locator("#said")).to_contain_text("negative")
        other.page.keyboard.press("u")
        expect(other.page.get_by_role("button", name="Undo")).to_be_disabled()
        for turn in range(8):  # once both are known to be there, neither is asked what the other is
            for one in (labeller, other):
                shown = one.page.locator("#row").text_content() or ""
                one.page.keyboard.press("2")
                expect(one.page.locator("#row")).not_to_have_text(shown)
                if turn > 4:
                    expect(one.page.locator("#said")).to_contain_text("Labelled")
    rows = read(folder / "reviews.jsonl")[132:]
    assert [row["label"] for row in rows if row["text"] == TEXTS[0]] == ["negative"]
    assert len({row["text"] for row in rows}) == len(rows) > 8
    assert len({row["labeled_by"] for row in rows}) == 2


def test_texts_are_data(labeller: Visitor, folder: Path) -> None:
    script, arabic, long = "<script>window.hacked = 1</script><b>", "القهوة رائعة جدا", "very " * 2000
    (folder / "reviews.unlabeled.jsonl").unlink()
    bring(labeller, f"{script}\n{arabic}\n{long}")
    shows(labeller, script)
    labeller.page.keyboard.press("1")
    shows(labeller, arabic)
    expect(labeller.page.locator("#row .words")).to_have_attribute("dir", "rtl")
    labeller.shoot("label-arabic")
    labeller.page.keyboard.press("2")
    expect(labeller.page.locator("#row")).to_contain_text("very very")
    labeller.check_accessible()
    labeller.shoot("label-long")
    assert labeller.page.evaluate("window.hacked") is None
    labeller.page.keyboard.press("2")
    expect(labeller.page.get_by_role("heading", name="No row is left")).to_be_visible()
    labeller.check_accessible()
    labeller.shoot("label-done")
    assert [row["text"] for row in read(folder / "reviews.jsonl")[132:]] == [script, arabic, long.strip()]


def test_bad_rows_are_told_and_known_ones_come_once(labeller: Visitor, folder: Path) -> None:
    bring(labeller, f"{TEXTS[0].upper()}\nsomething new")
    expect(labeller.page.locator("#said")).to_contain_text("Rows added: 1. There already: 1.")
    labeller.page.get_by_label("Rows without an answer").fill("text,label\nlovely,positive\nawful,\n")
    labeller.page.get_by_role("button", name="Add them").click()
    expect(labeller.page.get_by_role("alert")).to_contain_text("is an unlabeled file with labels in it")
    expect(labeller.page.get_by_role("alert")).to_contain_text("rows.csv:2 label")
    assert len(read(folder / "reviews.unlabeled.jsonl")) == 31
    labeller.open(PAGE)
    labeller.page.get_by_label("Or a file").set_input_files(
        {"name": "rows.csv", "mimeType": "text/csv", "buffer": b'text,item\n"one, two",x\n'}
    )
    labeller.page.get_by_role("button", name="Add them").click()
    expect(labeller.page.locator("#said")).to_contain_text("Rows added: 1.")
    assert read(folder / "reviews.unlabeled.jsonl")[-1]["text"] == "one, two"


def test_scores_items_and_many_labels_have_keys_too(labeller: Visitor, folder: Path) -> None:
    page = labeller.page
    labeller.open("/console/label/crema/review-stars")
    bring(labeller, "four stars I guess")
    page.keyboard.press("4")
    expect(page.get_by_role("heading", name="No row is left")).to_be_visible()
    assert read(folder / "ratings.jsonl")[-1]["score"] == 4

    labeller.open("/console/label/crema/product-recommendation")
    bring(labeller, "hand grinder for espresso, the small one")
    first = page.locator("[data-answer]").first
    expect(first).to_contain_text("1")
    labeller.shoot("label-rank")
    labeller.check_accessible()
    wanted = first.get_attribute("value")
    page.keyboard.press("1")
    expect(page.get_by_role("heading", name="No row is left")).to_be_visible()
    assert read(folder / "searches.jsonl")[-1]["relevant"] == [wanted]
    page.keyboard.press("u")
    page.get_by_label("Search the catalog").fill("kettle")
    page.get_by_label("Search the catalog").press("Enter")
    expect(page.locator("[data-answer]").first).to_contain_text(re.compile("kettle", re.IGNORECASE))

    labeller.open("/console/label/crema/support-intent")
    bring(labeller, "where is my parcel\nmay I send it back\nthe third")
    many = page.locator("[data-answer]")
    if many.count() > 9:
        labeller.shoot("label-many")
        page.keyboard.press("/")
        page.keyboard.type(many.nth(9).locator(".answer").text_content() or "")
        page.keyboard.press("Enter")
        shows(labeller, "may I send it back")
    page.get_by_label("Another label").fill("loyalty card")
    page.get_by_label("Another label").press("Enter")
    expect(page.locator("#said")).to_contain_text("loyalty card")
    expect(page.locator("[data-answer]").last).to_contain_text("loyalty card")
    labeller.check_accessible()


def test_runs_are_queued_once_and_what_they_told_orders_the_rows(
    labeller: Visitor, operated: Operated, no_worker: None
) -> None:
    page, home = labeller.page, operated.gateway.settings.home
    page.get_by_role("link", name="Train with these labels").click()
    expect(page.get_by_role("dialog")).to_contain_text("132 examples")
    labeller.check_accessible()
    page.get_by_role("button", name="Cancel").or_(page.get_by_role("link", name="Cancel")).click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.get_by_role("button", name="Let the model choose").click()
    expect(page.get_by_text("The model is looking at the rows")).to_be_visible()
    expect(page.get_by_role("button", name="Let the model choose")).to_have_count(0)
    [order] = all_runs(home, "crema")
    assert (order.asked.job, order.asked.recipe) == ("label-next", "review-sentiment")
    assert command_of(order, resume=False)[-3:] == ["--out", str(order.folder / "next.jsonl"), "--json"]
    page.get_by_role("link", name="Train with these labels").click()
    page.get_by_role("button", name="Do it").click()
    page.wait_for_url(re.compile(r"/console/runs/crema/[0-9a-f-]+$"))
    run = find_run(home, "crema", page.url.rpartition("/")[2])
    assert (run.asked.job, run.asked.recipe, run.asked.arguments) == ("adapter", "review-sentiment", ())
    assert run.state() == "queued"

    guess = {"text": TEXTS[7], "label": None, "why": "margin 0.010", "suggested": "positive", "probability": 0.505}
    order.tell("started")
    (order.folder / "result.json").write_text(json.dumps({"rows": [guess, {"text": "not there", "label": None}]}))
    order.tell("ended", refused=False)
    asked = create_run(home, "curve", "crema", "review-sentiment", actor="tests")
    points = [
        {"shots": shots, "systems": [{"name": "adapter", "kind": "adapter", "mean": mean}]}
        for shots, mean in ((0, None), (8, 0.7), (32, 0.9))
    ]
    advice = {"shots": 32, "rising": True, "text": "Ask for more than 32 examples."}
    told = {"points": points, "metric": "macro_f1", "advice": advice}
    (asked.folder / "result.json").write_text(json.dumps(told))
    asked.tell("ended", refused=False)
    labeller.open(PAGE)
    shows(labeller, TEXTS[7])
    expect(page.get_by_role("button", name="positive")).to_contain_text("50%")
    expect(page.locator("[data-count=waiting]")).to_contain_text("1 of them in the model's order")
    expect(page.locator("canvas")).to_be_visible()
    expect(page.locator("#curve")).to_contain_text("Go on: at 32 examples it still gets better.")
    labeller.check_accessible()
    labeller.shoot("label-ordered")


def test_it_works_without_javascript_and_in_chinese(
    browser: Browser, operated: Operated, folder: Path, key: str
) -> None:
    context = browser.new_context(java_script_enabled=False, locale="zh-CN")
    context.add_cookies([{"name": "shopfit_console", "value": key, "url": f"{operated.gateway.url}/console"}])
    page = context.new_page()
    page.goto(f"{operated.gateway.url}{PAGE}")
    page.locator("#typed").fill("one\ntwo")
    page.get_by_role("button", name="添加").click()
    expect(page.locator("#said")).to_contain_text("已添加 2 条")
    page.get_by_role("button", name="negative").click()
    expect(page.locator("#said")).to_contain_text("negative")
    expect(page.locator("#row")).to_have_text("two")
    page.get_by_role("button", name="撤销").click()
    expect(page.locator("#row")).to_have_text("one")
    page.get_by_role("link", name="用这些标注训练").click()
    expect(page.get_by_role("button", name="确认")).to_be_visible()
    visitor = Visitor(page, operated.gateway.url)
    visitor.open(PAGE)
    page.screenshot(path=Path(__file__).parents[3] / "build/console/label-zh.png", full_page=True)
    context.close()


def test_one_chooses_merchant_and_recipe(platform: Visitor) -> None:
    platform.open("/console/label")
    platform.shoot("label-merchants")
    platform.check_accessible()
    platform.page.get_by_label("Merchant's name").fill("crem")
    platform.page.get_by_role("button", name="Search").click()
    platform.page.get_by_role("link", name="crema").click()
    expect(platform.page.get_by_text("Not offered here: user-profile")).to_be_visible()
    platform.shoot("label-recipes")
    platform.check_accessible()
    platform.page.get_by_role("link", name="review-sentiment").click()
    expect(platform.page).to_have_url(re.compile(f"{PAGE}$"))
    platform.open("/console/label/acme/sentiment")  # a recipe that is the merchant's own: its version has it
    bring(platform, "a row of acme's")
    platform.page.keyboard.press("2")
    counts(platform, labelled=1)


def test_nobody_reaches_another_merchants_rows(operated: Operated, folder: Path, key: str) -> None:
    url = operated.gateway.url

    def ask(method: str, path: str, token: str) -> httpx2.Response:
        headers = {"cookie": f"shopfit_console={token}", "origin": url}
        page = httpx2.get(f"{url}/console/label", headers=headers).text
        csrf = re.search(r'name="csrf" content="([^"]+)"', page)
        assert csrf is not None
        return httpx2.request(method, f"{url}{path}", headers=headers | {"x-csrf-token": csrf[1]}, data={"row": "x"})

    rival, asks = operated.gateway.keys["rival"], operated.gateway.keys["asks"]
    unknown = ask("GET", "/console/label/nobody/review-sentiment", rival)
    for path in (PAGE, "/console/label?merchant=crema", f"{PAGE}/row", f"{PAGE}/order", f"{PAGE}/start/curve"):
        answer = ask("GET", path, rival)
        assert answer.status_code == 404, path
        if path == PAGE:
            assert answer.text == unknown.text.replace("/label/nobody/", "/label/crema/")
    for path in ("answer", "undo", "again", "rows", "start/adapter"):
        assert ask("POST", f"{PAGE}/{path}", rival).status_code == 404, path
        assert ask("POST", f"/console/label/acme/review-sentiment/{path}", asks).status_code == 403, path
    assert "Add them" not in ask("GET", "/console/label/acme/review-sentiment", asks).text
    assert ask("GET", "/console/label/crema/user-profile", key).status_code == 422
    assert ask("GET", "/console/label/crema/nothing", key).status_code == 404
    assert not folder.exists(), "whoever may not write makes no folder"
