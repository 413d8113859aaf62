"""The reference as one HTML page, made of the OpenAPI document. Pure. Self-contained: no script, nothing loaded."""

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from services.gateway.reference.markdown import inline, to_html

Json = Mapping[str, Any]

_METHODS = ("get", "head", "post", "put", "patch", "delete")

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem; color: #1b2733; }
h1, h2, h3 { line-height: 1.2 } h2 { border-bottom: 1px solid #c9d3dc; margin-top: 3rem; text-transform: capitalize }
code, pre { font: 14px/1.4 ui-monospace, monospace; background: #f1f5f8; border-radius: 3px; padding: .1em .3em }
pre { padding: .6em; overflow-x: auto } a { color: #0b5cad } nav a { margin-right: .8em; white-space: nowrap }
details { border: 1px solid #d6dee5; border-radius: 4px; margin: .5rem 0; padding: .4rem .8rem }
summary { cursor: pointer } table { border-collapse: collapse; width: 100% }
td, th { border-top: 1px solid #e3e9ee; padding: .3em .5em; text-align: left; vertical-align: top; font-weight: normal }
th { white-space: nowrap } .method { display: inline-block; font-weight: bold; width: 4.5em; text-transform: uppercase }
.note { color: #526170 }
@media (prefers-color-scheme: dark) { body { background: #12181e; color: #dbe4ec } code, pre { background: #1f2932 }
a { color: #7cb8f5 } details, td, th, h2 { border-color: #34424f } .note { color: #9fb0bf } }
"""


def shell(title: str, body: str) -> str:
    """A page around `body`, which is HTML already."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>{body}</body></html>'
    )


def reference(document: Json) -> str:
    """Every operation by tag, folded; each opens on its own and can be linked to by its operation id."""
    by_tag: dict[str, list[str]] = {}
    for path, item in sorted(document["paths"].items()):
        for method in _METHODS:
            if method in item:
                operation = item[method]
                tag = next(iter(operation.get("tags", ())), "other")
                by_tag.setdefault(tag, []).append("".join(_operation(document, method, path, operation)))
    links = "".join(f'<a href="#{escape(tag)}">{escape(tag)}</a>' for tag in sorted(by_tag))
    about = {tag["name"]: f"<p>{escape(tag['description'])}</p>" for tag in document.get("tags", ())}
    sections = "".join(
        f'<h2 id="{escape(tag)}">{escape(tag)}</h2>{about.get(tag, "")}{"".join(by_tag[tag])}' for tag in sorted(by_tag)
    )
    info = document["info"]
    return shell(
        info["title"],
        f"<h1>{escape(info['title'])}</h1><p>{escape(info.get('description', ''))}</p>"
        '<p>For machines: <a href="/openapi.json">/openapi.json</a>. '
        'What goes wrong: <a href="/docs/errors">errors</a>.</p>'
        f"<nav>{links}</nav>{sections}",
    )


def _operation(document: Json, method: str, path: str, operation: Json) -> Iterator[str]:
    name = escape(operation["operationId"])
    yield f'<details id="{name}"><summary><span class="method">{method}</span><code>{escape(path)}</code> '
    yield f"{escape(operation.get('summary', ''))}</summary>"
    if text := operation.get("description"):
        yield to_html(text)
    rows = [_parameter(document, parameter) for parameter in operation.get("parameters", ())]
    if rows:
        yield f"<h4>Parameters</h4><table>{''.join(rows)}</table>"
    for kind, media in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<h4>Body <span class=note>{escape(kind)}</span></h4>{_schema(document, media.get('schema', {}))}"
    yield "<h4>Answers</h4><table>"
    for status, response in sorted(operation.get("responses", {}).items()):
        response = _resolved(document, response)  # noqa: PLW2901  # the same thing, looked up
        yield f"<tr><th><code>{escape(status)}</code></th><td>{inline(response.get('description', ''))}"
        for kind, media in response.get("content", {}).items():
            if kind == "application/json" and status.startswith("2"):
                yield _schema(document, media.get("schema", {}))
        yield "</td></tr>"
    yield "</table></details>"


def _parameter(document: Json, parameter: Json) -> str:
    parameter = _resolved(document, parameter)
    schema = parameter.get("schema", {})
    need = "required" if parameter.get("required") else f"default {_code(schema.get('default'))}"
    text = escape(parameter.get("description") or schema.get("description", ""))
    return (
        f"<tr><th><code>{escape(parameter['name'])}</code><br><span class=note>{escape(parameter['in'])}</span></th>"
        f"<td>{_type(document, schema)} <span class=note>{need}</span><br>{text}</td></tr>"
    )


def _schema(document: Json, schema: Json) -> str:
    """The fields of an object, or of what a list holds; anything else by its type."""
    found = _resolved(document, schema)
    if found.get("type") == "array":
        return f"<p>A list of</p>{_schema(document, found.get('items', {}))}"
    if "properties" not in found:
        return f"<p>{_type(document, schema)}</p>"
    required = set(found.get("required", ()))
    rows = []
    for name, field in found["properties"].items():
        need = "" if name in required else "<br><span class=note>optional</span>"
        examples = field.get("examples") or _resolved(document, field).get("examples") or ()
        example = f" <span class=note>such as</span> {_code(examples[0])}" if examples else ""
        text = escape(field.get("description") or "")
        rows.append(
            f"<tr><th><code>{escape(name)}</code>{need}</th><td>{_type(document, field)} {text}{example}</td></tr>"
        )
    return f"<table>{''.join(rows)}</table>"


def _type(document: Json, schema: Json) -> str:
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(_type(document, option) for option in options))
    if values := schema.get("enum") or ([schema["const"]] if "const" in schema else None):
        return " or ".join(_code(value) for value in values)
    if "$ref" in schema:
        found = _resolved(document, schema)
        return _type(document, found) if "enum" in found else escape(found.get("title", "object"))
    if schema.get("type") == "array":
        return f"list of {_type(document, schema.get('items', {}))}"
    if isinstance(entries := schema.get("additionalProperties"), dict):
        return f"object of {_type(document, entries)}"
    return escape(str(schema.get("format") or schema.get("type") or "any"))


def _resolved(document: Json, schema: Json) -> Json:
    found: Any = schema
    while "$ref" in found:
        here: Any = document
        for part in found["$ref"].removeprefix("#/").split("/"):
            here = here[part]
        found = here
    return dict(found)


def _code(value: object) -> str:
    return f"<code>{escape(json.dumps(value, ensure_ascii=False))}</code>"
