"""Worker threads that run the user's code, so that the event loop never waits for it.

The hand-over is the cost that matters on one core, so it is amortised both ways without ever holding an answer back:
a worker that wakes goes on until nothing waits, and while it runs, its answers pile up for the loop, which is told
only of the first of them.
"""

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable

from modelserver.answers import Answer, failure
from modelserver.context import RawHeaders
from modelserver.model import Call, Model

OVERLOADED = failure(
    503, "too many requests are waiting for this replica; retry, or add replicas", (b"retry-after", b"1")
)


class Pool:
    """A queue, the threads that empty it, and the way back to the loop."""

    def __init__(self, *, threads: int, queue_limit: int, batch_limit: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._threads = threads
        self._queue_limit = queue_limit
        self._batch_limit = batch_limit
        self._waiting: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._done: deque[Call] = deque()
        self._loop_knows = False
        self._running: list[threading.Thread] = []

    def start(self, load: Callable[[], Model | None]) -> None:
        """Load the model in the first worker; it and the others serve it.  None means that loading failed.

        A model that is bound to the thread which made it thereby works with one worker, the default.
        """

        def first() -> None:
            model = load()
            if model is not None:
                for number in range(2, self._threads + 1):
                    self._start(lambda: self._work(model), number)
                self._work(model)

        self._start(first, 1)

    def _start(self, target: Callable[[], None], number: int) -> None:
        # Daemons: user code that never returns must not keep a drained process alive.
        thread = threading.Thread(target=target, name=f"model-{number}", daemon=True)
        self._running.append(thread)
        thread.start()

    def submit(self, body: bytes, headers: RawHeaders) -> "asyncio.Future[Answer]":
        """A future of the answer."""
        future: asyncio.Future[Answer] = self._loop.create_future()
        if self._waiting.qsize() >= self._queue_limit:
            future.set_result(OVERLOADED)
            return future
        self._waiting.put(Call(body, headers, future))
        return future

    def stop(self) -> None:
        """End the workers once they have answered what waits; for after the drain."""
        for _ in self._running:
            self._waiting.put(None)
        for thread in self._running:
            thread.join(timeout=1)

    @property
    def waiting(self) -> int:
        """Requests that no worker has taken yet."""
        return self._waiting.qsize()

    def _work(self, model: Model) -> None:
        limit = self._batch_limit if model.batches else 1
        while (call := self._waiting.get()) is not None:
            calls = [call]
            while len(calls) < limit:
                try:
                    further = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if further is None:
                    self._waiting.put(None)
                    break
                calls.append(further)
            model.answer(calls)
            self._done.extend(calls)
            if not self._loop_knows:
                self._loop_knows = True
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._loop_knows = False  # before looking: an answer that comes now announces itself again
        while self._done:
            call = self._done.popleft()
            assert call.answer is not None
            if not call.future.done():
                call.future.set_result(call.answer)
