"""The shape of frames and the kind of actions, which come from the data."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

ActionKind = Literal["none", "numbered", "multi-hot", "continuous"]


@dataclass(frozen=True)
class Actions:
    """The kind of the actions, and their number.

    For numbered actions, int64 (t), `size` is the number of different actions. For vectors, multi-hot uint8 or
    continuous float32 (t, size), it is the number of entries. Data without actions has vectors with no entries.
    """

    kind: ActionKind
    size: int

    @classmethod
    def of(cls, act: Tensor) -> "Actions":
        """Infer the kind and size from stored actions; numbered actions are counted up to the largest one seen."""
        if act.ndim == 1:
            return cls("numbered", int(act.max()) + 1)
        if act.size(1) == 0:
            return cls("none", 0)
        return cls("continuous" if act.is_floating_point() else "multi-hot", act.size(1))

    def is_like(self, other: "Actions") -> bool:
        """Whether both are of one kind, and vectors of one size; the number of different actions may differ."""
        return self.kind == other.kind and (self.kind == "numbered" or self.size == other.size)

    def __str__(self) -> str:
        return self.kind if self.kind == "numbered" else f"{self.kind} ({self.size} entries)"

    def idle(self) -> Tensor:
        """The action that does nothing: the number 0, or a vector of zeros (size)."""
        if self.kind == "numbered":
            return torch.zeros((), dtype=torch.int64)
        return torch.zeros(self.size, dtype=torch.float32 if self.kind == "continuous" else torch.uint8)


@dataclass(frozen=True)
class Spaces:
    """The shape of frames (c, h, w), and the actions."""

    frame: tuple[int, int, int]
    actions: Actions
