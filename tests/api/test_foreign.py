"""Every route, with what belongs to another partner: in the path, in the query, in the body. Nothing of it is there.

The routes are those of the API's own description, so that none is forgotten: a parameter for which no thing is made
here fails the test.
"""

from __future__ import annotations

import asyncio
import copy
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from httpx import Response

from bridge import queries
from bridge.api.app import described
from bridge.api.collection import example
from bridge.database import connection
from tests.api.decks import FIRST
from tests.api.estate import estate
from tests.api.scene import Api, Partner
from tests.api.telling import telling

API: dict[str, Any] = described().openapi()
ID = re.compile(r"\^\(?[a-z|]+\)?_\[0-9a-f\]\{32\}\$")  # the pattern of ids in the description
TMF_USAGE = "/tmf-api/usageManagement/v4/usage/{id}"
TMF_BILL = "/tmf-api/customerBillManagement/v4/customerBill/{id}"
# What is never there, for nobody.
NEVER = {
    "/click-to-dial/v0.2/calls/{callId}/recording",
}
# What is nobody's own: everybody may read an app's name, and operators alone how its gateway comes in.
SHARED = {"GET /v1/apps/{app_id}": {"sip_host": None, "has_secret": None}}
# Names of parties and things in bodies and queries, beside `…_id`.
NAMES = {"number", "a_number", "subject", "first", "last", "b_number"}
# Whom one calls is anybody; what a block of numbers begins with is for operators to say; a rate is of any number.
ANYBODYS = {"b_number", "first", "last"}
STREAM = "/v1/events/stream"


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    told: dict[str, Any]

    @property
    def said(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def named(self) -> list[str]:
        return re.findall(r"\{(\w+)\}", self.path)

    @property
    def asked(self) -> list[str]:
        return [one["name"] for one in self.told.get("parameters", []) if one.get("in") == "query"]

    @property
    def operators(self) -> bool:
        return "for operators only" in self.told["description"]


OPERATIONS = [
    Operation(method.upper(), path, told)
    for path, methods in API["paths"].items()
    for method, told in methods.items()
    if told["security"] and path != "/oauth2/token"
]


@dataclass
class Land:
    """Two partners, each with one of everything."""

    api: Api
    alphas: dict[str, str]
    betas: dict[str, str]

    def of(self, partner: Partner) -> dict[str, str]:
        return self.alphas if partner is self.api.alpha else self.betas

    async def ask(
        self, partner: Partner, one: Operation, path: str, body: Any = None, **query: str
    ) -> Response:
        changes = one.method in ("PATCH", "PUT", "DELETE") or "428" in one.told["responses"]
        headers = {"If-Match": '"1"'} if changes else {}
        given: dict[str, Any] = {"json": body} if body is not None else {}
        if one.path.endswith("/imports") and one.method == "POST":
            headers["Content-Type"] = "text/csv"
            given = {"content": FIRST.encode()}
        if one.path.endswith("/evidence") and one.method == "POST":
            headers["Content-Type"] = "text/plain"
            given = {"content": b"evidence"}
        async with asyncio.timeout(10):  # a stream that opens does not end
            return await partner.ask(one.method, path, headers=headers, params=query, **given)

    def path(self, one: Operation, ids: dict[str, str]) -> list[str]:
        """Where it is, with those ids. Of a route whose `id` is of two kinds both.

        raises   KeyError: nothing was made that has such a name
        """
        if one.path == TMF_USAGE:
            return [one.path.replace("{id}", ids[kind]) for kind in ("cdr_id", "usage_id")]
        if one.path == TMF_BILL:
            ids = {"id": ids["invoice_id"], **ids}
        return [re.sub(r"\{(\w+)\}", lambda found: ids[found[1]], one.path)]

    def body(self, one: Operation, ids: dict[str, str]) -> Any:
        """The documented example, with ids that are the sender's own."""
        content = one.told.get("requestBody", {}).get("content", {})
        if "application/json" not in content:
            return None
        body = copy.deepcopy(example(API, content["application/json"]["schema"]))
        for holder, name in fields(body):
            if name in ids and name not in ANYBODYS:
                holder[name] = ids[name]
            elif name.endswith("_id") and name not in ("record_id", "vat_id"):
                raise KeyError(name)
            elif name in ("used_at", "quarantine_until"):
                holder[name] = datetime.now(UTC).isoformat()
            elif name == "expires_at":
                holder[name] = None
        return body


def fields(body: Any) -> Iterator[tuple[dict[str, Any], str]]:
    if isinstance(body, dict):
        for name, value in list(body.items()):
            yield body, name
            yield from fields(value)
    elif isinstance(body, list):
        for one in body:
            yield from fields(one)


@pytest.fixture
async def land(api: Api, dsn: str) -> AsyncIterator[Land]:
    async with connection(api.house.pool) as conn:  # a worker has been here once
        await queries.switch.register.value(conn, name=api.services.settings.switch.name)
    async with telling(api, dsn) as house:
        folder = api.services.settings.messages.folder
        yield Land(api, await estate(house, api.alpha, 1, folder), await estate(house, api.beta, 2, folder))


def absent(one: Operation, response: Response) -> str:
    """What is wrong with the answer to a request for what is another's; nothing, where it is not there."""
    told = response.json() if response.content else {}
    code = told.get("code")
    if one.said in SHARED:
        right = response.status_code == 200 and told == told | SHARED[one.said]
    elif one.path.startswith("/click-to-dial/"):
        right = (response.status_code, code) == (404, "NOT_FOUND")
    else:
        right = (response.status_code, code) == (404, "not_found")
        right = right or (one.operators and (response.status_code, code) == (403, "not_allowed"))
    return "" if right else f"{one.said}: {response.status_code} {response.text[:300]}"


async def test_nothing_of_anothers_is_found_by_its_path(land: Land) -> None:
    api = land.api
    wrong = []
    for one in (one for one in OPERATIONS if one.named):
        for path in land.path(one, land.alphas):
            query = {"from": "1", "to": "1"} if path.endswith("/diff") else {}
            query |= {"number": "+493023125010"} if path.endswith("/lookup") else {}
            answer = await land.ask(api.beta, one, path, land.body(one, land.betas), **query)
            wrong.append(absent(one, answer))
            if one.method == "GET" and one.path not in NEVER:
                own = await land.ask(api.alpha, one, path, **query)
                if own.status_code != 200:
                    wrong.append(f"{one.said}, its owner: {own.status_code} {own.text[:300]}")
    assert "\n".join(filter(None, wrong)) == ""


async def test_nothing_of_anothers_is_found_below_ones_own(land: Land) -> None:
    """The last id of a path is another's, those before it are one's own."""
    wrong = []
    for one in (one for one in OPERATIONS if len(one.named) > 1 and one.named[-1] != "version"):
        mixed = land.betas | {one.named[-1]: land.alphas[one.named[-1]]}
        [path] = land.path(one, mixed)
        wrong.append(absent(one, await land.ask(land.api.beta, one, path, land.body(one, land.betas))))
    assert "\n".join(filter(None, wrong)) == ""


async def test_no_query_finds_what_is_anothers(land: Land) -> None:
    wrong, filtered = [], 0
    for one in (one for one in OPERATIONS if one.method == "GET"):
        for name in one.asked:
            if not (name.endswith("_id") or name in NAMES) or one.path.endswith("/lookup"):
                continue
            value = land.alphas[name]
            [path] = land.path(one, land.betas)
            needed = {"first_no": "1"} if one.path.endswith("/hashes") else {}
            answer = await land.ask(land.api.beta, one, path, **{name: value}, **needed)
            rows = answer.json().get("data") if answer.status_code == 200 else None
            if name == "b_number":  # both have called it
                assert rows
                assert land.alphas["cdr_id"] not in answer.text
            elif rows != []:
                wrong.append(absent(one, answer) and f"?{name}: {absent(one, answer)}")
            if one.path == STREAM:
                continue
            own = await land.ask(
                land.api.alpha, one, land.path(one, land.alphas)[0], **{name: value}, **needed
            )
            filtered += own.status_code == 200 and bool(own.json().get("data"))
            if own.status_code != 200:
                wrong.append(f"{one.said}?{name}, its owner: {own.status_code} {own.text[:300]}")
    assert "\n".join(filter(None, wrong)) == ""
    assert filtered > 15


def variants(schema: dict[str, Any], body: Any, ids: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """The body once for each field that names something, with another's in it. Optional ones are filled in."""
    for names in named_in(schema, ()):
        name = names[-1]
        other = copy.deepcopy(body)
        where: Any = other
        for step in names[:-1]:
            where = where[0] if isinstance(where, list) else where.setdefault(step, {})
            where = where[0] if isinstance(where, list) else where
        for rival in RIVALS.get(name, ()):
            where.pop(rival, None)
        where[name] = ids["event_id" if name == "after" else name]
        yield "/".join(map(str, names)), other


# Of which only one may be named.
RIVALS = {
    "subscriber_id": ("a_number", "plan_id"),
    "a_number": ("subscriber_id",),
    "plan_id": ("subscriber_id",),
    "account_id": ("account",),
    "number": ("first", "last"),
}


def named_in(schema: dict[str, Any], above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if "$ref" in schema:
        schema = API["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for key in ("anyOf", "oneOf", "allOf"):
        for inner in schema.get(key, []):
            yield from named_in(inner, above)
    if "items" in schema:
        yield from named_in(schema["items"], above)
    for name, inner in schema.get("properties", {}).items():
        patterns = [one.get("pattern", "") for one in (inner, *inner.get("anyOf", []))]
        if any(ID.fullmatch(one) for one in patterns) or name in NAMES - ANYBODYS:
            yield (*above, name)
        else:
            yield from named_in(inner, (*above, name))


# Fields whose answer is another's business for a reason, and what it is.
ELSE = {
    "POST /v1/subscribers a_number": (409, "conflict"),  # of one app, where a number has one subscriber
    "POST /v1/disputes account_id": (403, "not_allowed"),  # for operators, like the run
    "POST /v1/disputes run_id": (422, "invalid_request"),  # needs a class
    "POST /v1/trunks account_id": (403, "not_allowed"),  # the field is for operators, whatever it says
    "PATCH /v1/trunks/{trunk_id} deck_id": (403, "not_allowed"),
    "POST /click-to-dial/v0.2/calls caller/number": (422, "CALLER_NOT_AVAILABLE"),
}


async def test_no_body_may_name_what_is_anothers(land: Land) -> None:
    api, wrong, tried = land.api, [], 0
    for one in OPERATIONS:
        schema = one.told.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        if schema is None or one.operators:
            continue
        for name, other in variants(schema, land.body(one, land.betas), land.alphas):
            if f"{one.path.rpartition('/')[2]} {name}" in ("calls callee/number", "invites number"):
                continue  # anybody may be called, and invited
            tried += 1
            answer = await land.ask(api.beta, one, land.path(one, land.betas)[0], other)
            if (answer.status_code, answer.json().get("code")) != ELSE.get(f"{one.said} {name}"):
                wrong.append(absent(one, answer) and f"{name}: {absent(one, answer)}")
    assert "\n".join(filter(None, wrong)) == ""
    assert tried > 15
    for one in OPERATIONS:
        schema = one.told.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        if schema is None or one.operators:
            continue
        for name, own in variants(schema, land.body(one, land.alphas), land.alphas):
            answer = await land.ask(api.alpha, one, land.path(one, land.alphas)[0], own)
            if answer.status_code == 404:
                wrong.append(f"{one.said} {name}, its owner: {answer.text[:300]}")
    assert "\n".join(filter(None, wrong)) == ""
