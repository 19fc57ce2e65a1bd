"""Actions without keys: they come from recordings, or at random."""

from collections.abc import Sequence

import torch
from torch import Tensor

from data import Actions

LONGEST_NAME = 24


class IdleKeys:
    """A person can do nothing here; random actions are uniform in [-1, 1], or uniform bits where they are multi-hot."""

    has_mouse = False
    game_keys: frozenset[str] = frozenset()
    longest_name = LONGEST_NAME

    def __init__(self, actions: Actions) -> None:
        self._actions = actions

    def action(self, held: Sequence[str], motion: tuple[float, float] = (0, 0)) -> Tensor:
        return self._actions.idle()

    def draw(self) -> Tensor:
        idle = self._actions.idle()
        if self._actions.kind == "continuous":
            return 2 * torch.rand(idle.shape) - 1
        return torch.randint(2, idle.shape).to(idle.dtype)

    def name(self, act: Tensor) -> str:
        return vector_name(act)

    def signs(self) -> list[str]:
        """Empty, as no policy chooses among them by probabilities."""
        return []

    def help(self) -> tuple[tuple[str, str], ...]:
        return ()

    def describe(self) -> str:
        kind = self._actions.kind
        return "none, as nobody acts here" if kind == "none" else f"none for {kind} actions (m: replay recorded ones)"


def vector_name(act: Tensor) -> str:
    """The entries of a vector, as many as there is room for."""
    words = " ".join(f"{entry:.2g}" for entry in act.tolist()) or "-"
    return words if len(words) <= LONGEST_NAME else f"{words[: LONGEST_NAME - 1]}…"
