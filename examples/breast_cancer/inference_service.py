"""Serves the breast cancer model: TDInsight's libsvm and dense requests in, probabilities out.

A request is `{"type": "libsvm" | "dense", "feature_num": "30", "data": {"insts": …}}`, the answer `{"insts": [p, …]}`,
one probability (of class 1, benign) for each row.  `insts` is
- libsvm: a string, or a list of strings, `label index:value …`; indices count from 1, what is not named is 0;
- dense: a string of 30 numbers with commas or spaces, a list of such strings, a list of 30 numbers, or a list of lists.

Everything that is wrong with a request raises ValueError, which the model server answers with 400 and its text.
"""

from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]

ROWS_LIMIT = 10_000
VALUE_LIMIT = float(np.finfo(np.float32).max)  # scikit-learn's trees compute with 32 bits


class InferenceService:
    """The class that Moorage's model server looks for."""

    def __init__(self, model_path: str) -> None:
        self._model = joblib.load(Path(model_path) / "model.joblib")
        self._features: int = self._model.n_features_in_

    def process_request(self, request: dict[str, Any]) -> dict[str, list[float]]:
        """Answer one request."""
        return {"insts": self._predict(self._parse(request)).tolist()}

    def process_batch(self, requests: list[dict[str, Any]]) -> list[dict[str, list[float]]]:
        """Answer several by one prediction: for scikit-learn 32 rows cost hardly more than one."""
        parts = [self._parse(request) for request in requests]
        ends = np.cumsum([len(rows) for rows in parts])[:-1]
        return [{"insts": part.tolist()} for part in np.split(self._predict(np.concatenate(parts)), ends)]

    def _predict(self, rows: Rows) -> Rows:
        probabilities: Rows = self._model.predict_proba(rows)
        return probabilities[:, 1]

    def _parse(self, request: dict[str, Any]) -> Rows:
        kind, data = request.get("type"), request.get("data")
        if kind not in ("libsvm", "dense"):
            raise ValueError(f"type must be 'libsvm' or 'dense', not {kind!r:.50}")
        if str(request.get("feature_num")) != str(self._features):
            raise ValueError(f"feature_num must be {self._features}, not {request.get('feature_num')!r:.50}")
        if not isinstance(data, dict) or "insts" not in data:
            raise ValueError('data must be an object with "insts"')
        insts = data["insts"]
        if not isinstance(insts, str | list):
            raise ValueError("data.insts must be a string or a list")
        if isinstance(insts, str) or (insts and type(insts[0]) in (int, float)):
            insts = [insts]
        if not 1 <= len(insts) <= ROWS_LIMIT:
            raise ValueError(f"data.insts must have between 1 and {ROWS_LIMIT} rows, not {len(insts)}")
        read = self._libsvm if kind == "libsvm" else self._dense
        rows = np.zeros((len(insts), self._features))
        for number, inst in enumerate(insts):
            try:
                read(inst, rows[number])
            except ValueError as error:
                raise ValueError(f"row {number + 1}: {error}") from None
        if not (np.abs(rows) <= VALUE_LIMIT).all():  # false for NaN as well
            raise ValueError("a value is not finite, or too large for a 32-bit float")
        return rows

    def _libsvm(self, text: Any, row: Rows) -> None:
        if not isinstance(text, str) or not text.strip():
            raise ValueError("must be text: a label, then index:value pairs")
        label, *pairs = text.split()
        if ":" in label:
            raise ValueError(f"must begin with a label, not {label!r:.50}")
        float(label)
        split = [pair.split(":") for pair in pairs]
        try:
            indices = [int(index) for index, _ in split]
        except ValueError:
            raise ValueError("every entry after the label must be index:value") from None
        if indices and not (min(indices) >= 1 and max(indices) <= self._features):
            raise ValueError(f"indices count from 1 to {self._features}")
        if len(set(indices)) < len(indices):
            raise ValueError("an index is given twice")
        for index, (_, value) in zip(indices, split, strict=True):
            row[index - 1] = float(value)

    def _dense(self, inst: Any, row: Rows) -> None:
        if isinstance(inst, str):
            values = [float(value) for value in inst.replace(",", " ").split()]
        elif isinstance(inst, list) and set(map(type, inst)) <= {int, float}:
            values = inst
        else:
            raise ValueError("must be a list of numbers, or text with numbers between commas or spaces")
        if len(values) != self._features:
            raise ValueError(f"must have {self._features} values, not {len(values)}")
        row[:] = values
