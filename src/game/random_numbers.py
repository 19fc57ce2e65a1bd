"""Random numbers that belong to one player, whatever other players draw."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from run.random_state import random_state, restore_random_state

DRAWS_OF_SHAPES = {torch.rand, torch.randn, torch.randint}
DRAWS_IN_PLACE = {
    getattr(torch.Tensor, name)
    for name in ("bernoulli_", "cauchy_", "exponential_", "geometric_", "log_normal_", "normal_", "random_", "uniform_")
}
DRAWS_FROM_TENSORS = {
    torch.bernoulli,
    torch.Tensor.bernoulli,
    torch.multinomial,
    torch.Tensor.multinomial,
    torch.normal,
    torch.poisson,
    torch.rand_like,
    torch.randint_like,
    torch.randn_like,
}


class RandomNumbers:
    """Within `with`, PyTorch's default generators are this player's: they continue where its last turn stopped.

    After it, they are what they were before. It may be entered again while it is entered.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        """Of the CPU and of `device`."""
        self._device = device
        self._depth = 0
        self._outside = random_state(device)
        torch.manual_seed(seed)
        self._state = random_state(device)
        restore_random_state(self._outside, device)

    def __enter__(self) -> Self:
        if self._depth == 0:
            self._outside = random_state(self._device)
            restore_random_state(self._state, self._device)
        self._depth += 1
        return self

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._state = random_state(self._device)
            restore_random_state(self._outside, self._device)


def drawing_for(players: Sequence[RandomNumbers]) -> contextlib.AbstractContextManager:
    """A context in which each row of a batch is drawn as its player would draw it alone."""
    return players[0] if len(players) == 1 else _RowByRow(players)


class _RowByRow(TorchFunctionMode):
    """Draws the rows of every random tensor one after another, from the random numbers of their players."""

    def __init__(self, players: Sequence[RandomNumbers]) -> None:
        super().__init__()
        self._players = players

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in DRAWS_OF_SHAPES:
            return torch.cat(self._draw(func, [_one_row(args, self._check)] * len(self._players), kwargs))
        if func in DRAWS_FROM_TENSORS:
            return torch.cat(self._draw(func, self._rows(args), kwargs))
        if func in DRAWS_IN_PLACE:
            # Rows are views.
            self._draw(func, self._rows(args), kwargs)
            return args[0]
        return func(*args, **kwargs)

    def _draw(self, func: Callable[..., Tensor], rows: list[Sequence[Any]], kwargs: Mapping[str, Any]) -> list[Tensor]:
        drawn = []
        for player, row in zip(self._players, rows, strict=True):
            with player:
                drawn.append(func(*row, **kwargs))
        return drawn

    def _rows(self, args: Sequence[Any]) -> list[Sequence[Any]]:
        self._check(len(args[0]))
        return [
            [each[index : index + 1] if torch.is_tensor(each) and each.ndim > 0 else each for each in args]
            for index in range(len(self._players))
        ]

    def _check(self, num_rows: int) -> None:
        if num_rows != len(self._players):
            raise ValueError(f"{num_rows} rows are drawn for {len(self._players)} players: one row each is needed.")


def _one_row(args: Sequence[Any], check: Callable[[int], None]) -> Sequence[Any]:
    """The arguments for a tensor of one row: the shape is the last one, or all of them are its sizes."""
    if isinstance(args[-1], Sequence):
        check(args[-1][0])
        return *args[:-1], (1, *args[-1][1:])
    check(args[0])
    return 1, *args[1:]
