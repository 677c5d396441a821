"""Logs hold no full number."""

import pytest

from bridge.observe.log import hide_numbers


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("called +493023125000 twice", "called +49302312xxxx twice"),
        ("0049 30 23125000", "0049 30 2312xxxx"),
        ("port 5060 refused", "port 5060 refused"),
        ("01a203c8-4c13-7987-9c96-f6a99d52ec62", "01a203c8-4c13-7987-9c96-f6a99d52ec62"),
    ],
)
def test_the_last_digits_go(said, shown):
    assert hide_numbers(None, "", {"event": said})["event"] == shown


def test_ids_stay():
    event = {"call": "01a203c8-4c13-7987-9c96-f6a99d52ec62", "sip_call_id": "123456789@192.0.2.1"}
    assert hide_numbers(None, "", dict(event)) == event
