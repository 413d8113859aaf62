"""The process inside a replica: loads a user's `InferenceService` and answers `/predict` over HTTP.

User code may `from modelserver import current_request` to learn who is calling.  The package imports nothing else of
Moorage and only uvicorn, httptools, uvloop and orjson from outside, so that it can be put into any image.
Getting the model onto the machine is `modelserver.pull`; routing, authentication and TLS are the gateway's.
"""

from modelserver.context import current_request

__all__ = ["current_request"]
