"""What the dialplan is told to dial next, by trunks as they are by then."""

from __future__ import annotations

from bridge.asterisk.agi_header import Request
from bridge.asterisk.agi_routes import AgiRoutes
from bridge.asterisk.channel_vars import FIELDS, SEPARATOR
from bridge.calls.token import Token
from tests.seeded import GERMANY, Seeded


async def after_a_503(house: Seeded, change: str = "") -> dict[str, str]:
    """The answer to a call that was admitted over alpha and failed there, when beta was changed meanwhile."""
    who = await house.subscriber(balance_micro=10**6)
    frozen = (await house.admitted(who)).frozen
    assert len(frozen.routes) == 2
    if change:
        await house.rows(f"UPDATE trunk SET {change} WHERE name = 'beta'")
    await house.reload()
    routes = AgiRoutes(house.admissions, house.endings, house.store, house.rules, lambda: house.book)
    args = (
        str(Token(frozen.call_id, 1)),
        "9.750",
        "CHANUNAVAIL",
        "34",
        "",
        "",
        "SIP 503 Service Unavailable",
    )
    told = await routes.attempt_ended(
        Request("attempt-ended", "", {"agi_callerid": "as alpha wanted it"}, args)
    )
    assert told is not None
    return {"a_number": who.a_number, **dict(zip(FIELDS, told.split(SEPARATOR), strict=True))}


async def test_the_next_carrier_gets_numbers_as_it_wants_them(house: Seeded) -> None:
    told = await after_a_503(house, "b_format = 'national', a_format = 'international', tech_prefix = '9'")
    assert told["dial"] == f"PJSIP/90{GERMANY.removeprefix('+49')}@beta"
    assert told["cli"] == f"00{told['a_number'][1:]}"


async def test_as_we_write_them_otherwise(house: Seeded) -> None:
    told = await after_a_503(house)
    assert (told["dial"], told["cli"]) == (f"PJSIP/{GERMANY}@beta", told["a_number"])


async def test_a_trunk_that_drains_or_was_disabled_meanwhile_is_passed_over(house: Seeded) -> None:
    for change in ("state = 'draining'", "enabled = false"):
        await house.rows("UPDATE trunk SET state = 'active', enabled = true")
        await house.reload()
        told = await after_a_503(house, change)
        assert told["verdict"] == "stop"
    attempts = await house.rows("SELECT outcome FROM attempt")
    assert [row["outcome"] for row in attempts] == ["congested"] * 2
