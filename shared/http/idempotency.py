"""`Idempotency-Key`: the first answer of a POST is kept in the transaction of its change, and given again for a day.

Keys belong to a caller (a user, or one personal access token) and to one exact request: method, path, query and body. A
request that fails leaves nothing, so its key may be used again. Two at once are one: the second waits for the first.
How long an answer may wait (`wait`, `timeout`) is no part of the request: a client that gives up may ask again with
more patience. Not for routes that need no caller, nor for uploads, which are idempotent by their content, nor for
answers that are streamed.
"""

import base64
import hashlib
import json
from urllib.parse import urlencode

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from shared.errors import IdempotencyMismatch, Unavailable, ValidationFailed
from shared.http.auth import authenticate
from shared.http.bodies import BoundedRequest
from shared.schema import IdempotentRequest
from shared.secrets import Tampered, Vault

KEPT_HEADERS = ("content-type", "etag", "location")
_PURPOSE = "idempotency"
_PATIENCE = frozenset({"wait", "timeout"})


class Once:
    """A request that carries an Idempotency-Key; `answer` is there if it was answered before."""

    def __init__(self, session: AsyncSession, vault: Vault, caller: str, key: str) -> None:
        self._session = session
        self._vault = vault
        self._this = (IdempotentRequest.caller == caller) & (IdempotentRequest.key == key)
        self.answer: Response | None = None

    @classmethod
    async def begin(cls, request: BoundedRequest, session: AsyncSession) -> "Once | None":
        """None for a request without a key."""
        key = request.headers.get("idempotency-key")
        if request.method != "POST" or key is None:
            return None
        if not 1 <= len(key) <= 255 or not key.isprintable():
            raise ValidationFailed.of("header/Idempotency-Key", "must be 1 to 255 printable characters")
        query = urlencode([each for each in request.query_params.multi_items() if each[0] not in _PATIENCE])
        target = f"{request.method} {request.url.path}?{query}\n".encode()
        vault: Vault = request.app.state.core.vault
        # Keyed, since a body may hold a password, which a plain hash would let one guess.
        plain = hashlib.sha256(target + await request.body()).hexdigest()
        digest = bytes.fromhex(vault.sign(plain, purpose=_PURPOSE))
        known = await authenticate(request)
        # A personal token may do less than its user, and what the user was answered is not for it. No user has a space.
        caller = f"token {known.token}" if known.token else known.user
        once = cls(session, vault, caller, key)
        row = insert(IdempotentRequest).values(caller=caller, key=key, request_sha256=digest)
        # Waits for a transaction that is under way with the same key.
        first = await session.execute(row.on_conflict_do_nothing().returning(IdempotentRequest.key))
        if first.scalar_one_or_none() is None:
            await once._recall(digest)
        return once

    async def _recall(self, digest: bytes) -> None:
        row = (await self._session.execute(select(IdempotentRequest).where(self._this))).scalar_one_or_none()
        if row is None or row.answer is None or row.status is None:
            raise Unavailable("This Idempotency-Key has just expired; try again.")
        if row.request_sha256 != digest:
            raise IdempotencyMismatch(
                "This Idempotency-Key was used with another request; use a new key for a new request."
            )
        try:
            kept = json.loads(self._vault.open(row.answer, purpose=_PURPOSE))
        except Tampered as error:
            raise IdempotencyMismatch(
                "The answer to this Idempotency-Key was sealed under another MOORAGE_SECRET_KEY; see whether the change"
                " is there, and use a new key for a new request."
            ) from error
        headers = {**kept["headers"], "Idempotent-Replayed": "true"}
        self.answer = Response(base64.b64decode(kept["body"]), status_code=row.status, headers=headers)

    async def remember(self, response: Response) -> None:
        """Keep the answer, or, when it is streamed, forget the key."""
        body = getattr(response, "body", None)
        if body is None:
            await self._session.execute(delete(IdempotentRequest).where(self._this))
            return
        headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
        kept = json.dumps({"body": base64.b64encode(body).decode(), "headers": headers}).encode()
        answer = self._vault.seal(kept, purpose=_PURPOSE)
        await self._session.execute(
            update(IdempotentRequest).where(self._this).values(status=response.status_code, answer=answer)
        )
