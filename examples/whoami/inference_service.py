"""Answers with what a model learns about its caller: the name, and the names of all headers that reached it."""

from typing import Any

from modelserver import current_request


class InferenceService:
    def __init__(self, model_path: str) -> None:
        pass  # there is nothing to load

    def process_request(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002  # the contract
        return {"caller": current_request.user, "headers": sorted(current_request.headers)}
