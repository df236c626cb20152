"""`/docs` is whole without the internet: it names no other host, and tells the browser to load nothing from one."""

import re
from urllib.parse import urljoin, urlsplit

import httpx2
from tests.serve.gateways import ServedGateway


def test_the_page_names_no_other_host(gateway: ServedGateway) -> None:
    page = httpx2.get(f"{gateway.url}/docs", timeout=None)
    assert page.status_code == 200
    assert "//" not in page.text.replace("<!DOCTYPE html>", "")
    named = re.findall(r"""(?:src|href|url)\s*[=:]\s*["']([^"']+)["']""", page.text)
    assert len(named) == 4
    for one in named:
        where = urljoin(f"{gateway.url}/docs", one)
        if urlsplit(where).scheme == "data":
            continue
        assert where.startswith(gateway.url)
        assert httpx2.get(where, timeout=None).status_code == 200
    assert '"validatorUrl": null' in page.text


def test_the_browser_is_told_so(gateway: ServedGateway) -> None:
    page = httpx2.get(f"{gateway.url}/docs", timeout=None)
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    sources = {source for allowed in policy.values() for source in allowed.split()}
    assert {source for source in sources if not source.startswith("'sha256-")} == {"'none'", "'self'", "data:"}
    assert len(re.findall("<script>", page.text)) == policy["script-src"].count("'sha256-") == 1


def test_its_files_are_of_their_kinds_and_no_others_are_there(gateway: ServedGateway) -> None:
    for name, kind in (("swagger-ui-bundle.js", "text/javascript"), ("swagger-ui.css", "text/css")):
        file = httpx2.get(f"{gateway.url}/docs/{name}", timeout=None)
        assert file.headers["content-type"].startswith(kind)
        assert len(file.content) > 10_000
    for name in ("redoc.standalone.js", "..%2F__init__.py", "__init__.py"):
        assert httpx2.get(f"{gateway.url}/docs/{name}", timeout=None).status_code == 401
        assert gateway.ask(f"/docs/{name}").status_code == 404
