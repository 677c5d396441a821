"""Webhooks' rules: when they are sent again, how they are signed, what is in them. The reference library verifies."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from uuid import UUID

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from bridge.events.kind import KINDS, PREFIXES, prefix_of
from bridge.events.message import BODY_BYTES_MAX, Event, Message, cloud_event, told, webhook
from bridge.events.schedule import JITTER, WAITS_S, read_retry_after, retry_s
from bridge.events.signature import new_secret, show_secret

NOW = datetime(2026, 5, 17, 12, 0, 0, tzinfo=UTC)
ENDED = Event(
    UUID(int=7),
    "call.ended",
    UUID(int=9),
    9,
    {"amount": "0.07", "place": "Köln"},
    NOW.replace(microsecond=5000),
)


def verify(message: Message, secret: bytes) -> object:
    return Webhook(show_secret(secret)).verify(message.body, dict(message.headers))


def test_the_reference_library_verifies_what_we_sign():
    secret = new_secret()
    message = webhook(ENDED, [secret], datetime.now(UTC))
    assert verify(message, secret) == json.loads(message.body)
    assert message.headers["webhook-id"] == "evt_00000000000000000000000000000007"
    with pytest.raises(WebhookVerificationError):
        verify(Message(message.headers, message.body + b" "), secret)


def test_while_secrets_change_each_of_them_verifies():
    old, new, strange = new_secret(), new_secret(), new_secret()
    message = webhook(ENDED, [new, old], datetime.now(UTC))
    assert len(message.headers["webhook-signature"].split(" ")) == 2
    verify(message, old)
    verify(message, new)
    with pytest.raises(WebhookVerificationError):
        verify(message, strange)


def test_a_secret_is_as_libraries_take_it():
    head, _, rest = show_secret(new_secret()).partition("_")
    assert (head, len(base64.b64decode(rest, validate=True))) == ("whsec", 32)


def test_what_is_told():
    assert told(ENDED) == {
        "type": "call.ended",
        "timestamp": "2026-05-17T12:00:00.005Z",
        "event_id": "evt_00000000000000000000000000000007",
        "subject_id": "call_00000000000000000000000000000009",
        "seq": 9,
        "data": {"amount": "0.07", "place": "Köln"},
    }
    assert {prefix_of(kind) for kind in KINDS} == set(PREFIXES)


def test_a_long_message_is_left_out_and_can_be_read():
    long = Event(UUID(int=7), "deck.applied", UUID(int=9), 1, {"text": "ä" * BODY_BYTES_MAX}, NOW)
    message = webhook(long, [new_secret()], NOW)
    assert len(message.body) < BODY_BYTES_MAX
    assert json.loads(message.body)["data"]["read"] == f"/v1/events/{long.id}"


def test_a_sink_gets_cloud_events_and_nobody_else_sees_what_is_for_it():
    camara = {
        "type": "org.camaraproject.click-to-dial.v0.status-changed",
        "source": "/x",
        "data": {"status": "connected"},
    }
    event = Event(UUID(int=7), "origination.changed", UUID(int=9), 1, {"state": "up", "camara": camara}, NOW)
    message = cloud_event(event, "a-token")
    assert message.headers == {
        "content-type": "application/cloudevents+json", "authorization": "Bearer a-token",
    }  # fmt: skip
    assert json.loads(message.body) == {
        "specversion": "1.0",
        "id": event.id,
        "source": "/x",
        "type": "org.camaraproject.click-to-dial.v0.status-changed",
        "time": "2026-05-17T12:00:00.000Z",
        "datacontenttype": "application/json",
        "data": {"status": "connected"},
    }
    assert told(event)["data"] == {"state": "up"}
    assert "authorization" not in cloud_event(event, None).headers


def test_the_schedule():
    assert [retry_s(tries, 0.0) for tries in range(1, 11)] == [*WAITS_S[1:], None]
    assert sum(WAITS_S) == 272_105  # three days and some hours
    assert retry_s(2, 0.999) == pytest.approx(300 * (1 + JITTER * 0.999))


@pytest.mark.parametrize(
    ("tries", "asked_s", "wait_s"),
    [(1, 60.0, 60.0), (1, 0.0, 5.0), (3, 60.0, 1800.0), (1, 1e9, 86_400.0), (10, 60.0, None)],
)
def test_whoever_asks_for_time_gets_a_day_at_most(tries, asked_s, wait_s):
    assert retry_s(tries, 0.0, asked_s) == wait_s


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("120", 120.0),
        ("Sun, 17 May 2026 12:00:30 GMT", 30.0),
        ("Sun, 17 May 2026 11:00:00 GMT", 0.0),
        ("-5", None),
        ("1e9", None),
        ("soon", None),
        ("", None),
        ("٣", None),
        ("9" * 400, 999_999_999.0),
        ("Sun, 99 May 2026 12:00:30 GMT", None),
    ],
)
def test_retry_after_is_read(text, wait_s):
    assert read_retry_after(text, NOW) == wait_s
