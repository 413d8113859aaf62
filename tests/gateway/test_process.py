"""The gateway's own process: the first administrator, secrets that show nowhere, and whatever is sent to its port."""

import asyncio
import base64
import contextlib
import random
from pathlib import Path
from typing import Any

import asyncpg
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.specs.openapi import checks

from services.gateway.app import build
from shared.database import create_engine, create_sessions
from tests.gateway.envoy.harness import Envoy, Stub, basic, call
from tests.gateway.process import create_admin, gateway_process
from tests.gateway.world import Deployer, parsed, settings_of

EXAMPLES = 5
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


async def test_the_first_administrator_is_made_once(environment: dict[str, str], tmp_path: Path) -> None:
    settings = settings_of(environment, tmp_path)
    attempts = await asyncio.gather(*(asyncio.to_thread(create_admin, settings) for _ in range(2)))
    assert [attempt.returncode for attempt in attempts] == [0, 0]
    printed = [attempt.stdout for attempt in attempts if attempt.stdout]
    assert len(printed) == 1
    assert any("already (admin)" in attempt.stderr for attempt in attempts)
    async with gateway_process(environment, tmp_path) as gateway:
        tokens = await gateway.signed_in("admin", printed[0].strip())
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        assert (await gateway.http.get("/api/v1/me", headers=headers)).json()["admin"] is True


async def test_a_forged_address_gives_no_further_guesses(environment: dict[str, str], tmp_path: Path) -> None:
    async with gateway_process(environment, tmp_path) as gateway:
        with Envoy(tmp_path, xds=int(gateway.environment["MOORAGE_XDS_PORT"]), services=gateway.port) as envoy:
            await envoy.ready()
            form = {"grant_type": "password", "username": "admin", "password": "a guess"}

            async def guess(*forged: str) -> int:
                headers = [(name, each) for each in forged for name in ("x-forwarded-for", "x-envoy-external-address")]
                return (await call(envoy, "/api/v1/auth/token", method="POST", data=form, headers=headers)).status

            forgeries = [("203.0.113.1",), ("203.0.113.2, 127.0.0.1",), ("203.0.113.3", "203.0.113.4"), (",",), ()]
            statuses = [await guess(*forgeries[number % len(forgeries)]) for number in range(15)]
            assert statuses == [400] * 10 + [429] * 5


async def test_no_secret_shows_anywhere(environment: dict[str, str], tmp_path: Path) -> None:
    """Everything that the main job handles, then every table, every line logged, the metrics and Envoy's own files."""
    engine = create_engine(environment["MOORAGE_DATABASE_URL"], application="test", connections=2)
    deployer = Deployer(create_sessions(engine))
    password = create_admin(settings_of(environment, tmp_path)).stdout.strip()
    secrets = [password]
    async with gateway_process(environment, tmp_path) as gateway, Stub("one") as model:
        with Envoy(tmp_path, xds=int(gateway.environment["MOORAGE_XDS_PORT"])) as envoy:
            await envoy.ready()
            await deployer.settled(await deployer.deploy("churn", {1: model}))
            tokens = await gateway.signed_in("admin", password)
            headers = {"Authorization": f"Bearer {tokens['access_token']}", "Idempotency-Key": "once"}
            form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
            for _ in range(2):  # the second is a theft
                renewed = await gateway.http.post("/api/v1/auth/token", data=form)
            secrets += [tokens["access_token"], tokens["refresh_token"]]
            tokens = await gateway.signed_in("admin", password)
            headers["Authorization"] = f"Bearer {tokens['access_token']}"
            secrets += [tokens["access_token"], tokens["refresh_token"]]
            made = await gateway.http.post("/api/v1/users", json={"user": "ana"}, headers=headers)
            again = await gateway.http.post("/api/v1/users", json={"user": "ana"}, headers=headers)
            assert made.json() == again.json()
            secrets.append(made.json()["password"])
            wrong = {"grant_type": "password", "username": "ana", "password": "a wrong but telling password"}
            refused = await gateway.http.post("/api/v1/auth/token", data=wrong)
            secrets.append(wrong["password"])
            headers["Idempotency-Key"] = "twice"
            clients = "/api/v1/deployments/churn/clients"
            client = (await gateway.http.post(clients, json={"name": "batch"}, headers=headers)).json()
            secrets.append(client["token"])
            answer = await call(envoy, "/deployment/churn/x", headers=basic("batch", client["token"]))
            assert answer.status == 200
            forged = {"Authorization": f"Bearer {client['token']}"}
            unknown = await gateway.http.get("/api/v1/me", headers=forged)
            bad = await gateway.http.post(clients, json={"name": client["token"], "x": password}, headers=headers)
            dump = await envoy.config_dump()
        metrics = (await gateway.http.get("/metrics")).text
    texts = {
        "logs": gateway.log.read_text(),
        "metrics": metrics,
        "errors": "".join(each.text for each in (renewed, refused, unknown, bad)),
        "Envoy's configuration": dump,
        "Envoy's log": envoy.log.read_text(),
        "what the model saw": str(answer.body),
        "snapshot": (tmp_path / "snapshot.db").read_bytes().decode("latin-1"),
        **await tables(environment["MOORAGE_DATABASE_URL"]),
    }
    await engine.dispose()
    assert "sign_in.refused" in texts["logs"]
    assert "batch" in texts["endpoint_clients"]
    found = [(secret, name) for secret in secrets for name, text in texts.items() if _shows(secret, text)]
    assert found == []


