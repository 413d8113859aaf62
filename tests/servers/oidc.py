"""A real OpenID provider (`oidc-provider`, certified), for signing in elsewhere; and a browser that signs in there."""

import html
import json
import re
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jose import jwk

from tests.servers.cache import made_once, missing
from tests.servers.processes import ServerProcess
from tests.support.ports import free_port
from tests.support.waiting import until

SOURCE = Path(__file__).parent / "oidc_provider"
VERSION: str = json.loads((SOURCE / "package.json").read_text())["dependencies"]["oidc-provider"]


def installed() -> Path:
    """The folder with the provider's packages, as locked."""
    if not shutil.which("npm") or not shutil.which("node"):
        missing("no Node.js and npm here for an OpenID provider")

    def make(folder: Path) -> None:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(SOURCE / name, folder)
        argv = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    return made_once(f"oidc-provider-{VERSION}", make)


@dataclass
class OpenIdProvider:
    """`people` says what is known of whom; `say` changes it."""

    folder: Path
    port: int
    callback: str
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    people: dict[str, dict[str, Any]] = field(default_factory=dict)
    process: ServerProcess | None = None

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def say(self, subject: str, **claims: Any) -> None:
        self.people[subject] = claims
        (self.folder / "people.json").write_text(json.dumps(self.people))

    def set_up(self) -> None:
        self.folder.mkdir()
        shutil.copy(SOURCE / "provider.mjs", self.folder)
        (self.folder / "node_modules").symlink_to(installed() / "node_modules")
        self.say("nobody")

    async def start(self) -> None:
        """With keys that nobody has seen before."""
        (self.folder / "keys.json").write_text(json.dumps({"keys": [_rsa(), _ec()]}))
        self.process = ServerProcess(
            ["node", "provider.mjs", str(self.port), "keys.json", "people.json", self.callback, self.secret],
            log=self.folder / "provider.log",
        )
        self.process.start()
        await until(lambda: _answers(self.issuer, self.process), within=20)

    def stop(self) -> None:
        if self.process:
            self.process.kill()


@asynccontextmanager
async def running(folder: Path, *, callback: str) -> AsyncIterator[OpenIdProvider]:
    provider = OpenIdProvider(folder, free_port(), callback)
    provider.set_up()
    await provider.start()
    try:
        yield provider
    finally:
        provider.stop()


class Browser:
    """Follows redirects and fills in the provider's forms, until it is sent to an address that begins with `back`."""

    def __init__(self, http: httpx.AsyncClient, *, back: str) -> None:
        self._http = http
        self._back = back

    async def signed_in(self, url: str, subject: str) -> str:
        """The address that the browser is sent back to, once `subject` has signed in."""
        return await self._followed(await self._http.get(url), {"login": subject, "password": "any"})

    async def aborted(self, url: str) -> str:
        """The same, for one who changes their mind."""
        page = await self._shown(await self._http.get(url))
        found = re.search(r'href="([^"]+/abort)"', page.text)
        assert found, page.text
        return await self._followed(await self._http.get(urljoin(str(page.url), found[1])), {})

    async def _followed(self, answer: httpx.Response, form: Mapping[str, str]) -> str:
        for _ in range(10):
            while answer.is_redirect:
                target = urljoin(str(answer.url), answer.headers["location"])
                if target.startswith(self._back):
                    return target
                answer = await self._http.get(target)
            action, prompt = _form(answer.text)
            answer = await self._http.post(urljoin(str(answer.url), action), data={**form, "prompt": prompt})
        raise AssertionError(f"never sent back: {answer.text}")

    async def _shown(self, answer: httpx.Response) -> httpx.Response:
        while answer.is_redirect:
            answer = await self._http.get(urljoin(str(answer.url), answer.headers["location"]))
        return answer


def _form(page: str) -> tuple[str, str]:
    action = re.search(r'<form[^>]* action="([^"]+)"', page)
    prompt = re.search(r'name="prompt" value="([^"]+)"', page)
    assert action, page
    assert prompt, page
    return html.unescape(action[1]), prompt[1]


def _answers(issuer: str, process: ServerProcess | None) -> bool:
    assert process
    process.check()
    try:
        return httpx.get(f"{issuer}/.well-known/openid-configuration").is_success
    except httpx.TransportError:
        return False


def _rsa() -> dict[str, Any]:
    return _private(rsa.generate_private_key(public_exponent=65537, key_size=2048), "RS256")


def _ec() -> dict[str, Any]:
    return _private(ec.generate_private_key(ec.SECP256R1()), "ES256")


def _private(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, algorithm: str) -> dict[str, Any]:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    private: dict[str, Any] = jwk.construct(pem, algorithm).to_dict()
    return {**private, "kid": secrets.token_hex(8), "use": "sig", "alg": algorithm}
