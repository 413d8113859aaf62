"""Calls into the user's class: bytes of a request in, the whole answer out, and never an exception.

Runs in worker threads.  What counts as whose fault is decided here: not JSON, or a ValueError from the user's code, is
the request's (400); anything else the model's (500), with the traceback in the log and not in the answer.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import orjson

from modelserver.answers import Answer, NotJson, failure, success, too_deep
from modelserver.context import RawHeaders, current_request
from modelserver.loader import Service

log = logging.getLogger(__name__)


class Call:
    """One request on its way through a worker, and the future that its connection waits on."""

    __slots__ = ("answer", "body", "future", "headers")

    def __init__(self, body: bytes, headers: RawHeaders, future: asyncio.Future[Answer]) -> None:
        self.body = body
        self.headers = headers
        self.future = future
        self.answer: Answer | None = None


class Model:
    """The loaded InferenceService, as the workers see it."""

    def __init__(self, service: Service) -> None:
        self._process_request = service.process_request
        self._process_batch = getattr(service, "process_batch", None)
        self.batches = self._process_batch is not None

    def answer(self, calls: Sequence[Call]) -> None:
        """Set the answer of each call; together if the class can and there is more than one."""
        parsed: list[tuple[Call, dict[str, Any]]] = []
        for call in calls:
            request = _parse(call.body)
            if isinstance(request, Answer):
                call.answer = request
            else:
                parsed.append((call, request))
        if len(parsed) > 1 and self.batches and self._answer_together(parsed):
            return
        for call, request in parsed:
            call.answer = self._answer_one(call, request)

    def _answer_one(self, call: Call, request: dict[str, Any]) -> Answer:
        current_request.set(call.headers)
        try:
            return success(self._process_request(request))
        except ValueError as error:
            return failure(400, str(error) or "the model refused this request without saying why")
        except NotJson as error:
            if too_deep(request):
                return _TOO_DEEP
            log.error("the result of process_request is not JSON: %s", error)
            return failure(500, f"the model's result cannot be written as JSON: {error}")
        except BaseException as error:
            if isinstance(error, RecursionError) and too_deep(request):
                return _TOO_DEEP
            request_id = current_request.headers.get("x-request-id", "-")
            log.exception("process_request failed request_id=%s", request_id)
            return failure(
                500,
                f"the model failed on this request ({type(error).__name__}); "
                f"the traceback is in the replica's log (request id {request_id})",
            )
        finally:
            current_request.set(())

    def _answer_together(self, parsed: Sequence[tuple[Call, dict[str, Any]]]) -> bool:
        """Answer all by one process_batch; False if each has to be tried alone, to get an error of its own."""
        assert self._process_batch is not None
        try:
            results = self._process_batch([request for _, request in parsed])
            if len(results) != len(parsed):
                log.error("process_batch gave %d results for %d requests", len(results), len(parsed))
                return False
            answers = [success(result) for result in results]
        except (ValueError, NotJson):
            return False
        except BaseException:
            log.exception("process_batch failed; its requests are tried one by one")
            return False
        for (call, _), answer in zip(parsed, answers, strict=True):
            call.answer = answer
        return True


_TOO_DEEP = failure(400, "the request is nested too deeply")


def _parse(body: bytes) -> dict[str, Any] | Answer:
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return failure(400, f"the body is not JSON: {error}")
    if not isinstance(request, dict):
        return failure(400, 'the body must be a JSON object, such as {"data": …}')
    return request
