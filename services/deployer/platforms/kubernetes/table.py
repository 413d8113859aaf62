"""The objects of one kind that are known, found by their own uid or by what they belong to. No I/O."""

from collections.abc import Callable, Hashable, Iterable
from typing import Generic, Protocol, TypeVar


class Row(Protocol):
    """See `objects`. Rows that are equal mean the same, whatever their `resource_version`."""

    @property
    def uid(self) -> str: ...

    @property
    def belongs_to(self) -> Hashable: ...

    @property
    def resource_version(self) -> int: ...


RowT = TypeVar("RowT", bound=Row)


class Table(Generic[RowT]):
    """`changed` is called with each row that has come, gone (as it last was), or become different."""

    def __init__(self, changed: Callable[[RowT], None]) -> None:
        self._changed = changed
        self._rows: dict[str, RowT] = {}
        self._index: dict[Hashable, dict[str, RowT]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, uid: str) -> RowT | None:
        return self._rows.get(uid)

    def of(self, owner: Hashable) -> list[RowT]:
        """All that belong to it."""
        return list(self._index.get(owner, {}).values())

    def owners(self) -> Iterable[Hashable]:
        return self._index.keys()

    def put(self, row: RowT) -> None:
        """It is so, unless we know of a later state."""
        known = self._rows.get(row.uid)
        if known is not None and known.resource_version >= row.resource_version:
            return
        if known is not None and known.belongs_to != row.belongs_to:
            self.remove(row.uid)
        self._rows[row.uid] = row
        self._index.setdefault(row.belongs_to, {})[row.uid] = row
        if known != row:
            self._changed(row)

    def remove(self, uid: str) -> None:
        """It is gone; absent is fine."""
        if (known := self._rows.pop(uid, None)) is None:
            return
        siblings = self._index[known.belongs_to]
        del siblings[uid]
        if not siblings:
            del self._index[known.belongs_to]
        self._changed(known)

    def replace(self, rows: Iterable[RowT], *, version: int) -> None:
        """These are all that there were at that version; what we know of later states stays."""
        present = {row.uid: row for row in rows}
        for uid, known in list(self._rows.items()):
            if uid not in present and known.resource_version <= version:
                self.remove(uid)
        for row in present.values():
            self.put(row)
