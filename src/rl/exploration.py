"""Exploration in a real environment: random actions in place of the policy's."""

from collections.abc import Callable

import torch
from torch import Tensor

Epsilon = float | Callable[[], float]
"""The probability of a random action, or a function that gives it at each step."""
_LONGEST = 10_000


class Exploration:
    """With probability `epsilon`, or `epsilon()` at each step, a uniformly random action replaces the policy's.

    With an exponent `zeta`, each random action is repeated for a random number n of steps, P(n) ∝ n^-zeta, at most
    10,000: mostly one, sometimes very many, so that exploration reaches far places (εz-greedy: Dabney et al. 2021,
    "Temporally-extended ε-greedy exploration", sec. 4). The end of an episode ends the repetition.
    """

    def __init__(self, epsilon: Epsilon, zeta: float | None, num_envs: int, num_actions: int) -> None:
        self.epsilon = epsilon
        self._num_actions = num_actions
        self._repeated = torch.zeros(num_envs, dtype=torch.int64)
        self._left = torch.zeros(num_envs, dtype=torch.int64)
        self._durations = None if zeta is None else torch.arange(1, _LONGEST + 1, dtype=torch.float64) ** -zeta

    def explore(self, act: Tensor, is_first: Tensor) -> Tensor:
        """Actions (b) to take instead of the policy's; an episode begins where `is_first` bool (b) is set."""
        epsilon = self.epsilon() if callable(self.epsilon) else self.epsilon
        if epsilon == 0:
            return act
        explores = torch.rand(len(act), device=act.device) < epsilon
        random = torch.randint_like(act, self._num_actions)
        if self._durations is None:
            return torch.where(explores, random, act)
        left = torch.where(is_first.cpu(), 0, self._left)
        begins = explores.cpu() & (left == 0)
        drawn = torch.multinomial(self._durations, len(act), replacement=True) + 1
        left = torch.where(begins, drawn, left)
        self._repeated = torch.where(begins, random.cpu(), self._repeated)
        self._left = (left - 1).clamp(min=0)
        return torch.where((left > 0).to(act.device), self._repeated.to(act.device), act)

    def state_dict(self) -> dict[str, Tensor]:
        return {"repeated": self._repeated, "left": self._left}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._repeated, self._left = state["repeated"], state["left"]
