"""Kubernetes quantities: `"500m"`, `"2Gi"`, `0.5` go in; numbers in base units (cores, bytes) come out.

Source: the Kubernetes API conventions for `resource.Quantity` (decimal and binary SI suffixes, no exponent form).
"""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_SCALE = {
    "m": Decimal("0.001"), "": Decimal(1),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12), "P": Decimal(10**15),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40), "Pi": Decimal(2**50),
}  # fmt: skip
_QUANTITY = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi|)")


def parse_quantity(value: object) -> Decimal:
    """A quantity in base units. Raises ValueError with what is allowed."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError('must be a quantity such as 0.5, "500m" or "2Gi"')
    match = _QUANTITY.fullmatch(format(Decimal(repr(value)), "f") if isinstance(value, float) else str(value))
    if not match:
        raise ValueError('must be a quantity such as 0.5, "500m" or "2Gi"')
    return Decimal(match[1]) * _SCALE[match[2]]


def _cores(value: Any) -> Decimal:
    cores = parse_quantity(value)
    if cores.as_tuple().exponent < -3 and cores != round(cores, 3):  # type: ignore[operator]  # finite: never "n"/"F"
        raise ValueError("is finer than a thousandth of a core")
    if cores > 1_000_000:
        raise ValueError("is more than a million cores")
    return round(cores, 3)


def _bytes(value: Any) -> int:
    size = parse_quantity(value)
    if size != size.to_integral_value():
        raise ValueError("is not a whole number of bytes")
    if size > 2**60:
        raise ValueError("is more than an exbibyte")
    return int(size)


_INPUT = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": f"^{_QUANTITY.pattern}$"}]}

Cores = Annotated[
    Decimal,
    BeforeValidator(_cores),
    PlainSerializer(float, return_type=float),
    WithJsonSchema(_INPUT, mode="validation"),
    WithJsonSchema({"type": "number"}, mode="serialization"),
]
"""CPU cores: in as a quantity, out as a number of cores."""

Bytes = Annotated[
    int,
    BeforeValidator(_bytes),
    WithJsonSchema(_INPUT, mode="validation"),
    WithJsonSchema({"type": "integer"}, mode="serialization"),
]
"""Memory: in as a quantity, out as a number of bytes."""
