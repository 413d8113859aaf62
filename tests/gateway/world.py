"""The gateway as its tests meet it: its real application and database; the deployer's part is played by `Deployer`."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
from fastapi import FastAPI
from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.app import build
from services.gateway.parts import Parts
from services.gateway.settings import GatewaySettings
from shared import outbox
from shared.database import Sessions
from shared.events.deployer import DEPLOYMENT_CHANGED, REPLICAS_CHANGED
from shared.schema import Deployment, Group, Replica, Route
from tests.gateway.envoy.harness import Stub, until
from tests.support.ports import free_port
from tests.support.services import People, serving


@dataclass
class Deployer:
    """Writes what the deployer would, with its events, in transactions like its own."""

    sessions: Sessions
    uids: dict[str, UUID] = field(default_factory=dict)

    async def deploy(
        self,
        deployment: str,
        versions: Mapping[int, Stub | Sequence[Stub]],
        weights: Mapping[int, int] | None = None,
        *,
        group: str = "risk",
        access: str = "private",
        runtime: str = "inference",
        metadata: Mapping[str, str] | None = None,
    ) -> UUID:
        uid = self.uids[deployment] = uuid4()
        spec = {
            "name": deployment,
            "description": "",
            "metadata": dict(metadata or {}),
            "stage": "production",
            "access": access,
            "versions": [{"number": number, "runtime": runtime} for number in versions],
            "traffic": {"weights": _json(_all_to_the_first(versions) if weights is None else weights)},
        }
        async with self.sessions.begin() as session:
            if await session.get(Group, group) is None:
                session.add(Group(id=group, name=group))
                await session.flush()
            row = Deployment(
                uid=uid,
                id=deployment,
                group_id=group,
                name=deployment,
                spec=spec,
                created_by="ana",
                updated_by="ana",
                endpoints_generation=1,
            )
            session.add(row)
            await session.flush()
            for number, stubs in versions.items():
                for stub in [stubs] if isinstance(stubs, Stub) else stubs:
                    session.add(_replica(uid, number, stub))
            await self._tell(session, row)
        return uid

    async def change(self, deployment: str, **spec: Any) -> None:
        """Replace members of the spec; `weights=` stands for the traffic, `stopped=` for the switch."""
        async with self.sessions.begin() as session:
            row = await session.get_one(Deployment, self.uids[deployment], with_for_update=True)
            if "weights" in spec:
                spec["traffic"] = {"weights": _json(spec.pop("weights"))}
            row.stopped = spec.pop("stopped", row.stopped)
            row.spec = {**row.spec, **spec}
            row.generation += 1
            await self._tell(session, row)

    async def route_to(self, deployment: str, version: int, stubs: Sequence[Stub]) -> None:
        """Make these the routable replicas of the version."""
        async with self.sessions.begin() as session:
            row = await session.get_one(Deployment, self.uids[deployment], with_for_update=True)
            row.endpoints_generation += 1
            await session.execute(
                update(Replica)
                .where(Replica.uid == row.uid, Replica.version == version)
                .values(routable=False, endpoints_generation=row.endpoints_generation)
            )
            for stub in stubs:
                session.add(_replica(row.uid, version, stub, generation=row.endpoints_generation))
            await session.flush()
            data = {"id": row.id, "group": row.group_id, "generation": row.generation}
            await outbox.append(session, REPLICAS_CHANGED, str(row.uid), **data)

    async def delete(self, deployment: str) -> UUID:
        async with self.sessions.begin() as session:
            row = await session.get_one(Deployment, self.uids.pop(deployment), with_for_update=True)
            row.deleted_at = row.updated_at
            row.generation += 1
            await self._tell(session, row)
            return row.uid

    async def purge(self, uid: UUID) -> None:
        async with self.sessions.begin() as session:
            row = await session.get_one(Deployment, uid)
            row.purged_at = row.deleted_at
            await self._tell(session, row)

    async def route(self, uid: UUID) -> Route | None:
        async with self.sessions() as session:
            return (await session.execute(select(Route).where(Route.uid == uid))).scalar_one_or_none()

    async def settled(self, uid: UUID) -> Route:
        """Until Envoy has acknowledged what the rows say now."""

        async def done() -> Route | None:
            async with self.sessions() as session:
                row = await session.get_one(Deployment, uid)
            route = await self.route(uid)
            reached = route and (route.generation, route.endpoints_generation) >= (
                row.generation,
                row.endpoints_generation,
            )
            return route if reached else None

        found: Route = await until(done, what="routes enforced")
        return found

    @staticmethod
    async def _tell(session: AsyncSession, row: Deployment) -> None:
        await session.flush()
        data = {"id": row.id, "group": row.group_id, "generation": row.generation}
        await outbox.append(session, DEPLOYMENT_CHANGED, str(row.uid), **data)


@dataclass
class Gateway:
    """`http` calls without a token; `people` makes users with tokens."""

    app: FastAPI
    http: httpx.AsyncClient
    people: People
    deployer: Deployer
    settings: GatewaySettings

    @property
    def parts(self) -> Parts:
        parts: Parts = self.app.state.parts
        return parts

    async def client(self, deployment: str, name: str, headers: Mapping[str, str], **body: Any) -> dict[str, Any]:
        """Add a client; the answer."""
        url = f"/api/v1/deployments/{deployment}/clients"
        answer = await self.http.post(url, json={"name": name, **body}, headers=headers)
        assert answer.status_code == 201, answer.text
        document: dict[str, Any] = answer.json()
        return document


def settings_of(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    return {
        **environment,
        "MOORAGE_XDS_PORT": str(free_port()),
        "MOORAGE_SNAPSHOT_PATH": str(folder / "snapshot.db"),
        "MOORAGE_PUBLIC_URL": "http://moorage.test",
    }


def parsed(environment: Mapping[str, str]) -> GatewaySettings:
    names = {name.removeprefix("MOORAGE_").lower(): value for name, value in environment.items()}
    return GatewaySettings(**names)


@asynccontextmanager
async def running_gateway(environment: Mapping[str, str]) -> AsyncIterator[Gateway]:
    """The gateway's application in this process, ready."""
    settings = parsed(environment)
    app = build(settings)
    async with serving(app) as http:
        sessions = app.state.core.sessions
        gateway = Gateway(app, http, People.of(app), Deployer(sessions), settings)

        async def ready() -> bool:
            return (await http.get("/readyz")).status_code == 200

        await until(ready, what="the gateway is ready")
        yield gateway


async def until_blocked(gateway: Gateway) -> None:
    """Until some transaction of this database waits for another's lock."""

    async def blocked() -> bool:
        waiting = text("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
        async with gateway.deployer.sessions() as session:
            return (await session.execute(waiting)).first() is not None

    await until(blocked, what="a transaction waits")


def _replica(uid: UUID, version: int, stub: Stub, *, generation: int = 1) -> Replica:
    return Replica(
        id=f"{stub.name}-{uuid4().hex[:8]}",
        uid=uid,
        version=version,
        template="t",
        phase="Ready",
        routable=True,
        endpoints_generation=generation,
        host="127.0.0.1",
        port=stub.port,
    )


def _json(weights: Mapping[int, int]) -> dict[str, int]:
    return {str(version): weight for version, weight in weights.items()}


def _all_to_the_first(versions: Mapping[int, Any]) -> dict[int, int]:
    return {version: 0 if version > min(versions) else 100 for version in versions}
