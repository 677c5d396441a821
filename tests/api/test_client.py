"""A client that a generator makes of the description is whole, and works with a worker."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from bridge.api.auth import ALL, create_key
from bridge.api.fields import show_id
from bridge.database import connection, transaction
from bridge.partners.store import add_partner
from bridge.sandbox.seed import APP
from tests.api.served import served
from tests.generated import DESCRIPTION, PACKAGE, generated
from tests.seeded import GERMANY, seeded

A_NUMBER = "+493023125017"


async def shop(dsn: str) -> tuple[str, str]:
    """A partner's key and plan."""
    async with seeded(dsn) as house:
        async with transaction(house.pool) as conn:
            partner_id: UUID = (await add_partner(conn, "Alpha", "EUR"))["partner_id"]
        await house.rows("UPDATE plan SET partner_id = $1", partner_id)
        async with connection(house.pool) as conn:
            key = await create_key(conn, "client", partner_id=partner_id, scopes=[ALL])
        return key, show_id("plan", UUID(str(house.plan_id)))


@pytest.mark.timeout(180)
def test_a_generated_client_makes_a_subscriber_and_a_call(dsn: str, tmp_path: Path) -> None:
    key, plan_id = asyncio.run(shop(dsn))
    with generated(tmp_path) as of, served(dsn, tmp_path) as url:
        models = of("models")
        with of("client").AuthenticatedClient(base_url=url, token=key) as client:

            def asked(name: str, *, after: str = "", **given: Any) -> Any:
                if after:
                    given["idempotency_key"] = after
                return of(f"api.{name}").sync(client=client, **given)

            [partner] = asked("partners.list_partners").data
            assert (type(partner), partner.name) == (models.Partner, "Alpha")
            assert isinstance(partner.created_at, datetime)
            account = models.NewAccount(funding=models.NewAccountFunding.PREPAID)
            new = models.NewSubscriber(app=APP, a_number=A_NUMBER, plan_id=plan_id, account=account)
            made = asked("subscribers.create_subscriber", body=new, after="s1")
            assert isinstance(made, models.Subscriber), made
            assert (made.a_number, str(made.state), made.partner_id) == (
                A_NUMBER,
                "pending",
                partner.partner_id,
            )
            again = asked("subscribers.create_subscriber", body=new, after="s1")
            assert again == made
            taken = asked("subscribers.create_subscriber", body=new, after="s2")
            assert (type(taken), taken.code) == (models.ProblemDocument, "conflict")
            order = models.NewOrigination(subscriber_id=made.subscriber_id, b_number=GERMANY)
            placed = asked("originations.create_origination", body=order, after="o1")
            assert isinstance(placed, models.Origination), placed
            assert (str(placed.state), placed.b_number, placed.talk_ms) == ("initiating", GERMANY, None)
            assert asked("originations.list_originations", limit=1).data == [placed]


@pytest.mark.timeout(180)
def test_a_generated_client_has_every_operation(tmp_path: Path) -> None:
    told = json.loads(DESCRIPTION.read_text(encoding="utf-8"))
    wanted = {
        f"{operation['tags'][0].replace('-', '_')}.{operation['operationId']}"
        for methods in told["paths"].values()
        for operation in methods.values()
    }
    with generated(tmp_path) as of:
        made = {f"{one.parent.name}.{one.stem}" for one in (tmp_path / PACKAGE / "api").glob("*/[a-z]*.py")}
        assert made == wanted
        for name in sorted(wanted):
            assert callable(of(f"api.{name}").sync_detailed)
