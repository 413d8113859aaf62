"""The pure rules: effective weights, what is planned for an id, throttling, examples."""

import base64
import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.clients.domain import new_mark, new_token
from services.gateway.domain import (
    ClientRow,
    DeploymentRow,
    Enforcement,
    Record,
    ReplicaRow,
    agreed,
    effective_weights,
    elsewhere,
    make_plan,
)
from services.gateway.endpoint.domain import example_call, main_version
from services.gateway.envoy.model import EndpointClient, Overlap
from services.gateway.envoy.publisher import Enforced, Outcome, Pending, Rejected
from services.gateway.identity.throttle import PER_ADDRESS, PER_USER_AND_ADDRESS, Throttle, network_of
from shared.errors import TooManyRequests

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SHA1 = EndpointClient.of_token("ana", "moor_ana_x").sha1


@pytest.mark.parametrize(
    ("wanted", "routable", "effective"),
    [
        ({}, set(), {}),
        ({1: 100}, {1}, {1: 100}),
        ({1: 90, 2: 10}, {1, 2}, {1: 90, 2: 10}),
        ({1: 90, 2: 10}, {1}, {1: 100, 2: 0}),
        ({1: 90, 2: 10}, {2}, {1: 0, 2: 100}),
        ({1: 90, 2: 10}, set(), {1: 90, 2: 10}),  # nobody to take it: what was wanted stays
        ({1: 100, 2: 0}, {2}, {1: 100, 2: 0}),  # a version that is to get nothing gets nothing
        ({1: 50, 2: 30, 3: 20}, {2, 3}, {1: 0, 2: 60, 3: 40}),
        ({1: 10, 2: 10, 3: 10, 4: 70}, {1, 2, 3}, {1: 34, 2: 33, 3: 33, 4: 0}),
    ],
)
def test_effective_weights(wanted: dict[int, int], routable: set[int], effective: dict[int, int]) -> None:
    assert effective_weights(wanted, routable=routable) == effective


@st.composite
def weights(draw: st.DrawFn) -> dict[int, int]:
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=0, max_size=5)))
    return {i: b - a for i, (a, b) in enumerate(zip([0, *cuts], [*cuts, 100], strict=True), start=1)}


@given(weights(), st.sets(st.integers(1, 6)))
def test_effective_weights_go_to_who_can_answer(wanted: dict[int, int], routable: set[int]) -> None:
    effective = effective_weights(wanted, routable=routable)
    assert sum(effective.values()) == 100
    assert set(effective) == set(wanted)
    if any(wanted[version] for version in routable & set(wanted)):
        assert all(version in routable for version, weight in effective.items() if weight)
        assert all(effective[version] == 0 for version, weight in wanted.items() if not weight)
        # What is scaled up keeps its proportions, but for rounding.
        total = sum(wanted[version] for version in routable & set(wanted))
        assert all(abs(effective[v] - 100 * wanted[v] / total) < 1 for v in routable & set(wanted))


def row(**changes: object) -> DeploymentRow:
    uid = uuid4()
    made = DeploymentRow(
        uid=uid,
        id="churn",
        deleted=False,
        generation=3,
        endpoints_generation=2,
        stopped=False,
        access="private",
        versions=(1, 2),
        weights={1: 100, 2: 0},
        replicas=(ReplicaRow("r-1", 1, "127.0.0.1", 9001),),
        clients=(ClientRow("ana", SHA1, None),),
        recorded=None,
        mark=(uid, 3, 2, False, 0),
    )
    return replace(made, **changes)


def test_a_plan_says_what_is_recorded_once_it_is_enforced() -> None:
    live = row()
    plan = make_plan("churn", [live], now=NOW)
    assert plan.routes is not None
    assert plan.routes.replicas == {"r-1"}
    record = Record(generation=3, endpoints_generation=2, weights={1: 100, 2: 0})
    assert plan.unrecorded == {live.uid: record}
    assert plan.with_recorded(plan.records).unrecorded == {}
    assert make_plan("churn", [replace(live, recorded=record)], now=NOW).unrecorded == {}


