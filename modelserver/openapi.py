"""The OpenAPI document of one replica: its real paths, names and numbers.  Pure."""

from typing import Any

Json = dict[str, Any]


def document(*, names: tuple[str, ...], versions: tuple[int, ...], body_limit: int) -> Json:
    """What this replica serves; what `data` holds is the model's own affair."""
    predict: Json = {
        "summary": "Ask the model",
        "description": f"The JSON object is handed to process_request as it is. At most {body_limit} bytes.",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object"}}},
        },
        "responses": {
            "200": _answer("The model's result", "Success"),
            "400": _answer("Not a JSON object, or the model found fault with it"),
            "404": _answer("Another model or version than this replica's"),
            "413": _answer("The body is too large"),
            "500": _answer("The model failed"),
            "503": _answer("Loading, or too many requests are waiting"),
        },
    }
    # Names and numbers as enum: what else a client sends is a 404.
    model = _in_path("model", {"type": "string", "enum": list(names)})
    version = _in_path("version", {"type": "string", "enum": [str(number) for number in versions]})
    probe = {"200": _answer("Yes", "Success"), "503": _answer("Not yet, or no longer")}
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Model {names[0]}", "version": str(versions[0])},
        "paths": {
            "/predict": {"post": {"operationId": "predict", **predict}},
            "/predict/{model}": {
                "parameters": [model],
                "post": {"operationId": "predict_model", **predict},
            },
            "/predict/{model}/{version}": {
                "parameters": [model, version],
                "post": {"operationId": "predict_version", **predict},
            },
            "/healthz": {"get": _get("healthz", "Is the process alive?", {"200": _answer("Yes", "Success")})},
            "/readyz": {"get": _get("readyz", "Is the model loaded and the replica not draining?", probe)},
            "/metrics": {"get": _get("metrics", "Prometheus metrics", {"200": _content("text/plain")})},
            "/openapi.json": {"get": _get("openapi", "This document", {"200": _content("application/json")})},
        },
        "components": {
            "schemas": {
                "Success": _envelope({"const": 0}, {}),
                "Failure": _envelope({"minimum": 400}, {"type": "null"}),
            }
        },
    }


def _envelope(code: Json, data: Json) -> Json:
    return {
        "type": "object",
        "required": ["message", "code", "data"],
        "additionalProperties": False,
        "properties": {"message": {"type": "string"}, "code": {"type": "integer", **code}, "data": data},
    }


def _answer(description: str, schema: str = "Failure") -> Json:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": description, "content": content}


def _in_path(name: str, schema: Json) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _get(operation: str, summary: str, responses: Json) -> Json:
    return {"operationId": operation, "summary": summary, "responses": responses}


def _content(kind: str) -> Json:
    return {"description": "The document", "content": {kind: {}}}
