"""What the phone shows of calls: prices before, figures during, history after; each subscriber's own and no other's."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from bridge.calls import wav
from bridge.calls.admit import Admitted
from bridge.config import Messages
from bridge.database import connection, transaction
from bridge.partners.store.phone import add_link
from bridge.rollout import store as rollouts
from bridge.rollout.invite import Invited
from bridge.sandbox.seed import SeedBundle
from tests.api.scene import Api, problem
from tests.api.test_phone_sessions import Browser, signed_in, subscriber_of
from tests.seeded import GERMANY, KINGDOM, Who, ended

MILLION = 1_000_000
BUNDLE = SeedBundle("minutes", 0, 10, {"voice": 60})


async def running(api: Api, who: Who, seconds: float) -> Admitted:
    """A call of theirs that was answered so long ago."""
    call = await api.house.admitted(who)
    await api.house.answer(call.frozen.call_id, at=datetime.now(UTC) - timedelta(seconds=seconds))
    return call


async def phones(api: Api) -> None:
    """The users of the app have phones that can be rung."""
    await api.house.have_phones()


async def rung(api: Api, caller: Who, callee: Who, **more: Any) -> UUID:
    """One user calls another: a row as the admission writes it."""
    await phones(api)
    await api.house.reload()
    call = await api.house.admitted(caller, callee.a_number)
    for name, value in more.items():
        await api.house.rows(f"UPDATE call SET {name} = $2 WHERE call_id = $1", call.frozen.call_id, value)
    return call.frozen.call_id


# ---------------------------------------------------------------- before


async def test_a_quote_has_the_price_and_how_long_it_lasts(api: Api) -> None:
    browser = await signed_in(api, await api.house.subscriber(600_000))
    told = (await browser.get("quote", to="030 23125010")).json()
    assert told["number"] == GERMANY
    assert (told["verdict"], told["destination"], told["minute"], told["connect_fee"]) == (
        "admitted", "Germany", "0.06", "0.00",
    )  # fmt: skip
    assert (told["lasts_s"], told["bundle"], told["free"]) == (600, None, False)
    assert (await browser.get("quote", to=KINGDOM)).json()["connect_fee"] == "0.007"


async def test_a_quote_names_the_bundle_that_pays(api: Api) -> None:
    who = await api.house.subscriber(0)
    await api.house.buy(who, BUNDLE)
    told = (await (await signed_in(api, who)).get("quote", to=GERMANY)).json()
    assert (told["bundle"], told["minute"], told["lasts_s"]) == ("minutes", "0.06", 600)


@pytest.mark.parametrize(
    ("to", "verdict", "reason"),
    [
        ("12", "refused", "invalid_number"),
        ("0900 123456", "refused", "barred_destination"),
        ("+33123456789", "refused", "no_rate"),
        (GERMANY, "refused", "no_credit"),
        ("112", "emergency", None),
    ],
)
async def test_a_quote_says_why_not(api: Api, to: str, verdict: str, reason: str | None) -> None:
    browser = await signed_in(api, await api.house.subscriber(0))
    told = (await browser.get("quote", to=to)).json()
    assert (told["verdict"], told.get("reason")) == (verdict, reason)


async def test_who_is_not_enabled_is_told_so(api: Api) -> None:
    browser = await signed_in(api, await api.house.subscriber(MILLION, allowed=False))
    assert (await browser.get("quote", to=GERMANY)).json()["reason"] == "not_invited"
    me = (await browser.get("me")).json()
    assert (me["enabled"], me["standing"]) == (False, "out")


async def test_a_user_of_the_app_is_free_at_zero_balance(api: Api) -> None:
    poor, friend = [await api.house.subscriber(0) for _ in range(2)]
    await phones(api)
    browser = await signed_in(api, poor)
    told = (await browser.get("quote", to=friend.a_number)).json()
    assert (told["verdict"], told["on_net"], told["enables"]) == ("admitted", True, False)
    assert (await browser.get("quote", to=poor.a_number)).json()["reason"] == "own_number"


@pytest.mark.parametrize("to", ["", "x" * 41, "+49\x00", "+49\n30"])
async def test_a_question_about_no_number_is_refused(api: Api, to: str) -> None:
    browser = await signed_in(api, await api.house.subscriber())
    problem(await browser.get("quote", to=to), 400, "bad_request")


# ---------------------------------------------------------------- during


async def test_the_running_call_has_its_figures(api: Api) -> None:
    who = await api.house.subscriber(MILLION)
    browser = await signed_in(api, who)
    assert (await browser.get("calls/current")).json() == {"call": None}
    call = await running(api, who, 12)
    told = (await browser.get("calls/current")).json()["call"]
    assert told["number"] == GERMANY
    assert 12 <= told["talk_s"] < 14
    # A tenth of a cent each begun second, and a thousand of them in all.
    assert told["cost"] in ("0.012", "0.013", "0.014")
    assert told["left_s"] in (986, 987, 988)
    assert (told["warnings"], told["free"], told["in_bundle"]) == ([], False, False)
    await api.house.end(ended(call.frozen.call_id, 13_000))
    assert (await browser.get("calls/current")).json() == {"call": None}


async def test_a_call_that_rings_has_no_figures_yet(api: Api) -> None:
    who = await api.house.subscriber(MILLION)
    browser = await signed_in(api, who)
    call = await api.house.admitted(who)
    told = (await browser.get("calls/current")).json()["call"]
    assert (told["answered_at"], told["talk_s"], told["cost"], told["left_s"]) == (None, None, None, None)
    await api.house.end(ended(call.frozen.call_id))


async def test_money_that_ends_is_told_before(api: Api) -> None:
    who = await api.house.subscriber(40_000)
    browser = await signed_in(api, who)
    await running(api, who, 5)
    told = (await browser.get("calls/current")).json()["call"]
    assert told["warnings"] == ["low_balance"]
    assert 33 <= told["left_s"] <= 35
    await api.house.top_up(who, MILLION, "in time")
    assert (await browser.get("calls/current")).json()["call"]["warnings"] == []


async def test_a_bundle_pays_and_is_told_when_it_is_used_up(api: Api) -> None:
    who = await api.house.subscriber(MILLION)
    await api.house.buy(who, SeedBundle("short", 0, 1, {"voice": 5}))
    browser = await signed_in(api, who)
    call = await running(api, who, 2)
    told = (await browser.get("calls/current")).json()["call"]
    assert (told["in_bundle"], told["cost"], told["warnings"]) == (True, "0.00", [])
    await api.house.rows(
        "UPDATE lease SET answered_at = now() - interval '8 seconds' WHERE call_id = $1", call.frozen.call_id
    )
    told = (await browser.get("calls/current")).json()["call"]
    assert told["warnings"] == ["bundle_used_up"]
    assert told["cost"] in ("0.003", "0.004", "0.005")


async def test_whoever_is_called_sees_the_call_and_nothing_of_the_callers_money(api: Api) -> None:
    caller, callee = await api.house.subscriber(MILLION), await api.house.subscriber()
    call_id = await rung(api, caller, callee)
    await api.house.answer(call_id, at=datetime.now(UTC) - timedelta(seconds=3))
    told = (await (await signed_in(api, callee)).get("calls/current")).json()["call"]
    assert (told["direction"], told["number"]) == ("incoming", caller.a_number)
    assert (told["cost"], told["currency"], told["left_s"], told["warnings"]) == (None, None, None, [])
    mine = (await (await signed_in(api, caller)).get("calls/current")).json()["call"]
    assert (mine["direction"], mine["cost"], mine["free"]) == ("outgoing", "0.00", True)


# ---------------------------------------------------------------- after


async def test_history_has_what_was_paid(api: Api) -> None:
    who = await api.house.subscriber(MILLION)
    browser = await signed_in(api, who)
    call = await api.house.admitted(who)
    await api.house.end(ended(call.frozen.call_id, 61_200))
    [row] = (await browser.get("calls")).json()["data"]
    assert (row["number"], row["state"], row["talk_s"], row["cost"], row["currency"]) == (
        GERMANY, "answered", 62, "0.062", "EUR",
    )  # fmt: skip
    assert (await browser.get("me")).json()["balance"] == "0.938"


async def test_a_refusal_is_known_by_the_calls_own_id(api: Api) -> None:
    who = await api.house.subscriber(0)
    browser, other = await signed_in(api, who), await signed_in(api, await api.house.subscriber())
    asked = api.house.asked(who)
    await api.house.admissions.admit(asked, api.house.book, datetime.now(UTC))
    told = (await browser.get("calls/of", sip_call_id=asked.sip_call_id)).json()["call"]
    assert (told["state"], told["reason"]) == ("refused", "no_credit")
    assert (await other.get("calls/of", sip_call_id=asked.sip_call_id)).json() == {"call": None}
    assert (await browser.get("calls/of", sip_call_id="another")).json() == {"call": None}
    [row] = (await browser.get("calls")).json()["data"]
    assert (row["state"], row["reason"], row["cost"]) == ("refused", "no_credit", None)


async def test_who_called_is_in_the_history_unless_they_hid(api: Api) -> None:
    caller, callee = await api.house.subscriber(), await api.house.subscriber()
    for anonymous in (False, True):
        call_id = await rung(api, caller, callee, anonymous=anonymous)
        await api.house.end(ended(call_id, attempt_no=None))
    rows = (await (await signed_in(api, callee)).get("calls")).json()["data"]
    assert [(one["direction"], one["number"], one["missed"], one["cost"]) for one in rows] == [
        ("incoming", None, True, None),
        ("incoming", caller.a_number, True, None),
    ]
    rows = (await (await signed_in(api, caller)).get("calls")).json()["data"]
    assert [(one["direction"], one["number"], one["missed"]) for one in rows] == [
        ("outgoing", callee.a_number, False)
    ] * 2


async def test_what_went_on_over_a_carrier_is_told_once(api: Api) -> None:
    await phones(api)
    await api.house.rows("UPDATE plan SET on_net_fallback = true")
    await api.house.reload()
    caller, callee = await api.house.subscriber(MILLION), await api.house.subscriber()
    asked = api.house.asked(caller, callee.a_number)
    first = await api.house.admissions.admit(asked, api.house.book, datetime.now(UTC))
    assert isinstance(first, Admitted)
    await api.house.end(ended(first.frozen.call_id, attempt_no=None))
    second = await api.house.admissions.go_on(first.frozen, asked, api.house.book, datetime.now(UTC))
    assert isinstance(second, Admitted)
    await api.house.end(ended(second.frozen.call_id, 1_000))
    rows = (await (await signed_in(api, caller)).get("calls")).json()["data"]
    assert [one["state"] for one in rows] == ["answered"]


async def test_history_goes_page_by_page(api: Api) -> None:
    who, friend = await api.house.subscriber(MILLION), await api.house.subscriber()
    for number in range(5):
        if number % 2:
            await api.house.end(ended(await rung(api, friend, who), attempt_no=None))
        else:
            await api.house.end(ended((await api.house.admitted(who)).frozen.call_id, 1_000))
    browser, seen, cursor = await signed_in(api, who), [], None
    while True:
        page = (await browser.get("calls", limit=2, **({"cursor": cursor} if cursor else {}))).json()
        seen += [one["call_id"] for one in page["data"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == [one["call_id"] for one in (await browser.get("calls", limit=100)).json()["data"]]
    assert len(set(seen)) == 5


async def test_nobody_sees_anothers_calls_or_money(api: Api) -> None:
    """On the same account even: a family shares the money, not the history."""
    who, other = await api.house.subscriber(MILLION), await api.house.subscriber(0)
    await api.house.rows(
        "UPDATE subscriber SET account_id = $2 WHERE account_id = $1", other.account_id, who.account_id
    )
    call = await running(api, who, 5)
    stranger = Browser(api)
    async with transaction(api.house.pool) as conn:
        other_id = await conn.fetchval(
            "SELECT subscriber_id FROM subscriber WHERE a_number = $1", other.a_number
        )
        made = await add_link(conn, other_id, 60)
    await stranger.open(f"#{made.token}")
    assert (await stranger.get("calls/current")).json() == {"call": None}
    asked = {"sip_call_id": call.frozen.sip_call_id}
    assert (await stranger.get("calls/current", **asked)).json() == {"call": None}
    await api.house.end(ended(call.frozen.call_id, 1_000))
    assert (await stranger.get("calls")).json()["data"] == []
    assert (await stranger.get("calls/of", **asked)).json() == {"call": None}


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("calls", {"cursor": "0"}),
        ("calls", {"subscriber_id": "sub_1"}),
        ("calls/of", {}),
        ("calls/of", {"sip_call_id": "a b"}),
        ("calls/current", {"sip_call_id": "x" * 65}),
        ("me", {"subscriber_id": "sub_1"}),
    ],
)
async def test_questions_of_another_shape_are_refused(api: Api, path: str, query: dict[str, str]) -> None:
    browser = await signed_in(api, await api.house.subscriber())
    problem(await browser.get(path, **query), 400, "bad_request")


async def test_a_voice_message_is_heard_by_whom_it_is_for(api: Api, tmp_path: Path) -> None:
    settings = api.services.settings.model_copy(update={"messages": Messages(folder=tmp_path)})
    api.app.state.services = replace(api.services, settings=settings)
    caller, callee = await api.house.subscriber(), await api.house.subscriber()
    call_id = await rung(api, caller, callee)
    await api.house.end(ended(call_id, 4_000, attempt_no=None))
    await api.house.rows("SELECT voice_message_leave_v1($1, 3200)", call_id)
    mine, theirs = await signed_in(api, callee), await signed_in(api, caller)
    [row] = (await mine.get("calls")).json()["data"]
    assert (row["missed"], row["message"]["length_s"]) == (True, 4)
    [row_of_theirs] = (await theirs.get("calls")).json()["data"]
    assert row_of_theirs["message"] is None
    path = f"messages/{row['message']['message_id']}/audio"
    problem(await mine.get(path), 404, "not_found")  # no sound is there
    (tmp_path / f"{call_id.hex}.wav").write_bytes(wav.head(wav.HEAD_BYTES + 320) + bytes(320))
    heard = await mine.get(path)
    assert (heard.status_code, heard.headers["content-type"]) == (200, "audio/wav")
    assert len(heard.content) == wav.HEAD_BYTES + 320
    problem(await theirs.get(path), 404, "not_found")


# ---------------------------------------------------------------- invitations


async def rolled_out(api: Api, *enabled: Who) -> UUID:
    """A rollout of the app with an open window; these people may call, who comes later waits."""
    now = datetime.now(UTC)
    async with transaction(api.house.pool) as conn:
        settings = {
            "name": "r",
            "invite_limit": 2,
            "depth_max": None,
            "call_activates": True,
            "invite_s": 3600,
        }
        made = await rollouts.add_rollout(conn, "messenger", settings, None, "tests", now)
        window = dict.fromkeys(("opens_at", "closes_at", "thresholds", "trial_s", "next_window_id"))
        opened = await rollouts.add_window(conn, made, window | {"name": "w", "quota": 5}, "tests", now)
        for who in enabled:
            subscriber_id = await subscriber_of(api, who)
            await rollouts.enrol(conn, subscriber_id, now)
            await rollouts.seed(conn, made["rollout_id"], subscriber_id, "tests", now)
        await rollouts.set_window(conn, opened["window_id"], "open", "operator", "tests", now)
    found: UUID = opened["window_id"]
    return found


async def test_an_invitation_from_one_phone_is_taken_up_on_another(api: Api) -> None:
    host = await api.house.subscriber()
    guest = await api.house.subscriber(allowed=False)
    window_id = await rolled_out(api, host)
    async with connection(api.house.pool) as conn:
        await rollouts.enrol(conn, await subscriber_of(api, guest), datetime.now(UTC))
    inviting, invited = await signed_in(api, host), await signed_in(api, guest)
    stands = (await inviting.get("invites")).json()
    assert (stands["standing"], stands["may_invite"], stands["left"]) == ("enabled", True, 2)
    assert stands["window"]["state"] == "open"
    waits = (await invited.get("invites")).json()
    assert (waits["standing"], waits["place"], waits["may_invite"]) == ("waiting", 1, False)
    made = (await inviting.ask("POST", "invites", json={"number": guest.a_number})).json()
    problem(await inviting.ask("POST", "invites/accept", json={"code": made["code"]}), 410, "unknown")
    came = await invited.ask("POST", "invites/accept", json={"code": made["code"]})
    assert came.json() == {"state": "activated"}
    assert (await invited.get("me")).json()["enabled"] is True
    again = await invited.ask("POST", "invites/accept", json={"code": made["code"]})
    assert again.status_code in (200, 410)
    async with connection(api.house.pool) as conn:
        await rollouts.set_window(conn, window_id, "closed", "operator", "tests", datetime.now(UTC))
    late = await inviting.ask("POST", "invites", json={"number": "+493023125777"})
    problem(late, 409, "no_window")
    assert (await inviting.get("invites")).json()["window"]["state"] == "closed"


async def test_invitations_are_refused_by_name(api: Api) -> None:
    host, waiting = await api.house.subscriber(), await api.house.subscriber(allowed=False)
    await rolled_out(api, host)
    async with connection(api.house.pool) as conn:
        await rollouts.enrol(conn, await subscriber_of(api, waiting), datetime.now(UTC))
    inviting, other = await signed_in(api, host), await signed_in(api, waiting)
    problem(await inviting.ask("POST", "invites", json={"number": host.a_number}), 409, "self")
    problem(await other.ask("POST", "invites", json={"number": "+493023125777"}), 409, "not_enabled")
    problem(await other.ask("POST", "invites/accept", json={"code": str(uuid4())}), 410, "unknown")
    problem(await inviting.ask("POST", "invites", json={"number": "030 1"}), 422, "invalid_request")
    async with connection(api.house.pool) as conn:
        made = await rollouts.invite(conn, await subscriber_of(api, host), "+493023125778", datetime.now(UTC))
    assert isinstance(made, Invited)
    problem(await other.ask("POST", "invites/accept", json={"code": made.code}), 410, "unknown")


async def test_without_a_rollout_there_is_nothing_to_invite_to(api: Api) -> None:
    told = (await (await signed_in(api, await api.house.subscriber())).get("invites")).json()
    assert (told["standing"], told["window"]["state"], told["may_invite"]) == ("enabled", "none", False)
