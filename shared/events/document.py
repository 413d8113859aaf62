"""The contracts as a table for docs/events.md: `python -m shared.events.document`."""

import ast
import inspect
from itertools import pairwise

from shared.events import deployer, gateway, registry
from shared.events.contract import EventType


def table() -> str:
    lines = ["| type | topic | data | when |", "|---|---|---|---|"]
    for module in (registry, deployer, gateway):
        said = _docstrings(inspect.getsource(module))
        for name, contract in vars(module).items():
            if isinstance(contract, EventType):
                data = ", ".join(f"`{field}`" for field in contract.data.model_fields)
                lines.append(f"| `{contract.name}` | `{contract.topic}` | {data} | {said[name]} |")
    return "\n".join(lines)


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
    print(table())  # noqa: T201
