"""All four services, with one of everything, and somebody of each role."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import insert, update

from services.gateway.identity.passwords import Passwords
from shared.permissions import ADMIN, EDIT, MANAGE, NONE, READ, Permission
from shared.schema import BlobUpload, Deployment, Model, ModelVersion, Upload, User, request_samples
from tests.gateway.envoy.harness import until
from tests.gateway.four import Four, Headers, running_four
from tests.permissions.cells import CELLS, PATH, filled
from tests.registry.web import web
from tests.registry.world import sha256, tar

OTHER = "ann"
"""Made what the roles have not made themselves, and manages the group with them."""

MEMBERS = {"rob": "read", "eli": "edit", "mia": "manage", OTHER: "manage"}
MLFLOW = tar({"MLmodel": b"flavors: {onnx: {onnx_version: 1.16}}\n", "model.onnx": b"x"})


@dataclass(frozen=True)
class Role:
    """`held` on group risk, `anywhere` on the group where it is most."""

    name: str
    user: str
    headers: Headers
    held: Permission
    anywhere: Permission
    personal: bool = False  # calls with a personal access token
    reads: bool = False  # which lets it read only


@dataclass(frozen=True)
class Operation:
    service: str
    method: str
    path: str
    dry_run: bool


@dataclass(frozen=True)
class World:
    four: Four
    roles: list[Role]
    things: Mapping[str, str]
    tokens: Mapping[str, str]
    sign_ins: Mapping[str, str]

    async def give_to(self, owner: str) -> None:
        """As if they had made it all, at a time when they could."""
        async with self.four.registry.core.sessions.begin() as session:
            for made in (Deployment, Model, ModelVersion):
                await session.execute(update(made).values(created_by=owner))

    async def call(self, action: str, operation: Operation, role: Role, *, owner: str) -> httpx.Response:
        cell, own = CELLS[action], owner == role.user
        things = {**self.things, "owner": owner, "token": self.tokens[owner], "sign_in": self.sign_ins[owner]}
        things["digest"] = self.things["own" if own else "kept"]
        path = filled({**PATH, **cell.path}, things)
        if "{upload}" in operation.path:
            path["upload"] = await self._upload_of(owner)
        query = filled({**cell.query, **({} if role.user else cell.link)}, things)
        return await self.four.services[operation.service].request(
            operation.method,
            operation.path.format_map(path),
            params=query | ({"dry_run": "true"} if operation.dry_run else {}),
            headers={**role.headers, **cell.headers},
            json=filled(cell.body, things),
            data=filled(cell.form, things),
            content=cell.content,
        )

    async def _upload_of(self, owner: str) -> str:
        upload = Upload(id=uuid4(), user_id=owner)
        async with self.four.registry.core.sessions.begin() as session:
            session.add(upload)
        await self.four.registry.app.state.partials.create(upload.id)
        return str(upload.id)


@asynccontextmanager
async def running_world(
    environment: Mapping[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    async with (
        running_four(environment, folder, monkeypatch, of_registry={"fetch_networks": "127.0.0.0/8"}) as four,
        web() as there,
    ):
        people = {"root": dict(four.root), "sam": await four.gateway.people.add("sam", groups=[("other", "manage")])}
        for user, permission in MEMBERS.items():
            groups = [("risk", permission), ("empty", permission)]
            people[user] = await four.gateway.people.add(user, groups=groups)
        await _ok(four, "registry", "PUT", "/groups/risk/members/root", {"permission": "read"})
        password_hash = await Passwords().hash("a password")
        async with four.registry.core.sessions.begin() as session:
            await session.execute(update(User).values(password_hash=password_hash))
        secret = await _service_account(four)
        people["nightly"] = await _signed_in(four, secret)
        tokens = {user: await _token(four, headers, "own", "*:manage") for user, headers in people.items()}
        reading = await _token(four, people["mia"], "reading", "*:read")
        powerful = await _token(four, people["root"], "powerful", "*:manage", "admin")
        yield World(
            four=four,
            roles=[
                Role("nobody", "", {}, NONE, NONE),
                Role("a forged token", "", _bearer("no.such.token"), NONE, NONE),
                Role("stranger", "sam", people["sam"], NONE, MANAGE),
                Role("reader", "rob", people["rob"], READ, READ),
                Role("editor", "eli", people["eli"], EDIT, EDIT),
                Role("service account", "nightly", people["nightly"], EDIT, EDIT),
                Role("manager", "mia", people["mia"], MANAGE, MANAGE),
                Role("manager's token", "mia", _bearer(reading["token"]), READ, READ, personal=True, reads=True),
                Role("admin", "root", people["root"], ADMIN, ADMIN),
                Role("admin's token", "root", _bearer(powerful["token"]), ADMIN, ADMIN, personal=True),
            ],
            things={"secret": secret, "web": there.body("/model", b"bytes"), **await _furnish(four, people)},
            tokens={user: made["id"] for user, made in tokens.items()},
            sign_ins={user: await _sign_in_of(four, user) for user in people},
        )


async def _furnish(four: Four, people: Mapping[str, Headers]) -> dict[str, str]:
    await _ok(four, "gateway", "POST", "/users", {"user": "spare"})
    await _ok(four, "gateway", "POST", "/service-accounts", {"name": "robot"})
    for name, groups in (("closed", ["risk"]), ("idle", None)):
        size = {"id": name, "cpu": 1, "memory": "1Gi", "groups": groups}
        await _ok(four, "registry", "POST", "/instance-types", size)
    kept, mlflow, own = [await four.registry.uploaded(data) for data in (b"kept", MLFLOW, b"own")]
    for artifact in (kept, {"encoder": kept}, mlflow):
        version = {"artifact": artifact, "curves": {"loss": [[1, 0.5]]}}
        await _ok(four, "registry", "POST", "/models/risk/kept/versions", version)
    by = people[OTHER]
    made = await _ok(four, "deployer", "POST", "/deployments", {"id": "churn", "model": "risk/churn/1"}, by=by)
    await _ok(four, "deployer", "POST", "/deployments/churn/versions", {"model": "risk/churn/2"}, by=by)
    await _ok(four, "gateway", "POST", "/deployments/churn/clients?wait=none", {"name": "ward"}, by=by)

    async def replicas() -> Any:
        return (await _ok(four, "deployer", "GET", "/deployments/churn/replicas"))["items"]

    replica = (await until(replicas, what="a replica"))[0]["id"]
    called = {"uid": made["uid"], "at": datetime.now(UTC), "count": 1, "version": 1, "resolution": 5, "code": 200}
    async with four.registry.core.sessions.begin() as session:
        await session.execute(insert(request_samples).values(**called, client=""))
        session.add_all(BlobUpload(digest=sha256(b"own"), user_id=user) for user in people if user != "root")
    expires = str(int(time.time()) + 600)
    signature = four.registry.core.vault.sign(f"{sha256(b'kept')} {expires}", purpose="pull")
    return {
        "kept": sha256(b"kept"),
        "own": own.removeprefix("registry://"),
        "mlflow": mlflow,
        "replica": replica,
        "expires": expires,
        "signature": signature,
    }


async def _service_account(four: Four) -> str:
    """Its secret."""
    made = await _ok(four, "gateway", "POST", "/service-accounts", {"name": "nightly"})
    for group in ("risk", "empty"):
        await _ok(four, "registry", "PUT", f"/groups/{group}/members/nightly", {"permission": "edit"})
    return str(made["client_secret"])


async def _signed_in(four: Four, secret: str) -> Headers:
    form = {"grant_type": "client_credentials", "client_id": "nightly", "client_secret": secret}
    return _bearer((await four.gateway.http.post("/api/v1/auth/token", data=form)).json()["access_token"])


async def _sign_in_of(four: Four, user: str) -> str:
    return str((await _ok(four, "gateway", "GET", f"/sign-ins?user={user}"))["items"][0]["id"])


async def _token(four: Four, by: Headers, name: str, *scopes: str) -> Any:
    return await _ok(four, "gateway", "POST", "/access-tokens", {"name": name, "scopes": scopes}, by=by)


async def _ok(four: Four, service: str, method: str, path: str, body: Any = None, *, by: Headers | None = None) -> Any:
    answer = await four.call(service, method, path, body, by=by)
    assert answer.is_success, answer.text
    return answer.json()


def _bearer(token: str) -> Headers:
    return {"Authorization": f"Bearer {token}"}
