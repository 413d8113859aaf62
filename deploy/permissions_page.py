"""Writes docs/permissions.md from `shared.permissions` and docs/openapi.json: `python -m deploy.permissions_page`, with
`--check` to end with 1 if it is not up to date."""

import json
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from deploy import openapi
from shared.permissions import TABLE, Check, Permission, Rule

PAGE = Path(__file__).parents[1] / "docs" / "permissions.md"

_HEAD = """# Who may do what

Made by `python -m deploy.permissions_page` from the table that decides, `shared/permissions.py`; not to be edited.

On a group one holds `read`, `edit` or `manage`, each with all of the one before. Platform admins hold more than that,
on every group. What a personal access token holds is in [access.md](access.md#personal-access-tokens).

- ✓: may, with the things of the group. *own*: with those that they made, or that are theirs, as their membership is.
- Where nothing stands: 404 to whoever may not see the thing, else 403 with the permission that is missing.
- **any** is every caller, with or without a permission on the group.
- *The rest is not there*: every caller is answered, with what the row lets them see.
- The audit log calls an action as this page does. With a dot it is a part of a request, and needs this as well.
- A change of a deployment that leaves out one of its versions needs `delete_version` as well.
"""


def page() -> str:
    return "\n".join([_HEAD, *_sections()])


def _sections() -> Iterator[str]:
    operations = {
        operation["operationId"]: (method.upper(), path.removeprefix("/api/v1"), operation)
        for path, item in json.loads(openapi.FILE.read_text())["paths"].items()
        for method, operation in item.items()
    }
    rules = [(action, rule) for of_service in TABLE.values() for action, rule in of_service.items()]
    for tag, group in groupby(rules, key=lambda each: operations[each[0].partition(".")[0]][2]["tags"][0]):
        yield f"## {tag.capitalize()}\n"
        yield f"| action | request | what | any | {' | '.join(map(str, list(Permission)[1:]))} | |"
        yield f"|---|---|---|{':-:|' * len(Permission)}---|"
        for action, rule in group:
            whole, _, part = action.partition(".")
            method, path, operation = operations[whole]
            what = f"{operation['summary']}: {part.replace('_', ' ')}" if part else operation["summary"]
            marks = " | ".join(_mark(rule, held) for held in Permission)
            yield f"| `{action}` | `{method} {path}` | {what} | {marks} | {', '.join(_notes(rule))} |"
        yield ""


def _mark(rule: Rule, held: Permission) -> str:
    if held < rule.somewhere:
        return ""
    if rule.others is not None and held >= rule.others:
        return "✓"
    return "own" if held >= rule.own else ""


def _notes(rule: Rule) -> Iterator[str]:
    if rule.check is Check.QUERY:
        yield "the rest is not there"
    if not rule.caller:
        yield "no token needed" if rule.check is Check.NOWHERE else "or with a signed link"
    if Permission.NONE < rule.somewhere < Permission.ADMIN:
        yield "on any one group"
    if rule.sign_in:
        yield "not with a personal access token"


def main() -> None:
    if "--check" not in sys.argv:
        PAGE.write_text(page())
    elif not PAGE.exists() or PAGE.read_text() != page():
        sys.exit("docs/permissions.md is not what the table says: run `make docs` and commit it.")


if __name__ == "__main__":
    main()
