"""The whole matrix, action × role × one's own or not, through HTTP and against the table."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from shared.permissions import TABLE, Check, Rule
from tests.permissions.cells import CELLS
from tests.permissions.world import OTHER, Operation, Role, World, running_world

SERVICES = {action: service for service, rules in TABLE.items() for action in rules}
RULES = {action: rule for rules in TABLE.values() for action, rule in rules.items()}
SHOWN, NOT_SHOWN, DONE = "shown", "not shown", "done"


@pytest.fixture
async def world(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with running_world(environment, tmp_path, monkeypatch) as running:
        yield running


async def test_every_cell_is_what_the_table_says(world: World) -> None:
    operations = await described(world)
    assert set(operations) == {action for action in RULES if "." not in action}
    assert set(CELLS) == set(RULES)
    wrong = []
    for role in world.roles:
        for owner in filter(None, (OTHER, role.user)):
            await world.give_to(owner)
            for action in RULES:
                if (owner == role.user and not differs(action)) or CELLS[action].not_for == role.name:
                    continue
                operation = operations[action.partition(".")[0]]
                answer = await world.call(action, operation, role, owner=owner)
                wanted = expected(action, operation, role, own=owner == role.user)
                if wanted == DONE and CELLS[action].told:
                    wanted = CELLS[action].told
                if not wanted.startswith(found := outcome(action, answer, owner)):
                    wrong.append(f"{action} of {owner} by {role.name}: {found}, not {wanted}: {answer.text[:200]}")
    assert not wrong, "\n".join(wrong)


async def described(world: World) -> dict[str, Operation]:
    """By operation id, out of the OpenAPI documents."""
    found = {}
    for http in world.four.services.values():
        for path, item in (await http.get("/openapi.json")).json()["paths"].items():
            for method, operation in item.items():
                action = operation["operationId"]
                offered = any(each.get("name") == "dry_run" for each in operation.get("parameters", ()))
                found[action] = Operation(SERVICES[action], method.upper(), path, dry_run=offered)
    return found


def rules_of(action: str) -> list[Rule]:
    """Of a part: first that of the whole."""
    return [RULES[name] for name in dict.fromkeys((action.partition(".")[0], action))]


def differs(action: str) -> bool:
    return any(rule.own != rule.others for rule in rules_of(action))


def expected(action: str, operation: Operation, role: Role, *, own: bool) -> str:
    verdicts = [verdict(rule, CELLS[action].shows, operation.method, role, own=own) for rule in rules_of(action)]
    return next((each for each in verdicts if each != DONE), DONE)


def verdict(rule: Rule, shows: str | None, method: str, role: Role, *, own: bool) -> str:
    if not rule.caller and (not role.user or rule.check is Check.NOWHERE):
        return DONE
    if not role.user:
        return "401 invalid_token"
    if role.reads and method not in ("GET", "HEAD"):
        return "403 edit"
    if role.anywhere < rule.somewhere:
        return f"403 {rule.somewhere}"
    if rule.sign_in and role.personal:
        return "403 sign-in"
    needed = rule.own if own else rule.others
    allowed = needed is not None and role.held >= needed
    if shows:
        return SHOWN if allowed else NOT_SHOWN
    if allowed:
        return DONE
    hidden = needed is None or role.held < rule.see or rule.check is Check.QUERY
    return "404 not_found" if hidden else f"403 {needed}"


def outcome(action: str, answer: httpx.Response, owner: str) -> str:
    if answer.status_code >= 400:
        problem = answer.json() if answer.content else {}  # the answer to HEAD says no more than its status
        return f"{answer.status_code} {problem.get('permission', problem.get('code', ''))}".rstrip()
    if shows := CELLS[action].shows:
        return SHOWN if shows.format(owner=owner) in answer.text else NOT_SHOWN
    return DONE
