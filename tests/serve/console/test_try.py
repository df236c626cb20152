"""Try: each task asked in the browser, with prompt, rules, version, and the same call for a program."""

import json
import os
import re
import subprocess
import sys
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Page, expect
from tests.serve.console.conftest import Visitor
from tests.serve.operated import Operated

TRY = "/console/try?model="
SCRIPT = "<script>document.title='taken'</script><img src=x onerror=alert(1)>"
ARABIC = "خيمة لشخصين"
LONG = "endless " * 1250


def ask(page: Page) -> None:
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_role("heading", name="The same call")).to_be_visible()


def call(page: Page, name: str, operated: Operated, key: str = "acme") -> Any:
    """What the shown call prints, run as it is with the key in KEY."""
    text = page.locator(f"#call-{name}").text_content() or ""
    command = ["bash", "-c", text] if name == "curl" else [sys.executable, "-c", text]
    env = os.environ | {"KEY": operated.gateway.keys[key]}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{text}\n{done.stderr}"
    return done.stdout


def test_a_label_with_its_probabilities_prompt_and_calls(platform: Visitor, operated: Operated) -> None:
    page = platform.page
    platform.open(TRY)
    expect(page.get_by_role("heading", name="Choose an adapter")).to_be_visible()
    platform.shoot("try-empty")
    page.get_by_label("Merchant and recipe").select_option("acme/sentiment")
    expect(page).to_have_url(re.compile("model=acme"))
    page.get_by_label("text").fill(f"lovely crema {SCRIPT}")
    ask(page)
    answer = operated.classify(f"lovely crema {SCRIPT}").json()["data"][0]
    expect(page.locator("#answer strong.large")).to_have_text(answer["label"])
    expect(page.locator("#answer meter")).to_have_count(2)
    prompt = page.locator("#answer .prompt").text_content() or ""
    assert SCRIPT in prompt
    assert operated.gateway.keys["platform"] not in page.content()
    expect(page.locator("#answer")).to_contain_text("acme/sentiment@1")
    said = json.loads(call(page, "curl", operated))
    assert said["data"][0]["probabilities"] == pytest.approx(answer["probabilities"])
    assert answer["label"] in call(page, "python", operated)
    page.get_by_role("button", name="Copy curl").click()
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#call-curl").text_content()
    assert page.title() != "taken"
    platform.check_accessible()
    platform.shoot("try-choose")


def test_items_with_reasons_and_what_rules_left_out(platform: Visitor, operated: Operated) -> None:
    titles = {
        "tent": "Tent",
        "bag": ARABIC,
        "stove": f"Stove {SCRIPT}",
        "boots": LONG,
        "lamp": "Lamp",
        "knife": "Knife",
    }
    rows = [{"id": item, "title": title, "price": 10, "in_stock": item != "lamp"} for item, title in titles.items()]
    rows[-1]["price"] = 500
    put = operated.gateway.ask("/v1/merchants/acme/catalog", rows, key="platform", method="PUT")
    assert put.status_code == 200, put.text
    page = platform.page
    platform.open(f"{TRY}acme/products")
    page.get_by_label("query").fill("keep warm")
    page.get_by_label("history").fill("tent")
    page.get_by_text("Options").click()
    page.get_by_label("Highest price").fill("100")
    ask(page)
    shown = page.locator("#answer tbody tr")
    expect(shown).to_have_count(3)
    expect(page.locator("#answer [dir=rtl]", has_text=ARABIC).first).to_be_visible()
    expect(page.locator("#answer")).to_contain_text("above the highest price, or without a price (1)")
    expect(page.locator("#answer")).to_contain_text("not in stock (1)")
    expect(page.locator("#answer")).to_contain_text("in the history already (1)")
    ids = [item["id"] for item in json.loads(call(page, "curl", operated))["data"]]
    assert sorted(ids) == ["bag", "boots", "stove"]
    assert [row.locator(".mono").first.text_content() for row in shown.all()] == ids
    platform.check_accessible()
    platform.shoot("try-rank")
    page.get_by_label("Only these candidates").fill("tent\nbag")
    page.get_by_label("history").fill("")
    ask(page)
    expect(shown).to_have_count(2)
    ranked = json.loads(call(page, "curl", operated))["results"]
    assert len(ranked) == 2


