"""Admission through the front door, under concurrency."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.support.platform import RunningPlatform


def test_fifty_creates_at_once_against_a_quota_of_ten(platform: RunningPlatform) -> None:
    platform.group("crowd", deployments=10)
    platform.model("crowd", "whoami")

    def create(number: int) -> str:
        body = {"id": f"crowd-{number}", "group": "crowd", "model": "crowd/whoami/1", "instance_type": "tiny"}
        answer = platform.api.post("/deployments", json=body)
        return "admitted" if answer.status_code == 201 else str(answer.json()["code"])

    with ThreadPoolExecutor(50) as pool:
        outcomes = Counter(pool.map(create, range(50)))
    try:
        assert outcomes == {"admitted": 10, "quota_exceeded": 40}
        view = platform.api.get("/groups/crowd/quota").json()
        assert view["deployments"] == {"used": 10, "limit": 10}
    finally:
        for number in range(50):
            platform.api.delete(f"/deployments/crowd-{number}")
