"""`/docs` to try the API in a browser (Swagger UI), `/reference` to read it (ReDoc). Nothing is loaded from elsewhere.

Scripts and styles come with the package fastapi-offline, of which nothing else is used.
"""

from __future__ import annotations

from importlib import resources
from typing import Final

from fastapi import APIRouter, Response

from bridge.api.problems import Problem

router = APIRouter(include_in_schema=False)

SPECIFICATION: Final = "/v1/openapi.json"
_DAY: Final = {"Cache-Control": "public, max-age=86400"}
_PAGE: Final = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><link rel="icon" href="data:,">{style}</head>
<body style="margin:0">{body}<script src="/docs/{script}"></script><script src="/docs/{start}"></script></body>
</html>
"""
_TRY: Final = _PAGE.format(
    title="callbridge: try the API",
    style='<link rel="stylesheet" href="/docs/swagger-ui.css">',
    body='<div id="api"></div>',
    script="swagger-ui-bundle.js",
    start="try.js",
)
_READ: Final = _PAGE.format(
    title="callbridge: API reference",
    style="",
    body='<div id="api"></div>',
    script="redoc.standalone.js",
    start="read.js",
)
# Files of their own, for the pages' policy allows no script between the lines.
_STARTS: Final = {
    "try.js": f'SwaggerUIBundle({{url: "{SPECIFICATION}", dom_id: "#api", deepLinking: true, validatorUrl: null,'
    " persistAuthorization: false, tryItOutEnabled: true});\n",
    "read.js": f'Redoc.init("{SPECIFICATION}", {{hideDownloadButton: false, disableSearch: true,'
    ' nativeScrollbars: true}, document.getElementById("api"));\n',
}
_ASSETS: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "redoc.standalone.js": "text/javascript",
}


@router.get("/docs")
async def try_it() -> Response:
    return Response(_TRY, media_type="text/html")


@router.get("/reference")
async def read_it() -> Response:
    return Response(_READ, media_type="text/html")


@router.get("/docs/{name}")
async def asset(name: str) -> Response:
    if name in _STARTS:
        return Response(_STARTS[name], media_type="text/javascript", headers=_DAY)
    if name not in _ASSETS:
        raise Problem(404, "There is no such page.")
    content = (resources.files("fastapi_offline") / "static" / name).read_bytes()
    return Response(content, media_type=_ASSETS[name], headers=_DAY)
