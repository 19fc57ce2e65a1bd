"""A function of networks that is compiled by itself."""

from collections.abc import Callable
from typing import Any

from torch import nn


class Part(nn.Module):
    """Calls a function. `compile` compiles it here only: elsewhere, its networks are used with other batch sizes.

    The function's networks are no parts of this module, so that they keep their names.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs)
