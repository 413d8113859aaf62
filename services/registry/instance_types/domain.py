"""GPU shares as people write them, and whether a size shrinks. Pure."""

import re
from dataclasses import dataclass
from decimal import Decimal

_GPU = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)(?:\(([A-Za-z0-9][A-Za-z0-9._ -]{0,61}[A-Za-z0-9]|[A-Za-z0-9])\))?")
_MOST = 1024


@dataclass(frozen=True)
class Gpu:
    """Whole cards, or a fraction of one, of a model or of any."""

    cards: Decimal
    model: str | None

    @classmethod
    def parse(cls, value: object) -> "Gpu":
        """A number, `"0.2(T4)"` or `"1(V100)"`. Raises ValueError with what is allowed."""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError('must be a number of cards, or text such as "0.2(T4)" or "1(V100)"')
        match = _GPU.fullmatch(format(Decimal(repr(value)), "f") if isinstance(value, float) else str(value))
        if not match:
            raise ValueError('must be a number of cards, or text such as "0.2(T4)" or "1(V100)"')
        cards = Decimal(match[1])
        if cards > _MOST:
            raise ValueError(f"is more than {_MOST} cards")
        if cards > 1 and cards != cards.to_integral_value():
            raise ValueError("must be whole cards, or a fraction of one")
        if not cards and match[2]:
            raise ValueError("names a GPU model but asks for no card")
        return cls(cards, match[2])

    def show(self) -> float | str:
        """As it was written."""
        number = int(self.cards) if self.cards == self.cards.to_integral_value() else float(self.cards)
        return f"{number}({self.model})" if self.model else number


@dataclass(frozen=True)
class Size:
    cpu: Decimal
    memory: int
    gpu: Gpu

    def holds(self, other: "Size") -> bool:
        """Whether whoever was promised `other` gets at least that."""
        return (
            self.cpu >= other.cpu
            and self.memory >= other.memory
            and self.gpu.cards >= other.gpu.cards
            and (other.gpu.model is None or self.gpu.model == other.gpu.model)
        )
