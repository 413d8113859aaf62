"""The reference: one document, readable pages, and a section for every error that can be met."""

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import services
import shared
from deploy.envoy import local_replies
from deploy.openapi import FILE, Clash, merge
from services.gateway.envoy import translate
from services.gateway.reference.markdown import to_html
from shared.errors import MoorageError
from shared.http import problems
from tests.gateway.world import Gateway, running_gateway, settings_of

ERRORS = FILE.with_name("errors.md")


def codes() -> set[str]:
    """Every code that any part of the platform can answer."""
    for package in (services, shared):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    return {
        *(kind.code for kind in descendants(MoorageError) if hasattr(kind, "code")),
        *(code for code, _ in problems._OF_STATUS.values()),
        *(reply.code for reply in local_replies._REPLIES),
        *translate._TITLES,
        "internal",
    }


def descendants(kind: type[MoorageError]) -> Iterator[type[MoorageError]]:
    for each in kind.__subclasses__():
        yield each
        yield from descendants(each)


def test_each_code_has_its_section_and_each_section_its_code() -> None:
    sections = re.findall(r"(?m)^## (\w+)$", ERRORS.read_text())
    assert sections == sorted(set(sections))
    assert set(sections) == codes()


async def test_the_errors_page_has_what_a_problem_links_to(gateway: Gateway) -> None:
    problem = (await gateway.http.get("/api/v1/me")).json()
    path, _, anchor = problem["type"].partition("#")
    page = await gateway.http.get(path)
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert f'id="{anchor}"' in page.text


async def test_the_reference_shows_every_operation_and_loads_nothing(gateway: Gateway) -> None:
    document = (await gateway.http.get("/openapi.json")).json()
    page = await gateway.http.get("/docs")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    operations = [o["operationId"] for item in document["paths"].values() for o in item.values()]
    assert len(operations) == len(set(operations)) > 20
    assert all(f'id="{operation}"' in page.text for operation in operations)
    assert "<script" not in page.text
    assert re.findall(r'(?:src|href)="(?![#/])', page.text) == []


async def test_missing_documents_are_said_to_be_missing(environment: dict[str, str], tmp_path: Path) -> None:
    settings = settings_of(environment, tmp_path) | {"MOORAGE_OPENAPI_FILE": str(tmp_path / "none.json")}
    async with running_gateway(settings) as gateway:
        for path in ("/openapi.json", "/docs", "/docs/errors"):
            answer = await gateway.http.get(path)
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


def test_markdown_becomes_html_and_nothing_else_does() -> None:
    text = "# A `b`\n\n<script>x</script> **bold** `<i>` [link](/docs) [bad](javascript:x)\n\n- one\n  more\n- two"
    assert to_html(text) == (
        '<h1 id="A `b">A <code>b</code></h1>\n'
        "<p>&lt;script&gt;x&lt;/script&gt; <b>bold</b> <code>&lt;i&gt;</code> "
        '<a href="/docs">link</a> [bad](javascript:x)</p>\n'
        "<ul><li>one more</li><li>two</li></ul>"
    )


def document(path: str, operation: str, schema: dict[str, Any]) -> dict[str, Any]:
    reference = {"$ref": "#/components/schemas/Page"}
    return {
        "openapi": "3.1.0",
        "paths": {path: {"get": {"operationId": operation, "responses": {"200": {"schema": reference}}}}},
        "components": {"schemas": {"Page": schema, "Problem": {"type": "object"}}},
    }


def test_schemas_of_one_name_that_differ_are_told_apart() -> None:
    one, two = document("/a", "list_a", {"type": "object"}), document("/b", "list_b", {"type": "array"})
    merged = merge({"registry": one, "gateway": two})
    assert set(merged["components"]["schemas"]) == {"GatewayPage", "Page", "Problem"}
    text = json.dumps(merged["paths"]["/b"])
    assert "schemas/GatewayPage" in text
    assert "schemas/Page" in json.dumps(merged["paths"]["/a"])


@pytest.mark.parametrize("other", [("/a", "list_b"), ("/b", "list_a")])
def test_two_services_cannot_claim_the_same(other: tuple[str, str]) -> None:
    schema = {"type": "object"}
    with pytest.raises(Clash):
        merge({"registry": document("/a", "list_a", schema), "gateway": document(*other, schema)})
