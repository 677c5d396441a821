"""What a listener is sent: the same event as a webhook, as CloudEvents for a sink, and as the API shows it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from bridge.events.kind import prefix_of
from bridge.events.signature import signatures

BODY_BYTES_MAX: Final = 20_000  # Standard Webhooks asks for less than 20 kB
# The parts of an event's data that are for a sink alone: a whole CloudEvent's type, source and data; or its data.
FOR_SINKS: Final = ("camara", "click_to_dial")
CAMARA_TYPE: Final = "org.camaraproject.click-to-dial.v0.status-changed"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. data: as it is told, with what is for a sink alone."""

    event_id: UUID
    kind: str
    subject_id: UUID
    seq: int
    data: Mapping[str, Any]
    occurred_at: datetime

    @property
    def id(self) -> str:
        return f"evt_{self.event_id.hex}"


@dataclass(frozen=True, slots=True)
class Message:
    """A POST, but for the address."""

    headers: Mapping[str, str]
    body: bytes


def event_of(row: Mapping[str, Any]) -> Event:
    """From a row of the database. data: JSON text"""
    return Event(
        row["event_id"],
        row["kind"],
        row["subject_id"],
        row["seq"],
        json.loads(row["data"]),
        row["occurred_at"],
    )


def told(event: Event) -> dict[str, Any]:
    """The event as webhooks, the stream and the API tell it."""
    return {
        "type": event.kind,
        "timestamp": _at(event.occurred_at),
        "event_id": event.id,
        "subject_id": f"{prefix_of(event.kind)}_{event.subject_id.hex}",
        "seq": event.seq,
        "data": {name: value for name, value in event.data.items() if name not in FOR_SINKS},
    }


def webhook(event: Event, keys: Sequence[bytes], at: datetime) -> Message:
    """Signed by Standard Webhooks at the time of sending. What is too long is left out, and can be read by its id."""
    content = told(event)
    body = _json(content)
    if len(body) >= BODY_BYTES_MAX:
        body = _json({**content, "data": {"left_out": True, "read": f"/v1/events/{event.id}"}})
    at_s = int(at.timestamp())
    headers = {
        "content-type": "application/json",
        "webhook-id": event.id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": signatures(keys, event.id, at_s, body),
    }
    return Message(headers, body)


def cloud_event(event: Event, bearer: str | None) -> Message:
    """CloudEvents 1.0, structured JSON, of what the event holds for sinks."""
    camara = dict(next((event.data[name] for name in FOR_SINKS if event.data.get(name)), {}))
    inner = camara["data"] if {"type", "data"} <= camara.keys() else camara
    content = {
        "specversion": "1.0",
        "id": event.id,
        "source": camara.get("source", "/click-to-dial/v0"),
        "type": camara.get("type", CAMARA_TYPE),
        "time": _at(event.occurred_at),
        "datacontenttype": "application/json",
        "data": inner,
    }
    headers = {"content-type": "application/cloudevents+json"}
    if bearer:
        headers["authorization"] = f"Bearer {bearer}"
    return Message(headers, _json(content))


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()


def _at(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
