"""The contracts: what is published is what docs/events.md says."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.events import CONTRACTS, TOPICS, CloudEvent, gateway, new_event
from shared.events.document import table

DOCUMENT = Path(__file__).parents[2] / "docs" / "events.md"


def test_the_document_is_up_to_date() -> None:
    """`python -m shared.events.document` prints the table to paste."""
    assert table() in DOCUMENT.read_text()


def test_names_are_unique_and_say_what_they_are() -> None:
    for name, contract in CONTRACTS.items():
        assert name == contract.name
        assert name.startswith("moorage.")
        assert contract.topic in TOPICS
    assert len(CONTRACTS) == table().count("\n| `")


def test_the_envelope_survives_json() -> None:
    event = new_event(gateway.USER_CREATED, "ana", {"user": "ana"})
    assert CloudEvent.model_validate_json(event.model_dump_json()) == event
    assert event.source == "/moorage/gateway"
    assert event.specversion == "1.0"


def test_a_newer_sender_may_add_fields_and_an_older_version_is_refused() -> None:
    event = new_event(gateway.USER_CREATED, "ana", {"user": "ana"}).model_dump(mode="json")
    assert CloudEvent.model_validate({**event, "traceparent": "x"}).id == event["id"]
    with pytest.raises(ValidationError):
        CloudEvent.model_validate({**event, "specversion": "0.3"})
