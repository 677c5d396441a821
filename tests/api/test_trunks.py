"""Trunks: a partner sets up its own, an operator enables it; and nothing a partner writes leaves its place."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.api.fields import show_id
from bridge.asterisk import conf
from bridge.config import Settings
from bridge.database import connection, transaction
from bridge.errors import StoreError
from bridge.routing.store import load_apps, load_peers
from bridge.sandbox.seed import SeedRate, seed_deck
from tests.api.scene import Api, Client, Partner, problem
from tests.asterisk_text import sections

SETTINGS = Settings.model_validate({"ami": {"secret": "s" * 32}, "switch": {"emergency_trunk": "beta"}})
SECRET = "correct.horse-battery"


async def buy_deck(api: Api, owner: Partner | None, name: str = "buy eplus", currency: str = "EUR") -> str:
    async with transaction(api.house.pool) as conn:
        deck_id = await seed_deck(conn, name, "buy", [SeedRate("49", "Germany", 20_000, 1, 1)])
    await api.house.rows("UPDATE deck SET currency = $2 WHERE deck_id = $1", deck_id, currency)
    if owner:
        await api.own("deck", owner, deck_id=deck_id)
    return show_id("deck", (await api.house.row("SELECT deck_id FROM deck WHERE name = $1", name))[0])


async def new_trunk(api: Api, **more: Any) -> dict[str, Any]:
    """The body of a trunk of Alpha's."""
    known = await api.house.rows("SELECT deck_id FROM deck WHERE name = 'buy eplus'")
    deck_id = show_id("deck", known[0][0]) if known else await buy_deck(api, api.alpha)
    return {"name": "eplus", "deck_id": deck_id, "host": "sbc.example.net", **more}


async def made(client: Client, api: Api, **more: Any) -> str:
    """The path of a new trunk."""
    response = await client.post("/v1/trunks", await new_trunk(api, **more))
    assert response.status_code == 201, response.text
    return str(response.headers["location"])


async def as_partner(api: Api, sql: str) -> list[Any]:
    async with transaction(api.services.asking) as conn:
        await conn.execute("SET LOCAL ROLE callbridge_partner")
        await conn.execute("SELECT set_config('bridge.partner_id', $1, true)", str(api.alpha.partner_id))
        await conn.execute("SET LOCAL enable_seqscan = off")
        return list(await conn.fetch(sql))


async def rendered(api: Api) -> str:
    async with connection(api.house.pool) as conn:
        return conf.render_pjsip(SETTINGS, await load_peers(conn), await load_apps(conn))


async def test_a_partners_trunk_waits_for_an_operator(api: Api) -> None:
    body = await new_trunk(
        api,
        port=5070,
        transport="tcp",
        codecs=["g722", "alaw"],
        auth={"username": "cb", "secret": SECRET},
        allowed_ips=["8.8.8.0/28"],
        capacity=30,
        cps=5,
        numbers={"b_format": "international", "a_format": "e164", "tech_prefix": "1234"},
        qualify_s=30,
    )
    response = await api.alpha.post("/v1/trunks", body)
    assert response.status_code == 201, response.text
    told = response.json()
    assert (told["enabled"], told["state"], told["partner_id"]) == (False, "active", api.alpha.id)
    assert told["auth"] == {"username": "cb"}
    assert told["applied"] == {"edition": None, "at": None, "error": None}
    path = response.headers["location"]
    for reader in (api.alpha, api.operator):
        again = await reader.get(path)
        assert (again.status_code, again.json()) == (200, told)
    assert "[eplus]" not in await rendered(api)
    problem(await api.alpha.patch(path, {"enabled": True}), 403, "not_allowed")
    enabled = await api.operator.patch(path, {"enabled": True})
    assert enabled.json() == told | {"enabled": True}
    found = sections(await rendered(api))
    assert found["eplus", "trunk"]["allow"] == ["g722,alaw"]
    assert found["eplus", "trunk-aor"]["contact"] == [r"sip:sbc.example.net:5070\;transport=tcp"]
    assert found["eplus", "auth"] == {
        "type": ["auth"],
        "auth_type": ["userpass"],
        "username": ["cb"],
        "password": [SECRET],
    }
    assert found["eplus", "identify"]["match"] == ["8.8.8.0/28"]