async def tables(url: str) -> dict[str, str]:
    """Every row of every table, as text."""
    connection = await asyncpg.connect(url)
    names = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    dump = {}
    for (name,) in names:
        rows = await connection.fetch(f'SELECT row::text FROM "{name}" AS row')
        dump[name] = "\n".join(text for (text,) in rows)
    await connection.close()
    return dump


def _shows(secret: str, text: str) -> bool:
    """Also in hexadecimal (as bytea is shown) or base64, at any offset."""
    plain = secret.encode()
    encoded = [base64.b64encode(b"x" * shift + plain).decode()[4:-4] for shift in range(3)]
    return any(form in text for form in (secret, plain.hex(), *encoded))


async def test_the_openapi_document_is_kept(environment: dict[str, str], tmp_path: Path) -> None:
    engine = create_engine(environment["MOORAGE_DATABASE_URL"], application="test", connections=2)
    deployer = Deployer(create_sessions(engine))
    await deployer.deploy("churn", {})
    await engine.dispose()
    # The class's method: the application itself serves the merged document.
    app = build(parsed(settings_of(environment, tmp_path)))
    document = type(app).openapi(app)
    password = create_admin(settings_of(environment, tmp_path)).stdout.strip()
    async with gateway_process(environment, tmp_path) as gateway:
        tokens = await gateway.signed_in("admin", password)
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}

        def fuzz() -> None:
            schema: Any = schemathesis.openapi.from_dict(document)
            operations = [each.ok() for each in schema.get_all_operations()]
            assert len(operations) >= 15
            for operation in operations:
                check(operation.as_strategy(), url=gateway.url, headers=headers)
                with contextlib.suppress(Unsatisfiable):  # what takes nothing cannot be sent anything wrong
                    wrong = operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)
                    check(wrong, url=gateway.url, headers=headers)

        await asyncio.to_thread(fuzz)
        assert "Traceback" not in gateway.log.read_text()


def check(cases: st.SearchStrategy[Any], *, url: str, headers: dict[str, str]) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=cases)
    def send(case: Any) -> None:
        if isinstance(case.query, dict):
            case.query["timeout"] = 0  # no Envoy to wait for
        response = case.call(base_url=url, headers=headers)
        case.validate_response(response, checks=CHECKS)

    send()


async def test_thousands_of_malformed_authorizations(environment: dict[str, str], tmp_path: Path) -> None:
    """Bytes as they come, written straight to the socket: 401 or 400, never a 5xx, and the process lives."""
    chance = random.Random(7)
    heads = [b"Bearer ", b"bearer", b"Basic ", b"BEARER\t", b"", b"Bearer Bearer ", b"Bearer eyJhbGciOiJub25lIn0."]

    def header() -> bytes:
        junk = bytes(chance.choice(range(256)) for _ in range(chance.randrange(80)))
        if chance.random() < 0.5:
            junk = base64.urlsafe_b64encode(junk)
            junk = b".".join([junk] * chance.randrange(1, 5))
        if chance.random() < 0.02:
            junk *= 200
        return chance.choice(heads) + junk.translate(None, b"\r\n\x00")

    async with gateway_process(environment, tmp_path) as gateway:
        statuses: dict[int, int] = {}

        async def send(count: int) -> None:
            for _ in range(count):
                reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
                request = b"GET /api/v1/me HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: %b\r\n\r\n"
                writer.write(request % header())
                status = int((await reader.read())[9:12])
                statuses[status] = statuses.get(status, 0) + 1
                writer.close()

        await asyncio.gather(*(send(200) for _ in range(15)))
        assert sum(statuses.values()) == 3000
        assert set(statuses) <= {400, 401}
        assert statuses[401] > 1500
        assert (await gateway.http.get("/readyz")).status_code == 200
        assert "Traceback" not in gateway.log.read_text()
