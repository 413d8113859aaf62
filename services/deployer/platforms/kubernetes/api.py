"""What the platform asks of the API server: apply, patch, delete, list, watch, read logs. JSON in, JSON out.

Every call may be repeated. What fails in passing is tried again (see `requests`); else it is one of `errors`.

Left out: what the objects mean.
"""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Self

import orjson

from services.deployer.platforms.kubernetes.connection import Connection
from services.deployer.platforms.kubernetes.errors import ApiError, Conflict, Forbidden, NotFound, Unreachable
from services.deployer.platforms.kubernetes.kinds import POD, POD_METRICS, Kind, Object, kind_of
from services.deployer.platforms.kubernetes.names import MANAGER
from services.deployer.platforms.kubernetes.requests import Request, Requests

Propagation = Literal["Background", "Foreground", "Orphan"]

_SILENCE = 15.0  # seconds after which somebody who should have said something is not there any more
_APPLY_PATCH = "application/apply-patch+yaml"  # JSON is YAML
_MERGE_PATCH = "application/merge-patch+json"
_STRATEGIC_PATCH = "application/strategic-merge-patch+json"


@dataclass(frozen=True)
class Page:
    """A part of a list; `version` is that of the whole list."""

    items: list[Object]
    version: str


@dataclass(frozen=True)
class WatchEvent:
    """`type`: ADDED, MODIFIED, DELETED, BOOKMARK, or ERROR, whose object is a `Status`."""

    type: str
    object: Object


