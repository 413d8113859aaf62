"""The protocol with one Envoy, without one: the barrier, refusals, and coming back."""

from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest

from services.gateway.envoy.resources import CLUSTER, ENDPOINTS, SCOPE, Bundle, Resource
from services.gateway.envoy.store import Phase, Store
from tests.gateway.envoy.fake import FakeEnvoy, bundle, connected


def test_a_new_envoy_gets_scopes_once_all_clusters_are_warm() -> None:
    envoy = connected({"a": bundle("a", 1), "b": bundle("b", 1)})
    assert envoy.sent() == ["C+a/1 C+b/1"]
    envoy.answer()
    assert envoy.sent() == ["E+a/1 E+b/1"]
    assert envoy.phase("a") is Phase.PENDING
    envoy.answer()
    assert envoy.sent() == ["S+a S+b"]
    envoy.answer()
    assert envoy.sent() == []
    assert envoy.phase("a") is envoy.phase("b") is Phase.ENFORCED


def test_what_needs_no_cluster_waits_for_the_others_too() -> None:
    envoy = connected({"stopped": bundle("stopped"), "a": bundle("a", 1)})
    assert envoy.converge() == ["C+a/1", "E+a/1", "S+stopped S+a"]


def test_an_empty_store_is_answered_too() -> None:
    envoy = connected({})
    assert envoy.sent() == ["C", "S"]


def test_a_switch_of_versions_passes_the_barrier() -> None:
    envoy = connected({"a": bundle("a", 1)})
    envoy.converge()
    envoy.store.apply({"a": bundle("a", 2)})
    assert envoy.phase("a") is Phase.PENDING
    assert envoy.converge() == ["C+a/2", "E+a/2", "S+a", "C-a/1"]
    assert envoy.phase("a") is Phase.ENFORCED


def test_a_removal_takes_the_scope_first() -> None:
    envoy = connected({"a": bundle("a", 1, 2)})
    envoy.converge()
    envoy.store.apply({"a": None})
    assert envoy.converge()[0] == "S-a"
    assert envoy.phase("a") is Phase.ENFORCED
    assert envoy.sent() == []


def test_deployments_do_not_wait_for_each_other() -> None:
    envoy = connected({"a": bundle("a", 1), "b": bundle("b", 1)})
    envoy.converge()
    envoy.store.apply({"a": bundle("a", 2)})
    assert envoy.sent() == ["C+a/2"]
    envoy.store.apply({"b": bundle("b", 1, scope="other")})
    assert envoy.sent() == ["S+b"]


def test_only_what_differs_is_sent() -> None:
    envoy = connected({"a": bundle("a", 1), "b": bundle("b", 1)})
    envoy.converge()
    envoy.store.apply({"a": bundle("a", 1, scope="other"), "b": bundle("b", 1)})
    assert envoy.converge() == ["S+a"]


def test_a_change_of_mind_on_the_way_ends_right() -> None:
    envoy = connected({"a": bundle("a", 1)})
    envoy.converge()
    envoy.store.apply({"a": bundle("a", 1, scope="two")})
    assert envoy.sent() == ["S+a"]
    envoy.store.apply({"a": bundle("a", 1)})  # as it was, while the other is under way
    assert envoy.sent() == ["S+a"]
    assert envoy.phase("a") is Phase.PENDING
    envoy.answer()
    assert envoy.sent() == []
    assert envoy.phase("a") is Phase.ENFORCED


def test_an_answer_to_something_older_settles_nothing() -> None:
    envoy = connected({"a": bundle("a", 1)})
    envoy.converge()
    for scope in ("two", "three", "two"):
        envoy.store.apply({"a": bundle("a", 1, scope=scope)})
        envoy.sent()
    older = envoy.unanswered.pop(0)
    envoy.peer.receive(DeltaDiscoveryRequest(type_url=SCOPE, response_nonce=older.nonce))
    assert envoy.phase("a") is Phase.PENDING
    envoy.answer()
    assert envoy.phase("a") is Phase.ENFORCED


def test_the_refused_one_is_found_and_the_others_go_on() -> None:
    envoy = connected({})
    envoy.converge()
    envoy.store.apply({name: bundle(name, 1) for name in "abc"})
    sent = envoy.converge(refuse=["b"])
    assert sent.count("S+a S+b S+c") == 1
    assert {"S+a", "S+b", "S+c"} <= set(sent)
    assert [envoy.phase(name) for name in "abc"] == [Phase.ENFORCED, Phase.REJECTED, Phase.ENFORCED]
    assert envoy.store.status("b").reason == "bad: b"


def test_a_refused_cluster_keeps_its_scope_back_and_is_not_tried_again() -> None:
    envoy = connected({"a": bundle("a", 1)})
    envoy.converge()
    envoy.store.apply({"a": bundle("a", 2)})
    assert envoy.converge(refuse=["a/2"]) == ["C+a/2"]
    assert envoy.phase("a") is Phase.REJECTED
    envoy.store.apply({"a": bundle("a", 1)})
    assert envoy.converge() == []
    assert envoy.phase("a") is Phase.ENFORCED


