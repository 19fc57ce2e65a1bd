"""Limits of settings. A field declares its own, as in `lr: Annotated[float, Above(0, 1e6)]`.

`run.config.build` checks them before anything is made.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Protocol, TypeVar

from errors import UserError


class Limit(Protocol):
    """What values a setting may have."""

    def accepts(self, value: Any) -> bool: ...

    def __str__(self) -> str:
        """What is asked of the value: `must be …`."""
        ...


@dataclass(frozen=True)
class Between:
    """Numbers from `least` to `most`, both included; never NaN."""

    least: float
    most: float
    words: ClassVar[str] = "at least"

    def accepts(self, value: float) -> bool:
        return self.least <= value <= self.most

    def __str__(self) -> str:
        return f"must be {self.words} {_digits(self.least)}{_at_most(self.most)}"


@dataclass(frozen=True)
class Above(Between):
    """Numbers greater than `least`, up to `most`; never NaN."""

    words: ClassVar[str] = "above"

    def accepts(self, value: float) -> bool:
        return self.least < value <= self.most


@dataclass(frozen=True)
class Entries:
    """Lists with `least` to `most` entries."""

    least: int
    most: int

    def accepts(self, value: Sequence[Any]) -> bool:
        return self.least <= len(value) <= self.most

    def __str__(self) -> str:
        return f"must have {self.least} to {self.most} entries"


@dataclass(frozen=True)
class AnyAboveZero:
    """Lists of numbers of which at least one is above zero."""

    def accepts(self, value: Sequence[float]) -> bool:
        return any(number > 0 for number in value)

    def __str__(self) -> str:
        return "must have an entry above 0"


Size = TypeVar("Size")
MOST = 1_000_000_000

Count = Annotated[int, Between(1, MOST)]
Whole = Annotated[int, Between(0, MOST)]
Fraction = Annotated[float, Between(0, 1)]
Weight = Annotated[float, Between(0, 1e6)]
Positive = Annotated[float, Above(0, 1e6)]
Width = Annotated[int, Between(1, 16_384)]
"""Channels of a layer."""
Depth = Annotated[int, Between(1, 100)]
"""Blocks of a level."""
Switch = Annotated[int, Between(0, 1)]
Levels = Annotated[tuple[Size, ...], Entries(1, 10)]
"""One entry per level of a network, as in `Levels[Width]`."""
ImageChannels = Annotated[int, Between(1, 64)]
Pixels = Annotated[int, Between(1, 8192)]
"""Height or width of a frame."""
SampleWeights = Annotated[tuple[Weight, ...], AnyAboveZero()]
"""Weights of groups of episodes by age, oldest first."""


class BadSetting(UserError):
    """Fields of a configuration do not fit together. The message begins with the name of a field.

    Raised in `__post_init__`; `run.config.build` adds the path of the configuration.
    """


def in_yaml(value: Any) -> str:
    """A value of a setting as YAML would show it, on one line of bounded length."""
    words = "null" if value is None else repr(list(value) if isinstance(value, tuple) else value)
    return words if len(words) <= 100 else f"{words[:97]}..."


def _at_most(most: float) -> str:
    return "" if most == math.inf else f" and at most {_digits(most)}"


def _digits(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}".replace("e+0", "e")
