"""What Envoy itself answers when no upstream does: always an RFC 9457 problem, never an empty body or plain text.

Answers of models and of our services pass untouched; this is only about Envoy's own. The bodies of routes that answer
directly (a stopped deployment, an unknown API path) are problems already and pass as they are.
"""

from typing import Any, NamedTuple

_PROBLEM_JSON = "application/problem+json"

Filter = dict[str, Any]


class _Reply(NamedTuple):
    when: Filter
    status: int
    code: str
    title: str
    detail: str
    headers: tuple[tuple[str, str], ...] = ()


def _status(value: int) -> Filter:
    comparison = {"op": "EQ", "value": {"default_value": value, "runtime_key": "moorage.unused"}}
    return {"status_code_filter": {"comparison": comparison}}


def _server_error() -> Filter:
    comparison = {"op": "GE", "value": {"default_value": 500, "runtime_key": "moorage.unused"}}
    return {"status_code_filter": {"comparison": comparison}}


def _flags(*flags: str) -> Filter:
    """https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage, RESPONSE_FLAGS."""
    return {"response_flag_filter": {"flags": list(flags)}}


def _scope(**match: Any) -> Filter:
    return {"header_filter": {"header": {"name": "x-moorage-scope", **match}}}


def _all(*filters: Filter) -> Filter:
    return {"and_filter": {"filters": list(filters)}}


_ENDPOINT = _scope(string_match={"safe_regex": {"regex": "/(deployment|predict)/.*"}})
_NO_ENDPOINT = _scope(
    string_match={"safe_regex": {"regex": "/(deployment|predict)/.*"}},
    invert_match=True,
    treat_missing_header_as_empty=True,
)
_NO_SCOPE = _scope(present_match=False)
_CHALLENGES = (
    ("www-authenticate", 'Basic realm="moorage", charset="UTF-8"'),
    ("www-authenticate", 'Bearer realm="moorage"'),
)

# The first that fits is taken.
_REPLIES = (
    _Reply(
        # What has no route is refused by the authentication; only beside the endpoints may that be told from a 401.
        _all(_status(401), _NO_ENDPOINT),
        404,
        "not_found",
        "There is no such thing",
        "There is nothing at this address. The API is under /api/v1, its description at /openapi.json.",
        _CHALLENGES[1:],
    ),
    _Reply(
        _status(401),
        401,
        "invalid_token",
        "The caller is not known",
        "The token of a client of this deployment is needed, as `-u client:token` or `Authorization: Bearer token`. "
        "A deployment that does not exist answers the same.",
        _CHALLENGES,
    ),
    _Reply(
        _flags("UH", "NC"),
        503,
        "no_ready_replica",
        "No replica is ready",
        "The deployment has no replica that can answer now. Its status says why.",
    ),
    _Reply(
        _flags("UO", "OM"),
        503,
        "overloaded",
        "Too much is under way",
        "More requests are under way than are let through. Try again later.",
    ),
    _Reply(
        _flags("UF", "URX"),
        503,
        "replica_unreachable",
        "The replica cannot be reached",
        "No connection to a replica could be made, also not by trying another one.",
    ),
    _Reply(
        _flags("UC", "UR", "LR", "UPE"),
        502,
        "replica_failed",
        "The replica gave no answer",
        "The replica closed the connection before it had answered, or answered with something that is not HTTP.",
    ),
    _Reply(
        _flags("UT", "SI", "DT", "UMSDR"),
        504,
        "timeout",
        "It took too long",
        "There was no answer within the time allowed.",
    ),
    _Reply(
        _flags("RL", "RLSE"),
        429,
        "too_many_requests",
        "Too many requests",
        "More requests than this caller is allowed. Try again later.",
    ),
    _Reply(
        _flags("NR"),
        404,
        "not_found",
        "There is no such thing",
        "There is nothing at this address. The API is under /api/v1, its description at /openapi.json.",
    ),
    _Reply(
        _all(_status(404), _NO_SCOPE),
        404,
        "not_found",
        "There is no such thing",
        "A path begins with a slash.",
    ),
    _Reply(
        _status(400),
        400,
        "bad_request",
        "The request is not valid",
        "The path has escaped slashes, or the request line, a header or the body is malformed.",
    ),
    _Reply(
        _status(403),
        403,
        "permission_denied",
        "The caller may not do this",
        "This upgrade of the connection is not offered.",
    ),
    _Reply(
        _status(408),
        408,
        "timeout",
        "It took too long",
        "The request did not arrive in time.",
    ),
    _Reply(
        _status(413),
        413,
        "too_large",
        "The body is too large",
        "The body is larger than is taken here.",
    ),
    _Reply(
        _status(426),
        426,
        "bad_request",
        "The request is not valid",
        "HTTP/1.1 or HTTP/2 is needed.",
    ),
    _Reply(
        _status(431),
        431,
        "too_large",
        "The headers are too large",
        "The headers are larger than is taken here.",
    ),
    _Reply(
        _all(_server_error(), _NO_SCOPE),
        503,
        "overloaded",
        "Too much is under way",
        "The gateway cannot take this request now. Try again later.",
    ),
)


def local_reply_config() -> dict[str, Any]:
    """Envoy's `LocalReplyConfig`, as JSON."""
    return {
        "mappers": [_mapper(reply) for reply in _REPLIES],
        "body_format": {
            "text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"},
            "content_type": _PROBLEM_JSON,
        },
    }


def _mapper(reply: _Reply) -> dict[str, Any]:
    return {
        "filter": reply.when,
        "status_code": reply.status,
        "body_format_override": {
            "content_type": _PROBLEM_JSON,
            "json_format": {
                "type": f"/docs/errors#{reply.code}",
                "title": reply.title,
                "status": reply.status,
                "detail": reply.detail,
                "code": reply.code,
                "request_id": "%REQ(X-REQUEST-ID)%",
            },
        },
        "headers_to_add": [
            # The filter names a challenge of its own, with the whole URL as realm: the first of ours takes its place.
            {
                "header": {"key": key, "value": value},
                "append_action": "APPEND_IF_EXISTS_OR_ADD" if nth else "OVERWRITE_IF_EXISTS_OR_ADD",
            }
            for nth, (key, value) in enumerate(reply.headers)
        ],
    }