async def test_its_costs_are_booked_to_the_partners_own_account(api: Api) -> None:
    path = await made(api.alpha, api)
    row = await api.house.row(
        "SELECT a.* FROM trunk JOIN account a USING (account_id) WHERE trunk.name = 'eplus'"
    )
    assert (row["kind"], row["partner_id"], row["currency"]) == ("carrier", api.alpha.partner_id, "EUR")
    await made(api.alpha, api, name="eplus_two")
    accounts = "SELECT count(DISTINCT account_id) FROM trunk WHERE partner_id = $1"
    assert await api.house.value(accounts, api.alpha.partner_id) == 1
    dollars = await buy_deck(api, api.alpha, "buy dollars", "USD")
    problem(await api.operator.patch(path, {"deck_id": dollars}), 422, "invalid_request")


async def test_what_partners_may_and_may_not_change(api: Api) -> None:
    path = await made(api.alpha, api)
    changes = {
        "host": "8.8.4.4",
        "port": 5080,
        "codecs": ["ulaw"],
        "auth": {"username": "other", "secret": SECRET},
        "capacity": 7,
        "cps": 3,
        "numbers": {"b_format": "national"},
    }
    response = await api.alpha.patch(path, changes)
    assert response.status_code == 200, response.text
    told = response.json()
    assert (told["host"], told["port"], told["codecs"], told["capacity"], told["cps"]) == (
        "8.8.4.4", 5080, ["ulaw"], 7, 3,
    )  # fmt: skip
    assert told["numbers"] == {"b_format": "national", "a_format": "e164_plus", "tech_prefix": ""}
    gone = (await api.alpha.patch(path, {"capacity": None, "cps": None, "auth": None})).json()
    assert gone == told | {"capacity": None, "cps": None, "auth": None}
    for field, value in {
        "enabled": True, "priority": -1, "policy_class": "emergency", "origin": "foreign", "ring_s": 5,
        "deck_id": show_id("deck", (await api.house.row("SELECT deck_id FROM deck WHERE name = 'buy eplus'"))[0]),
    }.items():  # fmt: skip
        refused = problem(await api.alpha.patch(path, {field: value}), 403, "not_allowed")
        assert [one["pointer"] for one in refused["errors"]] == [f"#/{field}"]
        assert (await api.operator.patch(path, {field: value})).status_code == 200
    for field in ("account_id", "enabled", "priority", "policy_class", "origin", "ring_s"):
        body = await new_trunk(api, name="more") | {
            field: {"account_id": None, "enabled": False}.get(field, 1)
        }
        body |= {"policy_class": "pstn"} if field == "policy_class" else {}
        body |= {"origin": "domestic"} if field == "origin" else {}
        problem(await api.alpha.post("/v1/trunks", body), 403, "not_allowed")
    assert await api.house.value("SELECT count(*) FROM trunk WHERE name = 'more'") == 0


async def test_a_change_needs_the_newest_edition(api: Api) -> None:
    path = await made(api.alpha, api)
    old = await api.alpha.etag(path)
    assert (await api.alpha.patch(path, {"capacity": 1}, old)).status_code == 200
    problem(await api.alpha.patch(path, {"capacity": 2}, old), 412, "stale")
    problem(await api.alpha.ask("PATCH", path, json={"capacity": 2}), 428, "if_match_required")
    problem(await api.alpha.delete(path, old), 412, "stale")


