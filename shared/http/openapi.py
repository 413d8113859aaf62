"""What an application's OpenAPI document says beyond what FastAPI finds out by itself.

A route has a summary, a docstring that says what it does, and by `raises` the errors that are its own. What follows
from its rule and from what it takes is said here, once for all routes: who may, the errors and headers that it has with
its like, and an example of each answer. Left out: what HTTP itself adds (`Date`, `Content-Length` …).
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from shared import errors
from shared.http.examples import example_of
from shared.http.problems import MEDIA_TYPE, internal, problem, raises, render
from shared.permissions import Check, Permission, Rule, Rules

__all__ = ["describe"]

Json = dict[str, Any]

_CHANGES = frozenset({"post", "put", "patch", "delete"})

_REQUEST_ID = "0f8a5c3e9d7b4f6a8c1e2d3b4a5f6c7d"

_HEADERS: Json = {
    "ETag": {
        "description": "The resource's last change; send it as `If-Match` to change only what you have read.",
        "schema": {"type": "string", "examples": ['"3"']},
    },
    "Idempotent-Replayed": {
        "description": "`true`: the request was carried out before, with this `Idempotency-Key`; this is that answer.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Location": {
        "description": "The path of what was made.",
        "schema": {"type": "string", "examples": ["/api/v1/groups/risk"]},
    },
    "Retry-After": {
        "description": "Seconds to wait before the next try.",
        "schema": {"type": "integer", "minimum": 1, "examples": [5]},
    },
    "WWW-Authenticate": {
        "description": "How to say who you are.",
        "schema": {"type": "string", "examples": ['Bearer realm="moorage"']},
    },
    "X-Dry-Run": {
        "description": "`true`: nothing was changed, as `dry_run` asked for.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "X-Request-Id": {
        "description": "The request's `X-Request-Id`, or one that was made for it; the logs have it.",
        "schema": {"type": "string", "examples": [_REQUEST_ID]},
    },
}

_IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "any text of your own; the same request with the same key is carried out once, and answered alike"
    " for a day",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "examples": ["deploy-churn-2031-07-01"]},
}

_WITH_FIELDS = ("application/json", "application/x-www-form-urlencoded")

_SUCCESS = {"200": "What was asked for", "201": "What was made", "204": "It is done"}

_BROKEN: Json = {
    "schema": {"$ref": "#/components/schemas/Problem"},
    "examples": {code: {"$ref": f"#/components/examples/{code}"} for code in ("internal", "timeout")},
}
"""A mistake of ours; and what the front door says when a service does not answer it."""

_TIMED_OUT = ("It took too long", "There was no answer within the time allowed.")

_PARAMETERS = re.compile(r"(/\{[^/]+\})+$")
"""What a resource's path has beyond that of its list."""


def describe(document: Json, rules: Rules) -> None:
    """Complete what FastAPI has made."""
    components, paths = document["components"], document["paths"]
    components |= {
        "examples": {},
        "headers": _HEADERS,
        "parameters": {"IdempotencyKey": _IDEMPOTENCY_KEY},
        "responses": {},
    }
    for name, schema in components["schemas"].items():
        if "-" in name:  # FastAPI's -Input and -Output have one title, and generators call their classes by that
            schema["title"] = name.replace("-", "")
    problems = dict(_problems())
    tagged = frozenset(path for path, item in paths.items() if _can_be_changed(item))
    for path, item in paths.items():
        for method, operation in item.items():
            rule = rules[operation["operationId"]]
            operation["description"] = "\n\n".join(filter(None, (operation.get("description"), _who(rule))))
            keyed = method == "post" and rule.caller and _takes_no_stream(operation)
            for parameter in operation.get("parameters", ()):
                _without_null(parameter["schema"])
            if keyed:
                operation.setdefault("parameters", []).append({"$ref": "#/components/parameters/IdempotencyKey"})
            kinds = list(_errors(method, path, operation, rules, keyed=keyed))
            _add_errors(operation, components, kinds, problems)
            _add_successes(
                operation,
                components["schemas"],
                tagged=_shows_etag(method, path, operation, tagged),
                keyed=keyed,
                made=method == "post",
            )


