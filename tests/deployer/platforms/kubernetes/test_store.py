"""The store is as the cluster is, whatever happens to its watches. The API server is real."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from uuid import UUID, uuid4

import pytest
from aiohttp import web
from prometheus_client import REGISTRY

from services.deployer.platforms.kubernetes import kinds, names, trimming
from services.deployer.platforms.kubernetes.api import Api
from services.deployer.platforms.kubernetes.connection import Connection
from services.deployer.platforms.kubernetes.errors import ApiError
from services.deployer.platforms.kubernetes.store import Store
from tests.deployer.platforms.kubernetes import samples
from tests.servers import kubernetes
from tests.servers.faults import Faults, status
from tests.servers.kubernetes import ControlPlane
from tests.support.waiting import until

pytestmark = [pytest.mark.kubernetes, pytest.mark.xdist_group("kubernetes")]


class Watched:
    """A store, through a connection of its own, and what it has told."""

    def __init__(self, api: Api, store: Store, told: Counter[UUID]) -> None:
        self.api = api
        self.store = store
        self.told = told

    async def is_as_the_cluster(self, api: Api, namespace: str) -> bool:
        """All pods and Deployments of ours in there, each in its latest state. Elsewhere others are at work."""
        for kind, trim, rows in (
            (kinds.POD, trimming.trim_pod, self.store.pods),
            (kinds.DEPLOYMENT, trimming.trim_root, self.store.roots),
        ):
            listed = [trim(item) async for page in api.pages(kind, selector=names.OURS) for item in page.items]
            known = [row for uid in self.store.deployments() for row in rows(uid)]
            there = {row.uid: row for row in listed if row is not None and row.namespace == namespace}
            here = {row.uid: row for row in known if row.namespace == namespace}
            if there != here:
                return False
        return True


@contextlib.asynccontextmanager
async def watching(plane_or_proxy: ControlPlane | Faults, *, namespace: str | None = None) -> AsyncIterator[Watched]:
    async with Api(Connection(kubeconfig=plane_or_proxy.kubeconfig), patience=8) as api:
        told: Counter[UUID] = Counter()
        store = Store(api, lambda uid: told.update([uid]), namespace=namespace)
        store.start()
        await store.known()
        try:
            yield Watched(api, store, told)
        finally:
            await store.close()


@pytest.fixture(scope="module")
def mortal() -> Iterator[ControlPlane]:
    """A control plane whose parts may be killed."""
    with kubernetes.running() as plane:
        yield plane


def lists_of_pods() -> float:
    return REGISTRY.get_sample_value("moorage_kubernetes_lists_total", {"kind": "pods"}) or 0.0


async def churn(api: Api, namespace: str, *, pods: int, seed: int) -> list[UUID]:
    """Make, change and delete pods all over; a third of them are left."""
    dice = random.Random(seed)
    uids = [uuid4() for _ in range(20)]

    async def live(number: int) -> None:
        manifest = samples.pod(dice.choice(uids), f"{number}", namespace=namespace)
        name, deleted, marked = manifest["metadata"]["name"], dice.random() < 2 / 3, dice.random() < 0.5
        await api.create(manifest)
        if marked:
            await api.merge(kinds.POD, namespace, name, {"metadata": {"annotations": {names.DRAINING: str(number)}}})
            await api.set_condition(namespace, name, names.IN_SERVICE, status=True, reason="Routed")
        if deleted:
            await api.delete(kinds.POD, namespace, name)

    # A few at a time, so that it takes a while.
    limit = asyncio.Semaphore(8)

    async def one(number: int) -> None:
        async with limit:
            await live(number)

    await asyncio.gather(*map(one, range(pods)))
    return uids


async def test_everything_of_a_deployment_is_found_by_its_uid(
    api: Api, control_plane: ControlPlane, namespace: str
) -> None:
    before, uid = uuid4(), uuid4()
    await api.apply(samples.deployment(before, namespace=namespace))
    async with watching(control_plane) as it:
        assert [root.name for root in it.store.roots(before)] == [samples.name(before)]
        nowhere = samples.deployment(uid, namespace=namespace)
        nowhere["spec"]["template"]["spec"]["nodeSelector"] = {"nowhere": "known"}
        await api.apply(nowhere)
        await api.apply(samples.config_map(uid, namespace=namespace))
        await until(lambda: it.store.roots(uid) and it.store.resources(uid, kinds.CONFIG_MAP) and it.store.pods(uid))
        await until(lambda: it.store.warnings(it.store.pods(uid)[0]))
        (warning,) = it.store.warnings(it.store.pods(uid)[0])
        assert warning.reason == "FailedScheduling"
        assert {before, uid} <= it.store.deployments()
        await api.delete(kinds.DEPLOYMENT, namespace, samples.name(uid))
        await api.delete(kinds.CONFIG_MAP, namespace, samples.name(uid))
        await until(lambda: uid not in it.store.deployments())


async def test_one_namespace_is_all_that_is_looked_at_when_it_is_given(
    api: Api, control_plane: ControlPlane, namespace: str
) -> None:
    here, elsewhere = uuid4(), uuid4()
    async with watching(control_plane, namespace=namespace) as it:
        await api.apply(samples.config_map(elsewhere))
        await api.apply(samples.config_map(here, namespace=namespace))
        await until(lambda: here in it.store.deployments())
        assert elsewhere not in it.store.deployments()
    await api.delete(kinds.CONFIG_MAP, "default", samples.name(elsewhere))


async def test_our_own_change_is_known_at_once_and_told_once(
    api: Api, control_plane: ControlPlane, namespace: str
) -> None:
    async with watching(control_plane) as it:
        uid = uuid4()
        it.store.learn(await it.api.apply(samples.config_map(uid, namespace=namespace)))
        assert len(it.store.resources(uid, kinds.CONFIG_MAP)) == 1
        mark = uuid4()
        await api.apply(samples.config_map(mark, namespace=namespace))
        await until(lambda: it.told[mark])
        assert it.told[uid] == 1


async def test_watches_cut_every_second_lose_nothing(api: Api, faults: Faults, namespace: str) -> None:
    faults.cut_watches_after = 1.0
    before = lists_of_pods()
    async with watching(faults) as it:
        uids = await churn(api, namespace, pods=1000, seed=1)
        await until(lambda: it.is_as_the_cluster(api, namespace), within=40)
        assert set(uids) <= set(it.told)
        assert lists_of_pods() == before + 1


async def test_a_storm_of_refusals_loses_nothing(api: Api, faults: Faults, namespace: str) -> None:
    faults.cut_watches_after = 0.3
    dice = random.Random(2)

    def refuse(request: web.BaseRequest) -> web.Response | None:
        if dice.random() > 0.4:
            return None
        if "watch" in request.query and dice.random() < 0.3:
            return status(410, "too old", reason="Expired")
        return status(429, "too many", Retry_After="1") if dice.random() < 0.3 else status(500, "etcd is away")

    faults.refuse = refuse
    async with watching(faults) as it:
        uid = uuid4()
        await asyncio.gather(
            churn(api, namespace, pods=60, seed=2), it.api.apply(samples.config_map(uid, namespace=namespace))
        )
        await until(lambda: it.store.resources(uid, kinds.CONFIG_MAP), within=15)
        await until(lambda: it.is_as_the_cluster(api, namespace), within=40)
        faults.refuse = lambda request: status(503, "gone for good")
        with pytest.raises(ApiError, match="gone for good"):
            await it.api.apply(samples.config_map(uid, namespace=namespace))
        await until(lambda: it.store.trouble)
        before = faults.requests
        await asyncio.sleep(2)
        assert faults.requests - before < 100  # of eight watches, whose pauses are up to five seconds by and by


async def test_a_server_that_was_killed_and_has_forgotten(mortal: ControlPlane) -> None:
    async with watching(mortal) as it:
        stays, goes = uuid4(), uuid4()
        for uid in (stays, goes):
            await it.api.apply(samples.deployment(uid))
        await until(lambda: it.store.pods(stays) and it.store.pods(goes))

        mortal.api_server.kill()
        await until(lambda: it.store.trouble)
        assert it.store.pods(stays)  # what was known is known
        late = uuid4()
        applying = asyncio.create_task(it.api.apply(samples.deployment(late)))
        await mortal.start_api_server()
        await applying
        await until(lambda: it.store.pods(late) and it.store.trouble is None, within=20)

        # All history goes while nobody watches, and with it a deletion that we did not see.
        async with Faults(mortal) as faults, watching(faults) as cut_off:
            faults.refuse = lambda request: status(503, "cut off")
            faults.cut_watches()
            await until(lambda: cut_off.store.trouble)
            await it.api.delete(kinds.DEPLOYMENT, "default", samples.name(goes))
            await until(lambda: goes not in it.store.deployments(), within=20)
            mortal.compact()
            mortal.api_server.kill()
            await mortal.start_api_server()
            assert cut_off.store.pods(goes)
            cut_off.told.clear()
            faults.refuse = lambda request: None
            await until(lambda: goes not in cut_off.store.deployments(), within=20)
            assert cut_off.told[goes]
            assert cut_off.store.pods(stays)


async def test_a_store_that_cannot_begin_says_why(control_plane: ControlPlane, namespace: str) -> None:
    kubeconfig = control_plane.admin.kubeconfig_for(f"{namespace}/default")
    async with Api(Connection(kubeconfig=kubeconfig), patience=0.5) as api:
        store = Store(api, lambda uid: None)
        store.start()
        try:
            assert store.trouble == "not everything is listed"
            await until(lambda: "cannot list resource" in (store.trouble or ""))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(store.known(), 0.5)
        finally:
            await store.close()
