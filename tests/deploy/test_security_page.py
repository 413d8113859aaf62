"""docs/security.md: what it says is shown by a test is shown by one that is there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| wants ")]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


@cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split(" | ")[0].removeprefix("| ")[:60])
def test_each_row_names_tests_that_are_there(row: str) -> None:
    assert row.count(" | ") == 2, "a row is what is wanted, what stops it, and what shows it"
    shown_by = row.rpartition(" | ")[2].removesuffix(" |")
    named = NAMED.findall(shown_by)
    assert named
    assert ", ".join(f"`{path}::{name}`" for path, name in named) == shown_by
    assert [(path, name) for path, name in named if name not in functions_of(path)] == []


def test_each_adversary_has_rows_and_a_word_on_what_is_not_stopped() -> None:
    adversaries = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    assert len(adversaries) == 8
    for each in adversaries:
        assert NAMED.search(each), each.splitlines()[0]
        assert "\nNot stopped: " in each, each.splitlines()[0]