def _without_null(schema: Json) -> None:
    """A parameter is there or not; FastAPI says of one that may be left out that it may be null."""
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) == 1:
        del schema["anyOf"]
        schema |= {**options[0], **schema}
    elif options:
        schema["anyOf"] = options


def _who(rule: Rule) -> str:
    """Who may use it."""
    own, others = f"`{rule.own}`", f"`{rule.others}`"
    match rule:
        case Rule(caller=False, check=Check.NOWHERE):
            said = "Needs no token."
        case Rule(caller=False):
            said = "With a token, or with a signed link and none."
        case Rule(somewhere=Permission.ADMIN) | Rule(check=Check.HANDLER, own=Permission.ADMIN):
            said = "For platform admins."
        case Rule(check=Check.NOWHERE, somewhere=Permission.NONE):
            said = "For whoever is signed in."
        case Rule(check=Check.NOWHERE):
            said = f"Needs `{rule.somewhere}` on some group."
        case Rule(check=Check.HANDLER, others=None):
            said = "For your own only."
        case Rule(check=Check.HANDLER, others=Permission.ADMIN):
            said = "For your own; platform admins for everybody's."
        case Rule(check=Check.HANDLER):
            said = f"Needs {others} on the group" + (f"; for your own, {own}." if rule.own != rule.others else ".")
        case Rule(others=Permission.ADMIN):
            said = "Shows your own; platform admins see everybody's."
        case Rule(own=Permission.NONE):
            said = f"Shows your own, and what is in groups where you hold {others}."
        case _:
            said = f"Shows what is in, or open to, groups where you hold {others}."
    return f"{said} Not with a personal access token." if rule.sign_in else said


def _errors(
    method: str, path: str, operation: Json, rules: Rules, *, keyed: bool
) -> Iterator[type[errors.MoorageError]]:
    """What every route may answer that is like this one."""
    name = operation["operationId"]
    rule = rules[name]
    parts = [each for part, each in rules.items() if part.partition(".")[0] == name]
    if rule.caller:
        yield errors.InvalidToken
        # A personal access token may let its user read only.
        if method in _CHANGES or any(map(_refuses, parts)):
            yield errors.PermissionDenied
    if rule.check is Check.HANDLER or "{" in path:
        yield errors.NotFound
    if operation.get("parameters") or "requestBody" in operation:
        yield errors.ValidationFailed
    if "requestBody" in operation:
        yield errors.TooLarge
        content = operation["requestBody"]["content"]
        if "application/json" in content:
            yield errors.UnsupportedMediaType
        if "application/x-www-form-urlencoded" in content:
            yield errors.BadRequest
    if method in _CHANGES and rule.caller:
        yield errors.Conflict  # with what somebody else changes at the same moment
    if keyed:
        yield errors.IdempotencyMismatch
    if _takes_if_match(operation):
        yield errors.VersionConflict
    yield errors.Unavailable


def _refuses(rule: Rule) -> bool:
    """Whether there is somebody who sees the thing and may not do this to it."""
    needs = (rule.own, rule.others)
    asked = rule.check is Check.HANDLER and any(each is not None and each > rule.see for each in needs)
    return asked or rule.sign_in or rule.somewhere > Permission.NONE


