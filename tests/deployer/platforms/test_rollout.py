"""The rollout's decisions: chosen cases, and a model of a world in which everything that can happen does."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from services.deployer.platforms import Phase, surge
from services.deployer.platforms.rollout import Candidate, Plan, plan

NEW, OLD = "new", "old"


def some(
    name: str, template: str = NEW, phase: Phase = Phase.READY, *, proven: bool | None = None, age: float = 0.0
) -> Candidate:
    return Candidate(
        id=name,
        template_digest=template,
        phase=phase,
        proven=phase is Phase.READY if proven is None else proven,
        started_at=-age,
    )


def decide(
    wanted: int, replicas: list[Candidate], keep: str = "", *, serving: str | None = None, **options: float
) -> Plan:
    """With all that are kept in service, unless `serving` says otherwise."""
    served = (keep if serving is None else serving).split()
    times = {"now": 100.0, **options}
    return plan(wanted=wanted, digest=NEW, replicas=replicas, keep=keep.split(), serving=served, **times)


def test_the_surge_is_a_quarter_rounded_up() -> None:
    assert [surge(n) for n in (0, 1, 4, 5, 8, 9)] == [0, 1, 1, 2, 2, 3]


def test_from_nothing_all_start_at_once() -> None:
    assert decide(6, []) == Plan(start=6)


def test_what_is_there_stays() -> None:
    assert decide(2, [some("a"), some("b", phase=Phase.STARTING)], "a") == Plan()


def test_a_new_template_surges_first() -> None:
    assert decide(4, [some(n, OLD) for n in "abcd"], "a b c d") == Plan(start=1)


def test_an_old_one_goes_when_a_new_one_is_ready_and_routed() -> None:
    replicas = [some("a", OLD), some("b", OLD), some("c")]
    assert decide(2, replicas, "a b") == Plan()
    assert decide(2, replicas, "a b c").drain == ("a",)


def test_a_fresh_one_counts_only_once_it_is_acknowledged() -> None:
    replicas = [some("a", OLD), some("b", OLD), some("c")]
    assert decide(2, replicas, "a b c", serving="a b") == Plan()
    assert decide(2, replicas, "a b c", serving="a b c") == Plan(drain=("a",))


def test_a_broken_template_takes_nothing_down() -> None:
    replicas = [some("a", OLD), some("b", OLD), some("c", phase=Phase.FAILED)]
    assert decide(2, replicas, "a b") == Plan()


def test_a_third_template_replaces_the_broken_one_once_that_has_ended() -> None:
    replicas = [some("a", OLD), some("b", OLD), some("c", "broken", Phase.FAILED)]
    assert decide(2, replicas, "a b") == Plan(end=("c",))
    ending = replace(replicas[2], phase=Phase.DRAINING, ending=True)
    assert decide(2, [*replicas[:2], ending], "a b") == Plan()
    assert decide(2, [*replicas[:2], replace(ending, phase=Phase.ENDED)], "a b") == Plan(start=1)


def test_a_draining_replica_counts_until_it_has_ended() -> None:
    replicas = [some("a"), some("b", OLD), some("c", OLD, Phase.DRAINING, proven=True)]
    assert decide(2, replicas, "a b c") == Plan()
    assert decide(2, [*replicas[:2], replace(replicas[2], phase=Phase.ENDED)], "a b") == Plan(start=1)


def test_a_single_replica_is_replaced_without_a_gap() -> None:
    old, new = some("a", OLD), some("b")
    assert decide(1, [old], "a") == Plan(start=1)
    assert decide(1, [old, new], "a") == Plan()
    assert decide(1, [old, new], "a b") == Plan(drain=("a",))


def test_an_old_one_that_is_unready_goes_first() -> None:
    replicas = [some("a", OLD, age=9), some("b", OLD, Phase.UNREADY, proven=True, age=9), some("c")]
    assert decide(2, replicas, "a b c").drain == ("b",)


def test_scaling_down_takes_the_unready_then_the_newest() -> None:
    replicas = [some("a", age=3), some("b", age=2), some("c", age=1), some("d", phase=Phase.STARTING, age=9)]
    assert decide(2, replicas, "a b c") == Plan(drain=("c",), end=("d",))


def test_stopping_drains_all_and_ends_none_that_is_routed() -> None:
    replicas = [some("a"), some("b", OLD)]
    assert set(decide(0, replicas, "a b").drain) == {"a", "b"}
    assert decide(0, [replace(r, phase=Phase.DRAINING) for r in replicas], "a b") == Plan()
    assert decide(0, [replace(r, phase=Phase.DRAINING) for r in replicas], "b").end == ("a",)


def test_one_that_has_been_ready_drains_even_when_it_is_not_routed() -> None:
    """A route to it may be on its way; one that never was Ready has none."""
    replicas = [some("a"), some("b"), some("c", phase=Phase.STARTING)]
    assert decide(1, replicas, "a") == Plan(drain=("b",), end=("c",))


def test_a_drained_replica_is_given_time_for_a_late_route() -> None:
    draining = replace(some("a", phase=Phase.DRAINING, proven=True), draining_since=99.5)
    assert decide(0, [draining], settle=1.0) == Plan()
    assert decide(0, [draining], settle=1.0, now=100.5).end == ("a",)


candidates = st.lists(
    st.builds(
        some,
        st.uuids().map(str),
        st.sampled_from([NEW, OLD, "older"]),
        st.sampled_from(list(Phase)),
        proven=st.booleans(),
        age=st.floats(0, 100),
    ).map(lambda r: replace(r, proven=r.proven or r.phase is Phase.READY)),
    max_size=12,
)


@settings(max_examples=200)
@given(st.integers(0, 8), candidates, st.data())
def test_no_plan_takes_service_away(wanted: int, replicas: list[Candidate], data: st.DataObject) -> None:
    keep = data.draw(st.sets(st.sampled_from([r.id for r in replicas]))) if replicas else set()
    acknowledged = data.draw(st.sets(st.sampled_from(sorted(keep)))) if keep else set()
    steps = plan(wanted=wanted, digest=NEW, replicas=replicas, keep=keep, serving=acknowledged, now=0.0)
    serving = {r.id for r in replicas if r.phase is Phase.READY and r.id in acknowledged}
    left = serving - {*steps.drain, *steps.end}
    assert len(left) >= min(wanted, len(serving))
    assert not keep & set(steps.end)
    assert not set(steps.drain) & set(steps.end)
    alive = sum(r.phase is not Phase.ENDED for r in replicas)
    assert steps.start == 0 or alive + steps.start <= wanted + surge(wanted)


class Rollouts(RuleBasedStateMachine):
    """A platform, a data plane and a user, each doing something at any time."""

    @initialize(wanted=st.integers(1, 6))
    def begin(self, wanted: int) -> None:
        self.clock = 0.0
        self.wanted = wanted
        self.template = "t0"
        self.broken: set[str] = set()
        self.routed: set[str] = set()  # what Envoy has
        self.told: set[str] = set()  # what it is to have
        self.world: dict[str, Candidate] = {}
        self.count = 0

    def serving(self) -> set[str]:
        return {r.id for r in self.world.values() if r.phase is Phase.READY and r.id in self.routed}

    def put(self, replica_id: str, **changes: object) -> None:
        self.world[replica_id] = replace(self.world[replica_id], **changes)

    @rule()
    def apply(self) -> None:
        self.clock += 1
        steps = plan(
            wanted=self.wanted,
            digest=self.template,
            replicas=list(self.world.values()),
            keep=self.routed | self.told,
            serving=self.routed & self.told,
            now=self.clock,
            settle=1.0,
        )
        before = self.serving()
        for replica_id in steps.end:
            assert replica_id not in self.routed | self.told
            assert not self.world[replica_id].ending
            self.put(replica_id, phase=Phase.DRAINING, ending=True)
        for replica_id in steps.drain:
            self.put(replica_id, phase=Phase.DRAINING, draining_since=self.clock)
        for _ in range(steps.start):
            self.count += 1
            name = f"r{self.count}"
            self.world[name] = Candidate(name, self.template, Phase.STARTING, proven=False, started_at=self.clock)
        assert not steps.start or len(self.world) <= self.wanted + surge(self.wanted)
        assert len(self.serving()) >= min(self.wanted, len(before))
        if self.template in self.broken:  # a good old one goes only when too many are there
            proven = [r for r in self.world.values() if r.proven and r.phase is not Phase.DRAINING]
            assert len(proven) >= self.wanted or not before - self.serving()

    @rule()
    def record(self) -> None:
        self.told = {r.id for r in self.world.values() if r.phase is Phase.READY}

    @rule()
    def route(self) -> None:
        self.routed = set(self.told)

    @rule()
    def some_have_ended(self) -> None:
        self.world = {name: r for name, r in self.world.items() if not r.ending}

    @rule()
    def some_become_ready(self) -> None:
        for r in list(self.world.values()):
            if r.phase in (Phase.STARTING, Phase.FAILED, Phase.UNREADY) and r.template_digest not in self.broken:
                self.put(r.id, phase=Phase.READY, proven=True)

    @rule(data=st.data(), phase=st.sampled_from([Phase.FAILED, Phase.UNREADY, Phase.STARTING]))
    def one_falls_ill(self, data: st.DataObject, phase: Phase) -> None:
        live = [r.id for r in self.world.values() if r.phase is not Phase.DRAINING]
        if live:
            self.put(data.draw(st.sampled_from(live)), phase=phase)

    @rule(wanted=st.integers(0, 6))
    def scale(self, wanted: int) -> None:
        self.wanted = wanted

    @rule(broken=st.booleans())
    def change(self, broken: bool) -> None:
        self.count += 1
        self.template = f"t{self.count}"
        if broken:
            self.broken.add(self.template)

    def teardown(self) -> None:
        """Left alone, with a template that works, it converges."""
        if not hasattr(self, "world"):
            return
        if self.template in self.broken:
            self.change(broken=False)
        for _ in range(40):
            self.apply()
            self.some_have_ended()
            self.some_become_ready()
            self.record()
            self.route()
        assert len(self.world) == self.wanted
        assert all(r.template_digest == self.template and r.phase is Phase.READY for r in self.world.values())


Rollouts.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestRollouts = Rollouts.TestCase
