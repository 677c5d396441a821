"""The pages about the API: complete in themselves, and strict about what they may load."""

from __future__ import annotations

import re

import pytest

from tests.api.scene import Api, problem


@pytest.mark.parametrize("page", ["/docs", "/reference"])
async def test_a_page_loads_nothing_from_elsewhere(api: Api, page: str) -> None:
    response = await api.client.get(page)
    assert response.headers["content-type"].startswith("text/html")
    policy = response.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe-inline" not in policy.partition("style-src")[0]
    wanted = re.findall(r'(?:src|href)="(/[^"]+)"', response.text)
    assert wanted
    assert not re.search(r'(?:src|href)="(?:https?:)?//', response.text)
    assert not re.search(r"<script(?![^>]* src=)", response.text)
    for path in wanted:
        asset = await api.client.get(path)
        assert asset.status_code == 200, path
        assert len(asset.content) > 50


async def test_what_is_no_asset(api: Api) -> None:
    for path in ("/docs/..%2fauth.py", "/docs/favicon.ico", "/docs/swagger-ui.css.map"):
        problem(await api.client.get(path), 404, "not_found")
