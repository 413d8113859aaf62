"""The contracts as a table for docs/events.md: `python -m shared.events.document`."""

import ast
import inspect
from collections.abc import Iterator
from itertools import pairwise

from shared.events import deployer, gateway, registry
from shared.events.contract import EventType


def table() -> str:
    lines = ["| type | topic | data | when |", "|---|---|---|---|"]
    for contract, when in described():
        data = ", ".join(f"`{field}`" for field in contract.data.model_fields)
        lines.append(f"| `{contract.name}` | `{contract.topic}` | {data} | {when} |")
    return "\n".join(lines)


def described() -> Iterator[tuple[EventType, str]]:
    """Every contract, with what its module says below it."""
    for module in (registry, deployer, gateway):
        said = _docstrings(inspect.getsource(module))
        for name, contract in vars(module).items():
            if isinstance(contract, EventType):
                yield contract, said[name]


def _docstrings(source: str) -> dict[str, str]:
    """The strings that stand below assignments, by the name assigned to."""
    body = ast.parse(source).body
    return {
        target.id: " ".join(below.value.value.split())
        for above, below in pairwise(body)
        if isinstance(above, ast.Assign) and isinstance(target := above.targets[0], ast.Name)
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str)
    }


if __name__ == "__main__":
    print(table())  # noqa: T201 - a command's answer
