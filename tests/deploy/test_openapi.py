"""docs/openapi.json as a stranger reads it: all is said, each example is right, and each service says the same."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from unittest.mock import patch

import jsonschema_rs
import pytest

from deploy import openapi
from shared.permissions import TABLE

Json = dict[str, Any]

DOCUMENT: Json = json.loads(openapi.FILE.read_text())
SCHEMAS: Json = DOCUMENT["components"]["schemas"]
OPERATIONS: Mapping[str, tuple[str, str, Json]] = {
    operation["operationId"]: (method, path, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
}


def resolved(value: Json) -> Json:
    while "$ref" in value:
        found: Any = DOCUMENT
        for part in value["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        value = found
    return value


def answers(operation: Json, *, errors: bool) -> Iterator[tuple[str, Json]]:
    return (
        (status, resolved(answer)) for status, answer in operation["responses"].items() if (status >= "4") is errors
    )


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_says_all_that_it_takes_to_call_it(name: str) -> None:
    _, path, operation = OPERATIONS[name]
    assert operation["summary"]
    assert "\n\n" in operation["description"], "what it does, and who may"
    assert {tag["name"] for tag in DOCUMENT["tags"]} >= set(operation["tags"])
    parameters = [resolved(each) for each in operation.get("parameters", ())]
    assert [each["name"] for each in parameters if not each.get("description")] == []
    assert {each["name"] for each in parameters if each["in"] == "path"} == set(re.findall(r"\{(\w+)\}", path))
    assert len({each["name"] for each in parameters}) == len(parameters)
    for status, answer in answers(operation, errors=False):
        assert answer["description"] not in ("", "Successful Response"), status
        assert "X-Request-Id" in answer["headers"]


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_names_its_errors(name: str) -> None:
    method, _, operation = OPERATIONS[name]
    codes = {status: set() for status in operation["responses"]}
    for status, answer in answers(operation, errors=True):
        assert list(answer["content"]) == ["application/problem+json"]
        body = answer["content"]["application/problem+json"]
        assert body["schema"]["$ref"].endswith("Problem")
        for code, example in body["examples"].items():
            value = resolved(example)["value"]
            assert value["code"] == code
            assert value["type"] == f"/docs/errors#{code}"
            assert status in (str(value["status"]), "5XX")
            assert code in answer["description"]
            codes[status].add(code)
        wanted = {"401": ["WWW-Authenticate"], "429": ["Retry-After"], "503": ["Retry-After"]}.get(status, [])
        assert answer["headers"].keys() == {"X-Request-Id", *wanted}
    rule = next(rules[name] for rules in TABLE.values() if name in rules)
    takes_something = bool(operation.get("parameters") or operation.get("requestBody"))
    assert ("invalid_token" in codes.get("401", ())) is bool(operation.get("security"))
    assert ("422" in codes) is takes_something
    assert "unavailable" in codes["503"]
    if rule.caller and method != "get" and method != "head":
        assert "permission_denied" in codes["403"]


def test_the_errors_of_an_operation_are_not_those_of_all() -> None:
    def codes(name: str) -> set[str]:
        found = [
            answer["content"]["application/problem+json"] for _, answer in answers(OPERATIONS[name][2], errors=True)
        ]
        return {code for body in found for code in body["examples"]} - {"internal", "timeout", "unavailable"}

    assert codes("list_keys") == set()
    assert codes("get_me") == {"invalid_token"}
    assert codes("list_groups") == {"invalid_token", "validation_failed"}
    assert codes("get_group") == {"invalid_token", "not_found", "validation_failed"}
    everybody = {"invalid_token", "permission_denied", "not_found", "validation_failed"}
    assert codes("delete_group") == {*everybody, "conflict", "in_use", "version_conflict"}
    assert codes("create_token") == {
        *("invalid_client", "invalid_grant", "invalid_request", "unsupported_grant_type"),
        *("too_many_requests", "too_large", "validation_failed", "bad_request"),
    }


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_field_says_what_it_is_and_its_examples_are_right(name: str) -> None:
    for field, schema in SCHEMAS[name].get("properties", {}).items():
        assert schema.get("description") or resolved(schema).get("description"), field
        for example in schema.get("examples", ()):
            assert complaints(example, schema) == [], field


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_examples_of_an_operation_are_right(name: str) -> None:
    _, _, operation = OPERATIONS[name]
    bodies = [("request", operation.get("requestBody", {})), *answers(operation, errors=False)]
    for _, body in bodies:
        for kind, content in body.get("content", {}).items():
            if content["schema"].get("format") != "binary":
                assert complaints(content["example"], content["schema"]) == [], kind
    for _, answer in answers(operation, errors=True):
        for kind, content in answer["content"].items():
            for example in content["examples"].values():
                assert complaints(resolved(example)["value"], content["schema"]) == [], kind


def complaints(example: Any, schema: Json) -> list[str]:
    whole = {**schema, "components": DOCUMENT["components"]}
    validator = jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
    return [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(example)]


def test_every_reference_leads_somewhere() -> None:
    for kind, name in set(re.findall(r'"#/components/(\w+)/([^"]+)"', openapi.FILE.read_text())):
        assert name in DOCUMENT["components"][kind]


def test_each_service_says_what_the_one_document_says() -> None:
    with patch.dict(os.environ):  # which gets the settings that the applications need
        assert openapi.document() == DOCUMENT
        for service in openapi.SERVICES:
            own = openapi.own_document(service)
            for path, item in own["paths"].items():
                assert item == DOCUMENT["paths"][path]
            for kind, found in own["components"].items():
                assert {name: DOCUMENT["components"][kind][name] for name in found} == found


def test_headers_stand_where_they_hold() -> None:
    def has(name: str, header: str) -> bool:
        return any(header in answer["headers"] for _, answer in answers(OPERATIONS[name][2], errors=False))

    def takes(name: str, header: str) -> bool:
        return any(resolved(each)["name"] == header for each in OPERATIONS[name][2].get("parameters", ()))

    for name in ("create_deployment", "create_client", "stop_deployment"):
        assert takes(name, "Idempotency-Key")
        assert has(name, "Idempotent-Replayed")
    for name in ("create_token", "upload_artifact", "get_deployment", "update_deployment"):
        assert not takes(name, "Idempotency-Key")
    for name in ("get_deployment", "get_version", "get_user", "get_quota", "get_replica", "get_revision"):
        assert has(name, "ETag")
    for name in ("create_deployment", "create_group", "create_model", "create_client", "put_deployment"):
        assert has(name, "ETag")
        assert has(name, "Location") is name.startswith("create")
    for name in ("list_deployments", "list_versions", "create_token", "upload_artifact"):
        assert not has(name, "ETag")
