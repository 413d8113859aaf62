"""Clients of private endpoints, with the real Envoy: who is let in, and from when on no more."""

from tests.gateway.envoy.harness import Envoy, Stub, basic, call
from tests.gateway.world import Gateway


async def test_let_in_and_out_again(gateway: Gateway, envoy: Envoy) -> None:
    ana = await gateway.people.add("ana", groups=[("risk", "edit")])
    async with Stub("one") as model:
        await gateway.deployer.settled(await gateway.deployer.deploy("churn", {1: model}))
        assert (await call(envoy, "/deployment/churn/x")).status == 401

        client = await gateway.client("churn", "batch", ana)
        assert client["enforced"] is True
        token = client["token"]
        assert token.startswith("moor_batch_")
        for headers in (basic("batch", token), {"authorization": f"Bearer {token}"}):
            answer = await call(envoy, "/deployment/churn/x", headers=headers)
            assert answer.status == 200
            assert ("x-forwarded-user", "batch") in answer.model_saw

        answer = await gateway.http.delete("/api/v1/deployments/churn/clients/batch", headers=ana)
        assert answer.json() == {"name": "batch", "enforced": True, "reason": None}
        assert (await call(envoy, "/deployment/churn/x", headers=basic("batch", token))).status == 401
