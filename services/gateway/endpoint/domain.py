"""Pure: the addresses of a deployment, and an example call for its runtime."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

# TDInsight's request; how many features the model has is its own affair.
_INFERENCE = {"type": "dense", "feature_num": "4", "data": {"insts": [[5.1, 3.5, 1.4, 0.2]]}}

CREDENTIALS = "<client>:<token>"
"""What a caller replaces with its own."""

EXAMPLE_KEY = "example"
"""The entry of a deployment's metadata whose text is the body of its example call: a request that its model takes."""


def url_of(public_url: str, deployment: str) -> str:
    """Split by the weights."""
    return f"{public_url.rstrip('/')}/deployment/{deployment}"


def version_url(public_url: str, deployment: str, version: int) -> str:
    """Always this version."""
    return f"{public_url.rstrip('/')}/predict/{deployment}/{version}"


def main_version(weights: Mapping[int, int]) -> int | None:
    """The one with most traffic; of equals the oldest."""
    return max(sorted(weights), key=lambda number: weights[number], default=None)


def example_body(metadata: Mapping[str, Any], model: Mapping[str, Any] | None) -> str | None:
    """A request that the model takes: what the deployment says, else what came with the `model`."""
    said = metadata.get(EXAMPLE_KEY)
    if isinstance(said, str):
        return said
    return None if model is None else json.dumps(model)


def example_call(public_url: str, deployment: str, *, private: bool, runtime: str, body: str | None) -> str:
    """A `curl` line for any POSIX shell, whatever the body is; without one, it is a placeholder of the runtime."""
    words = ["curl"]
    if private:
        words += ["-u", CREDENTIALS]
    url = url_of(public_url, deployment)
    if body is None and runtime == "inference":
        body = json.dumps(_INFERENCE)
    if body is None:
        words.append(f"{url}/")
    else:
        # Not -d: to that a body that begins with @ names a file.
        words += ["-H", "Content-Type: application/json", "--data-raw", body, f"{url}/predict"]
    return shlex.join(words)