def test_a_number_and_a_text(platform: Visitor, operated: Operated) -> None:
    page = platform.page
    platform.open(f"{TRY}acme/stars")
    page.get_by_label("text").fill("lovely crema")
    ask(page)
    score = json.loads(call(page, "curl", operated))["data"][0]["score"]
    expect(page.locator("#answer strong.large")).to_have_text(f"{score:.2f}")
    platform.shoot("try-rate")
    platform.open(f"{TRY}acme/words@1")
    page.get_by_label("input").fill("see at night")
    page.get_by_label("Tokens at most").fill("4")
    ask(page)
    text = json.loads(call(page, "curl", operated))["choices"][0]["text"]
    expect(page.locator("#answer pre").first).to_have_text(text)
    assert call(page, "python", operated).strip() == text.strip()
    platform.shoot("try-generate")
    page.get_by_label("Tokens at most").fill("")
    page.get_by_label("input").fill(" ")
    page.get_by_role("button", name="Ask").click()
    expect(page.get_by_role("alert")).to_contain_text("nothing is asked")


def test_where_nothing_is_in_production_the_newest_is_asked_and_promoted_from_here(
    platform: Visitor, operated: Operated
) -> None:
    operated.registry.unalias("rival/stars@production", actor="tests")
    page = platform.page
    platform.open(f"{TRY}rival/stars")
    expect(page.locator(".notice.warn")).to_contain_text("Nothing is in production here")
    expect(page.get_by_label("Version").get_by_role("option")).to_have_count(1)
    page.get_by_label("text").fill("lovely crema")
    ask(page)
    expect(page.locator("#answer")).to_contain_text("rival/stars@1")
    platform.check_accessible()
    platform.shoot("try-no-production")
    page.locator(".notice.warn").get_by_role("link", name="Compare").click()
    platform.settle()
    page.get_by_role("button", name="Promote @1").click()
    platform.shoot("compare-one")
    page.get_by_role("dialog").get_by_role("button", name="Do it").click()
    expect(page.get_by_role("status")).to_contain_text("Promoted")
    platform.open(f"{TRY}rival/stars")
    expect(page.get_by_label("Version").get_by_role("option").first).to_have_text("in production")


def test_it_speaks_chinese_and_a_box_asks_in_small(visitor: Visitor, operated: Operated) -> None:
    visitor.sign_in(operated.gateway.keys["asks"], f"{TRY}acme/stars")
    page = visitor.page
    page.get_by_role("link", name="中文").click()
    visitor.open(f"{TRY}acme/stars")
    expect(page.get_by_role("heading", name="请求")).to_be_visible()
    visitor.shoot("try-zh")
    page.evaluate("htmx.ajax('GET', '/console/try/box?model=acme/stars', '#answer')")
    box = page.locator("#answer form")
    box.get_by_label("text").fill("lovely crema")
    box.get_by_role("button").click()
    expect(box.locator(".box-answer")).to_contain_text("acme/stars@1")


def test_without_javascript_a_form_answers_with_the_whole_page(operated: Operated) -> None:
    url, key = operated.gateway.url, operated.gateway.keys["asks"]
    with httpx2.Client(base_url=url, headers={"origin": url}, cookies={"shopfit_console": key}, timeout=None) as client:
        page = client.get(f"{TRY}acme/sentiment").text
        csrf = re.search(r'name="csrf" content="([^"]+)"', page)
        assert csrf is not None
        form = {"csrf": csrf[1], "model": "acme/sentiment", "field.text": "lovely crema"}
        told = client.post("/console/try", data=form).text
        assert "<html" in told
        assert "lovely crema" in told
        assert "The same call" in told
        for model in ("rival/sentiment", "rival/none", "acme/none", "../x"):
            got, posted = client.get(f"{TRY}{model}"), client.post("/console/try", data=form | {"model": model})
            assert (got.status_code, posted.status_code) == (404, 404)
            assert "rival/sentiment@" not in got.text + posted.text
        assert "rival" not in page
