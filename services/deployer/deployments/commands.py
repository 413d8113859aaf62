"""The only writer of deployments and revisions. Each command is one accepted change, or none if nothing would change.

In the request's transaction: check the rights, lock the deployment, check what the client has seen, work out the new
spec, admit it against the group's quota, write row, revision and event. Locks are taken in the order deployment, what
its spec names (model versions, instance types), group.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID, uuid4

from sqlalchemy import func, insert, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from services.deployer.deployments import admission, drafts, queries
from services.deployer.deployments.diff import Change, difference
from services.deployer.deployments.domain import Spec, free_id, moved_secrets, numbers_of, version_of
from services.deployer.deployments.policy import Policy
from services.deployer.deployments.resolver import Resolver
from services.deployer.deployments.schemas import (
    DesiredState,
    NewVersion,
    NumberedVersion,
    PatchDeployment,
    PatchVersion,
    PostDeployment,
    PutDeployment,
    VersionBody,
)
from services.deployer.deployments.secrets import EnvVault
from shared import outbox
from shared.errors import Conflict, NameTaken, NotFound, QuotaExceeded, ValidationFailed
from shared.events.deployer import DEPLOYMENT_CHANGED
from shared.http import Caller, check_match
from shared.schema import Deployment, Revision

__all__ = ["Accepted", "Commands"]

_ATTEMPTS = 20
"""Ids that are tried when others take the made one at the same moment."""

Draft = Callable[[Deployment, Spec, Resolver], Awaitable[Spec]]


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """What a command has done. `refusal` is set on a dry run that would be over the quota."""

    row: Deployment
    diff: list[Change] = field(default_factory=list)
    refusal: QuotaExceeded | None = None
    created: bool = False


@dataclass(frozen=True, kw_only=True)
class Commands:
    """The commands of one request."""

    session: AsyncSession
    caller: Caller
    vault: EnvVault
    policy: Policy
    versions_limit: int
    if_match: str | None = None
    dry_run: bool = False

    async def create(self, body: PostDeployment) -> Accepted:
        wanted = body.wanted()
        group = body.group or wanted[0].model.partition("/")[0]
        model = wanted[0].model.partition("@")[0].split("/")[1]
        return await self._create(body, wanted=wanted, group=group, given=body.id, model=model)

    async def put(self, id: str, body: PutDeployment) -> Accepted:  # noqa: A002  # the API's word
        """Make the deployment what `body` says, also if there is none yet."""
        if body.id not in (None, id):
            raise ValidationFailed.of("/id", f"is {id} and never changes")
        seen = await queries.live(self.session, id)
        if seen is None:
            if body.group is None or self.if_match is not None:
                raise NotFound.named("deployment", id)
            try:
                # Undone as a whole, locks included: those of an update are taken in their order.
                async with self.session.begin_nested():
                    return await self._create(body, wanted=body.versions, group=body.group, given=id, model=id)
            except (Conflict, QuotaExceeded):  # perhaps with another's PUT, meanwhile: this one is an update then
                seen = await queries.live(self.session, id)
                if seen is None or not self.caller.sees(seen.group_id):
                    raise
        elif not self.caller.sees(seen.group_id):
            if body.group is None:
                raise NotFound.named("deployment", id)
            return await self._create(body, wanted=body.versions, group=body.group, given=id, model=id)
        return await self._replace(id, body)

    async def _replace(self, id: str, body: PutDeployment) -> Accepted:  # noqa: A002 - the API's word
        row = await self._locked(id)
        if body.group not in (None, row.group_id):
            raise ValidationFailed.of("/group", f"is {row.group_id} and never changes")

        async def draft(row: Deployment, spec: Spec, resolver: Resolver) -> Spec:
            return await drafts.desired(
                body,
                wanted=body.versions,
                id=id,
                standing=spec,
                last=row.last_version,
                limit=self.versions_limit,
                resolver=resolver,
            )

        return await self._change(row, draft, action="update", message=body.message)

    async def patch(self, id: str, body: PatchDeployment) -> Accepted:  # noqa: A002 - the API's word
        async def draft(row: Deployment, spec: Spec, resolver: Resolver) -> Spec:
            limit = self.versions_limit
            return await drafts.patched(
                body, id=id, standing=spec, last=row.last_version, limit=limit, resolver=resolver
            )

        return await self._change(await self._locked(id), draft, action="update", message=body.message)

    async def add_version(self, id: str, body: NewVersion) -> Accepted:  # noqa: A002 - the API's word
        row = await self._locked(id)
        return await self._change(
            row, self._with_version(body, row.last_version + 1), action="add_version", message=body.message
        )

    async def replace_version(self, id: str, number: int, body: NewVersion) -> Accepted:  # noqa: A002 - the API's word
        row = await self._locked_version(id, number)
        return await self._change(row, self._with_version(body, number), action="replace_version", message=body.message)

    async def patch_version(self, id: str, number: int, body: PatchVersion) -> Accepted:  # noqa: A002 - the API's word
        async def draft(_: Deployment, spec: Spec, resolver: Resolver) -> Spec:
            return await drafts.patched_version(body, number=number, standing=spec, resolver=resolver)

        row = await self._locked_version(id, number)
        return await self._change(row, draft, action="update", message=body.message)

    async def delete_version(self, id: str, number: int, *, message: str) -> Accepted:  # noqa: A002 - the API's word
        async def draft(row: Deployment, spec: Spec, _: Resolver) -> Spec:
            return drafts.without_version(number, standing=spec, last=row.last_version, limit=self.versions_limit)

        row = await self._locked_version(id, number)
        return await self._change(row, draft, action="delete_version", message=message)

    async def stop(self, id: str, *, message: str) -> Accepted:  # noqa: A002 - the API's word
        row = await self._locked(id)
        return await self._change(row, _same, stopped=True, action="stop", message=message)

    async def start(self, id: str, *, message: str) -> Accepted:  # noqa: A002 - the API's word
        row = await self._locked(id)
        return await self._change(row, _same, stopped=False, action="start", message=message)

    async def redeploy(self, id: str, *, message: str) -> Accepted:  # noqa: A002 - the API's word
        """The same specification with fresh replicas."""

        async def draft(_: Deployment, spec: Spec, __: Resolver) -> Spec:
            return {**spec, "versions": [{**v, "restart": v["restart"] + 1} for v in spec["versions"]]}

        return await self._change(await self._locked(id), draft, action="redeploy", message=message)

    async def roll_back(self, id: str, *, revision: int, message: str) -> Accepted:  # noqa: A002 - the API's word
        """The state of an earlier revision again, as a new revision. A stopped deployment stays stopped."""
        row = await self._locked(id)
        kept = await self.session.get(Revision, (row.uid, revision))
        if kept is None:
            raise ValidationFailed.of("/revision", f"there is no revision {revision}; the latest is {row.revision}")
        earlier = cast(Spec, kept.spec)

        async def draft(_: Deployment, spec: Spec, resolver: Resolver) -> Spec:
            versions = []
            for index, version in enumerate(earlier["versions"]):
                now = version_of(spec, version["number"])
                # How often it was redeployed is no state to go back to: it would only restart what is the same.
                again = version
                if now is not None:
                    again = {**version, "restart": now["restart"] + moved_secrets(now["env"], version["env"])}
                    if {**again, "resources": now["resources"]} == now:
                        versions.append(now)
                        continue
                versions.append(await resolver.again(again, standing=now, pointer=f"/versions/{index}"))
            return {**earlier, "versions": versions}

        message = message or f"roll back to revision {revision}"
        return await self._change(row, draft, action="rollback", message=message)

    async def delete(self, id: str, *, message: str) -> Accepted:  # noqa: A002 - the API's word
        """The history stays."""
        row = await self._locked(id)
        diff = difference(_spec(row), None, stopped_before=row.stopped)
        row = await self._write(row, message=message, action="delete", deleted_at=func.now())
        return Accepted(row=row, diff=diff)

    # How it is done

    async def _create(
        self, body: DesiredState, *, wanted: list[NumberedVersion], group: str, given: str | None, model: str
    ) -> Accepted:
        self.caller.require(group, kind="group", name=group)
        spec = await drafts.desired(
            body,
            wanted=wanted,
            id=given or model,
            standing=None,
            last=0,
            limit=self.versions_limit,
            resolver=self._resolver(group, uid=None),
            pointer="/versions/{}" if not isinstance(body, PostDeployment) or body.model is None else "",
        )
        uid = uuid4()
        refusal = await admission.admit(
            self.session, group, uid=uid, versions=spec["versions"], held=None, dry_run=self.dry_run
        )
        row = await self._insert(uid, spec, body=body, group=group, given=given, model=model)
        await self._remember(row, action="create")
        return Accepted(row=row, diff=difference(None, spec), refusal=refusal, created=True)

    async def _insert(
        self, uid: UUID, spec: Spec, *, body: DesiredState, group: str, given: str | None, model: str
    ) -> Deployment:
        wanted, user = admission.reserve(spec["versions"]), self.caller.user
        taken = set() if given else await queries.ids_like(self.session, model[:30])
        for _ in range(_ATTEMPTS):
            id_ = given or free_id(model, taken)
            statement = upsert(Deployment).values(
                uid=uid,
                id=id_,
                group_id=group,
                name=spec["name"],
                spec=spec,
                last_version=max(numbers_of(spec)),
                message=body.message,
                reserved_cpu=wanted.cpu,
                reserved_memory=wanted.memory,
                reserved_gpu=wanted.gpu,
                created_by=user,
                updated_by=user,
            )
            # Waits for whoever is about to take, or to give back, the same id.
            statement = statement.on_conflict_do_nothing(
                index_elements=[Deployment.id], index_where=text("deleted_at IS NULL")
            )
            row = (await self.session.execute(statement.returning(Deployment))).scalar_one_or_none()
            if row is not None:
                return row
            if given:
                break
            taken.add(id_)
        raise NameTaken(f"There is already a deployment {id_}; choose another id.", id=id_)

    async def _locked(self, id: str) -> Deployment:  # noqa: A002 - the API's word
        """The lock comes after the rights (which hang on what never changes): whoever has none holds up nobody."""
        seen = await queries.live(self.session, id)
        if seen is None:
            raise NotFound.named("deployment", id)
        self._require(seen)
        row = await queries.deployment_to_change(self.session, seen.uid)
        if row is None:
            raise NotFound.named("deployment", id)
        check_match(self.if_match, row.generation)
        return row

    def _require(self, row: Deployment, *, action: str | None = None) -> None:
        own = row.created_by == self.caller.user
        self.caller.require(row.group_id, kind="deployment", name=row.id, own=own, action=action)

    async def _locked_version(self, id: str, number: int) -> Deployment:  # noqa: A002 - the API's word
        row = await self._locked(id)
        if version_of(_spec(row), number) is None:
            raise NotFound.named("version", f"{id}/versions/{number}")
        return row

    def _with_version(self, body: VersionBody, number: int) -> Draft:
        async def draft(row: Deployment, spec: Spec, resolver: Resolver) -> Spec:
            limit = self.versions_limit
            return await drafts.with_version(
                body, number=number, standing=spec, last=row.last_version, limit=limit, resolver=resolver
            )

        return draft

    async def _change(
        self, row: Deployment, draft: Draft, *, action: str, message: str, stopped: bool | None = None
    ) -> Accepted:
        before, was_stopped = _spec(row), row.stopped
        stopped = was_stopped if stopped is None else stopped
        spec = await draft(row, before, self._resolver(row.group_id, uid=row.uid))
        if spec == before and stopped == was_stopped:
            return Accepted(row=row)
        if not set(numbers_of(before)) <= set(numbers_of(spec)):
            self._require(row, action="delete_version")  # to leave a version out is to delete it
        refusal = None
        starts = was_stopped and not stopped
        # To take versions away is always allowed: it asks for nothing.
        if starts or any(version not in before["versions"] for version in spec["versions"]):
            refusal = await admission.admit(
                self.session,
                row.group_id,
                uid=row.uid,
                versions=() if stopped else spec["versions"],
                held=() if was_stopped else before["versions"],
                dry_run=self.dry_run,
            )
        wanted = admission.reserve(spec["versions"])
        row = await self._write(
            row,
            message=message,
            action=action,
            spec=spec,
            name=spec["name"],
            stopped=stopped,
            last_version=max(row.last_version, *numbers_of(spec)),
            reserved_cpu=wanted.cpu,
            reserved_memory=wanted.memory,
            reserved_gpu=wanted.gpu,
        )
        diff = difference(before, spec, stopped_before=was_stopped, stopped_after=stopped)
        return Accepted(row=row, diff=diff, refusal=refusal)

    async def _write(self, row: Deployment, *, message: str, action: str, **values: Any) -> Deployment:
        statement = (
            update(Deployment)
            .where(Deployment.uid == row.uid)
            .values(
                generation=row.generation + 1,
                revision=row.revision + 1,
                message=message,
                updated_at=func.clock_timestamp(),
                updated_by=self.caller.user,
                **values,
            )
            .returning(Deployment)
        )
        options = {"populate_existing": True, "synchronize_session": False}
        row = (await self.session.execute(statement, execution_options=options)).scalar_one()
        await self._remember(row, action=action)
        return row

    async def _remember(self, row: Deployment, *, action: str) -> None:
        await self.session.execute(
            insert(Revision).values(
                uid=row.uid,
                number=row.revision,
                by=self.caller.user,
                action=action,
                message=row.message,
                spec=row.spec,
                stopped=row.stopped,
            )
        )
        await outbox.append(
            self.session,
            DEPLOYMENT_CHANGED,
            str(row.uid),
            id=row.id,
            group=row.group_id,
            generation=row.generation,
        )

    def _resolver(self, group: str, *, uid: UUID | None) -> Resolver:
        return Resolver(
            session=self.session, caller=self.caller, group=group, uid=uid, vault=self.vault, policy=self.policy
        )


def _spec(row: Deployment) -> Spec:
    return cast(Spec, row.spec)


async def _same(_: Deployment, spec: Spec, __: Resolver) -> Spec:
    return spec
