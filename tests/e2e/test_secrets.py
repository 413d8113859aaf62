"""No token and no password is anywhere at rest in the clear: not in a file, a table, a log, an event or a metric."""

import subprocess
from pathlib import Path

import httpx

from deploy.embedded.units import SERVICES
from tests.support.platform import RunningPlatform


def test_secrets_are_nowhere(platform: RunningPlatform) -> None:
    body = {"id": "quiet", "group": "lab", "model": "lab/whoami/1", "instance_type": "tiny"}
    platform.api.post("/deployments", json=body).raise_for_status()
    platform.wait_phase("quiet", "Deployed")
    token = platform.client_token("quiet", "reader")
    assert platform.http.post("/predict/quiet/1", json={}, auth=("reader", token)).status_code == 200
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "secret-1"}
    assert platform.http.post("/predict/quiet/1", json={}, headers=headers).status_code == 200
    made = platform.api.post(
        "/deployments/quiet/clients", json={"name": "second"}, headers={"Idempotency-Key": "secret-2"}
    )
    platform.secrets.append(made.json()["token"])
    # A mistake that a user might make: the token in the wrong place.
    platform.http.get(f"/api/v1/deployments/{token}", headers={"Authorization": f"Bearer {token}"})

    dump = _pg_dump(platform)
    everything = dump + b"".join(_metrics(platform)) + b"".join(_files(platform.here.folder))
    try:
        for secret in platform.secrets:
            assert secret.encode() not in everything
    finally:
        platform.api.delete("/deployments/quiet").raise_for_status()


def _pg_dump(platform: RunningPlatform) -> bytes:
    program = next(Path(word) for word in platform.here.postgres.argv if word.endswith("/bin/postgres"))
    url = platform.here.postgres.url
    done = subprocess.run([program.with_name("pg_dump"), "--inserts", url], capture_output=True, check=True)
    return done.stdout


def _metrics(platform: RunningPlatform) -> list[bytes]:
    return [httpx.get(f"http://127.0.0.1:{platform.here.ports[name]}/metrics").content for name in SERVICES]


def _files(folder: Path) -> list[bytes]:
    """Logs, snapshots, state: everything but the database's own files, which the dump covers."""
    return [
        path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "postgres" not in path.relative_to(folder).parts[0]
    ]
