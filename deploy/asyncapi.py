"""The AsyncAPI 3 document of the events, made from the contracts in `shared.events`.

    python -m deploy.asyncapi            write docs/asyncapi.json
    python -m deploy.asyncapi --check    end with 1 if it is not up to date

It describes what is on Kafka, so that others can read along: topics, keys, the headers of CloudEvents' binary mode, and
the data. A test compares it with the records themselves.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from shared.events import EventType
from shared.events.document import described

FILE = Path(__file__).parents[1] / "docs" / "asyncapi.json"

_INFO = {
    "title": "Moorage events",
    "version": "1",
    "description": "What happened to which key; whoever receives an event asks the API for the rest. At least once, in "
    "order per key. A prefix (MOORAGE_BUS_PREFIX) may stand before the topics' names. Guarantees: docs/events.md.",
}
_BINDING = {"bindingVersion": "0.5.0"}

Json = dict[str, Any]


def document() -> Json:
    channels: Json = {}
    operations: Json = {}
    messages: Json = {}
    schemas: Json = {}
    for contract, when in described():
        name, schema = contract.name, contract.data.__name__
        channel = channels.setdefault(contract.service, _channel(contract))
        channel["messages"][name] = _reference("components", "messages", name)
        operation = operations.setdefault(f"publish_{contract.service}_events", _operation(contract))
        operation["messages"].append(_reference("channels", contract.service, "messages", name))
        schemas[schema] = contract.data.model_json_schema()
        messages[name] = {
            "name": name,
            "summary": when,
            "contentType": "application/json",
            "headers": _headers(contract),
            "payload": _reference("components", "schemas", schema),
            "bindings": {"kafka": {"key": {"type": "string", "description": "the subject"}, **_BINDING}},
        }
    return {
        "asyncapi": "3.0.0",
        "info": _INFO,
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": dict(sorted(schemas.items()))},
    }


def _channel(contract: EventType) -> Json:
    return {
        "address": contract.topic,
        "description": f"All that the {contract.service} publishes.",
        "messages": {},
        "bindings": {"kafka": {"topic": contract.topic, **_BINDING}},
    }


def _operation(contract: EventType) -> Json:
    return {"action": "send", "channel": _reference("channels", contract.service), "messages": []}


def _headers(contract: EventType) -> Json:
    """CloudEvents 1.0, binary content mode; every value is UTF-8 text."""
    properties: Json = {
        "ce_specversion": {"const": "1.0"},
        "ce_id": {"type": "string", "description": "the same for an event that is delivered again"},
        "ce_source": {"const": f"/moorage/{contract.service}"},
        "ce_type": {"const": contract.name},
        "ce_subject": {"type": "string", "description": "the key: order holds among events of one subject"},
        "ce_time": {"type": "string", "format": "date-time"},
        "content-type": {"const": "application/json"},
    }
    return {
        "type": "object",
        "required": list(properties),
        "properties": properties
        | {
            "ce_requestid": {"type": "string", "description": "the X-Request-Id of the request that caused it"},
            "moorage_only_for": {"type": "string", "description": "a replay: for this consumer group alone"},
        },
    }


def _reference(*path: str) -> Json:
    return {"$ref": "#/" + "/".join(path)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.asyncapi", description="The AsyncAPI document.")
    parser.add_argument("--check", action="store_true", help="only say whether docs/asyncapi.json is up to date")
    options = parser.parse_args()
    text = json.dumps(document(), indent=1, ensure_ascii=False) + "\n"
    if not options.check:
        FILE.write_text(text)
    elif not FILE.exists() or FILE.read_text() != text:
        sys.exit("docs/asyncapi.json is not what shared/events says: run `make docs` and commit it.")


if __name__ == "__main__":
    main()
