"""Rows come, change and go; whoever listens hears of differences only."""

import random
from dataclasses import dataclass, field

from services.deployer.platforms.kubernetes.table import Table


@dataclass(frozen=True)
class Row:
    uid: str
    belongs_to: str = "owner"
    value: int = 0
    resource_version: int = field(default=1, compare=False)


class Heard(list[str]):
    def row(self, row: Row) -> None:
        self.append(row.uid)

    def taken(self) -> list[str]:
        taken = sorted(self)
        self.clear()
        return taken


def test_only_differences_are_told() -> None:
    heard = Heard()
    table = Table[Row](heard.row)
    table.put(Row("a"))
    assert heard.taken() == ["a"]
    table.put(Row("a", resource_version=2))
    assert heard.taken() == []
    table.put(Row("a", value=1, resource_version=3))
    assert heard.taken() == ["a"]
    table.remove("a")
    table.remove("a")
    assert heard.taken() == ["a"]
    assert list(table.owners()) == []


def test_a_later_state_is_not_overwritten() -> None:
    heard = Heard()
    table = Table[Row](heard.row)
    table.put(Row("a", value=5, resource_version=5))
    table.put(Row("a", value=4, resource_version=4))
    assert [row.value for row in table.of("owner")] == [5]


def test_a_list_says_what_has_vanished_but_not_of_what_came_after_it() -> None:
    heard = Heard()
    table = Table[Row](heard.row)
    for row in (Row("gone"), Row("same"), Row("changed"), Row("later", resource_version=12)):
        table.put(row)
    heard.clear()
    table.replace([Row("same"), Row("changed", value=1, resource_version=9), Row("new")], version=10)
    assert heard.taken() == ["changed", "gone", "new"]
    assert sorted(row.uid for row in table.of("owner")) == ["changed", "later", "new", "same"]


def test_an_owner_may_change() -> None:
    table = Table[Row](lambda row: None)
    table.put(Row("a", belongs_to="x"))
    table.put(Row("a", belongs_to="y", resource_version=2))
    assert (table.of("x"), [row.uid for row in table.of("y")], list(table.owners())) == ([], ["a"], ["y"])


def test_any_history_ends_as_the_list_does() -> None:
    dice = random.Random(7)
    told: dict[str, int] = {}

    def changed(row: Row) -> None:
        told[row.uid] = told.get(row.uid, 0) + 1

    table = Table[Row](changed)
    real: dict[str, Row] = {}
    for version in range(1, 3000):
        uid = f"{dice.randrange(50)}"
        if dice.random() < 0.3:
            real.pop(uid, None)
            table.remove(uid)
        else:
            real[uid] = Row(uid, f"{dice.randrange(5)}", dice.randrange(3), version)
            table.put(real[uid])
        if dice.random() < 0.01:
            table.replace(real.values(), version=version)
    assert {row.uid: row for owner in table.owners() for row in table.of(owner)} == real
    assert len(table) == len(real)
