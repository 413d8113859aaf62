"""An example of what a JSON schema describes, made of the examples that its fields have. Pure."""

from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]

_BY_FORMAT = {"date-time": "2031-07-01T12:00:00.000Z", "uuid": "0b1f6a52-7d3c-4d0e-9b7e-2d6f5f0a9c11"}
_BY_TYPE: Json = {"array": [], "boolean": False, "object": {}}


def example_of(schema: Json, schemas: Mapping[str, Json]) -> Any:  # noqa: PLR0911 - one for each kind of schema
    """`schemas` are by the name that references have. None for what has no example: null, where that is allowed."""
    if "examples" in schema:
        return schema["examples"][0]
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    if options := schema.get("anyOf"):
        return next((found for each in options if (found := example_of(each, schemas)) is not None), None)
    if fields := schema.get("properties"):
        # What may be left out is, unless it says what it looks like.
        shown = {name for name, field in fields.items() if name in schema.get("required", ()) or "examples" in field}
        return {name: example_of(field, schemas) for name, field in fields.items() if name in shown}
    if items := schema.get("items"):
        found = example_of(items, schemas)
        return [] if found is None else [found]
    return _BY_FORMAT.get(schema.get("format", ""), schema.get("default", _BY_TYPE.get(schema.get("type", ""))))
