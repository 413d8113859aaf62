"""The connection: where the API server is and who we are, from the pod we run in or from a kubeconfig.

kubernetes_asyncio reads all of that (certificates, tokens, exec plugins, OpenID), renews what expires and makes the
connector; requests go through a session of our own, for its client turns every object into classes and back, and its
session looks for proxies in the environment anew for every request, in a thread. We look once.

Credentials that the server refuses are read anew, once: files may have been replaced, plugins may know better.
"""

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

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
        self._link: _Link | None = None
        self._renewing = asyncio.Lock()
        self._renewed_at = -_RENEWAL_INTERVAL

    @property
    def host(self) -> str:
        return self._opened.host

    async def open(self) -> None:
        """Raises PlatformError when there is no usable configuration."""
        try:
            self._link = _Link(await self._configure())
        except Exception as error:  # a file that is not as it should be may raise anything
            raise PlatformError(f"no usable Kubernetes configuration: {error}") from error

    async def close(self) -> None:
        if self._link is not None:
            await self._link.close()

    async def request(self, method: str, path: str, **options: Any) -> aiohttp.ClientResponse:
        """The answer, whatever its status, its body still to be read. Raises what aiohttp does, and Unreachable."""
        link = self._opened
        answer = await link.request(method, path, **options)
        if answer.status == 401 and await self._renew(link):
            answer.release()
            answer = await self._opened.request(method, path, **options)
        return answer

    @property
    def _opened(self) -> "_Link":
        assert self._link is not None
        return self._link

    async def _renew(self, refused: "_Link") -> bool:
        """Read the configuration again unless somebody has since; whether a second attempt makes sense."""
        async with self._renewing:
            if self._link is not refused:
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
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]  # it is not typed
        else:
            path = str(self._kubeconfig or os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
            await load_kube_config(
                path, context=self._context, client_configuration=configuration, persist_config=False
            )
        configuration.connection_pool_maxsize = 0  # watches and logs last; the others are counted by who sends them
        return configuration


class _Link:
    """One configuration and its connections."""

    def __init__(self, configuration: Any) -> None:
        self.host = str(configuration.host)
        self._configuration = configuration
        self._rest = RESTClientObject(configuration)
        connector = self._rest.pool_manager.connector
        self._session = aiohttp.ClientSession(connector=connector, connector_owner=False)
        self._options: dict[str, Any] = {}
        if proxy := configuration.proxy or _proxy(self.host):
            self._options |= {"proxy": proxy, "proxy_headers": configuration.proxy_headers}
        if configuration.tls_server_name:
            self._options["server_hostname"] = configuration.tls_server_name

    async def close(self) -> None:
        await self._session.close()
        await self._rest.close()

    async def request(
        self, method: str, path: str, *, headers: Mapping[str, str], **options: Any
    ) -> aiohttp.ClientResponse:
        # Compressing lists costs the server more than sending them costs the network.
        sent = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "moorage", **headers}
        try:
            for each in (await self._configuration.auth_settings()).values():
                sent[each["key"]] = each["value"]
        except ConfigException as error:
            raise Unreachable(f"no credentials for the API server: {error}") from error
        try:
            return await self._session.request(method, self.host + path, headers=sent, **options, **self._options)
        except (AssertionError, RuntimeError) as error:
            # What aiohttp raises when it is closed depends on how far the request has come.
            if self._session.closed:
                raise Unreachable("the connection has been closed") from error
            raise


def _proxy(host: str) -> str | None:
    """What the environment says (`HTTPS_PROXY`, `NO_PROXY`), as kubectl heeds it."""
    url = urlsplit(host)
    return None if proxy_bypass(url.netloc) else getproxies().get(url.scheme)
