"""`/docs`: the API's pages. All of them comes from here, and the browser is told to load nothing from elsewhere."""

import base64
import hashlib
import re
from functools import cache
from http import HTTPStatus
from importlib.resources import as_file, files

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse

PAGE = "/docs"
FILES = {f"{PAGE}/swagger-ui-bundle.js": "text/javascript", f"{PAGE}/swagger-ui.css": "text/css"}
"""What the page loads: paths and their types. `fastapi-offline` has Swagger UI's own files, and its licence."""

_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_PARAMETERS = {"validatorUrl": None}  # else Swagger UI shows our document to a host of its makers

router = APIRouter(include_in_schema=False)


@router.get(PAGE)
async def docs() -> HTMLResponse:
    """The page."""
    content, policy = _page()
    return HTMLResponse(content, headers={"content-security-policy": policy})


@router.get(f"{PAGE}/{{name}}")
async def file(name: str) -> FileResponse:
    """A file that the page loads."""
    if (kind := FILES.get(f"{PAGE}/{name}")) is None:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    with as_file(files("fastapi_offline") / "static" / name) as found:
        return FileResponse(found, media_type=kind)


@cache
def _page() -> tuple[str, str]:
    """The page, and its Content-Security-Policy (W3C, level 3): its one inline script is allowed by its hash."""
    script, style = (path.removeprefix("/") for path in FILES)  # relative, as a proxy may put the gateway below a path
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title="shopfit",
        swagger_js_url=script,
        swagger_css_url=style,
        swagger_favicon_url="data:,",
        swagger_ui_parameters=_PARAMETERS,
    )
    content = bytes(page.body).decode()
    inline = "".join(
        f" 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in _SCRIPT.findall(content)
    )
    return content, (
        f"default-src 'none'; script-src 'self'{inline}; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
