"""The page itself: it was built, and a browser that keeps to its policy talks to nobody but us and the switch."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient

from bridge.calls.ring import KEPT_OUT
from bridge.config import Settings, Web
from bridge.telephony.cause import RefuseReason
from bridge.web import page

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def web() -> AsyncIterator[AsyncClient]:
    app = FastAPI()
    page.install(app, Settings())
    async with AsyncClient(transport=ASGITransport(app), base_url="http://bridge") as client:
        yield client


async def test_the_page_and_all_it_names_are_there(web: AsyncClient) -> None:
    index = await web.get("/phone")
    assert (index.status_code, index.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert (await web.get("/phone/")).content == index.content
    named = re.findall(r'(?:src|href)="([^"]+)"', index.text)
    assert len(named) == 3
    for path in named:
        assert (await web.get(path)).status_code == 200, path
    assert "jssip 3.13.8" in (await web.get("/phone/licenses.txt")).text


async def test_nothing_stands_in_the_page_that_its_policy_forbids(web: AsyncClient) -> None:
    index = await web.get("/phone")
    policy = dict(part.split(" ", 1) for part in index.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["connect-src"] == "'self' ws://127.0.0.1:8088"
    assert policy["frame-ancestors"] == "'none'"
    assert not re.search(
        r"<style|\sstyle=|\son[a-z]+=|javascript:|<script(?! type=\"module\" src=)", index.text
    )
    script = (await web.get("/phone/phone.js")).text
    assert not re.search(r"\beval\(|new Function\(|\.innerHTML|document\.write", script)
    for text in (index.text, (await web.get("/phone/phone.css")).text):
        assert not re.search(r"https?://|url\(|@import", text)


def test_the_policy_lets_the_phone_reach_its_switch_and_only_that() -> None:
    settings = Settings(web=Web(sip_url="wss://phone.example.com/ws"))
    assert "connect-src 'self' wss://phone.example.com;" in page.policy(settings)


@pytest.mark.parametrize(
    "url", ["wss://a.example; script-src *", "https://a.example/ws", "wss://a.example/x y", "wss://a'b"]
)
def test_an_address_that_would_widen_the_policy_is_no_setting(url: str) -> None:
    with pytest.raises(ValueError, match="sip_url"):
        Web(sip_url=url)


async def test_what_a_browser_has_is_not_sent_again(web: AsyncClient) -> None:
    first = await web.get("/phone/phone.js")
    assert first.headers["content-encoding"] == "gzip"
    again = await web.get("/phone/phone.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    plain = await web.get("/phone/phone.js", headers={"Accept-Encoding": "identity"})
    assert plain.content == first.content


@pytest.mark.parametrize(
    "path", ["/phone/..%2fpage.py", "/phone/package.json", "/phone/%00", "/phone/main.js"]
)
async def test_nothing_else_is_served(web: AsyncClient, path: str) -> None:
    assert (await web.get(path)).status_code == 404


async def test_a_phone_that_was_not_built_says_so(tmp_path: Path) -> None:
    app = FastAPI()
    page.install(app, Settings(), tmp_path)
    async with AsyncClient(transport=ASGITransport(app), base_url="http://bridge") as client:
        said = await client.get("/phone")
    assert said.status_code == 503
    assert "make setup" in said.text


def test_the_lock_has_hashes_and_no_addresses() -> None:
    lock = json.loads((ROOT / "bridge/web/phone/package-lock.json").read_text())
    packages = {name: one for name, one in lock["packages"].items() if name}
    assert packages["node_modules/jssip"]["version"] == "3.13.8"
    assert all(one["integrity"].startswith("sha512-") for one in packages.values())
    assert not any("resolved" in one for one in packages.values())


def test_both_languages_have_every_word() -> None:
    text = (ROOT / "bridge/web/phone/words.js").read_text()
    english, german = text.split("  de: {")
    words = [set(re.findall(r"'([a-z0-9_-]+)':", half.split("\n};")[0])) for half in (english, german)]
    assert words[0] == words[1]
    assert {one.value for one in RefuseReason} <= words[0]
    assert {one for one in KEPT_OUT if not {f"waits-{one}", f"invite-{one}"} & words[0]} == set()
    for source in ("index.html", "main.js", "view.js"):
        text = (ROOT / "bridge/web/phone" / source).read_text()
        used = set(re.findall(r'data-word(?:-label)?="([^"]+)"', text))
        for told in re.findall(r"\b(?:word|complain)\(([^()]*)", text):
            used |= set(re.findall(r"(?<!=== )'([a-z_-]+)'", told))
        assert used
        assert used <= words[0], source
