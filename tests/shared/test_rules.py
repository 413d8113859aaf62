"""No route without a rule, no rule without a route, and no answer from a route that does not ask."""

import asyncpg
import pytest

from shared.permissions import ANYBODY, CALLERS, EDIT, Rules, on_group
from shared.settings import ServiceSettings
from tests.shared.http_app import RULES, create
from tests.support.services import People, serving


@pytest.fixture
def settings(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> ServiceSettings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return ServiceSettings()


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ({action: rule for action, rule in RULES.items() if action != "make"}, "make"),
        (RULES | {"unmake": CALLERS}, "unmake"),
        (RULES | {"make": ANYBODY}, "make"),
        (RULES | {"look_up": CALLERS}, "look_up"),
    ],
    ids=["no rule", "no route", "a caller for nothing", "nobody who is checked"],
)
def test_rules_and_routes_that_do_not_fit(settings: ServiceSettings, rules: Rules, named: str) -> None:
    with pytest.raises(ValueError, match=rf"\b{named}\b"):
        create(settings, rules=rules)


def test_a_part_of_a_route_has_a_rule_of_its_own(settings: ServiceSettings) -> None:
    create(settings, rules=RULES | {"make.much": CALLERS})


async def test_a_route_that_does_not_ask_changes_nothing(settings: ServiceSettings, admin: asyncpg.Connection) -> None:
    _, app = create(settings, rules=RULES | {"make": on_group(EDIT), "see": on_group(EDIT)})
    async with serving(app) as client:
        root = await People.of(app).add("root", admin=True)
        made = await client.post("/api/v1/things", json={"name": "x"}, headers=root)
        assert (made.status_code, made.json()["code"]) == (500, "internal")
        assert await admin.fetchval("SELECT count(*) FROM instance_types") == 0
        assert (await client.get("/api/v1/groups/risk", headers=root)).status_code == 200
