"""One real control plane for a worker's tests, without nodes: pods are made and admitted, and stay Pending."""

from collections.abc import Iterator

import pytest

from tests.servers import kubernetes
from tests.servers.kubernetes import ControlPlane


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    with kubernetes.running() as plane:
        yield plane