def test_the_deleted_and_the_live_one_of_an_id_are_planned_together() -> None:
    gone, live = row(deleted=True, generation=9), row()
    plan = make_plan("churn", [gone, live], now=NOW)
    assert plan.routes is not None
    assert plan.live == live.uid
    assert plan.records[gone.uid] == Record(generation=9, endpoints_generation=2)
    alone = make_plan("churn", [gone], now=NOW)
    assert (alone.routes, alone.live, set(alone.records)) == (None, None, {gone.uid})
    assert make_plan("churn", [], now=NOW).records == {}


def test_clients_expire_by_the_clock_and_count_only_while_private() -> None:
    clients = (
        ClientRow("for-ever", SHA1, None),
        ClientRow("later", SHA1, NOW + timedelta(hours=2)),
        ClientRow("soon", SHA1, NOW + timedelta(hours=1)),
        ClientRow("over", SHA1, NOW),
    )
    plan = make_plan("churn", [row(clients=clients)], now=NOW)
    assert plan.routes is not None
    assert [client.name for client in plan.routes.clients] == ["for-ever", "later", "soon"]
    assert plan.next_expiry == NOW + timedelta(hours=1)
    public = make_plan("churn", [row(clients=clients, access="public")], now=NOW)
    assert public.routes is not None
    assert public.routes.clients == ()


def test_the_token_before_is_let_in_too_until_its_time_is_over() -> None:
    soon = NOW + timedelta(minutes=5)
    client = ClientRow("ana", SHA1, None, previous_sha1=SHA1, previous_until=soon, mark="2.")
    assert client.at(NOW) == EndpointClient("ana", SHA1, Overlap(SHA1, "2."))
    assert client.at(soon) == EndpointClient("ana", SHA1)
    assert make_plan("churn", [row(clients=(client,))], now=NOW).next_expiry == soon
    assert make_plan("churn", [row(clients=(client,))], now=soon).next_expiry is None
    assert replace(client, expires_at=NOW).at(NOW) is None


@given(st.from_regex(r"[A-Za-z0-9.-]{1,63}", fullmatch=True), st.integers(2, 10**9))
def test_a_mark_ends_where_a_letter_of_base64_ends(name: str, version: int) -> None:
    mark = new_mark(name, version)
    assert int(mark.removesuffix(".")) == version
    client = EndpointClient(name, SHA1, Overlap(SHA1, mark))
    token, _ = new_token(name, mark=mark)
    sent = base64.b64encode(f"{name}:{token}".encode())
    assert sent.startswith(base64.b64encode(client.beginning.encode()))


def test_a_replica_of_a_removed_version_has_no_place() -> None:
    replicas = (ReplicaRow("r-1", 1, "127.0.0.1", 9001), ReplicaRow("r-9", 9, "127.0.0.1", 9009))
    plan = make_plan("churn", [row(replicas=replicas)], now=NOW)
    assert plan.routes is not None
    assert plan.routes.replicas == {"r-1"}


def test_what_cannot_be_is_named_and_not_raised() -> None:
    plan = make_plan("churn", [row(weights={1: 60, 2: 0})], now=NOW)
    assert plan.routes is None
    assert plan.invalid is not None
    assert "60" in plan.invalid


@pytest.mark.parametrize(
    ("record", "enforced"),
    [
        (None, False),
        (Record(generation=2, weights={1: 100}), False),
        (Record(generation=3, weights={1: 50}), False),
        (Record(generation=3, weights={1: 100}, rejected="no"), False),
        (Record(generation=3, weights={1: 100}), True),
        (Record(generation=4, weights={1: 100}), True),
    ],
)
def test_enforced_means_acknowledged_and_as_wanted(record: Record | None, enforced: bool) -> None:
    state = Enforcement.recorded(record, generation=3, wanted={1: 100})
    assert state.enforced is enforced
    assert (state.reason is None) is enforced


