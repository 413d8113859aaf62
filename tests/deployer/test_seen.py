"""Which events are news to a reconciler that has read the rows."""

from uuid import uuid4

import pytest

from services.deployer.seen import Seen
from shared.events import CloudEvent, deployer, gateway, new_event

READ = Seen(generation=3, routed_generation=3, acknowledged=2)
REFUSED = Seen(generation=3, routed_generation=2, acknowledged=2, rejected="no such cluster")


def changed(generation: int) -> CloudEvent:
    data = {"id": "churn", "group": "risk", "generation": generation}
    return new_event(deployer.DEPLOYMENT_CHANGED, str(uuid4()), data)


def enforced(generation: int, endpoints: int, *, rejected: bool = False) -> CloudEvent:
    data = {"id": "churn", "generation": generation, "endpoints_generation": endpoints, "rejected": rejected}
    return new_event(gateway.ROUTE_ENFORCED, str(uuid4()), data)


@pytest.mark.parametrize("event", [changed(2), changed(3), enforced(3, 2), enforced(2, 2), enforced(3, 1)])
def test_what_the_rows_said_is_no_news(event: CloudEvent) -> None:
    assert READ.covers(event)
    assert not Seen().covers(event), "nothing has been read"


@pytest.mark.parametrize("event", [changed(4), enforced(4, 2), enforced(3, 3), enforced(3, 2, rejected=True)])
def test_what_came_after_is(event: CloudEvent) -> None:
    assert not READ.covers(event)


def test_the_end_of_a_refusal_is() -> None:
    assert not REFUSED.covers(enforced(2, 2))
    assert REFUSED.covers(changed(3))


def test_an_event_of_a_release_before_may_be_a_refusal() -> None:
    event = enforced(3, 2)
    del event.data["rejected"]
    assert not READ.covers(event)
