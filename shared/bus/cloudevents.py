"""CloudEvents 1.0 in Kafka's binary content mode: attributes are headers `ce_…`, the data alone is the value.

Source: github.com/cloudevents/spec, v1.0.2, kafka-protocol-binding.md. Pure. Headers of ours are the bus's.
"""

from collections.abc import Iterable
from typing import Any

import orjson

from shared.events import CloudEvent

Headers = list[tuple[str, bytes]]

_CONTENT_TYPE = "content-type"
_PREFIX = "ce_"


def encode(event: CloudEvent) -> tuple[Headers, bytes]:
    """Headers and value of the record that carries `event`."""
    headers = [
        ("ce_specversion", event.specversion.encode()),
        ("ce_id", event.id.encode()),
        ("ce_source", event.source.encode()),
        ("ce_type", event.type.encode()),
        ("ce_subject", event.subject.encode()),
        ("ce_time", event.time.isoformat().encode()),
        (_CONTENT_TYPE, event.datacontenttype.encode()),
    ]
    if event.requestid is not None:
        headers.append(("ce_requestid", event.requestid.encode()))
    return headers, orjson.dumps(event.data)


def decode(headers: Iterable[tuple[str, bytes]], value: bytes | None) -> dict[str, Any]:
    """The members of the event, to be checked by whoever reads it. Raises ValueError on what cannot be read at all."""
    event: dict[str, Any] = {"data": orjson.loads(value or b"{}")}
    for name, content in headers:
        if name.startswith(_PREFIX):
            event[name[len(_PREFIX) :]] = content.decode()
        elif name == _CONTENT_TYPE:
            event["datacontenttype"] = content.decode()
    return event
