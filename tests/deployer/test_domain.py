"""The pure rules: shares, names, reservations, what a status says."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.deployer.deployments.diff import difference
from services.deployer.deployments.domain import (
    NOTHING,
    Reservation,
    Spec,
    VersionSpec,
    free_id,
    keep_traffic,
    over_quota,
    reserve,
    split_traffic,
)
from services.deployer.deployments.secrets import EnvVault
from services.deployer.platforms import Capabilities, Cause, Evidence, Failure, Phase, Replica
from services.deployer.status import Before, Routed, World, assess, is_hopeless
from services.deployer.workloads import workloads
from shared.secrets import Vault

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def version(number: int = 1, *, replicas: int = 1, cpu: float = 1.0) -> VersionSpec:
    return {
        "number": number,
        "model": "risk/churn/3",
        "alias": None,
        "digest": f"sha256:{0:064x}",
        "artifact": f"registry://sha256:{0:064x}",
        "size": 1,
        "framework": "",
        "runtime": "inference",
        "instance_type": "cpu-1",
        "resources": {"cpu": cpu, "memory": 2**30, "gpu": 0.0, "gpu_model": None},
        "replicas": {"min": replicas, "max": replicas},
        "env": {},
        "restart": 0,
    }


def spec(*versions: VersionSpec) -> Spec:
    return {
        "name": "churn",
        "description": "",
        "metadata": {},
        "stage": "production",
        "access": "private",
        "versions": list(versions or (version(),)),
        "traffic": {"weights": {"1": 100}},
        "progress_deadline": 600,
    }


def replica(phase: Phase, *, template: str = "new", restarts: int = 0, failure: Failure | None = None) -> Replica:
    return Replica(f"r-{uuid4().hex[:6]}", 1, template, phase, "127.0.0.1", 1, restarts, NOW, failure=failure)


BEFORE = Before(phase="Deploying", conditions=[], versions=[], progressing_since=None)


def world(*replicas: Replica, generation: int = 1, routed: Routed | None = None) -> World:
    return World(
        spec=spec(),
        stopped=False,
        generation=generation,
        endpoints_generation=1,
        templates={1: "new"},
        replicas=replicas,
        routable=frozenset(each.id for each in replicas if each.phase is Phase.READY),
        routed=routed or Routed(generation=1, endpoints_generation=1),
    )


@given(st.dictionaries(st.integers(1, 9), st.integers(0, 100), min_size=1), st.sets(st.integers(1, 9), min_size=1))
def test_whatever_versions_come_and_go_the_shares_sum_to_100(weights: dict[int, int], live: set[int]) -> None:
    kept = keep_traffic({str(number): weight for number, weight in weights.items()}, sorted(live))
    assert sum(kept.values()) == 100
    assert set(kept) == {str(number) for number in live}


def test_a_split_names_every_version() -> None:
    assert split_traffic({3: 20}, [1, 2, 3]) == {"1": 80, "2": 0, "3": 20}


def test_ids_are_unique_and_short_enough() -> None:
    assert free_id("churn", ["churn", "churn-2"]) == "churn-3"
    assert free_id("a" * 63, []) == "a" * 40
    assert free_id("a" * 63, ["a" * 40]) == "a" * 38 + "-2"
    assert free_id("a" * 37 + "-b", ["a" * 37 + "-b"]) == "a" * 37 + "-2"


def test_a_reservation_holds_the_maximum_and_the_surge() -> None:
    wanted = reserve([version(1, replicas=5, cpu=0.5), version(2, replicas=1)])
    assert wanted == Reservation(cpu=Decimal("5.5"), memory=9 * 2**30)
    assert over_quota(wanted, held=NOTHING, used=Reservation(cpu=Decimal(5)), limit={"cpu": 10.5}) == []
    assert over_quota(wanted, held=NOTHING, used=Reservation(cpu=Decimal(5)), limit={"cpu": 10.4}) == ["cpu"]
    assert over_quota(wanted, held=wanted, used=Reservation(cpu=Decimal(5)), limit={"cpu": 1}) == []


def test_deployed_is_said_only_once_everything_agrees() -> None:
    ready = replica(Phase.READY)
    assert assess(world(ready), BEFORE, now=NOW).phase == "Deployed"
    behind = (
        world(ready, generation=2),
        world(ready, routed=Routed(generation=1, endpoints_generation=0)),
        world(ready, routed=Routed(generation=1, endpoints_generation=1, rejected="no")),
        world(ready, routed=Routed()),
        world(replica(Phase.READY, template="old")),
        world(replica(Phase.STARTING)),
        world(replica(Phase.UNREADY)),
        world(ready, replica(Phase.READY, template="old")),
    )
    for each in behind:
        status = assess(each, BEFORE, now=NOW)
        assert status.phase == "Deploying"
        assert not status.settled
        assert assess(each, replace(BEFORE, progressing_since=None), now=NOW).deadline == NOW + timedelta(seconds=600)


def test_the_deadline_counts_from_the_beginning_of_the_rollout() -> None:
    slow = world(replica(Phase.STARTING))
    first = assess(slow, BEFORE, now=NOW)
    before = replace(BEFORE, versions=first.versions, progressing_since=first.progressing_since)
    late = NOW + timedelta(seconds=600)
    assert assess(slow, before, now=late - timedelta(seconds=1)).phase == "Deploying"
    failed = assess(slow, before, now=late)
    assert (failed.phase, failed.versions[0]["failure"]["cause"]) == ("Failed", "progress_deadline")
    other = replace(slow, templates={1: "newer"})
    assert assess(other, before, now=late).phase == "Deploying"
    waiting = world(replica(Phase.READY), routed=Routed())
    told = assess(waiting, before, now=late).versions[0]
    assert (told["phase"], told["failure"]["cause"]) == ("Failed", "progress_deadline")
    assert "data plane" in told["failure"]["message"]


@pytest.mark.parametrize(
    ("cause", "phase", "restarts", "hopeless"),
    [
        (Cause.MODEL_LOAD, Phase.STARTING, 0, True),
        (Cause.CRASH, Phase.STARTING, 5, False),
        (Cause.CRASH, Phase.FAILED, 1, False),
        (Cause.CRASH, Phase.FAILED, 2, True),
        (Cause.OUT_OF_MEMORY, Phase.FAILED, 2, True),
        (Cause.MODEL_DOWNLOAD, Phase.STARTING, 0, False),
        (Cause.MODEL_DOWNLOAD, Phase.FAILED, 1, True),
        (Cause.UNSCHEDULABLE, Phase.FAILED, 0, True),
        (Cause.CRASH, Phase.DRAINING, 9, False),
    ],
)
def test_when_a_further_attempt_is_not_waited_for(cause: Cause, phase: Phase, restarts: int, hopeless: bool) -> None:
    failed = Failure(cause, "It ended.", "Look.", Evidence(1, ()))
    assert is_hopeless(replica(phase, restarts=restarts, failure=failed)) is hopeless


def test_a_rollout_that_waits_for_its_routes_is_not_blamed_on_the_replicas() -> None:
    rolling = world(replica(Phase.READY), replica(Phase.READY, template="old"), routed=Routed(generation=1))
    rolling = replace(rolling, spec=spec(version(replicas=2)))
    first = assess(rolling, BEFORE, now=NOW)
    before = replace(BEFORE, versions=first.versions, progressing_since=NOW)
    failure = assess(rolling, before, now=NOW + timedelta(seconds=600)).versions[0]["failure"]
    assert "has not acknowledged" in failure["message"]
    assert "gateway" in failure["advice"]


def test_a_condition_says_since_when() -> None:
    first = assess(world(replica(Phase.STARTING)), BEFORE, now=NOW)
    before = replace(BEFORE, conditions=first.conditions, versions=first.versions, progressing_since=NOW)
    later = assess(world(replica(Phase.READY)), before, now=NOW + timedelta(seconds=5))
    since = {condition["type"]: condition["since"] for condition in later.conditions}
    assert since == {
        "Ready": "2026-01-01T00:00:05.000Z",
        "Progressing": "2026-01-01T00:00:00.000Z",
        "RoutesEnforced": "2026-01-01T00:00:00.000Z",
    }


def test_a_template_is_made_of_what_a_replica_is_made_of() -> None:
    vault = EnvVault(Vault(b"k" * 32))

    def digest(state: Spec, uid: str = "0" * 32) -> str:
        made = workloads(
            uid=UUID(uid),
            deployment="churn",
            group="risk",
            spec=state,
            stopped=False,
            keep=frozenset(),
            serving=frozenset(),
            vault=vault,
            capabilities=Capabilities(containers=True),
        )
        return made[0].template.digest

    plain = digest(spec())
    for change in ({"description": "x"}, {"metadata": {"a": "b"}}, {"access": "public"}, {"traffic": {"weights": {}}}):
        assert digest({**spec(), **change}) == plain
    assert digest(spec(version(replicas=9))) == plain
    for other in ({"env": {"A": "1"}}, {"restart": 1}, {"model": "risk/churn/4"}, {"digest": None}):
        assert digest(spec({**version(), **other})) != plain
    # With a secret in it, it tells nothing to who guesses: the same secret elsewhere has another digest.
    sealed = spec({**version(), "env": {"KEY": vault.seal("hunter2")}})
    assert digest(sealed) == digest(sealed)
    assert digest(sealed) != digest(sealed, "1" * 32)


def test_a_difference_names_what_changed() -> None:
    one, two = spec(), spec(version(replicas=2), version(2))
    assert difference(one, one) == []
    paths = {change["path"]: (change["before"], change["after"]) for change in difference(one, two)}
    assert paths["/versions/1/replicas/max"] == (1, 2)
    assert paths["/versions/2"][0] is None
    assert paths["/versions/2"][1]["model"] == "risk/churn/3"
    stopped = difference(one, one, stopped_before=False, stopped_after=True)
    assert stopped == [{"path": "/stopped", "before": False, "after": True}]
    odd = difference({**one, "metadata": {}}, {**one, "metadata": {"a/b~c": "1"}})
    assert odd == [{"path": "/metadata/a~1b~0c", "before": None, "after": "1"}]
