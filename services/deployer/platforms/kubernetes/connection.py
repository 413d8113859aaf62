"""The connection: where the API server is and who we are, from the pod we run in or from a kubeconfig.

kubernetes_asyncio reads all of that (certificates, tokens, exec plugins, OpenID), renews what expires and makes the
session; requests go through the session as they are, for its own client turns every object into classes and back.
Credentials that the server refuses are read anew, once: files may have been replaced, plugins may know better.
"""

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.client.rest import RESTClientObject
from kubernetes_asyncio.config import ConfigException, load_incluster_config, load_kube_config
from kubernetes_asyncio.config.incluster_config import SERVICE_HOST_ENV_NAME

from services.deployer.platforms.kubernetes.errors import Unreachable
from services.deployer.platforms.platform import PlatformError
from shared.telemetry import get_logger

log = get_logger(__name__)

_RENEWAL_INTERVAL = 10.0  # a server that refuses good credentials must not make us cut our watches all the time


class Connection:
    """`open` it first. Without a `kubeconfig` it is that of the pod we run in, else `$KUBECONFIG`, else home's."""

    def __init__(self, *, kubeconfig: Path | None = None, context: str | None = None) -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self._configuration: Any = None
        self._rest: Any = None
        self._renewing = asyncio.Lock()
        self._renewed_at = -_RENEWAL_INTERVAL

    @property
    def host(self) -> str:
        return str(self._configuration.host)

    async def open(self) -> None:
        """Raises PlatformError when there is no usable configuration."""
        try:
            self._configuration = await self._configure()
            self._rest = RESTClientObject(self._configuration)
        except Exception as error:  # a file that is not as it should be may raise anything
            raise PlatformError(f"no usable Kubernetes configuration: {error}") from error

    async def close(self) -> None:
        if self._rest is not None:
            await self._rest.close()

    async def request(self, method: str, path: str, **options: Any) -> aiohttp.ClientResponse:
        """The answer, whatever its status, its body still to be read. Raises what aiohttp does, and Unreachable."""
        rest = self._rest
        answer = await self._send(method, path, **options)
        if answer.status == 401 and await self._renew(rest):
            answer.release()
            answer = await self._send(method, path, **options)
        return answer

    async def _send(
        self, method: str, path: str, *, headers: Mapping[str, str], **options: Any
    ) -> aiohttp.ClientResponse:
        # Compressing lists costs the server more than sending them costs the network.
        sent = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "moorage", **headers}
        if self._rest.proxy:
            options |= {"proxy": self._rest.proxy, "proxy_headers": self._rest.proxy_headers}
        if self._rest.server_hostname:
            options["server_hostname"] = self._rest.server_hostname
        session: aiohttp.ClientSession = self._rest.pool_manager
        try:
            for each in (await self._configuration.auth_settings()).values():
                sent[each["key"]] = each["value"]
        except ConfigException as error:
            raise Unreachable(f"no credentials for the API server: {error}") from error
        if session.closed:  # renewed while we waited
            session = self._rest.pool_manager
        return await session.request(method, self.host + path, headers=sent, **options)

    async def _renew(self, refused: Any) -> bool:
        """Read the configuration again unless somebody has since; whether a second attempt makes sense."""
        async with self._renewing:
            if self._rest is not refused:
                return True
            if time.monotonic() - self._renewed_at < _RENEWAL_INTERVAL:
                return False
            self._renewed_at = time.monotonic()
            try:
                await self.open()
            except PlatformError as error:
                log.warning("kubernetes.credentials_not_renewed", error=str(error))
                return False
            await refused.close()
            return True

    async def _configure(self) -> Any:
        configuration = Configuration()
        if self._kubeconfig is None and os.environ.get(SERVICE_HOST_ENV_NAME):
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            path = str(self._kubeconfig or os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
            await load_kube_config(
                path, context=self._context, client_configuration=configuration, persist_config=False
            )
        configuration.connection_pool_maxsize = 0  # watches and logs last; the others are counted by who sends them
        return configuration
