from __future__ import annotations

import json

import pytest

from tests.asterisk.scene import BALANCE_MICRO, BERLIN, PRICE_MICRO, Scene, well
from tests.asterisk.sipp import Caller, answers, rejects

VICTIM = "+4915112999999"
EXPRESSION = "${EXTEN}${SHELL(id)}"


# 404 is the dialplan's own: such a call does not come as far as the bridge.
WORTH_A_LINE = {403: ["call refused"], 484: ["call refused"], 503: ["agi protocol error"], 404: []}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(f'"Eve, \\"E\\" | & {EXPRESSION}"', id="quotes and expressions"),
        pytest.param(f'"Eve%0Aagi_callerid: {VICTIM}%0A%0A"', id="escaped line feeds"),
        pytest.param('"Eve%0D%0Aagi_dnid: +49301%00"', id="escaped CR, LF and NUL"),
        pytest.param('"' + "Eve, " * 300 + '"', id="very long"),
        pytest.param('"Zoë 🎈 \u202e"', id="beyond ASCII"),
    ],
)
def test_a_callers_name_changes_nothing_and_goes_nowhere(scene: Scene, name: str) -> None:
    a_number = scene.subscriber()
    carrier = scene.alpha(answers())
    call = scene.calls(Caller(a_number, BERLIN, from_=f"{name} <sip:{a_number}@app.invalid>").talks(0.2))
    _, carrier_saw = well(call, carrier)
    assert [line.split("@")[0] for line in carrier_saw.invites()] == [f"INVITE sip:{BERLIN}"]
    assert carrier_saw.header("From").startswith(f"<sip:{a_number}@")
    told = scene.story(call)
    assert (told["state"], told["a_number"], told["charge"]) == ("answered", a_number, "0.09")
    assert scene.account(a_number) == (BALANCE_MICRO - PRICE_MICRO, 0)


@pytest.mark.parametrize(
    ("caller", "heard"),
    [
        pytest.param("%20", 403, id="a blank"),
        pytest.param("eve%2Cx%7Cy%26z%22%27", 403, id="separators"),
        pytest.param("%24%7BEXTEN%7D", 403, id="expression"),
        pytest.param("+" + "4" * 600, 403, id="very long"),
        pytest.param(f"x%0Aagi_callerid: {VICTIM}".replace(" ", "%20"), 503, id="line feed"),
        pytest.param(f"{VICTIM}%0D", 403, id="carriage return"),
    ],
)
def test_who_calls_as_nonsense_is_refused(scene: Scene, caller: str, heard: int) -> None:
    refused(scene, Caller("", BERLIN, from_=f"<sip:{caller}@app.invalid>"), heard)


@pytest.mark.parametrize(
    ("dialled", "heard"),
    [
        pytest.param("+4930&PJSIP%2Fx%40beta", 484, id="a second destination"),
        pytest.param("+4930%2C60%2Cg", 484, id="options of Dial"),
        pytest.param("+4930%22%5C%27%7C", 484, id="quotes"),
        pytest.param("0%24%7BSHELL(id)%7D", 484, id="expression"),
        pytest.param("+4930%0Aagi_callerid%3A%20x", 503, id="line feed"),
        pytest.param("0" + "9" * 75, 484, id="as long as it gets"),
        pytest.param("0" + "9" * 1000, 484, id="very long"),
        pytest.param("%D9%A0%D9%A3%D9%A0", 404, id="digits of another script"),
        pytest.param("h", 404, id="an extension of the switch"),
        pytest.param("s", 404, id="another"),
    ],
)
def test_who_dials_nonsense_is_refused(scene: Scene, dialled: str, heard: int) -> None:
    a_number = scene.subscriber()
    refused(scene, Caller(a_number, dialled), heard)
    assert scene.paid_nothing(a_number)


@pytest.mark.parametrize(
    ("phrase", "headers"),
    [
        pytest.param(f'No, "really" | & {EXPRESSION}', "", id="phrase"),
        pytest.param("x,486,17,ANSWER,SIP 486", "", id="phrase like arguments"),
        pytest.param("x" * 1500, "", id="very long phrase"),
        pytest.param("", 'Reason: Q.850;cause=34;text="a,b\\"${EXTEN}"\n', id="Reason header"),
        pytest.param("Busy", "Reason: Q.850;cause=99999999999\n", id="a cause that is none"),
    ],
)
def test_a_carriers_words_are_only_words(scene: Scene, phrase: str, headers: str) -> None:
    a_number = scene.subscriber()
    first, second = scene.alpha(rejects(f"503 {phrase}", headers)), scene.beta(answers())
    call = scene.calls(Caller(a_number, BERLIN).talks(0.2))
    _, _, second_saw = well(call, first, second)
    told = scene.story(call)
    assert [(each["trunk"], each["outcome"], each["sip_code"]) for each in told["attempts"]] == [
        ("alpha", "congested", 503),
        ("beta", "answered", 200),
    ]
    assert [line.split("@")[0] for line in second_saw.invites()] == [f"INVITE sip:{BERLIN}"]


def test_a_call_id_is_only_a_name(scene: Scene) -> None:
    a_number = scene.subscriber()
    carrier = scene.alpha(answers())
    call_id = f'a"b,{VICTIM},${{EXTEN}}|&%0A'
    call = scene.calls(Caller(a_number, BERLIN).talks(0.2), call_id=call_id)
    well(call, carrier)
    scene.wait_quiet()
    found = scene.value("SELECT sip_call_id FROM call WHERE a_number = $1 AND state = 'answered'", a_number)
    assert found == call_id.replace('"', "")  # the switch's own reading of arguments takes quotes away


def test_nobody_writes_the_record_of_anothers_call(scene: Scene) -> None:
    talker = scene.subscriber()
    carrier = scene.alpha(answers())
    live = scene.calls(Caller(talker, BERLIN).talks(3.5))
    scene.wait_live(live, answered=True)
    call_id = scene.value("SELECT call_id FROM call WHERE sip_call_id = $1", live.call_id)
    record = f"%0A{call_id}.1,,,1.000000,1.500000,,,,,%0A"
    refused(scene, Caller("", BERLIN, from_=f"<sip:{record}@app.invalid>"), 503)
    scene.wait_files_read()
    assert scene.value("SELECT state FROM call WHERE call_id = $1", call_id) == "live"
    well(live, carrier)
    told = scene.story(live)
    assert (told["state"], told["cdr"]["ended_by"]) == ("answered", "journal")
    assert told["talk_ms"] == pytest.approx(3500, abs=200)


def refused(scene: Scene, caller: Caller, heard: int) -> None:
    """The caller hears this, a carrier hears nothing, and the log has one line without a number."""
    carrier = scene.beta(answers())
    logged = scene.stack.bridge_log.stat().st_size
    call = scene.calls(caller.hears(heard))
    well(call)
    assert carrier.seen().received == ()
    assert scene.stack.switch.running
    said = scene.stack.bridge_log.read_bytes()[logged:].decode()
    assert [json.loads(line)["event"] for line in said.splitlines()] == WORTH_A_LINE[heard]
    assert not caller.a_number or caller.a_number not in said
