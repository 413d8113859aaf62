"""A registry in this process, entered by HTTP, with people and, beside it, what the deployer would have written."""

import hashlib
import io
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from fastapi import FastAPI

from services.registry.app import create
from services.registry.settings import RegistrySettings
from shared.schema import Deployment
from shared.service import Core
from tests.support.services import People, serving

Headers = dict[str, str]


@dataclass(frozen=True)
class Registry:
    """`admin` and others are headers to call with."""

    http: httpx.AsyncClient
    app: FastAPI
    people: People
    admin: Headers
    settings: RegistrySettings

    @property
    def core(self) -> Core:
        core: Core = self.app.state.core
        return core

    async def call(self, method: str, path: str, body: Any = None, *, by: Headers, **options: Any) -> httpx.Response:
        headers = {**by, **options.pop("headers", {})}
        json = {} if body is None else {"json": body}
        return await self.http.request(method, f"/api/v1{path}", headers=headers, **json, **options)

    async def make(self, path: str, body: Any, *, by: Headers | None = None) -> Any:
        """POST what must succeed."""
        answer = await self.call("POST", path, body, by=by or self.admin)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def upload(self, data: bytes, *, by: Headers | None = None, **options: Any) -> httpx.Response:
        headers = {
            "Content-Type": "application/octet-stream",
            **(self.admin if by is None else by),
            **options.pop("headers", {}),
        }
        return await self.http.post("/api/v1/artifacts", content=data, headers=headers, **options)

    async def uploaded(self, data: bytes = b"a model", *, by: Headers | None = None) -> str:
        """The URI of an upload that must succeed."""
        answer = await self.upload(data, by=by)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["uri"])

    async def deploy(
        self,
        deployment: str,
        *,
        group: str,
        model: str = "risk/churn/1",
        instance_type: str = "cpu-1",
        weight: int = 100,
        cpu: str = "1",
        memory: int = 1 << 30,
        gpu: str = "0",
        **columns: Any,
    ) -> None:
        """A deployment as the deployer would write it."""
        version = {"number": 1, "model": model, "instance_type": instance_type, "replicas": {"min": 1, "max": 1}}
        values: dict[str, Any] = {
            "spec": {"versions": [version], "traffic": {"weights": {"1": weight}}},
            "reserved_cpu": Decimal(cpu),
            "reserved_memory": memory,
            "reserved_gpu": Decimal(gpu),
            **columns,
        }
        async with self.core.sessions.begin() as session:
            session.add(
                Deployment(
                    uid=uuid4(),
                    id=deployment,
                    group_id=group,
                    name=deployment,
                    created_by="ana",
                    updated_by="ana",
                    **values,
                )
            )

    def files(self) -> list[Path]:
        """All that lies in the blob folder."""
        return sorted(path for path in self.settings.blob_folder.rglob("*") if path.is_file())


@asynccontextmanager
async def running_registry(environment: dict[str, str], folder: Path, **settings: Any) -> AsyncIterator[Registry]:
    values = {name.removeprefix("MOORAGE_").lower(): value for name, value in environment.items()}
    made = RegistrySettings.model_validate({"blob_folder": folder / "blobs", **values, **settings})
    _, app = create(made)
    async with serving(app) as http:
        people = People.of(app)
        admin = await people.add("root", admin=True)
        yield Registry(http=http, app=app, people=people, admin=admin, settings=made)


def tar(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def code(answer: httpx.Response) -> str:
    """Of a problem document."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return str(answer.json()["code"])
