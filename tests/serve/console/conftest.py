"""The console in a real browser: Debian's Chromium, by Playwright. No page may ask for anything but this machine."""

import os
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Playwright, Route, expect, sync_playwright
from tests.serve.operated import Operated, operating, own_copy

from shopfit.settings import Settings

SHOTS = Path(__file__).parents[3] / "build" / "console"
CHROMIUM = os.environ.get("SHOPFIT_CHROMIUM") or shutil.which("chromium") or ""
LOOPBACK = {"127.0.0.1", "localhost", "[::1]"}
SERIOUS = {"serious", "critical"}
QUIET = ("Failed to load resource", "htmx:")  # a status or a break that a test asked for

expect.set_options(timeout=60_000)  # against hanging: no test depends on how fast the machine is


@dataclass
class Visitor:
    """Somebody at the console.

    Args:
        page: of the browser.
        url: of the gateway.
        aborted: addresses outside of this machine that a page asked for.
        errors: that pages threw or wrote to the browser's console.
    """

    page: Page
    url: str
    aborted: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        """Go to a page, and wait for it."""
        self.page.goto(f"{self.url}{path}", wait_until="networkidle")

    def settle(self) -> None:
        """Wait for the scripts of a page that a form led to: what is pressed before them, nobody heeds."""
        self.page.wait_for_load_state("networkidle")

    def sign_in(self, token: str, path: str = "/console") -> None:
        """Sign in with a key, and come to a page."""
        self.open(path)
        self.page.get_by_label("API key").fill(token)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(lambda address: "/sign-in" not in address)
        self.settle()

    def shoot(self, name: str) -> None:
        """Pictures of the page for people: light, dark and narrow, under build/console."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        usual = self.page.viewport_size or {"width": 1280, "height": 900}
        for kind, scheme, width in (("light", "light", 1280), ("dark", "dark", 1280), ("narrow", "light", 360)):
            self.page.emulate_media(color_scheme=scheme)
            self.page.set_viewport_size({"width": width, "height": 900})
            self.page.wait_for_timeout(200)
            self.page.screenshot(path=SHOTS / f"{name}-{kind}.png", full_page=True)
            overflow = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert overflow <= 0, f"{name} is {overflow} px wider than a window of {width}"
        self.page.emulate_media(color_scheme="light")
        self.page.set_viewport_size(usual)

    def check_accessible(self) -> None:
        """axe finds nothing serious on the page."""
        found = Axe().run(self.page).response["violations"]
        serious = [
            f"{one['id']}: {one['help']} {one['nodes'][0]['html'][:200]}" for one in found if one["impact"] in SERIOUS
        ]
        assert not serious, "\n".join(serious)


@pytest.fixture(scope="package")
def driver() -> Iterator[Playwright]:
    """Playwright, which keeps an event loop running in this thread: it has to end before other folders' tests."""
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="package")
def browser(driver: Playwright) -> Iterator[Browser]:
    if not CHROMIUM:
        warnings.warn("THE CONSOLE IS NOT TESTED: there is no chromium; `apt-get install chromium`", stacklevel=1)
        pytest.skip("there is no chromium: `apt-get install chromium`, or name one in SHOPFIT_CHROMIUM")
    browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def operated(filled: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    """A gateway that a file's tests may change; its merchants are acme and rival, their recipes those of `shops`."""
    with operating(own_copy(filled, tmp_path_factory.mktemp("console") / "home")) as operated:
        yield operated


@pytest.fixture
def visitor(browser: Browser, operated: Operated) -> Iterator[Visitor]:
    """Somebody who is not signed in; whatever goes wrong in the pages fails the test in the end."""
    yield from visiting(browser, operated.gateway.url)


@pytest.fixture
def platform(visitor: Visitor, operated: Operated) -> Visitor:
    """Somebody who is signed in with a key of the platform."""
    visitor.sign_in(operated.gateway.keys["platform"])
    return visitor


def visiting(browser: Browser, url: str) -> Iterator[Visitor]:
    """A new window that nobody has used."""
    context = browser.new_context(locale="en-GB", viewport={"width": 1280, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    visitor = Visitor(context.new_page(), url)

    def only_here(route: Route) -> None:
        if urlsplit(route.request.url).netloc.rpartition(":")[0] in LOOPBACK:
            route.continue_()
        else:
            visitor.aborted.append(route.request.url)
            route.abort()

    context.route("**/*", only_here)
    visitor.page.on("pageerror", lambda error: visitor.errors.append(str(error)))
    visitor.page.on(
        "console",
        lambda message: (
            visitor.errors.append(message.text)
            if message.type == "error" and not message.text.startswith(QUIET)
            else None
        ),
    )
    yield visitor
    context.close()
    assert not visitor.aborted, f"pages asked for {visitor.aborted}"
    assert not visitor.errors, "\n".join(visitor.errors)