def _add_errors(operation: Json, components: Json, kinds: Sequence[type[errors.MoorageError]], problems: Json) -> None:
    """To those that the route has said are its own. What several routes answer alike stands in the document once."""
    answers: Json = operation["responses"]
    if errors.ValidationFailed not in kinds:
        answers.pop("422", None)  # FastAPI has one for every route
    for status, answer in raises(*kinds).items():
        answers.setdefault(str(status), answer)["content"][MEDIA_TYPE]["examples"] |= _examples(answer)
    answers["5XX"] = {"content": {MEDIA_TYPE: _BROKEN}}
    for status, answer in sorted(answers.items()):
        if codes := sorted(_examples(answer)):
            schema = answer["content"][MEDIA_TYPE]["schema"]
            components["examples"] |= {code: problems[code] for code in codes}
            name = ".".join([*codes, *(["oauth"] if schema["$ref"].endswith("/OAuthProblem") else [])])
            components["responses"][name] = {
                "description": "; ".join(f"`{code}`: {problems[code]['summary']}" for code in codes),
                "headers": _references("headers", _headers(status)),
                "content": {MEDIA_TYPE: {"schema": schema, "examples": _references("examples", codes)}},
            }
            answers[status] = {"$ref": f"#/components/responses/{name}"}


def _add_successes(operation: Json, schemas: Mapping[str, Json], *, tagged: bool, keyed: bool, made: bool) -> None:
    dry_run = any(parameter.get("name") == "dry_run" for parameter in operation.get("parameters", ()))
    for status, answer in operation["responses"].items():
        if status < "4":
            if answer["description"] == "Successful Response":
                answer["description"] = _SUCCESS[status]
            also = (
                ("ETag", tagged and "application/json" in answer.get("content", {})),
                ("Idempotent-Replayed", keyed),
                ("Location", status == "201" and made),
                ("X-Dry-Run", dry_run),
            )
            answer["headers"] = answer.get("headers", {}) | _references(
                "headers", (*_headers(status), *(name for name, has in also if has))
            )
        _add_example(answer, schemas)
    _add_example(operation.get("requestBody", {}), schemas)


def _add_example(body: Json, schemas: Mapping[str, Json]) -> None:
    for kind, content in body.get("content", {}).items():
        if kind in _WITH_FIELDS and content.keys().isdisjoint({"example", "examples"}):
            content["example"] = example_of(content["schema"], schemas)


def _references(kind: str, names: Iterable[str]) -> Json:
    return {name: {"$ref": f"#/components/{kind}/{name}"} for name in names}


def _examples(answer: Json) -> Json:
    """Of problems, by their codes."""
    found: Json = answer.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {})
    return found


def _headers(status: str) -> Iterator[str]:
    yield "X-Request-Id"
    if status == "401":
        yield "WWW-Authenticate"
    if status in ("429", "503"):
        yield "Retry-After"


def _problems() -> Iterator[tuple[str, Json]]:
    """An example of each, by its code."""
    answers = {code: render(kind.example()) for code, kind in _kinds(errors.MoorageError)}
    answers |= {"internal": internal(), "timeout": problem(504, "timeout", *_TIMED_OUT)}
    for code, answer in sorted(answers.items()):
        value = json.loads(bytes(answer.body)) | {"request_id": _REQUEST_ID}
        yield code, {"summary": value["title"], "value": value}


def _kinds(base: type[errors.MoorageError]) -> Iterator[tuple[str, type[errors.MoorageError]]]:
    for kind in base.__subclasses__():
        if "code" in vars(kind):
            yield kind.code, kind
        yield from _kinds(kind)


def _can_be_changed(item: Json) -> bool:
    return any(_takes_if_match(item[method]) for method in ("put", "patch", "delete") if method in item)


def _shows_etag(method: str, path: str, operation: Json, tagged: Collection[str]) -> bool:
    """`tagged` are the paths of what can be changed; the POST that makes one of them answers with its ETag too."""
    match method:
        case "get":
            return path in tagged
        case "post" if any(_PARAMETERS.sub("", each) == path for each in tagged):
            return True
        case "delete":
            return False
    return _takes_if_match(operation)


def _takes_if_match(operation: Json) -> bool:
    return any(parameter.get("name") == "If-Match" for parameter in operation.get("parameters", ()))


def _takes_no_stream(operation: Json) -> bool:
    return "application/json" in operation.get("requestBody", {}).get("content", {"application/json": {}})
