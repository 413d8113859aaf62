"""The administrator of a cluster: asks, applies, writes kubeconfig files. Everything blocks, and nothing is retried."""

import json
import os
import ssl
import subprocess
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from tests.servers.go import KUBERNETES

_TOKEN_SECONDS = 24 * 3600


class Admin:
    """`token` may do everything; the server has a certificate of `authority`. Files are written into `folder`."""

    def __init__(self, folder: Path, *, server: str, authority: Path, token: str) -> None:
        self._folder, self._server, self._authority = folder, server, authority
        self.kubeconfig = self.write_kubeconfig("admin", token)
        context = ssl.create_default_context(cafile=authority)
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=server, headers=headers, verify=context, timeout=30, trust_env=False)

    def call(self, method: str, path: str, body: object = None, **parameters: str) -> Any:
        """The answer; None when there is no such object. Other errors are raised with the server's words."""
        content_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
        return self._answer(method, path, body, content_type, parameters)

    def apply(self, path: str, manifest: Mapping[str, Any]) -> Any:
        """Server-side, as the field manager `tests`."""
        parameters = {"fieldManager": "tests", "force": "true"}
        return self._answer("PATCH", path, manifest, "application/apply-patch+yaml", parameters)

    def kubectl(self, *arguments: str | Path, stdin: str = "") -> str:
        argv = [KUBERNETES.program("kubectl"), "--kubeconfig", self.kubeconfig, *arguments]
        env = {"HOME": str(self._folder), "PATH": os.environ["PATH"]}
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, env=env)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout

    def kubeconfig_for(self, service_account: str, *, server: str | None = None) -> Path:
        """A file with a token of `namespace/name`, such as its pods have."""
        namespace, name = service_account.split("/")
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        granted = self.call("POST", path, {**request, "spec": {"expirationSeconds": _TOKEN_SECONDS}})
        assert granted is not None, f"there is no service account {service_account}"
        return self.write_kubeconfig(f"{namespace}-{name}", granted["status"]["token"], server=server)

    def write_kubeconfig(self, name: str, token: str, *, server: str | None = None) -> Path:
        """`server` where it is not this one: the same at another address, or a proxy before it without TLS."""
        authority = b64encode(self._authority.read_bytes()).decode()
        cluster = {"server": server or self._server, "certificate-authority-data": authority}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": "test", "user": name}}],
            "current-context": name,
        }
        file = self._folder / f"{name}-{uuid4().hex[:8]}.kubeconfig"
        file.touch(mode=0o600)
        file.write_text(json.dumps(document, indent=2))
        return file

    def _answer(self, method: str, path: str, body: object, content_type: str, parameters: Mapping[str, str]) -> Any:
        content = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type}
        answer = self._http.request(method, path, content=content, headers=headers, params=parameters)
        if answer.status_code == 404:
            return None
        if answer.is_error:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json() if answer.headers["Content-Type"] == "application/json" else answer.text

    def close(self) -> None:
        self._http.close()