async def test_another_partners_trunk_is_not_there(api: Api) -> None:
    path = await made(api.alpha, api)
    edition = {"If-Match": await api.alpha.etag(path)}
    for method, where, more in (
        ("GET", path, {}),
        ("GET", f"{path}/health", {}),
        ("POST", f"{path}/drain", {}),
        ("POST", f"{path}/undrain", {}),
        ("PATCH", path, {"json": {"capacity": 1}, "headers": edition}),
        ("DELETE", path, {"headers": edition}),
    ):
        problem(await api.beta.ask(method, where, **more), 404, "not_found")
    assert (await api.beta.get("/v1/trunks")).json()["data"] == []
    assert [one["name"] for one in (await api.operator.get("/v1/trunks")).json()["data"]] == [
        "eplus",
        "beta",
        "alpha",
    ]
    foreign = await new_trunk(api, name="theft")  # Alpha's deck
    problem(await api.beta.post("/v1/trunks", foreign), 404, "not_found")
    ours = show_id("deck", (await api.house.row("SELECT deck_id FROM deck WHERE name = 'buy alpha'"))[0])
    problem(await api.beta.post("/v1/trunks", foreign | {"deck_id": ours}), 404, "not_found")
    problem(await api.beta.post("/v1/trunks", foreign | {"partner_id": api.alpha.id}), 404, "not_found")
    account = show_id("acc", (await api.house.row("SELECT account_id FROM trunk WHERE name = 'alpha'"))[0])
    mine = await buy_deck(api, api.beta, "buy beta two")
    given = foreign | {"deck_id": mine, "account_id": account}
    problem(await api.beta.post("/v1/trunks", given), 403, "not_allowed")
    assert await api.house.value("SELECT count(*) FROM trunk WHERE name = 'theft'") == 0


async def test_the_secret_is_nowhere_to_be_read(api: Api) -> None:
    path = await made(api.alpha, api, auth={"username": "cb", "secret": SECRET})
    response = await api.operator.patch(path, {"auth": {"username": "cb", "secret": SECRET + "2"}})
    assert SECRET not in response.text
    assert SECRET not in (await api.operator.get(path)).text
    kept = await api.house.rows(
        "SELECT detail::text FROM audit_log UNION ALL SELECT body::text FROM idempotency"
    )
    assert len(kept) == 3
    assert not [row for row in kept if SECRET in row[0] or SECRET.encode().hex() in row[0]]
    for sql in (
        "SELECT auth_secret FROM trunk",
        "SELECT account_id FROM trunk",
        "SELECT * FROM trunk_pace",
        "UPDATE trunk SET enabled = true",
        "SELECT trunk_seen_v1(uuidv7(), 'down')",
    ):
        with pytest.raises(StoreError, match="permission denied"):
            await as_partner(api, sql)


HOSTILE = (
    "x;y", "x\n[evil]", "x\r\nmatch = 0.0.0.0/0", "[evil]", "x](!)", "${SHELL(id)}", "$[1+1]", "a&PJSIP/b", "a/b",
    "a@b", "a|b", "a,b", "a b", "", "x\0", "ü", "a\\;b", '"a"', "'a'", "a=b", "a>b", "#include /etc/passwd", "a" * 300,
    "<sip:a>", "../a", "%{a}", "(trunk)", "١٢٣", "a\N{NO-BREAK SPACE}b", "\t", " a",
)  # fmt: skip
PLACES: dict[str, Any] = {
    "name": lambda evil: {"name": evil},
    "host": lambda evil: {"host": evil},
    "transport": lambda evil: {"transport": evil},
    "codecs": lambda evil: {"codecs": [evil]},
    "auth_username": lambda evil: {"auth": {"username": evil, "secret": SECRET}},
    "auth_secret": lambda evil: {"auth": {"username": "cb", "secret": f"12345678{evil}"}},
    "allowed_ips": lambda evil: {"allowed_ips": [evil]},
    "b_format": lambda evil: {"numbers": {"b_format": evil}},
    "a_format": lambda evil: {"numbers": {"a_format": evil}},
    "tech_prefix": lambda evil: {"numbers": {"b_format": "e164", "tech_prefix": f"1{evil}"}},
    "origin": lambda evil: {"origin": evil},
    "policy_class": lambda evil: {"policy_class": evil},
    "port": lambda evil: {"port": evil},
    "capacity": lambda evil: {"capacity": evil},
    "cps": lambda evil: {"cps": evil},
    "qualify_s": lambda evil: {"qualify_s": evil},
    "ring_s": lambda evil: {"ring_s": evil},
}
HARMLESS = {  # the same character is no harm everywhere
    "auth_secret": {"", "a=b", "a,b", "a/b", "../a"},
    "tech_prefix": {""},
}


