"""Signing in, and the fleet."""

import re

import httpx2
from playwright.sync_api import expect
from tests.serve.console.conftest import SHOTS, Visitor
from tests.serve.operated import Operated

CONSOLE = "/console"


def test_a_key_signs_in_and_out_and_a_wrong_one_does_not(visitor: Visitor, operated: Operated) -> None:
    visitor.open(f"{CONSOLE}?recipe=sentiment")
    visitor.page.get_by_label("API key").fill("sf_wrong")
    visitor.page.get_by_role("button", name="Sign in").click()
    expect(visitor.page.get_by_role("alert")).to_contain_text("not valid")
    visitor.check_accessible()
    visitor.shoot("sign-in")
    visitor.page.get_by_label("API key").fill(operated.gateway.keys["platform"])
    visitor.page.get_by_role("button", name="Sign in").click()
    expect(visitor.page).to_have_url(re.compile(r"/console\?recipe=sentiment$"))
    visitor.page.get_by_role("button", name="Sign out").click()
    visitor.open(CONSOLE)
    expect(visitor.page).to_have_url(re.compile("/console/sign-in"))


def test_the_fleet_shows_adapters_and_keeps_its_filters_in_the_address(platform: Visitor, operated: Operated) -> None:
    rows = platform.page.get_by_role("row")
    expect(rows).to_have_count(1 + 8)
    platform.check_accessible()
    platform.shoot("fleet")
    platform.page.get_by_label("Merchant's name").fill("riv")
    platform.page.get_by_role("button", name="Search").click()
    expect(platform.page).to_have_url(re.compile("q=riv"))
    platform.settle()
    expect(rows).to_have_count(1 + 4)
    platform.page.get_by_label("Recipe").select_option("stars")
    expect(rows).to_have_count(1 + 1)
    platform.page.reload()
    expect(rows).to_have_count(1 + 1)


def test_a_merchants_key_sees_its_own_rows_alone(visitor: Visitor, operated: Operated) -> None:
    visitor.sign_in(operated.gateway.keys["acme"])
    expect(visitor.page.get_by_role("row")).to_have_count(1 + 4)
    assert "rival" not in visitor.page.content()


def test_a_key_is_offered_what_it_may_do(visitor: Visitor, operated: Operated) -> None:
    visitor.sign_in(operated.gateway.keys["asks"])
    menu = visitor.page.get_by_role("navigation", name="Pages").get_by_role("link")
    assert menu.all_inner_texts() == ["Fleet", "Try", "Serving"]
    places = visitor.page.locator("main a, nav a").evaluate_all("links => links.map((link) => link.href)")
    assert {place: visitor.page.request.get(place).status for place in places} == dict.fromkeys(places, 200)
    decides = operated.registry.create_key("acme", ["promote"], actor="tests").token
    cookies = {"cookie": f"shopfit_console={decides}"}
    text = httpx2.get(f"{operated.gateway.url}{CONSOLE}", headers=cookies).text
    assert [
        name for name in ("onboard", "runs", "compare", "label", "try", "registry") if f'"/console/{name}"' in text
    ] == [
        "runs",
        "compare",
        "registry",
    ]


def test_on_a_narrow_window_the_menu_shows_where_one_is(platform: Visitor) -> None:
    platform.page.set_viewport_size({"width": 360, "height": 800})
    platform.open("/console/registry")
    here = platform.page.locator(".side nav [aria-current=page]")
    expect(here).to_be_in_viewport(ratio=0.9)
    platform.page.screenshot(path=SHOTS / "menu-narrow.png")


def test_the_console_speaks_chinese(platform: Visitor) -> None:
    platform.page.get_by_role("link", name="中文").click()
    expect(platform.page.locator("html")).to_have_attribute("lang", "zh")
    expect(platform.page.get_by_role("heading", level=1)).to_have_text("总览")
    platform.shoot("fleet-zh")


def test_a_change_from_elsewhere_is_refused(operated: Operated) -> None:
    url, key = operated.gateway.url, operated.gateway.keys["platform"]
    cookies = {"cookie": f"shopfit_console={key}"}
    for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site", "origin": url}, {}):
        answer = httpx2.post(f"{url}/console/sign-out", headers=cookies | headers)
        assert answer.status_code == 403
    forged = httpx2.post(f"{url}/console/sign-out", headers=cookies | {"origin": url}, data={"csrf": "0" * 64})
    assert forged.status_code == 403


def test_pages_allow_no_script_or_style_of_their_own_and_nothing_from_elsewhere(operated: Operated) -> None:
    answer = httpx2.get(
        f"{operated.gateway.url}/console", headers={"cookie": f"shopfit_console={operated.gateway.keys['platform']}"}
    )
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "script-src 'self';" in policy
    assert answer.headers["cache-control"] == "no-store"
    for pattern in (r"<script(?![^>]*src=)", r"<style", r'\sstyle="', r"\son[a-z]+=", r'(?:src|href)="https?:'):
        assert not re.search(pattern, answer.text), pattern


def test_what_is_no_page_says_so_as_a_page(platform: Visitor) -> None:
    platform.open("/console/")
    expect(platform.page).to_have_url(re.compile("/console$"))
    platform.open("/console/no-such-page")
    expect(platform.page.get_by_role("alert")).to_contain_text("no such page")