def test_what_it_refuses_keeps_no_other_scope_from_an_envoy_that_starts() -> None:
    envoy = connected({name: bundle(name, 1) for name in "abc"})
    assert envoy.converge(refuse=["b/1"])[-1] == "S+a S+c"
    assert [envoy.phase(name) for name in "abc"] == [Phase.ENFORCED, Phase.REJECTED, Phase.ENFORCED]


def test_who_has_not_said_what_it_holds_does_not_pass_for_one_that_holds_nothing() -> None:
    envoy = FakeEnvoy(Store({"a": bundle("a")}))
    envoy.store.apply({"a": None})
    envoy.ask(CLUSTER)
    envoy.converge()
    assert envoy.phase("a") is Phase.PENDING
    envoy.ask(SCOPE, holds={"a": "as of yesterday"})
    assert envoy.phase("a") is Phase.PENDING
    assert envoy.converge() == ["S-a"]
    assert envoy.phase("a") is Phase.ENFORCED


def test_who_comes_back_gets_the_differences_only_and_through_the_barrier() -> None:
    old = {"a": bundle("a", 1), "b": bundle("b", 1), "gone": bundle("gone", 1)}
    held: dict[str, dict[str, str]] = {CLUSTER: {}, ENDPOINTS: {}, SCOPE: {}}
    for each in old.values():
        for (kind, name), resource in each.resources.items():
            held[kind][name] = resource.version
    envoy = FakeEnvoy(Store({"a": bundle("a", 1), "b": bundle("b", 2)}))
    envoy.ask(CLUSTER, holds=held[CLUSTER])
    envoy.ask(ENDPOINTS, names=held[ENDPOINTS], holds=held[ENDPOINTS])
    envoy.ask(SCOPE, holds=held[SCOPE])
    assert envoy.sent() == ["C+b/2", "E"]
    envoy.answer()
    assert envoy.sent() == ["E+b/2"]
    envoy.answer()
    assert envoy.sent() == ["S+b S-gone"]
    envoy.answer()
    assert {*envoy.sent()[0].split()} == {"C-b/1", "C-gone/1"}
    envoy.answer()
    assert [envoy.phase(name) for name in ("a", "b", "gone")] == [Phase.ENFORCED] * 3


def test_endpoints_asked_for_again_are_sent_again() -> None:
    envoy = connected({"a": bundle("a", 1)})
    envoy.converge()
    envoy.ask(ENDPOINTS, names=["a/1"])
    assert envoy.converge() == ["E+a/1"]


def test_a_changed_cluster_gets_its_endpoints_again_before_the_scope() -> None:
    envoy = connected({"a": bundle("a", 1)})
    envoy.converge()
    changed = [
        Resource.of(CLUSTER, "a/1", b"other") if kind == CLUSTER else resource
        for (kind, _), resource in bundle("a", 1, scope="other").resources.items()
    ]
    envoy.store.apply({"a": Bundle.of(changed)})
    assert envoy.sent() == ["C+a/1", "E+a/1"]
    envoy.answer()
    assert envoy.converge()[-1] == "S+a"


def test_the_slowest_envoy_counts_and_one_that_leaves_does_not() -> None:
    store = Store({"a": bundle("a", 1)})
    assert store.status("a").phase is Phase.UNKNOWN
    quick, slow = FakeEnvoy(store), FakeEnvoy(store)
    for envoy in (quick, slow):
        envoy.ask(CLUSTER, SCOPE)
    quick.converge()
    assert store.status("a").phase is Phase.PENDING
    slow.hang_up()
    assert store.status("a").phase is Phase.ENFORCED


def test_endpoints_asked_for_anew_are_sent_though_an_older_answer_comes_late() -> None:
    envoy = connected({"a": bundle("a", 1)})
    envoy.sent()
    envoy.answer()
    envoy.sent()
    (older,) = envoy.unanswered
    envoy.unanswered.clear()
    envoy.peer.receive(DeltaDiscoveryRequest(type_url=ENDPOINTS, resource_names_unsubscribe=["a/1"]))
    envoy.ask(ENDPOINTS, names=["a/1"])
    envoy.peer.receive(DeltaDiscoveryRequest(type_url=ENDPOINTS, response_nonce=older.nonce))
    assert envoy.converge() == ["E+a/1", "S+a"]


def test_who_has_held_everything_once_has_caught_up_whatever_changes_meanwhile() -> None:
    envoy = FakeEnvoy(Store({"a": bundle("a", 1), "b": bundle("b", 1)}))
    envoy.ask(CLUSTER)
    assert not envoy.peer.caught_up
    envoy.ask(SCOPE)
    envoy.converge()
    envoy.store.apply({"a": bundle("a", 1, scope="other")})
    assert not envoy.peer.caught_up
    envoy.converge()
    envoy.store.apply({"b": bundle("b", 1, scope="other")})
    assert envoy.peer.caught_up


def test_types_that_are_not_ours_are_left_alone() -> None:
    envoy = connected({})
    envoy.converge()
    envoy.ask("type.googleapis.com/envoy.config.listener.v3.Listener")
    assert envoy.sent() == []