@pytest.mark.parametrize("place", PLACES)
async def test_what_could_leave_its_place_is_refused_and_leaves_nothing(api: Api, place: str) -> None:
    body = await new_trunk(api)
    kept = await api.operator.post("/v1/trunks", body | {"name": "kept", "partner_id": api.alpha.id})
    path, was = kept.headers["location"], kept.json()
    for evil in HOSTILE:
        if evil in HARMLESS.get(place, ()):
            continue
        given = PLACES[place](evil)
        said = problem(await api.operator.post("/v1/trunks", body | given), 422, "invalid_request")
        assert said["errors"], evil
        problem(await api.operator.patch(path, given), 422, "invalid_request")
    assert await api.house.value("SELECT count(*) FROM trunk") == 3
    assert (await api.operator.get(path)).json() == was


INSIDE = (
    "127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "localhost", "db", "db.internal",
    "sip.local", "10.in-addr.arpa",
)  # fmt: skip
NO_HOST = (
    "0.0.0.0", "224.0.0.1", "255.255.255.255", "2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "1.2.3.4.5",
    "[::1]", "::1", "a..b", "-a.de", "a-.de", "a.de.",
)  # fmt: skip


@pytest.mark.parametrize("host", [*INSIDE, *NO_HOST])
async def test_a_partner_does_not_lead_us_into_our_own_network(api: Api, host: str) -> None:
    problem(await api.alpha.post("/v1/trunks", await new_trunk(api, host=host)), 422, "invalid_request")
    path = await made(api.alpha, api)
    problem(await api.alpha.patch(path, {"host": host}), 422, "invalid_request")


async def test_where_an_operator_led_it_a_partner_may_change_the_rest(api: Api) -> None:
    path = await made(api.operator, api, host="10.0.0.1", partner_id=api.alpha.id)
    assert (await api.alpha.patch(path, {"capacity": 3})).json()["host"] == "10.0.0.1"


async def test_nobody_leads_the_switch_back_to_itself(api: Api) -> None:
    switch = api.services.settings.switch
    itself = await new_trunk(api, host=switch.sip_host, port=switch.sip_port, partner_id=api.alpha.id)
    problem(await api.operator.post("/v1/trunks", itself), 422, "invalid_request")
    path = (await api.operator.post("/v1/trunks", itself | {"port": 1})).headers["location"]
    problem(await api.operator.patch(path, {"port": switch.sip_port}), 422, "invalid_request")


@pytest.mark.parametrize(
    "name", ["messenger", "alpha", "udp", "tcp", "none", "global", "anonymous", "trunk", "app"]
)
async def test_names_that_mean_something_else(api: Api, name: str) -> None:
    response = await api.alpha.post("/v1/trunks", await new_trunk(api, name=name))
    assert response.status_code in (409, 422), response.text
    assert await api.house.value("SELECT count(*) FROM trunk") == 2


async def test_who_calls_from_an_address_is_clear(api: Api) -> None:
    await api.house.rows("UPDATE app SET sip_host = '8.8.8.9:5062'")
    await made(api.alpha, api, name="first", allowed_ips=["8.8.4.0/28"])
    for taken in ("8.8.8.9", "8.8.8.0/24", "8.8.4.5/32", "8.8.4.0/24"):
        body = await new_trunk(api, name="second", allowed_ips=[taken])
        problem(await api.alpha.post("/v1/trunks", body), 409, "conflict")
    for odd in (
        "8.0.0.0/8",
        "0.0.0.0/0",
        "8.8.4.1/24",
        "10.0.0.0/24",
        "8.8.0.0/20",
        "224.0.0.0/24",
        "8.8.8.8/33",
    ):
        body = await new_trunk(api, name="second", allowed_ips=[odd])
        problem(await api.alpha.post("/v1/trunks", body), 422, "invalid_request")
    second = await made(api.alpha, api, name="second", allowed_ips=["8.8.5.0/28"])
    problem(await api.alpha.patch(second, {"allowed_ips": ["8.8.4.0/28"]}), 409, "conflict")
    assert (await api.alpha.patch(second, {"allowed_ips": ["8.8.5.0/29"]})).status_code == 200  # its own


