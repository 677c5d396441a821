"""The API as a Postman collection (v2.1, which Bruno and Insomnia read, too), made from its OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

SCHEMA: Final = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
_DEPTH_MAX: Final = 8


def collection(api: Mapping[str, Any]) -> dict[str, Any]:
    """One folder a tag, one request an operation, with an example body. `baseUrl` and `apiKey` are its variables."""
    folders: dict[str, list[dict[str, Any]]] = {}
    for path, operations in api["paths"].items():
        for method, operation in operations.items():
            tag = (operation.get("tags") or ["other"])[0]
            folders.setdefault(tag, []).append(_request(api, path, method, operation))
    return {
        "info": {"name": api["info"]["title"], "version": api["info"]["version"], "schema": SCHEMA},
        "auth": {"type": "bearer", "bearer": [{"key": "token", "value": "{{apiKey}}", "type": "string"}]},
        "variable": [
            {"key": "baseUrl", "value": "http://127.0.0.1:8080"},
            {"key": "apiKey", "value": ""},
        ],
        "item": [{"name": tag, "item": requests} for tag, requests in folders.items()],
    }


def _request(api: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]) -> dict[str, Any]:
    parameters = [_resolved(api, one) for one in operation.get("parameters", [])]
    pieces = [":" + piece[1:-1] if piece.startswith("{") else piece for piece in path.strip("/").split("/")]
    headers = [{"key": "Idempotency-Key", "value": "{{$guid}}"}] if method == "post" else []
    if method in ("patch", "put", "delete"):
        headers.append({"key": "If-Match", "value": '"1"'})  # the ETag that was read
    request: dict[str, Any] = {
        "method": method.upper(),
        "header": headers,
        "url": {
            "raw": "{{baseUrl}}/" + "/".join(pieces),
            "host": ["{{baseUrl}}"],
            "path": pieces,
            "variable": [
                {"key": one["name"], "value": str(example(api, one.get("schema", {})))}
                for one in parameters
                if one["in"] == "path"
            ],
            "query": [
                {"key": one["name"], "value": "", "disabled": True, "description": one.get("description", "")}
                for one in parameters
                if one["in"] == "query"
            ],
        },
        "description": operation.get("description", ""),
    }
    schema = _json_schema(operation)
    if schema is not None:
        request["header"].append({"key": "Content-Type", "value": "application/json"})
        request["body"] = {
            "mode": "raw",
            "raw": _dump(example(api, schema)),
            "options": {"raw": {"language": "json"}},
        }
    return {"name": operation.get("summary", path), "request": request}


def _json_schema(operation: Mapping[str, Any]) -> Mapping[str, Any] | None:
    content = operation.get("requestBody", {}).get("content", {})
    found: Mapping[str, Any] | None = content.get("application/json", {}).get("schema")
    return found


def _dump(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _resolved(api: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Any = schema
    while "$ref" in found:
        name = found["$ref"]
        found = api
        for step in name.removeprefix("#/").split("/"):
            found = found[step]
    result: Mapping[str, Any] = found
    return result


def example(api: Mapping[str, Any], schema: Mapping[str, Any], depth: int = 0) -> Any:
    """A value of a schema: its own example, else the simplest there is."""
    if not schema.get("examples"):
        schema = _resolved(api, schema)
    if schema.get("examples"):
        return schema["examples"][0]
    for key in ("example", "default", "const"):
        if schema.get(key) is not None:
            return schema[key]
    if schema.get("enum"):
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return example(api, schema[key][0], depth + 1)
    match schema.get("type"):
        case "object" if depth < _DEPTH_MAX:
            required = schema.get("required", list(schema.get("properties", {})))
            return {name: example(api, schema["properties"][name], depth + 1) for name in required}
        case "array" if depth < _DEPTH_MAX and "items" in schema:
            return [example(api, schema["items"], depth + 1)]
        case "integer" | "number":
            return int(schema.get("minimum", 0))
        case "boolean":
            return False
        case "string":
            return "2026-01-31T12:00:00Z" if schema.get("format") == "date-time" else "text"
        case _:
            return None
