"""A class that fails as it loads: it reads a file that was never uploaded.  For seeing how a failure is told."""

from pathlib import Path
from typing import Any


class InferenceService:
    """Fine, but for its constructor."""

    def __init__(self, model_path: str) -> None:
        print("loading the weights …")
        self._weights = (Path(model_path) / "weights.bin").read_bytes()

    def process_request(self, request: dict[str, Any]) -> int:
        """Never reached."""
        return len(self._weights) + len(request)