async def test_the_emergency_trunk_is_the_operators(api: Api) -> None:
    path = await made(api.alpha, api)
    settings = api.services.settings.model_copy(
        update={"switch": api.services.settings.switch.model_copy(update={"emergency_trunk": "eplus"})}
    )
    object.__setattr__(api.services, "settings", settings)
    problem(await api.alpha.patch(path, {"host": "8.8.8.8"}), 403, "not_allowed")
    problem(await api.alpha.post(f"{path}/drain"), 403, "not_allowed")
    problem(await api.alpha.delete(path), 409, "conflict")
    assert (await api.operator.patch(path, {"host": "8.8.8.8"})).status_code == 200


async def test_drained_and_back(api: Api) -> None:
    path = await made(api.alpha, api)
    etag = await api.alpha.etag(path)
    drained = await api.alpha.post(f"{path}/drain")
    assert (drained.status_code, drained.json()["state"]) == (200, "draining")
    assert drained.headers["etag"] != etag
    assert (await api.alpha.post(f"{path}/drain")).headers["etag"] == drained.headers["etag"]
    assert [one["name"] for one in (await api.alpha.get("/v1/trunks", state="draining")).json()["data"]] == [
        "eplus"
    ]
    assert (await api.alpha.post(f"{path}/undrain")).json()["state"] == "active"
    assert (await api.alpha.get("/v1/trunks", state="draining")).json()["data"] == []
    actions = await api.house.rows("SELECT action, partner_id FROM audit_log ORDER BY audit_id")
    assert [row["action"] for row in actions] == [
        "trunk.create",
        "trunk.drain",
        "trunk.drain",
        "trunk.undrain",
    ]
    assert {row["partner_id"] for row in actions} == {api.alpha.partner_id}


async def test_deleted_only_while_no_call_can_refer_to_it(api: Api) -> None:
    path = await made(api.alpha, api)
    assert (await api.alpha.delete(path)).status_code == 204
    problem(await api.alpha.get(path), 404, "not_found")
    path = await made(api.alpha, api)
    for enabled in (True, False):
        await api.operator.patch(path, {"enabled": enabled})
    problem(await api.alpha.delete(path), 409, "conflict")
    assert (await api.alpha.get(path)).json()["enabled"] is False


async def test_health_of_the_last_hour(api: Api) -> None:
    path = await made(api.alpha, api)
    quiet = (await api.alpha.get(f"{path}/health")).json()
    assert quiet["health"] == {"status": "unknown", "since": None}
    assert quiet["live_calls"] == 0
    assert {name: quiet["last_hour"][name] for name in ("attempts", "asr", "ner")} == {
        "attempts": 0,
        "asr": None,
        "ner": None,
    }
    await api.house.rows(
        """INSERT INTO attempt (call_id, attempt_no, trunk_id, outcome, fault, pdd_ms, ended_at, currency, buy)
           SELECT uuidv7(x.age), 1, t.trunk_id, x.outcome, x.fault, x.pdd, now(), 'EUR', '{}' FROM trunk t,
           (VALUES ('0'::interval, 'answered', 'unknown', 100), ('0', 'busy', 'callee', 200),
                   ('0', 'failed', 'carrier', NULL), ('0', 'answered', 'unknown', 900),
                   ('-2 hours', 'answered', 'unknown', 1)) AS x (age, outcome, fault, pdd)
            WHERE t.name = 'eplus'"""
    )
    told = (await api.alpha.get(f"{path}/health")).json()["last_hour"]
    assert (told["attempts"], told["answered"], told["asr"], told["ner"]) == (4, 2, 0.5, 0.75)
    assert (told["pdd_ms_median"], told["pdd_ms_p95"]) == (200, 900)
    await api.house.rows("DELETE FROM attempt")


async def test_the_list_reads_its_index(api: Api) -> None:
    rows = await as_partner(
        api,
        "EXPLAIN SELECT trunk_id FROM trunk WHERE trunk_id < gen_random_uuid() ORDER BY trunk_id DESC LIMIT 21",
    )
    assert "Scan Backward using trunk_partner" in "\n".join(row[0] for row in rows)
