"""The dialplan, channel_vars.py and the contract in asterisk-conf/README.md say the same."""

import re

from bridge.asterisk import channel_vars
from bridge.asterisk.channel_vars import FIELDS, GLOBALS, ROUTES, dial, stop
from bridge.resources import ASTERISK_CONF

DIALPLAN = (ASTERISK_CONF / "extensions.conf").read_text()
README = (ASTERISK_CONF / "README.md").read_text()
CODE = "\n".join(line.split(" ;")[0] for line in DIALPLAN.splitlines() if not line.startswith(";"))


def test_the_dialplan_is_short():
    assert len(DIALPLAN.splitlines()) < 80


def test_the_answer_is_cut_apart_in_the_order_it_is_written():
    cut = re.search(r"Set\(ARRAY\(([A-Z_,]+)\)=\$\{BRIDGE\}\)", CODE)
    assert cut is not None
    assert tuple(cut[1].split(",")) == FIELDS


def test_an_answer_has_one_value_for_each_field():
    answer = dial(
        "alpha", "+493023125000", ring_s=30, limit_ms=59_750, cause=34, call="x.1", cli="+4915112345678"
    )
    assert answer.text() == "dial,PJSIP/+493023125000@alpha,30,59.750,34,x.1,+4915112345678"
    assert len(answer.text().split(",")) == len(stop(21).text().split(",")) == len(FIELDS)


def test_the_dialplan_asks_every_route_and_no_other():
    assert sorted(set(re.findall(r"AGI\(\$\{AGI\}/([a-z-]+)", CODE))) == sorted(ROUTES)


def test_every_variable_of_ours_has_its_name_in_one_place():
    named = {value for name, value in vars(channel_vars).items() if name.isupper() and isinstance(value, str)}
    used = set(re.findall(r"\bBRIDGE(?:_[A-Z]+)*\b", CODE))
    assert used == {name for name in named if name.startswith("BRIDGE")}


def test_every_global_is_used_and_none_is_used_undeclared():
    upper = set(re.findall(r"\$\{([A-Z_]+)\}", CODE))
    of_asterisk = {"EXTEN", "DIALSTATUS", "HANGUPCAUSE", "RINGTIME_MS", "PROGRESSTIME_MS", "DIALEDTIME_MS"}
    of_asterisk |= {"ANSWEREDTIME_MS", "CHANNEL"}
    assert {name for name in upper - of_asterisk if not name.startswith("BRIDGE")} == set(GLOBALS)


def test_the_readme_names_them_all():
    for name in (*ROUTES, *FIELDS, *GLOBALS, channel_vars.ANSWER, channel_vars.SIP, channel_vars.END):
        assert f"`{name}`" in README or f"/{name}`" in README, name


def test_no_rate_number_or_carrier_in_the_dialplan():
    numbers = re.findall(r"(?<![\w.{])[0-9]{3,}(?![\w}])", CODE)
    assert set(numbers) <= {"110", "112", "120"}  # emergency numbers, and how long these ring
