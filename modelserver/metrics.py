"""What a replica counts about itself, in Prometheus' text format.  Touched by the event loop alone, so without locks.

Latency quantiles, clients and versions are not here: Envoy sees every request and counts those for all runtimes alike.
"""

from collections import Counter


class Metrics:
    """Counts of `/predict` since the start of the process."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._by_code: Counter[int] = Counter()
        self._seconds = 0.0

    def observe(self, code: int, seconds: float) -> None:
        """Count one request that has been answered."""
        self._by_code[code] += 1
        self._seconds += seconds

    def render(self, *, ready: bool, waiting: int) -> bytes:
        """The whole page."""
        total = sum(self._by_code.values())
        lines = [
            "# HELP modelserver_requests_total Requests to /predict by status code.",
            "# TYPE modelserver_requests_total counter",
            *(f'modelserver_requests_total{{code="{code}"}} {n}' for code, n in sorted(self._by_code.items())),
            "# HELP modelserver_request_seconds Time from the request's headers to its answer.",
            "# TYPE modelserver_request_seconds summary",
            f"modelserver_request_seconds_sum {self._seconds:.6f}",
            f"modelserver_request_seconds_count {total}",
            "# HELP modelserver_requests_in_flight Requests that have no answer yet.",
            "# TYPE modelserver_requests_in_flight gauge",
            f"modelserver_requests_in_flight {self.in_flight}",
            "# HELP modelserver_queue_waiting Requests that no worker has taken yet.",
            "# TYPE modelserver_queue_waiting gauge",
            f"modelserver_queue_waiting {waiting}",
            "# HELP modelserver_ready Whether the model is loaded and the replica not draining.",
            "# TYPE modelserver_ready gauge",
            f"modelserver_ready {int(ready)}",
        ]
        return ("\n".join(lines) + "\n").encode()
