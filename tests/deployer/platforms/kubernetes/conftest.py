"""What the tests of this folder share beside the control plane: a connection to it, and a proxy with faults."""

from collections.abc import AsyncIterator

import pytest

from services.deployer.platforms.kubernetes.api import Api
from services.deployer.platforms.kubernetes.connection import Connection
from tests.servers.faults import Faults
from tests.servers.kubernetes import ControlPlane
from tests.support.waiting import until


@pytest.fixture(scope="session")
def plane(control_plane: ControlPlane) -> ControlPlane:
    return control_plane


@pytest.fixture
async def api(control_plane: ControlPlane) -> AsyncIterator[Api]:
    """The administrator's, past all faults."""
    async with Api(Connection(kubeconfig=control_plane.kubeconfig), patience=5) as found:
        yield found


@pytest.fixture
async def faults(control_plane: ControlPlane) -> AsyncIterator[Faults]:
    async with Faults(control_plane) as proxy:
        yield proxy


@pytest.fixture
async def namespace(control_plane: ControlPlane, namespace: str) -> str:
    """One that pods can be made in."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
    await until(lambda: control_plane.admin.call("GET", path))
    return namespace
