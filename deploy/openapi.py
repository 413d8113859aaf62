"""The one OpenAPI document of the platform, merged from the four services' own.

    python -m deploy.openapi            write docs/openapi.json
    python -m deploy.openapi --check    end with 1 if it is not up to date

A client need not know that there are four: paths, operation ids and tags form one document. Two services must not share
a path or an operation id; schemas of one name that differ are told apart by the service's name.
"""

import argparse
import importlib
import json
import os
import sys
import tempfile
from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SERVICES = ("registry", "deployer", "gateway", "metrics")
FILE = Path(__file__).parents[1] / "docs" / "openapi.json"

_INFO = {
    "title": "Moorage API",
    "version": "1",
    "description": "From models in a registry to live, protected, measured endpoints. Conventions: docs/api.md.",
}

Json = dict[str, Any]


class Clash(Exception):
    """Two services claim the same path or operation id."""


def merge(documents: Mapping[str, Json]) -> Json:
    """`documents` by service. Raises Clash."""
    paths: Json = {}
    components: dict[str, Json] = {}
    operations: dict[str, str] = {}
    for service, document in documents.items():
        own = _without_clashes(service, document, components)
        for path, item in own["paths"].items():
            if path in paths:
                raise Clash(f"{service} has the path {path}, which another service has too")
            paths[path] = item
            for name in _operation_ids(item):
                if name in operations:
                    raise Clash(f"{service} and {operations[name]} both have the operation {name}")
                operations[name] = service
        for kind, entries in own.get("components", {}).items():
            components.setdefault(kind, {}).update(entries)
    return {
        "openapi": next(iter(documents.values()))["openapi"],
        "info": _INFO,
        "servers": [{"url": "/"}],
        "tags": [tag for each in documents.values() for tag in each.get("tags", ())],
        "paths": dict(sorted(paths.items())),
        "components": {kind: dict(sorted(entries.items())) for kind, entries in sorted(components.items())},
    }


def _without_clashes(service: str, document: Json, components: Mapping[str, Json]) -> Json:
    """The document with those schemas renamed that another service has under the same name and with other content."""
    taken = components.get("schemas", {})
    own = document.get("components", {}).get("schemas", {})
    renamed = {name: f"{service.title()}{name}" for name in own if name in taken and taken[name] != own[name]}
    if not renamed:
        return document
    references = {f"#/components/schemas/{old}": f"#/components/schemas/{new}" for old, new in renamed.items()}
    result: Json = _with_references(document, references)
    schemas = result["components"]["schemas"]
    result["components"]["schemas"] = {renamed.get(name, name): schema for name, schema in schemas.items()}
    return result


def _with_references(value: Any, references: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _with_references(entry, references) for key, entry in value.items()}
    if isinstance(value, list):
        return [_with_references(entry, references) for entry in value]
    return references.get(value, value) if isinstance(value, str) else value


def _operation_ids(item: Json) -> Iterator[str]:
    for operation in item.values():
        if isinstance(operation, dict) and "operationId" in operation:
            yield operation["operationId"]


def own_document(service: str) -> Json:
    """What a service says of itself. Its application is made, and neither started nor connected to anything."""
    _, app = importlib.import_module(f"services.{service}.app").create()
    # Of the class: the gateway's application serves the merged document in the place of its own.
    document: Json = type(app).openapi(app)
    return document


def document() -> Json:
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {
            "MOORAGE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
            "MOORAGE_SECRET_KEY": b64encode(bytes(32)).decode(),
            "MOORAGE_BLOB_FOLDER": f"{folder}/blobs",
            "MOORAGE_LOCAL_FOLDER": f"{folder}/replicas",
            "MOORAGE_REGISTRY_URL": "http://127.0.0.1:1",
            "MOORAGE_SNAPSHOT_PATH": f"{folder}/snapshot.db",
            "MOORAGE_ENVOY_ADMIN_URL": "http://127.0.0.1:1",
        }
        return merge({service: own_document(service) for service in SERVICES})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.openapi", description="The merged OpenAPI document.")
    parser.add_argument("--check", action="store_true", help="only say whether docs/openapi.json is up to date")
    options = parser.parse_args()
    text = json.dumps(document(), indent=1, ensure_ascii=False) + "\n"
    if not options.check:
        FILE.write_text(text)
    elif not FILE.exists() or FILE.read_text() != text:
        sys.exit("docs/openapi.json is not what the services say: run `make docs` and commit it.")


if __name__ == "__main__":
    main()
