"""One whole platform for all tests here; each makes its own deployments."""

from collections.abc import Iterator

import pytest

from tests.support.platform import RunningPlatform, running_platform


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "e2e":
            item.add_marker(pytest.mark.xdist_group("e2e"))  # one worker, one platform


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    with running_platform(tmp_path_factory.mktemp("platform"), MOORAGE_SCRAPE_SECONDS="1") as running:
        running.group("lab")
        size = {"id": "tiny", "name": "Tiny", "cpu": "100m", "memory": "256Mi"}
        running.api.post("/instance-types", json=size).raise_for_status()
        running.model("lab", "whoami")
        yield running
