"""Compare: rows where two versions differ, what both answer to a question, and changes of what answers."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Page, expect
from tests.serve.console.conftest import Visitor
from tests.serve.console.test_try import ARABIC, LONG, SCRIPT
from tests.serve.operated import SENTIMENT, Operated, publish_second

from shopfit.merchant.kept_folder import kept_merchant, write_rows
from shopfit.runs import all_runs

FIRST, SECOND, REFUSED = f"{SENTIMENT}@1", f"{SENTIMENT}@2", f"{SENTIMENT}@3"
COMPARE = f"/console/compare?a={FIRST}&b={SECOND}"
TEXTS = ("crema", "box", "months", "grinder", "delivery", "wet", "again", "cup", SCRIPT, ARABIC, LONG)


@pytest.fixture(scope="module", autouse=True)
def second(operated: Operated, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Another version of an adapter, one that the gate refused, and the merchant's rows."""
    folder = tmp_path_factory.mktemp("second")
    assert publish_second(operated.registry, tiny_encoder, folder / "second") == SECOND
    assert publish_second(operated.registry, tiny_encoder, folder / "third", refused="<b>too weak</b>") == REFUSED
    merchant = kept_merchant(operated.gateway.settings.home, "acme")
    labels = ("positive", "negative")
    rows = [
        {"text": f"{word} {kind}", "label": labels[place % 2]}
        for kind in ("lovely", "cracked", "of the shop")
        for place, word in enumerate(TEXTS)
    ]
    write_rows(merchant, "x.test.jsonl", rows)
    write_rows(
        merchant, "x.jsonl", [{"text": f"once {row} {labels[row % 2]}", "label": labels[row % 2]} for row in range(8)]
    )


@pytest.fixture(autouse=True)
def as_before(operated: Operated) -> Iterator[None]:
    """Each test begins with the first version in production, and no canary."""
    yield
    operated.gateway.ask(f"/v1/releases?model={SENTIMENT}&kind=canary", method="DELETE")
    operated.gateway.ask("/v1/promote", {"model": FIRST})


def confirm(page: Page, *said: str) -> None:
    """Read what a dialog says, and do it."""
    dialog = page.get_by_role("dialog")
    for words in said:
        expect(dialog).to_contain_text(words)
    dialog.get_by_role("button", name="Do it").click()
    expect(page.get_by_role("status").first).to_contain_text("audit")


def newest(page: Page) -> str:
    return page.locator("#audit tbody tr").first.inner_text()


def test_rows_where_versions_differ_are_shown_and_kept(platform: Visitor, operated: Operated) -> None:
    page = platform.page
    platform.open("/console/compare")
    page.get_by_label("Merchant and recipe").select_option(SENTIMENT)
    expect(page.get_by_role("heading", level=1)).to_have_text(SENTIMENT)
    platform.open(COMPARE)
    expect(page.get_by_role("button", name="Compare on these rows")).to_be_visible()
    platform.shoot("compare-before")
    page.get_by_role("button", name="Compare on these rows").click()
    expect(page.locator("#comparison")).to_contain_text("Where they differ", timeout=300_000)
    home = operated.gateway.settings.home
    result = all_runs(home, "acme")[0].result
    assert (result["rows"], result["first"]["version"], result["second"]["version"]) == (33, FIRST, SECOND)
    assert result["different"]
    rows = page.locator("table.rows tbody tr")
    expect(rows).to_have_count(min(25, result["differing"]))
    for shown, row in zip(rows.all(), result["different"], strict=False):
        cells = [cell.inner_text() for cell in shown.get_by_role("cell").all()]
        assert cells[1] == row["wanted"]
        for cell, side in zip(cells[2:], (row["first"], row["second"]), strict=True):
            assert side["said"] in cell
            assert ("right" if side["right"] else "wrong") in cell
    platform.check_accessible()
    platform.shoot("compare")
    page.reload()
    expect(rows).to_have_count(min(25, result["differing"]))
    page.get_by_role("link", name="@2 better").click()
    better = [row for row in result["different"] if row["better"] == "second"]
    expect(rows).to_have_count(min(25, len(better)))
    expect(page.get_by_role("button", name=re.compile("on these rows|again"))).to_have_count(0)  # it is known
    merchant = kept_merchant(home, "acme")
    write_rows(merchant, "x.jsonl", [{"text": "one more", "label": "positive"}], append=True)
    page.reload()
    expect(page.locator("#comparison")).to_contain_text("have changed since")
    assert len(all_runs(home, "acme")) == 1


def test_both_answer_a_question_of_the_moment(platform: Visitor, operated: Operated) -> None:
    page = platform.page
    platform.open(COMPARE)
    page.get_by_label("text").fill(f"lovely crema {SCRIPT}")
    page.get_by_role("button", name="Ask both").click()
    for name in (FIRST, SECOND):
        label = operated.classify(f"lovely crema {SCRIPT}", model=name).json()["data"][0]["label"]
        answer = page.locator("#both").get_by_role("region", name=name, exact=True)
        expect(answer.locator("strong.large")).to_have_text(label)
    assert page.title() != "taken"


