"""One platform on one cluster for all that is done to it on Kubernetes."""

from collections.abc import Iterator

import pytest

from tests.chaos.cluster import Cluster, running_cluster


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """With a control plane of its own, as its parts are killed. Whoever uses it leaves no deployment behind."""
    with running_cluster(tmp_path_factory.mktemp("fire")) as found:
        yield found
