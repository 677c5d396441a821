"""The dialplan, channel_vars.py and the contract in asterisk-conf/README.md say the same."""

import re

from bridge.asterisk import channel_vars
from bridge.asterisk.channel_vars import (
    FIELDS,
    GLOBALS,
    HANGUP_HANDLERS,
    ROUTES,
    SEPARATOR,
    dial,
    record,
    ring,
    stop,
    wait,
)
from bridge.resources import ASTERISK_CONF

DIALPLAN = (ASTERISK_CONF / "extensions.conf").read_text()
README = (ASTERISK_CONF / "README.md").read_text()
CODE = "\n".join(line.split(" ;")[0] for line in DIALPLAN.splitlines() if not line.startswith(";"))


def test_the_dialplan_is_short():
    assert len(DIALPLAN.splitlines()) < 120  # one reader of the answer, and a context for each who calls


def test_the_dialplan_cuts_every_field_out_of_its_place():
    head = re.search(r"; The answer: (.*)", DIALPLAN)
    assert head is not None
    assert len(head[1].split("|")) == len(FIELDS)
    used = {int(place) for place in re.findall(r"\$\{CUT\(BRIDGE,\|,(\d)\)\}", CODE)}
    assert used == set(range(1, len(FIELDS) + 1))
    for field, place in (("dial", 2), ("cli", 7), ("call", 6), ("limit_s", 4), ("cause", 5), ("privacy", 8)):
        assert FIELDS[place - 1] == field
    assert (
        "Dial(${CUT(BRIDGE,|,2)},${CUT(BRIDGE,|,3)},U(answered${BRIDGE_LEG}^${CUT(BRIDGE,|,4)}^${CUT(BRIDGE,|,6)}))"
        in CODE
    )


def test_an_answer_has_one_value_for_each_field():
    answer = dial(
        "alpha", "+493023125000", ring_s=30, limit_ms=59_750, cause=34, call="x.1", cli="+4915112345678"
    )
    assert answer.text() == "dial|PJSIP/+493023125000@alpha|30|59.750|34|x.1|+4915112345678|"
    assert len(answer.text().split(SEPARATOR)) == len(stop(21).text().split(SEPARATOR)) == len(FIELDS)


def test_the_dialplan_asks_every_route_and_no_other():
    assert sorted(set(re.findall(r"AGI\(\$\{AGI\}/([a-z-]+)", CODE))) == sorted(ROUTES)


def test_every_verdict_is_a_place_to_go_to():
    """dial is read first; any other verdict, with privacy behind it where there may be some, is a label."""
    labels = set(re.findall(r"same => n\(([a-z]+)\)", CODE.split("[from-app]\n")[1].split("\n[")[0]))
    made = [
        dial("alpha", "+49301", ring_s=1, limit_ms=1, cause=34, call="x.1", cli="+49302", anonymous=True),
        ring("u1", ring_s=1, limit_ms=1, cause=20, call="x.1", cli="+49302"),
        ring("u1", ring_s=1, limit_ms=1, cause=20, call="x.1", cli="+49302", anonymous=True),
        wait("u1", cause=20, call="x.1"),
        record("m1", seconds=60, cause=20, call="x.1"),
        stop(21),
    ]
    assert {one.verdict + one.privacy for one in made} <= labels


def test_every_variable_of_ours_has_its_name_in_one_place():
    named = {value for name, value in vars(channel_vars).items() if name.isupper() and isinstance(value, str)}
    used = set(re.findall(r"\bBRIDGE(?:_[A-Z]+)*\b", CODE))
    assert used == {name for name in named if name.startswith("BRIDGE")}


def test_both_hangup_handlers_are_there_and_tell_the_same():
    told = [
        re.search(r"ended\|.*?ANSWEREDTIME_MS\}", CODE.split(f"[{name}]\n")[1])
        for name in HANGUP_HANDLERS.values()
    ]
    assert told[0] is not None
    assert told[1] is not None
    assert told[0][0] == told[1][0]


def test_every_leg_comes_to_contexts_that_are_there():
    for name in (channel_vars.CLICK, channel_vars.JOINED, "answered-click", *channel_vars.CONTEXTS):
        assert f"\n[{name}]\n" in DIALPLAN


def test_every_global_is_used_and_none_is_used_undeclared():
    upper = set(re.findall(r"\$\{([A-Z_]+)\}", CODE))
    of_asterisk = {"EXTEN", "DIALSTATUS", "HANGUPCAUSE", "RINGTIME_MS", "PROGRESSTIME_MS", "DIALEDTIME_MS"}
    of_asterisk |= {"ANSWEREDTIME_MS", "CHANNEL"}
    assert {name for name in upper - of_asterisk if not name.startswith("BRIDGE")} == set(GLOBALS)


def test_the_readme_names_them_all():
    ours = (
        channel_vars.ANSWER,
        channel_vars.CALL,
        channel_vars.LIMIT_S,
        channel_vars.CAUSE,
        channel_vars.SIP,
        channel_vars.LEG,
        channel_vars.PHONES,
        channel_vars.CLICK,
        channel_vars.JOINED,
    )
    for name in (*ROUTES, *FIELDS, *GLOBALS, *ours, *HANGUP_HANDLERS.values(), *channel_vars.CONTEXTS):
        assert f"`{name}`" in README or f"/{name}`" in README, name


def test_no_rate_number_or_carrier_in_the_dialplan():
    numbers = re.findall(r"(?<![\w.{])[0-9]{3,}(?![\w}])", CODE)
    assert set(numbers) <= {"110", "112", "120"}  # emergency numbers, and how long these ring
