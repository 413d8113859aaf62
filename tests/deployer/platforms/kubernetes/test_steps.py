"""Which gates open and close and when: chosen cases, and a cluster in which everything that can happen does."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.deployer.platforms import Phase
from services.deployer.platforms.kubernetes.steps import Gate, Member, Scale, Steps, decide
from tests.deployer.platforms.kubernetes.controller import Cluster, SimPod


class Rollouts(RuleBasedStateMachine):
    """Moorage, a data plane, a user, and Kubernetes' controllers, each doing something at any time."""

    @initialize(wanted=st.integers(1, 6))
    def begin(self, wanted: int) -> None:
        self.clock = 0.0
        self.count = 0
        self.wanted = wanted
        self.revision = "r0"
        self.broken: set[str] = set()
        self.cluster = Cluster(self.revision, wanted)
        self.told: set[str] = set()  # what the data plane is to route to
        self.routed: set[str] = set()  # what it routes to
        self.released: set[str] = set()
        self.marked: dict[str, float] = {}
        self.proven: set[str] = set()
        self.frail: set[str] = set()
        self.steps = Steps()

    # What it must never come to

    @invariant()
    def none_is_deleted_that_is_routed(self) -> None:
        """But for one that was not Ready, or a sibling of it, with a third template in play: the controller cleans up
        the oldest template first, whoever was released. It then drains by its preStop hook."""
        if hasattr(self, "cluster"):
            pods = self.cluster.pods
            several = len({p.revision for p in pods.values()} - {self.cluster.revision}) > 1
            exempt = {name for name in self.cluster.deleted if several and pods[name].revision in self.frail}
            assert not (set(self.cluster.deleted) - exempt) & (self.told | self.routed)
            self.cluster.deleted = []

    def serving(self) -> set[str]:
        pods = self.cluster.pods.values()
        return {p.name for p in pods if p.well and p.name in self.routed and not p.deleting}

    # Moorage

    def phase(self, pod: SimPod) -> Phase:
        gone = pod.deleting or pod.name in self.released | self.marked.keys()
        if gone or (pod.revision != self.cluster.revision and not pod.gate):
            return Phase.DRAINING
        if pod.well:
            return Phase.READY
        return Phase.UNREADY if pod.name in self.proven else Phase.STARTING

    def member(self, pod: SimPod) -> Member:
        gate = Gate.RELEASED if pod.name in self.released else Gate.OPEN if pod.gate else Gate.UNSET
        return Member(
            pod.name,
            pod.revision,
            self.phase(pod),
            proven=pod.name in self.proven,
            started_at=float(pod.born),
            gate=gate,
            available=pod.available,
            deleting=pod.deleting,
            draining_since=self.marked.get(pod.name),
        )

    @rule()
    def apply(self) -> None:
        self.clock += 1
        cluster = self.cluster
        before = self.serving()
        steps = decide(
            wanted=self.wanted,
            revision=self.revision if self.wanted else "nothing",
            scale=Scale(cluster.revision, cluster.replicas, cluster.surge, cluster.observed, cluster.available),
            members=[self.member(p) for p in cluster.pods.values()],
            keep=self.told | self.routed,
            serving=self.told & self.routed,
            now=self.clock,
        )
        for name in steps.mark:
            self.marked[name] = self.clock
        for name in steps.release:
            assert name not in self.told | self.routed
            assert name not in self.released
            self.released.add(name)
            cluster.pods[name].gate, cluster.pods[name].cost = False, -1
        for name in steps.open:
            assert cluster.pods[name].well
            assert name in self.told & self.routed
            cluster.pods[name].gate = True
        for name in steps.delete:
            assert name in self.released
            cluster.delete(name)
        revision = self.revision if self.wanted and steps.roll else None
        cluster.spec(revision=revision, replicas=steps.replicas, surge=steps.surge)
        assert cluster.replicas > 0 or not self.wanted or self.cluster.pods
        self.steps = steps
        assert before == self.serving()

    @rule()
    def record(self) -> None:
        self.told = {p.name for p in self.cluster.pods.values() if self.phase(p) is Phase.READY}

    @rule()
    def route(self) -> None:
        self.routed = set(self.told)

    # Kubernetes

    @rule()
    def sync_deployment(self) -> None:
        self.cluster.sync_deployment()

    @rule(data=st.data())
    def sync_set(self, data: st.DataObject) -> None:
        if self.cluster.sets:
            name = data.draw(st.sampled_from(sorted(self.cluster.sets)))
            self.cluster.sync_set(self.cluster.sets[name])

    @rule(data=st.data())
    def sync_pod(self, data: st.DataObject) -> None:
        if self.cluster.pods:
            self.cluster.sync_pod(self.cluster.pods[data.draw(st.sampled_from(sorted(self.cluster.pods)))])

    @rule()
    def some_become_ready(self) -> None:
        for pod in self.cluster.pods.values():
            pod.pending = False
            if pod.revision not in self.broken and not pod.deleting:
                pod.well = True
                self.proven.add(pod.name)

    @rule(data=st.data())
    def one_falls_ill(self, data: st.DataObject) -> None:
        if self.cluster.pods:
            pod = self.cluster.pods[data.draw(st.sampled_from(sorted(self.cluster.pods)))]
            pod.well = False
            self.frail.add(pod.revision)

    @rule()
    def some_are_gone(self) -> None:
        self.cluster.pods = {name: p for name, p in self.cluster.pods.items() if not p.deleting}

    # The user

    @rule(wanted=st.integers(0, 6))
    def scale(self, wanted: int) -> None:
        self.wanted = wanted

    @rule(broken=st.booleans())
    def change(self, broken: bool) -> None:
        self.count += 1
        self.revision = f"r{self.count}"
        if broken:
            self.broken.add(self.revision)

    @rule()
    def go_back(self) -> None:
        self.revision = f"r{max(0, self.count - 1)}"

    @rule(times=st.integers(1, 6))
    def time_passes(self, times: int) -> None:
        for _ in range(times):
            self.everything()

    @rule()
    def all_controllers_catch_up(self) -> None:
        for _ in range(2):
            self.sync_deployment()
            for each in list(self.cluster.sets.values()):
                self.cluster.sync_set(each)
            for pod in self.cluster.pods.values():
                self.cluster.sync_pod(pod)

    def everything(self) -> None:
        self.sync_deployment()
        for each in list(self.cluster.sets.values()):
            self.cluster.sync_set(each)
        self.none_is_deleted_that_is_routed()
        self.some_are_gone()
        self.some_become_ready()
        for pod in self.cluster.pods.values():
            self.cluster.sync_pod(pod)
        for each in list(self.cluster.sets.values()):
            self.cluster.sync_set(each)
        self.record()
        self.route()
        self.apply()
        self.none_is_deleted_that_is_routed()

    def teardown(self) -> None:
        """Left alone, with a template that works, it converges."""
        if not hasattr(self, "cluster"):
            return
        if self.revision in self.broken:
            self.change(broken=False)
        for _ in range(60):
            self.everything()
        pods = self.cluster.pods.values()
        assert len(pods) == self.wanted, (self.cluster, self.steps)
        assert all(p.available and (p.revision == self.revision) for p in pods), (self.cluster, self.steps)
        assert (self.cluster.replicas, self.cluster.surge) == (self.wanted, None)


Rollouts.TestCase.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
TestRollouts = Rollouts.TestCase


def test_of_the_pods_that_have_ended_the_last_few_stay() -> None:
    """Each eviction leaves one, and the cluster itself clears them away only when there are thousands."""
    ended = [Member(f"e{i}", "r0", Phase.ENDED, proven=True, started_at=float(i)) for i in range(5)]
    alive = Member("a", "r1", Phase.READY, proven=True, started_at=9.0, gate=Gate.OPEN, available=True)
    scale = Scale("r1", 1, available=1)
    steps = decide(wanted=1, revision="r1", scale=scale, members=[*ended, alive], keep={"a"}, serving={"a"}, now=10.0)
    assert set(steps.delete) == {"e0", "e1"}
    assert not steps.mark + steps.release