class Api:
    """Use it as `async with Api(connection) as api`. All times are in seconds."""

    def __init__(
        self, connection: Connection, *, concurrency: int = 32, timeout: float = 15.0, patience: float = 20.0
    ) -> None:
        self._connection = connection
        self._requests = Requests(connection, concurrency=concurrency, timeout=timeout, patience=patience)

    async def __aenter__(self) -> Self:
        await self._connection.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.close()

    # Writing

    async def apply(self, manifest: Mapping[str, Any], *, manager: str = MANAGER, force: bool = True) -> Object:
        """Server-side apply: the fields of the manifest are the manager's, all others are left alone. The object now.

        Raises NamespaceNotFound, Forbidden (quota too), Invalid; without `force`, Conflict for another's field.
        """
        kind, metadata = kind_of(manifest), manifest["metadata"]
        path = kind.path(metadata.get("namespace"), metadata["name"])
        return await self._patch(
            "apply", kind, path, manifest, _APPLY_PATCH, fieldManager=manager, force=str(force).lower()
        )

    async def create(self, manifest: Mapping[str, Any]) -> None:
        """Create it unless there is one of that name, whatever that is like."""
        kind = kind_of(manifest)
        path, params = kind.path(manifest["metadata"].get("namespace")), {"fieldManager": MANAGER}
        try:
            await self._requests.call(
                Request(verb="create", kind=kind, method="POST", path=path, params=params, body=manifest)
            )
        except Conflict as error:
            if error.reason != "AlreadyExists":
                raise

    async def merge(self, kind: Kind, namespace: str | None, name: str, patch: Mapping[str, Any]) -> Object:
        """Merge patch (None removes). Raises NotFound."""
        return await self._patch("patch", kind, kind.path(namespace, name), patch, _MERGE_PATCH)

    async def set_condition(
        self,
        namespace: str,
        pod: str,
        condition: str,
        *,
        status: bool,
        reason: str,
        message: str = "",
        annotations: Mapping[str, str] | None = None,
    ) -> Object:
        """Set one condition of a pod's status, a readiness gate's, and annotations; the others stay as they are.

        Raises NotFound.
        """
        body = {
            "type": condition,
            "status": str(status),
            "reason": reason,
            "message": message,
            "lastTransitionTime": _rfc3339(datetime.now(UTC)),
        }
        path = POD.path(namespace, pod, subresource="status")
        patch: Object = {"status": {"conditions": [body]}}
        if annotations:
            patch["metadata"] = {"annotations": dict(annotations)}
        return await self._patch("patch", POD, path, patch, _STRATEGIC_PATCH)

    async def delete(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        *,
        propagation: Propagation = "Background",
        uid: str | None = None,
    ) -> Object | None:
        """Begin to delete it; absent is success. With `uid` a namesake of that object stays.

        The object as it is now, if it takes a while.
        """
        options: Object = {"propagationPolicy": propagation}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        try:
            answer = await self._delete("delete", kind, kind.path(namespace, name), options)
        except Conflict as error:
            # Releases word it differently: "UID in precondition: …", "the UID in the precondition (…) does not match".
            if uid is None or not {"UID", "precondition"} <= set(re.findall(r"\w+", str(error))):
                raise
            return None
        return answer if answer is not None and answer.get("kind") == kind.name else None

    async def delete_collection(
        self, kind: Kind, namespace: str | None, *, selector: str, propagation: Propagation = "Background"
    ) -> None:
        """Begin to delete all whose labels match; none is success."""
        options = {"propagationPolicy": propagation}
        await self._delete("deletecollection", kind, kind.path(namespace), options, labelSelector=selector)

    # Reading

    async def pages(
        self, kind: Kind, *, namespace: str | None = None, selector: str = "", fields: str = "", limit: int = 500
    ) -> AsyncIterator[Page]:
        """All objects that match, in one or all namespaces, as of one moment, `limit` a page (0: all on one).

        Raises Gone when that moment is too long ago for the next page.
        """
        params = _selectors(selector, fields) | ({"limit": str(limit)} if limit else {})
        while True:
            answer = await self._requests.call(
                Request(verb="list", kind=kind, method="GET", path=kind.path(namespace), params=params)
            )
            metadata = answer["metadata"]
            yield Page(answer.get("items") or [], metadata["resourceVersion"])
            if not (more := metadata.get("continue")):
                return
            params = params | {"continue": more}

    @asynccontextmanager
    async def watch(
        self,
        kind: Kind,
        *,
        version: str,
        namespace: str | None = None,
        selector: str = "",
        fields: str = "",
        seconds: int,
    ) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        """What changes after `version`, with bookmarks. The server ends it after `seconds`, or before.

        Raises Gone, Unreachable and other PlatformErrors, before or in between, and does not try again.
        """
        params = _selectors(selector, fields)
        params |= {"watch": "true", "resourceVersion": version, "timeoutSeconds": str(seconds)}
        params |= {"allowWatchBookmarks": "true"}
        request = Request(verb="watch", kind=kind, method="GET", path=kind.path(namespace), params=params)
        # There may be nothing to say for long, not even a bookmark.
        async with self._requests.lines(request, silence=seconds + _SILENCE) as lines:
            yield (_event(line) async for line in lines)

    async def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        previous: bool = False,
        tail: int | None = None,
        since: datetime | None = None,
        follow: bool = False,
    ) -> AsyncIterator[str]:
        """Lines of a container's run, each as `<RFC 3339 time> <text>`; none of a pod that has no node yet.

        Raises NotFound for a pod, and Invalid for a run, that is not there (yet, or any more).
        """
        params = {"container": container, "timestamps": "true"}
        params |= {"previous": "true"} if previous else {}
        params |= {"follow": "true"} if follow else {}
        params |= {"tailLines": str(tail)} if tail is not None else {}
        params |= {"sinceTime": _rfc3339(since)} if since is not None else {}
        path = POD.path(namespace, pod, subresource="log")
        request = Request(verb="logs", kind=POD, method="GET", path=path, params=params)
        async with self._requests.lines(request, silence=None if follow else _SILENCE) as lines:
            async for line in lines:
                yield line.decode(errors="replace")

    async def usage(self, *, namespace: str | None = None, selector: str) -> list[Object] | None:
        """`PodMetrics` of all pods that match; None where nobody measures them, or not for us."""
        path, params = POD_METRICS.path(namespace), _selectors(selector, "")
        request = Request(verb="list", kind=POD_METRICS, method="GET", path=path, params=params)
        try:
            answer = await self._requests.attempt(request)
        except (NotFound, Forbidden):
            return None
        except ApiError as error:
            if error.code == 503:  # the metrics server is registered and away
                return None
            raise
        return list(answer.get("items") or [])

    # Inside

    async def _patch(
        self, verb: str, kind: Kind, path: str, body: Mapping[str, Any], content_type: str, **params: str
    ) -> Object:
        request = Request(
            verb=verb,
            kind=kind,
            method="PATCH",
            path=path,
            params={"fieldManager": MANAGER} | params,
            body=body,
            content_type=content_type,
        )
        answer: Object = await self._requests.call(request)
        return answer

    async def _delete(self, verb: str, kind: Kind, path: str, options: Object, **params: str) -> Object | None:
        request = Request(verb=verb, kind=kind, method="DELETE", path=path, params=params, body=options)
        try:
            answer: Object = await self._requests.call(request)
        except NotFound:
            return None
        return answer


def _event(line: bytes) -> WatchEvent:
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        event = None
    match event:
        case {"type": str(kind), "object": dict(changed)}:
            return WatchEvent(kind, changed)
    raise Unreachable(f"a watch sent what is no event: {line[:100]!r}")


def _selectors(selector: str, fields: str) -> dict[str, str]:
    return {name: value for name, value in (("labelSelector", selector), ("fieldSelector", fields)) if value}


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