def test_a_version_is_promoted_and_rolled_back_with_a_confirmation(platform: Visitor, operated: Operated) -> None:
    page = platform.page
    platform.open(COMPARE)
    page.get_by_role("button", name="Promote @2").click()
    expect(page.get_by_role("dialog")).to_contain_text(f"{SECOND} answers every request")
    platform.check_accessible()
    platform.shoot("compare-confirm")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert operated.version() == FIRST
    page.get_by_role("button", name="Promote @2").click()
    confirm(page, f"{SECOND} answers every request", f"{FIRST} answers them now", "@previous")
    assert operated.version() == SECOND
    assert operated.registry.resolve(f"{SENTIMENT}@previous").name == FIRST
    assert "promote" in newest(page)
    assert "@2" in newest(page)
    expect(page.get_by_role("button", name="Promote @2")).to_have_count(0)
    page.get_by_role("button", name="Roll back to @1").click()
    confirm(page, f"{FIRST} answers every request", f"{SECOND} answers them now")
    assert operated.version() == FIRST
    assert "rollback" in newest(page)


def test_a_slider_sets_the_share_of_a_canary(platform: Visitor, operated: Operated) -> None:
    page = platform.page
    platform.open(COMPARE)
    slider = page.get_by_role("slider")
    slider.focus()
    for _ in range(15):
        page.keyboard.press("ArrowRight")
    expect(page.locator("output")).to_have_text("25%")
    page.get_by_role("button", name="Start a canary").click()
    confirm(page, f"{SECOND} answers 25% of the users", f"{FIRST} answers all others")
    release = operated.registry.releases("acme")[0]
    assert (release.kind, release.name, release.share) == ("canary", SECOND, 0.25)
    assert "share 0.25" in newest(page)
    expect(page.locator("output")).to_have_text("25%")
    expect(page.get_by_role("button", name="Start a canary")).to_have_count(0)
    page.get_by_role("button", name="Change its share").click()
    expect(page.get_by_role("dialog")).to_contain_text("Its canary has 25% of users now")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Promote @2").click()
    expect(page.get_by_role("dialog")).to_contain_text("Its canary with 25% of users ends")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="End the canary").click()
    confirm(page, "gives back its 25%")
    assert operated.registry.releases("acme") == []


def test_what_the_gate_refused_is_not_promoted(platform: Visitor) -> None:
    platform.open(f"/console/compare?a={FIRST}&b={REFUSED}")
    page = platform.page
    expect(page.get_by_text("It cannot be promoted here: <b>too weak</b>")).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("Promote|canary"))).to_have_count(0)
    page.get_by_role("link", name="中文").click()
    platform.open(f"/console/compare?a={FIRST}&b={REFUSED}")
    platform.shoot("compare-zh")
    platform.open(f"/console/compare/promote?version={REFUSED}&a={FIRST}&b={REFUSED}")
    expect(page.get_by_role("alert")).to_contain_text("the gate refused it")


def test_keys_see_and_do_what_they_may(operated: Operated) -> None:
    url = operated.gateway.url

    def client(key: str) -> httpx2.Client:
        cookies = {"shopfit_console": operated.gateway.keys[key]}
        return httpx2.Client(base_url=url, headers={"origin": url}, cookies=cookies, timeout=None)

    form = {"version": SECOND, "a": FIRST, "b": SECOND}
    with client("rival") as rival, client("asks") as asks, client("acme") as acme:
        for place in (COMPARE, f"/console/compare?a={SENTIMENT}@9", "/console/compare?model=acme/none"):
            assert rival.get(place).status_code == 404
        assert "acme" not in rival.get("/console/compare").text
        seen = asks.get(COMPARE).text
        assert "Promote @2" not in seen
        assert "Compare on these rows" not in seen
        csrf = {"csrf": re.findall(r'name="csrf" content="([^"]+)"', seen)[0]}
        assert asks.post("/console/compare/promote", data=form | csrf).status_code == 403
        assert asks.post("/console/compare/run", data=form | csrf).status_code == 403
        csrf = {"csrf": re.findall(r'name="csrf" content="([^"]+)"', rival.get("/console/compare").text)[0]}
        assert rival.post("/console/compare/promote", data=form | csrf).status_code == 404
        assert rival.post("/console/compare/run", data=form | csrf).status_code == 404
        page = acme.get(f"/console/compare/canary?version={SECOND}&a={FIRST}&b={SECOND}&share=5").text
        assert "answers 5% of the users" in page  # without JavaScript it is a page of its own
        csrf = {"csrf": re.findall(r'name="csrf" content="([^"]+)"', page)[0]}
        assert acme.post("/console/compare/canary", data=form | csrf | {"share": "0"}).status_code == 422
        assert acme.post("/console/compare/canary", data=form | csrf | {"share": "5"}).status_code == 303
    assert operated.registry.releases("acme")[0].share == 0.05
    assert operated.version() in (FIRST, SECOND)
