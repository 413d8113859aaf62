"""What the routes about deployments are given: the commands of this request, and how an answer is made of them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, cast

import orjson
from fastapi import Depends, Path, Query, Request, Response

from services.deployer.deployments import queries
from services.deployer.deployments.commands import Accepted, Commands
from services.deployer.deployments.policy import Policy
from services.deployer.deployments.secrets import EnvVault
from services.deployer.deployments.views import document
from services.deployer.deployments.waiting import Timeout, Wait, wait_until
from services.deployer.errors import (
    AddressTaken,
    DeploymentDisabled,
    UnsupportedByPlatform,
    VersionLimitReached,
    WeightsExceedTotal,
)
from services.deployer.platforms import Platform
from services.deployer.settings import DeployerSettings
from shared.errors import MoorageError, QuotaExceeded
from shared.http import CurrentCaller, CurrentUnit, DnsLabel, IfMatch, Unit, etag
from shared.service import Core

__all__ = [
    "ADMISSION",
    "CHANGES",
    "Answering",
    "CreatingCommands",
    "CurrentCommands",
    "DeploymentId",
    "DryRun",
    "Message",
    "PublicUrl",
    "answer",
]

DeploymentId = Annotated[DnsLabel, Path(alias="id", description="the deployment's id", examples=["churn"])]
DryRun = Annotated[bool, Query(description="answer what would change and whether it fits the quota; change nothing")]
Message = Annotated[str, Query(max_length=4000, pattern=r"^[^\x00]*$", description="why; kept in the history")]

_ROOM_SECONDS = 2.0
"""So long a creation's answer waits at most for those that were asked for before to be begun."""

Kinds = tuple[type[MoorageError], ...]

ADMISSION: Kinds = (QuotaExceeded, DeploymentDisabled)
"""The errors of what starts replicas."""

CHANGES: Kinds = (*ADMISSION, VersionLimitReached, WeightsExceedTotal, UnsupportedByPlatform, AddressTaken)
"""The errors of what changes the versions of a deployment."""


def answer(content: Any, *, status: int = 200, generation: int | None = None, location: str | None = None) -> Response:
    """What is ready for JSON; FastAPI would check it once more against the schema."""
    headers = {} if generation is None else {"ETag": etag(generation)}
    if location is not None:
        headers["Location"] = f"/api/v1/deployments/{location}"
    return Response(orjson.dumps(content), status_code=status, headers=headers, media_type="application/json")


def _settings(request: Request) -> DeployerSettings:
    settings: DeployerSettings = request.app.state.settings
    return settings


async def _public_url(request: Request) -> str:
    return _settings(request).public_url.rstrip("/")


def _policy(request: Request) -> Policy:
    settings, platform = _settings(request), cast(Platform, request.app.state.platform)
    return Policy(
        capabilities=platform.capabilities,
        own_namespaces="{group}" in settings.kubernetes_namespace,
        nfs_servers=settings.kubernetes_nfs_servers,
        external_ips=settings.kubernetes_external_ips,
    )


async def _creating(request: Request, unit: CurrentUnit, caller: CurrentCaller, dry_run: DryRun = False) -> Commands:
    """Without If-Match: what is yet to be made nobody has seen."""
    core: Core = request.app.state.core
    return Commands(
        session=unit.session,
        caller=caller,
        vault=EnvVault(core.vault),
        policy=_policy(request),
        versions_limit=_settings(request).versions_limit,
        dry_run=dry_run,
    )


async def _commands(commands: Annotated[Commands, Depends(_creating)], if_match: IfMatch = None) -> Commands:
    return replace(commands, if_match=if_match)


PublicUrl = Annotated[str, Depends(_public_url)]
CreatingCommands = Annotated[Commands, Depends(_creating)]
CurrentCommands = Annotated[Commands, Depends(_commands)]


@dataclass(frozen=True, kw_only=True)
class _Answering:
    """Renders what a command has done, and holds the answer until the world agrees, if that was asked for."""

    core: Core
    unit: Unit
    room: Callable[[], Awaitable[None]]
    public_url: str
    dry_run: bool
    wait: str | None
    timeout: float

    async def document(self, accepted: Accepted, *, status: int = 200, location: str | None = None) -> Response:
        row = accepted.row
        if accepted.created and not self.dry_run:
            self.unit.after_commit(self.room)
        self.hold(accepted)
        route = None if accepted.created else await queries.route(self.unit.session, row.uid)
        view = document(row, route, public_url=self.public_url)
        if self.dry_run:
            view |= {"diff": accepted.diff, "fits": accepted.refusal is None}
            if accepted.refusal:
                facts = accepted.refusal.facts
                view["quota"] = {name: facts[name] for name in ("requested", "used", "limit")}
        return answer(view, status=status, generation=row.generation, location=location)

    def hold(self, accepted: Accepted) -> None:
        if self.wait is None or self.dry_run:
            return
        row, wait = accepted.row, self.wait

        async def until() -> Any:
            return await wait_until(
                self.core,
                row.uid,
                wait=wait,
                generation=row.generation,
                timeout=self.timeout,
                public_url=self.public_url,
            )

        self.unit.after_commit(until)


async def _answering(
    *,
    request: Request,
    unit: CurrentUnit,
    public_url: PublicUrl,
    dry_run: DryRun = False,
    wait: Wait = None,
    timeout: Timeout = 60.0,  # noqa: ASYNC109  # the API's word
) -> _Answering:
    return _Answering(
        core=request.app.state.core,
        unit=unit,
        room=partial(request.app.state.controller.room, within=_ROOM_SECONDS),
        public_url=public_url,
        dry_run=dry_run,
        wait=wait,
        timeout=timeout,
    )


Answering = Annotated[_Answering, Depends(_answering)]
