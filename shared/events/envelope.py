"""The CloudEvents 1.0 envelope (JSON format). Source: github.com/cloudevents/spec, v1.0.2."""

from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field
from structlog.contextvars import get_contextvars

from shared.events.contract import EventType


class CloudEvent(BaseModel):
    """`subject` is the key that the event is about: order holds per subject. `requestid` is our one extension."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    datacontenttype: Literal["application/json"] = "application/json"
    requestid: str | None = None
    data: dict[str, Any] = Field(default_factory=dict)


def new_event(contract: EventType, subject: str, data: dict[str, Any], *, event_id: str | None = None) -> CloudEvent:
    """An event of a published contract; its data is checked against the contract here, not at the receiver."""
    return CloudEvent(
        id=event_id or str(uuid4()),
        source=f"/moorage/{contract.service}",
        type=contract.name,
        subject=subject,
        time=datetime.now(UTC),
        requestid=get_contextvars().get("request_id"),
        data=contract.data.model_validate(data).model_dump(mode="json"),
    )
