"""Serving: engines, who asks, releases, failures; keys and quotas."""

import html
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import expect
from tests.serve.console.conftest import Visitor
from tests.serve.gateways import serving
from tests.serve.operated import Operated, own_copy, publish_second

from shopfit.runs import create_run
from shopfit.settings import Settings

SERVING = "/console/serving"


@pytest.fixture(scope="module")
def merchant_admin(operated: Operated) -> str:
    """An administrator's key of acme."""
    return operated.registry.create_key("acme", ["admin"], name="<script>alert(1)</script>", actor="tests").token


@pytest.fixture(scope="module")
def second(operated: Operated, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Another version of acme/sentiment, in the shadow of the one that answers."""
    name = publish_second(operated.registry, tiny_encoder, tmp_path_factory.mktemp("second") / "bundle")
    operated.registry.start_release(name, kind="shadow", share=1.0, actor="tests")
    yield name
    operated.registry.end_release("acme/sentiment", kind="shadow", actor="tests")


def get(operated: Operated, token: str, path: str) -> httpx2.Response:
    """A page as a key sees it."""
    return httpx2.get(f"{operated.gateway.url}{path}", headers={"cookie": f"shopfit_console={token}"}, timeout=None)


def test_engines_and_who_asks_are_shown_and_follow_by_themselves(platform: Visitor, operated: Operated) -> None:
    operated.classify()
    platform.open(SERVING)
    page = platform.page
    expect(page.locator("#engines-table tbody tr")).to_have_count(2)
    row = page.locator("#tenants tbody tr").filter(has_text="acme/sentiment")
    before = int(row.locator("td").nth(1).inner_text())
    operated.classify()
    expect(row.locator("td").nth(1)).to_have_text(str(before + 1), timeout=60_000)
    expect(page.locator("#engines-table")).to_contain_text("/ 32", timeout=60_000)
    page.get_by_text("Adapters in memory, those asked last").click()
    expect(page.locator("#held-rows")).to_contain_text("acme/sentiment", timeout=60_000)
    platform.check_accessible()
    platform.shoot("serving")
    page.get_by_role("link", name="Stand still").click()
    expect(page.locator("[data-live]")).to_have_count(0)


def test_a_shadows_disagreements_and_failures_are_counted(platform: Visitor, operated: Operated, second: str) -> None:
    operated.gateway.ask("/v1/classify", {"model": "acme/sentiment", "input": "x", "timeout": "?"})
    platform.open(SERVING)
    cell = platform.page.locator("#releases tbody tr").filter(has_text="shadow")
    deadline = 60
    while not re.search(r"\d of \d", cell.inner_text()) and deadline:
        operated.classify()
        platform.page.wait_for_timeout(1000)
        deadline -= 1
    expect(cell).to_contain_text(re.compile(r"\d+ of \d+ \(\d"))
    expect(cell.get_by_role("link", name="Compare")).to_have_attribute("href", re.compile("a=acme.*b=acme"))
    platform.shoot("serving-shadow")


def test_a_key_is_made_works_and_is_revoked(platform: Visitor, operated: Operated) -> None:
    page = platform.page
    platform.open(f"{SERVING}/keys")
    page.get_by_role("link", name="Make a key").click()
    page.get_by_label("Merchant", exact=True).fill("acme")
    page.get_by_label("Name").fill("the shop's <b>search</b>")
    page.get_by_label("Ends").fill("90d")
    platform.check_accessible()
    platform.shoot("key-new")
    page.get_by_role("button", name="Make a key").click()
    token = page.locator("#token").inner_text()
    platform.check_accessible()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == token
    platform.shoot("key-made")
    assert _asks(operated, token) == 200
    id_ = token.split("_")[1]
    page.get_by_role("link", name="To the list of keys").click()
    row = page.get_by_role("row").filter(has_text=id_)
    expect(row).to_contain_text("the shop's <b>search</b>")
    platform.check_accessible()
    platform.shoot("keys")
    row.get_by_role("link", name=re.compile("Revoke")).focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("cannot be undone")
    platform.check_accessible()
    platform.shoot("key-revoke")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert _asks(operated, token) == 200
    row.get_by_role("link", name=re.compile("Revoke")).click()
    dialog.get_by_role("button", name="Revoke").click()
    expect(row).to_contain_text("revoked")
    while _asks(operated, token) != 401:
        time.sleep(0.1)


def test_a_merchants_administrator_makes_keys_of_its_own_alone(operated: Operated, merchant_admin: str) -> None:
    page = get(operated, merchant_admin, f"{SERVING}/keys/new").text
    assert 'value="platform"' not in page
    for form in ({"whose": "platform"}, {"merchant": "rival"}, {"merchant": "acme", "scope": "root"}, {}):
        assert _post(operated, merchant_admin, f"{SERVING}/keys", {"scope": "infer"} | form).status_code in (403, 422)
    made = _post(operated, merchant_admin, f"{SERVING}/keys", {"merchant": "acme", "scope": "infer"})
    assert re.search(r"sf_[0-9a-z]{12}_", made.text)
    rivals = next(key for key in operated.registry.keys("rival"))
    assert _post(operated, merchant_admin, f"{SERVING}/keys/{rivals.id}/revoke", {}).status_code == 404
    assert get(operated, operated.gateway.keys["acme"], f"{SERVING}/keys").status_code == 403
    short = operated.registry.create_key("acme", ["admin"], expires=_soon(), actor="tests").token
    assert _post(operated, short, f"{SERVING}/keys", {"merchant": "acme", "scope": "infer"}).status_code == 422


def test_a_quota_is_set_after_a_confirmation_and_in_force(
    platform: Visitor, operated: Operated, merchant_admin: str
) -> None:
    page = platform.page
    platform.open(f"{SERVING}/quotas?q=rival")
    platform.check_accessible()
    page.get_by_role("link", name="Change the quota of rival").click()
    page.get_by_label("Tokens a day").fill("0")
    page.get_by_label("Requests a minute").fill("1,000")
    page.get_by_role("button", name="Go on").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("1,000")
    platform.check_accessible()
    platform.shoot("quota-set")
    dialog.get_by_role("button", name="Set the quota").click()
    expect(page.get_by_role("row").filter(has_text="rival")).to_contain_text("used up")
    platform.shoot("quotas")
    assert operated.classify(model="rival/sentiment", key="rival").status_code == 429
    failures = get(operated, operated.gateway.keys["rival"], SERVING).text
    assert "refused by a limit" in failures
    for wrong in ("-1", "1.5", "many", "1e3", "9" * 30):
        answer = get(operated, operated.gateway.keys["platform"], f"{SERVING}/quotas/rival/set?concurrent={wrong}")
        assert answer.status_code == 422
    form = {"tokens_per_day": "unlimited"}
    for token in (merchant_admin, operated.gateway.keys["rival"]):  # nobody gives a quota to themselves
        assert _post(operated, token, f"{SERVING}/quotas/rival", form).status_code in (403, 404)
    assert _post(operated, merchant_admin, f"{SERVING}/quotas/acme", form).status_code == 403


def test_without_keys_calls_and_pages_speak_of_none(filled: Settings, tmp_path: Path) -> None:
    home = own_copy(filled, tmp_path / "home")
    with (
        serving(home, tmp_path / "log", {}, "--no-auth") as served,
        httpx2.Client(base_url=served.url, timeout=None) as client,
    ):
        client.headers["origin"] = served.url
        first = client.get("/console/try?model=acme/sentiment").text
        csrf = re.search(r'name="csrf" content="([^"]+)"', first)
        assert csrf is not None
        form = {"csrf": csrf[1], "model": "acme/sentiment", "field.text": "lovely crema"}
        told = client.post("/console/try", data=form).text
        assert "asks for no key" in told
        python = html.unescape(re.search(r'id="call-python"[^>]*>(.*?)</pre>', told, re.DOTALL)[1])  # type: ignore[index]
        env = {name: value for name, value in os.environ.items() if name != "KEY"}
        done = subprocess.run(
            [sys.executable, "-c", python], env=env, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "KEY" not in told
        run = create_run(home.home, "adapter", "acme", "sentiment", [], actor="key no-auth")
        page = client.get(f"/console/runs/acme/{run.id}").text
        assert "no-auth" not in page
        assert "without a key" in page
        assert "asks nobody for one" in client.get(f"{SERVING}/keys").text


def test_without_scripts_a_confirmation_is_a_page(operated: Operated) -> None:
    token = operated.registry.create_key("acme", ["infer"], actor="tests")
    answer = get(operated, operated.gateway.keys["platform"], f"{SERVING}/keys/{token.key.id}/revoke")
    assert "<!doctype html>" in answer.text
    assert f'action="{SERVING}/keys/{token.key.id}/revoke"' in answer.text


@pytest.mark.parametrize("page", ["", "/keys", "/keys/new", "/quotas", "?order=errors&q=riv", "/keys?q=riv"])
def test_a_merchant_sees_nothing_of_another(operated: Operated, merchant_admin: str, page: str) -> None:
    operated.classify(model="rival/sentiment", key="rival")
    text = get(operated, merchant_admin, f"{SERVING}{page}").text.replace("q=riv", "").replace('value="riv"', "")
    assert "<h1>" in text
    assert "rival" not in text
    assert "encoder" not in text  # engines are of all merchants
    assert "<script>alert" not in text
    assert get(operated, merchant_admin, f"{SERVING}/quotas/rival").status_code == 404


def test_it_speaks_chinese(platform: Visitor) -> None:
    platform.page.get_by_role("link", name="中文").click()
    for place, name in ((SERVING, "serving"), (f"{SERVING}/keys", "keys"), (f"{SERVING}/quotas", "quotas")):
        platform.open(place)
        platform.check_accessible()
        platform.shoot(f"{name}-zh")


def _asks(operated: Operated, token: str) -> int:
    body = {"model": "acme/sentiment", "input": "lovely"}
    headers = {"authorization": f"Bearer {token}"}
    return httpx2.post(f"{operated.gateway.url}/v1/classify", json=body, headers=headers, timeout=None).status_code


def _post(operated: Operated, token: str, path: str, form: dict[str, str]) -> httpx2.Response:
    url = operated.gateway.url
    page = get(operated, token, "/console").text
    found = re.search(r'name="csrf" content="([0-9a-f]+)"', page)
    assert found
    headers = {"cookie": f"shopfit_console={token}", "origin": url}
    return httpx2.post(f"{url}{path}", data=form | {"csrf": found[1]}, headers=headers, timeout=None)


def _soon():
    from datetime import UTC, datetime, timedelta

    return datetime.now(UTC) + timedelta(hours=1)
