"""Signing a browser in and out: links that are good once, sessions that end, and nobody who gets in otherwise."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from httpx import Response

from bridge import config
from bridge.api.fields import show_id
from bridge.api.limits import Limiter
from bridge.web import page
from tests.api.scene import Api, Client, problem
from tests.seeded import Who

SESSION = "/phone/api/session"


class Browser:
    """What a browser does. Without a session until `sign_in`."""

    def __init__(self, api: Api) -> None:
        self.api, self.session = api, ""

    async def ask(self, method: str, path: str, **more: Any) -> Response:
        headers = {"Authorization": f"Bearer {self.session}"} if self.session else {}
        return await self.api.client.request(method, f"/phone/api/{path}", headers=headers, **more)

    async def get(self, path: str, **query: Any) -> Response:
        return await self.ask("GET", path, params=query)

    async def open(self, url: str) -> Response:
        said = await self.ask("POST", "session", json={"token": url.partition("#")[2]})
        if said.status_code == 201:
            self.session = said.json()["session"]
        return said


async def subscriber_of(api: Api, who: Who) -> UUID:
    found: UUID = await api.house.value(
        "SELECT subscriber_id FROM subscriber WHERE account_id = $1", who.account_id
    )
    return found


async def link(api: Api, who: Who, client: Client | None = None) -> str:
    path = f"/v1/subscribers/{show_id('sub', await subscriber_of(api, who))}/sign-in-links"
    made = await (client or api.operator).post(path)
    assert made.status_code == 201, made.text
    return str(made.json()["url"])


async def signed_in(api: Api, who: Who) -> Browser:
    browser = Browser(api)
    assert (await browser.open(await link(api, who))).status_code == 201
    return browser


async def test_a_link_signs_in_once(api: Api) -> None:
    who = await api.house.subscriber(1_000_000)
    url = await link(api, who)
    page, _, token = url.partition("#")
    assert page == "http://127.0.0.1:8080/phone"
    assert len(token) >= 43
    browser, thief = Browser(api), Browser(api)
    assert (await browser.open(url)).status_code == 201
    assert (await browser.get("me")).json()["number"] == who.a_number
    problem(await thief.open(url), 401, "not_authenticated")
    assert (await browser.get("me")).status_code == 200


async def test_of_many_at_once_one_gets_in(api: Api) -> None:
    url = await link(api, await api.house.subscriber())
    said = await asyncio.gather(*(Browser(api).open(url) for _ in range(10)))
    assert sorted(one.status_code for one in said) == [201] + [401] * 9


async def test_neither_token_stands_in_the_database(api: Api) -> None:
    who = await api.house.subscriber()
    url, browser = await link(api, who), Browser(api)
    await browser.open(await link(api, who))
    told = str(await api.house.rows("SELECT * FROM sign_in_link")) + str(
        await api.house.rows("SELECT * FROM phone_session")
    )
    kept = str(await api.house.rows("SELECT body, headers FROM idempotency")) + str(
        await api.house.rows("SELECT * FROM audit_log")
    )
    for secret in (url.partition("#")[2], browser.session):
        assert secret not in told + kept


async def test_the_same_key_again_does_not_tell_the_link_again(api: Api) -> None:
    who = await api.house.subscriber()
    path = f"/v1/subscribers/{show_id('sub', await subscriber_of(api, who))}/sign-in-links"
    first = await api.operator.post(path, headers={"Idempotency-Key": "one"})
    again = await api.operator.post(path, headers={"Idempotency-Key": "one"})
    assert "url" in first.json()
    assert again.json() == {"expires_at": first.json()["expires_at"]}
    assert await api.house.value("SELECT count(*) FROM sign_in_link") == 1


async def test_late_links_and_sessions_are_no_good(api: Api) -> None:
    who = await api.house.subscriber()
    url = await link(api, who)
    await api.house.rows("UPDATE sign_in_link SET expires_at = now()")
    problem(await Browser(api).open(url), 401, "not_authenticated")
    browser = await signed_in(api, who)
    await api.house.rows("UPDATE phone_session SET expires_at = now()")
    problem(await browser.get("me"), 401, "not_authenticated")


async def test_signing_out_ends_this_session_only(api: Api) -> None:
    who = await api.house.subscriber()
    phone, laptop = await signed_in(api, who), await signed_in(api, who)
    assert (await phone.ask("DELETE", "session")).status_code == 204
    problem(await phone.get("me"), 401, "not_authenticated")
    assert (await laptop.get("me")).status_code == 200


@pytest.mark.parametrize("state", ["suspended", "closed"])
async def test_who_is_no_longer_active_is_signed_out_for_good(api: Api, state: str) -> None:
    who = await api.house.subscriber()
    browser, waiting = await signed_in(api, who), await link(api, who)
    await api.house.rows("UPDATE subscriber SET state = $2 WHERE account_id = $1", who.account_id, state)
    problem(await browser.get("me"), 401, "not_authenticated")
    path = f"/v1/subscribers/{show_id('sub', await subscriber_of(api, who))}/sign-in-links"
    problem(await api.operator.post(path), 409, "conflict")
    await api.house.rows("UPDATE subscriber SET state = 'active' WHERE account_id = $1", who.account_id)
    problem(await browser.get("me"), 401, "not_authenticated")
    problem(await Browser(api).open(waiting), 401, "not_authenticated")


async def test_the_users_of_a_partner_that_is_closed_are_signed_out(api: Api) -> None:
    who = await api.house.subscriber()
    await api.own("subscriber", api.alpha, account_id=who.account_id)
    browser = await signed_in(api, who)
    assert (await browser.get("me")).status_code == 200
    await api.house.rows("UPDATE partner SET state = 'closed' WHERE partner_id = $1", api.alpha.partner_id)
    problem(await browser.get("me"), 401, "not_authenticated")


async def test_links_are_for_whose_subscriber_it_is(api: Api) -> None:
    who = await api.house.subscriber()
    await api.own("subscriber", api.alpha, account_id=UUID(str(who.account_id)))
    path = f"/v1/subscribers/{show_id('sub', await subscriber_of(api, who))}/sign-in-links"
    assert (await api.alpha.post(path)).status_code == 201
    problem(await api.beta.post(path), 404, "not_found")
    reader = await api.key("subscribers:read", partner_id=api.alpha.partner_id)
    problem(await reader.post(path), 403, "scope_missing")


async def test_api_keys_are_no_sessions_and_sessions_no_keys(api: Api) -> None:
    browser = await signed_in(api, await api.house.subscriber())
    problem(await Client(api.client, browser.session).get("/v1/subscribers"), 401, "not_authenticated")
    thief = Browser(api)
    thief.session = api.operator.key
    problem(await thief.get("me"), 401, "not_authenticated")
    problem(await Browser(api).get("me"), 401, "not_authenticated")


async def test_who_guesses_is_told_to_wait_and_who_is_signed_in_is_not(api: Api) -> None:
    browser = await signed_in(api, await api.house.subscriber())
    settings = api.services.settings.model_copy(update={"api": config.Api(stranger_quota=3)})
    api.app.state.services = replace(api.services, settings=settings)
    guesses = [await Browser(api).ask("POST", "session", json={"token": f"guess {n}"}) for n in range(3)]
    assert {one.status_code for one in guesses} == {401}
    late = await Browser(api).ask("POST", "session", json={"token": "another"})
    problem(late, 429, "too_many_requests")
    assert int(late.headers["retry-after"]) > 0
    assert (await browser.get("me")).status_code == 200


async def test_links_and_sessions_do_not_pile_up(api: Api) -> None:
    who = await api.house.subscriber()
    links = [await link(api, who) for _ in range(7)]
    assert await api.house.value("SELECT count(*) FROM sign_in_link") == 5
    problem(await Browser(api).open(links[0]), 401, "not_authenticated")
    first = Browser(api)
    await first.open(links[-1])
    for _ in range(10):
        await signed_in(api, who)
    assert await api.house.value("SELECT count(*) FROM phone_session") == 10
    problem(await first.get("me"), 401, "not_authenticated")


@pytest.mark.parametrize(
    "body", [{}, {"token": ""}, {"token": "x" * 101}, {"token": 7}, {"token": "x", "more": 1}, ["x"]]
)
async def test_a_body_of_another_shape_is_refused(api: Api, body: object) -> None:
    problem(await Browser(api).ask("POST", "session", json=body), 422, "invalid_request")


async def test_one_phone_asks_so_often_and_not_more(api: Api) -> None:
    browser = await signed_in(api, await api.house.subscriber())
    other = await signed_in(api, await api.house.subscriber())
    api.app.state.services = replace(api.services, phones=Limiter(3))
    said = [(await browser.get("calls/current")).status_code for _ in range(4)]
    assert said == [200, 200, 200, 429]
    assert (await other.get("calls/current")).status_code == 200


async def test_credentials_are_fresh_each_time_and_the_phones_own(api: Api) -> None:
    who = await api.house.subscriber()
    browser = await signed_in(api, who)
    first, second = [(await browser.ask("POST", "credentials")).json() for _ in range(2)]
    assert first["username"] == second["username"] == f"u{(await subscriber_of(api, who)).hex}"
    assert first["password"] != second["password"]
    assert (first["url"], first["realm"]) == ("ws://127.0.0.1:8088/ws", "callbridge")
    kept = str(await api.house.rows("SELECT * FROM sip_credential"))
    assert first["password"] not in kept


async def test_the_pages_own_headers_stand_among_ours(api: Api) -> None:
    page.install(api.app, api.services.settings)
    headers = (await api.client.get("/phone")).headers
    assert headers.get_list("cache-control") == ["no-cache"]
    assert len(headers.get_list("content-security-policy")) == 1
    assert "script-src 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert (await api.client.get("/phone/api/me")).headers.get_list("cache-control") == ["no-store"]


async def test_the_phones_api_is_in_no_document_of_partners(api: Api) -> None:
    paths = (await api.client.get("/v1/openapi.json")).json()["paths"]
    assert not [path for path in paths if path.startswith("/phone")]
    assert "/v1/subscribers/{subscriber_id}/sign-in-links" in paths
