"""What tests of rate decks over the API share."""

from __future__ import annotations

from typing import Any

from httpx import Response

from tests.api.scene import Client

CSV = "text/csv"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
HEAD = "prefix,destination,rate,interval_1,interval_n,effective_from"
FIRST = f"{HEAD}\n49,Germany,0.01,60,6,\n4915,Germany mobile,0.05,60,6,\n44,Kingdom,0.02,1,1,\n"


async def made(client: Client, name: str = "Termination", side: str = "buy", **more: Any) -> str:
    """The path of a new, empty deck."""
    response = await client.post("/v1/decks", {"name": name, "side": side, "currency": "EUR", **more})
    assert response.status_code == 201, response.text
    return str(response.headers["location"])


async def upload(
    client: Client, deck: str, text: str | bytes, *, kind: str = CSV, key: str | None = None, **query: Any
) -> Response:
    headers = {"Content-Type": kind} | ({"Idempotency-Key": key} if key else {})
    content = text.encode() if isinstance(text, str) else text
    given = {name: str(value).lower() if isinstance(value, bool) else value for name, value in query.items()}
    return await client.ask("POST", f"{deck}/imports", content=content, headers=headers, params=given)


async def staged(client: Client, deck: str, text: str | bytes, **more: Any) -> dict[str, Any]:
    response = await upload(client, deck, text, **more)
    assert response.status_code == 201, response.text
    found: dict[str, Any] = response.json()
    return found


async def applied(client: Client, deck: str, text: str | bytes, **more: Any) -> dict[str, Any]:
    one = await staged(client, deck, text, **more)
    assert one["state"] == "staged", one
    response = await client.post(f"{deck}/imports/{one['import_id']}/apply")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found
