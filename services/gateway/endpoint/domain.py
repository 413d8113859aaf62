"""Pure: the addresses of a deployment, and an example call for its runtime."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

# TDInsight's request; how many features the model has is its own affair.
_INFERENCE = {"type": "dense", "feature_num": "4", "data": {"insts": [[5.1, 3.5, 1.4, 0.2]]}}

EXAMPLE_KEY = "example"
"""The entry of a deployment's metadata whose text is the body of its example call: a request that its model takes."""


def url_of(public_url: str, deployment: str) -> str:
    """Split by the weights."""
    return f"{public_url.rstrip('/')}/deployment/{deployment}"


def version_url(public_url: str, deployment: str, version: int) -> str:
    """Always this version."""
    return f"{public_url.rstrip('/')}/predict/{deployment}/{version}"


def example_call(public_url: str, deployment: str, *, private: bool, runtime: str, metadata: Mapping[str, Any]) -> str:
    """A `curl` line. What is quoted survives any POSIX shell."""
    words = ["curl"]
    if private:
        words += ["-u", "<client>:<token>"]
    url = url_of(public_url, deployment)
    body = metadata.get(EXAMPLE_KEY)
    if runtime == "inference" or body is not None:
        text = body if isinstance(body, str) else json.dumps(_INFERENCE)
        words += ["-H", "Content-Type: application/json", "-d", text, f"{url}/predict"]
    else:
        words.append(f"{url}/")
    return " ".join(shlex.quote(word) if word != "<client>:<token>" else word for word in words)
