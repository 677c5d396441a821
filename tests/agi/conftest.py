"""A header of Asterisk's, and the loops on which the server is tested."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop

# What Asterisk 22.10 wrote for AGI(agi://127.0.0.1:4573/authorise?a=1,one,two words), a line a write
HEADER = (
    b"agi_network: yes\n"
    b"agi_network_script: authorise?a=1\n"
    b"agi_request: agi://127.0.0.1:4573/authorise?a=1\n"
    b"agi_channel: PJSIP/app-0000002a\n"
    b"agi_language: en\n"
    b"agi_type: PJSIP\n"
    b"agi_uniqueid: 1795357833.1\n"
    b"agi_version: 22.10.1+dfsg+~cs6.17.60671434-1\n"
    b"agi_callerid: 493023125001\n"
    b"agi_calleridname: Erika Mustermann\n"
    b"agi_callingpres: 67\n"
    b"agi_callingani2: 0\n"
    b"agi_callington: 0\n"
    b"agi_callingtns: 0\n"
    b"agi_dnid: 496990009001\n"
    b"agi_rdnis: unknown\n"
    b"agi_context: call\n"
    b"agi_extension: s\n"
    b"agi_priority: 1\n"
    b"agi_enhanced: 0.0\n"
    b"agi_accountcode: \n"
    b"agi_threadid: 140014177584832\n"
    b"agi_arg_1: one\n"
    b"agi_arg_2: two words\n"
    b"\n"
)


@pytest.fixture
def header() -> bytes:
    return HEADER


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The server's transports differ from loop to loop, so its tests run on both."""
    if item.path.name == "test_server.py":
        return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}