def test_gateways_agree_on_the_least_that_one_of_them_says_and_take_nothing_back() -> None:
    before = Record(generation=2, endpoints_generation=5, weights={1: 100})
    ahead = Record(generation=4, endpoints_generation=6, weights={1: 0, 2: 100}, clients=7)
    behind = Record(generation=3, endpoints_generation=6, weights={1: 50, 2: 50})
    both = {"a", "b"}
    assert agreed(before, {"a": ahead, "b": behind}, gateways=both) == behind
    assert agreed(before, {"a": ahead, "b": behind}, gateways={"a"}) == replace(ahead, clients=0)
    assert agreed(before, {"a": ahead}, gateways=both) == before  # the other's first Envoy has just come
    assert agreed(before, {"a": replace(ahead, rejected="no")}, gateways=both) == replace(before, rejected="no")
    assert agreed(replace(before, rejected="no"), {"a": ahead}, gateways=set()).rejected == "no"


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        (Record(generation=3, endpoints_generation=2, clients=4), Enforced),
        (Record(generation=3, endpoints_generation=2, clients=5), Enforced),
        (Record(generation=2, endpoints_generation=2, clients=4), Pending),
        (Record(generation=3, endpoints_generation=1, clients=4), Pending),
        (Record(generation=3, endpoints_generation=2, clients=3), Pending),
        (Record(generation=3, endpoints_generation=2, clients=4, rejected="no"), Rejected),
    ],
)
def test_what_another_gateway_says(said: Record, outcome: type[Outcome]) -> None:
    live = row(said={"a": Record(generation=3, endpoints_generation=2, clients=4), "b": said}, clients_generation=4)
    assert isinstance(elsewhere(live, gateways={"a", "b"}), outcome)
    assert isinstance(elsewhere(live, gateways={"a"}), Enforced)
    assert isinstance(elsewhere(live, gateways={"c"}), Pending)


def test_tries_are_counted_by_user_and_address_and_by_address() -> None:
    throttle = Throttle()
    for _ in range(PER_USER_AND_ADDRESS.burst):
        throttle.take(user="ana", address="203.0.113.9", now=0)
    with pytest.raises(TooManyRequests) as refused:
        throttle.take(user="ana", address="203.0.113.9", now=0)
    assert refused.value.retry_after == PER_USER_AND_ADDRESS.every
    throttle.take(user="ana", address="198.51.100.1", now=0)  # the same user from elsewhere
    throttle.take(user="bob", address="203.0.113.9", now=0)  # another user from there
    throttle.take(user="ana", address="203.0.113.9", now=PER_USER_AND_ADDRESS.every)
    for number in range(PER_ADDRESS.burst):
        throttle.take(user=f"user-{number}", address="192.0.2.1", now=0)
    with pytest.raises(TooManyRequests):
        throttle.take(user="one-more", address="192.0.2.1", now=0)


def test_a_right_password_does_not_count() -> None:
    throttle = Throttle()
    for _ in range(100):
        throttle.take(user="ana", address="203.0.113.9", now=0).succeeded()


def test_whoever_has_an_ipv6_address_has_the_network() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1") != network_of("2001:db8:0:1::1")
    assert network_of("203.0.113.9") == "203.0.113.9"
    assert network_of("testclient") == "testclient"


def test_an_example_is_a_curl_for_this_access_and_runtime() -> None:
    private = example_call("http://x:8080/", "churn", private=True, runtime="inference", body=None)
    start = "curl -u '<client>:<token>' -H 'Content-Type: application/json' --data-raw '{\"type\": \"dense\""
    assert private.startswith(start)
    assert private.endswith(" http://x:8080/deployment/churn/predict")
    public = example_call("http://x:8080", "churn", private=False, runtime="custom", body=None)
    assert public == "curl http://x:8080/deployment/churn/"
    hostile = "'; rm -rf / #"
    words = shlex.split(example_call("http://x", "churn", private=False, runtime="custom", body=hostile))
    assert words[words.index("--data-raw") + 1] == hostile


def test_an_example_is_of_the_version_with_most_traffic() -> None:
    assert main_version({}) is None
    assert main_version({3: 50, 1: 0, 2: 50}) == 2
    assert main_version({1: 10, 2: 90}) == 2
