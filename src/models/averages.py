"""Moving averages of weights."""

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def follow(slow: Iterable[Tensor], fast: Iterable[Tensor], rate: float) -> None:
    """Move slow tensors, in place, a share `rate` of the way to fast ones; with 1 they become equal."""
    torch._foreach_lerp_(list(slow), list(fast), rate)
