"""What every HTTP API of ours has in common.

`app` builds an application; `transaction` gives each request one database transaction, idempotency keys and waiting;
`auth` says who calls and what they may; `problems` renders errors (RFC 9457); `etags`, `pages` and `streams` are the
conventions of docs/api.md, and `openapi` describes all of that once. Services bring routers.
"""

from shared.http.app import create_app
from shared.http.auth import Caller, CurrentCaller
from shared.http.etags import TAGGED, IfMatch, check_match, content_etag, described, etag
from shared.http.pages import Page, PageQuery, Paging
from shared.http.schemas import Body, DnsLabel, Timestamp
from shared.http.transaction import CurrentUnit, TransactionRoute, Unit

__all__ = [
    "TAGGED",
    "Body",
    "Caller",
    "CurrentCaller",
    "CurrentUnit",
    "DnsLabel",
    "IfMatch",
    "Page",
    "PageQuery",
    "Paging",
    "Timestamp",
    "TransactionRoute",
    "Unit",
    "check_match",
    "content_etag",
    "create_app",
    "described",
    "etag",
]
