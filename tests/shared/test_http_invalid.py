"""What pydantic refuses, in our words."""

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, StringConstraints, ValidationError

from shared.http.invalid import field_problems
from shared.http.schemas import LABEL

Name = Annotated[str, StringConstraints(pattern=LABEL)]


class Inner(BaseModel):
    number: int


class Outer(BaseModel):
    address: Name | Annotated[dict[Name, str], Field(min_length=1)] | None = None
    points: list[tuple[int, int]] = []
    inner: list[Inner] | None = None


NO_LABEL = "must be lower-case letters, digits and inner hyphens"
NO_OBJECT = "must be a JSON object"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"address": 5}, {"/address": f"Input should be a valid string, or {NO_OBJECT}"}),
        ({"address": "A"}, {"/address": f"{NO_LABEL}, or {NO_OBJECT}"}),
        ({"address": {}}, {"/address": "Input should be a valid string, or Dictionary should have at least 1 item"}),
        ({"address": {"A/b": "x"}}, {"/address": "Input should be", "/address/A~1b": f"the name: {NO_LABEL}"}),
        ({"points": [[1, 2], 3]}, {"/points/1": "must be a JSON array"}),
        ({"inner": [{"number": 1}, {}]}, {"/inner/1/number": "is missing"}),
        ({"inner": [{"number": "x"}]}, {"/inner/0/number": "Input should be a valid integer"}),
        ([], {"": NO_OBJECT}),
    ],
)
def test_a_place_of_the_body_is_told_once_by_its_json_pointer(body: Any, told: dict[str, str]) -> None:
    with pytest.raises(ValidationError) as refused:
        Outer.model_validate(body, from_attributes=True)
    errors = [{**error, "loc": ("body", *error["loc"])} for error in refused.value.errors()]
    found = {problem.pointer: problem.message for problem in field_problems(errors, body)}
    assert found.keys() == told.keys()
    assert all(message.startswith(told[pointer]) for pointer, message in found.items())
