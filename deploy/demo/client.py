"""A client of the front door that shows each call as the `curl` that a user would type."""

import json
import shlex
import subprocess
import threading
from collections import Counter
from typing import Any

import httpx

from deploy.demo.narrator import Narrator


class Client:
    """Calls `url`. Secrets are shown as shell variables, never as themselves."""

    def __init__(self, url: str, narrator: Narrator) -> None:
        self._narrator = narrator
        self._http = httpx.Client(base_url=url, timeout=60)
        self._names: dict[str, str] = {}
        self._url = url
        self._lock = threading.Lock()
        self.token: str | None = None
        self.sent: Counter[str] = Counter()
        """Calls of each endpoint, by deployment, also those of `shell`."""

    def close(self) -> None:
        self._http.close()

    def name(self, secret: str, variable: str) -> None:
        """From now on print `secret` as `$variable`."""
        self._names[secret] = variable

    def api(
        self, method: str, path: str, body: Any = None, *, quiet: bool = False, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """A call of the API with our access token."""
        sent = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return self.call(method, f"/api/v1{path}", body, headers=sent | (headers or {}), quiet=quiet)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        basic: tuple[str, str] | None = None,
        form: dict[str, str] | None = None,
        upload: tuple[str, bytes] | None = None,
        quiet: bool = False,
    ) -> httpx.Response:
        """One request; `upload` is a file's shown name and its bytes."""
        if not quiet:
            self._narrator.command(
                self.curl(method, path, body, headers=headers, basic=basic, form=form, upload=upload)
            )
        arguments: dict[str, Any] = {"headers": headers}
        if body is not None:
            arguments["json"] = body
        if form is not None:
            arguments["data"] = form
        if upload is not None:
            arguments["content"] = upload[1]
            arguments["headers"] = (headers or {}) | {"Content-Type": "application/octet-stream"}
        if basic is not None:
            arguments["auth"] = basic
        if not path.startswith("/api/"):
            with self._lock:
                self.sent[path.split("/")[2]] += 1
        answer = self._http.request(method, path, **arguments)
        if not quiet:
            self._narrator.answer(answer.status_code, self._hide(answer.text))
        return answer

    def curl(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        basic: tuple[str, str] | None = None,
        form: dict[str, str] | None = None,
        upload: tuple[str, bytes] | None = None,
    ) -> str:
        """The line that a user would type for the same call."""
        words = ["curl"]
        if method != "GET":
            words += ["-X", method]
        if basic:
            words += ["-u", f'"{self._hide(":".join(basic))}"']
        for name, value in (headers or {}).items():
            words += ["-H", f'"{name}: {self._hide(value)}"']
        for name, value in (form or {}).items():
            words += ["-d", f'"{name}={self._hide(value)}"']
        if upload:
            words += ["-H", '"Content-Type: application/octet-stream"', "--data-binary", f"@{upload[0]}"]
        if body is not None:
            words += ["-H", '"Content-Type: application/json"', "-d", shlex.quote(json.dumps(body))]
        return " ".join([*words, shlex.quote(self._url + path)])

    def shell(self, command: str, *, deployment: str) -> tuple[int, str]:
        """Run a `curl` that was shown to us, a call of the deployment's endpoint, as a user would: status and body."""
        self._narrator.command(self._hide(command))
        with self._lock:
            self.sent[deployment] += 1
        words = f"{command} --silent --show-error --write-out '\\n%{{http_code}}'"
        ran = subprocess.run(["/bin/sh", "-c", words], capture_output=True, text=True, timeout=60, check=False)
        body, _, status = ran.stdout.rpartition("\n")
        self._narrator.answer(int(status or 0), self._hide(body or ran.stderr))
        return int(status or 0), body

    def _hide(self, text: str) -> str:
        for secret, variable in self._names.items():
            text = text.replace(secret, f"${variable}")
        return text
