"""The intermediate form refuses what Envoy must never be told."""

import pytest

from services.gateway.envoy.model import DeploymentRoutes, Endpoint, EndpointClient, InvalidRoutes

SHA1 = "10Uq1wOD7XlH+qvidF2RHSriH3g="
ONE = {1: (Endpoint("r", "127.0.0.1", 80),)}


@pytest.mark.parametrize("name", ["", "a" * 64, "a:b", "a\nroot", "a_b", "ä", "a b", "a/b"])
def test_a_client_name_cannot_add_a_line_or_end_early(name: str) -> None:
    with pytest.raises(InvalidRoutes, match="client name"):
        EndpointClient(name, SHA1)


@pytest.mark.parametrize("sha1", ["", "x", SHA1 + "\nroot:{SHA}" + SHA1, SHA1[:-4], "token-in-the-clear"])
def test_only_a_digest_is_taken(sha1: str) -> None:
    with pytest.raises(InvalidRoutes, match="SHA-1"):
        EndpointClient("ana", sha1)


@pytest.mark.parametrize("deployment", ["", "A", "a/b", "-a", "a-", "a" * 64, "@platform", "a.b", "a\n"])
def test_an_id_is_a_dns_label(deployment: str) -> None:
    with pytest.raises(InvalidRoutes, match="DNS label"):
        DeploymentRoutes(id=deployment, generation=1)


@pytest.mark.parametrize("weights", [{1: 99}, {1: 101}, {1: 50, 2: 50}, {1: 110, 2: -10}, {2: 100}])
def test_weights_sum_to_100_over_versions_that_are_there(weights: dict[int, int]) -> None:
    with pytest.raises(InvalidRoutes, match="weight"):
        DeploymentRoutes(id="churn", generation=1, versions=ONE, weights=weights)


def test_two_clients_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidRoutes, match="same name"):
        DeploymentRoutes(id="churn", generation=1, clients=(EndpointClient("ana", SHA1), EndpointClient("ana", SHA1)))


def test_the_replicas_are_those_of_every_version() -> None:
    versions = {1: (Endpoint("a", "::1", 1), Endpoint("b", "::1", 2)), 2: (Endpoint("c", "::1", 3),), 3: ()}
    assert DeploymentRoutes(id="churn", generation=1, versions=versions).replicas == {"a", "b", "c"}
