"""What a policy remembers of an episode, and what it thinks of each frame."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rl.policy import Memory, Policy, Rememberer, Thinker, join, row
from run.device import autocast


@dataclass(frozen=True)
class Thought:
    """The action that the policy chose, and for thinkers its probabilities and value."""

    act: int | Tensor
    probs: tuple[float, ...] = ()
    value: float = 0.0


class Mind:
    """A policy's memory of one episode. Networks run in `precision` on `device`."""

    def __init__(self, policy: Policy, device: torch.device, precision: torch.dtype) -> None:
        self.policy = policy
        self.memory: Memory = None
        self.is_first: Tensor = torch.ones(1, dtype=torch.bool, device=device)
        self._device = device
        self._precision = precision

    def begin(self, history: Tensor | None) -> None:
        """Forget the last episode, and watch the frames (1, n, c, h, w) before the first one of this episode."""
        self.memory, self.is_first = self.policy.initial(1), torch.ones_like(self.is_first)
        for frame in () if history is None else history.unbind(1):
            think([self], frame)

    def took(self, acts: Tensor) -> None:
        """Remember the action (1), whoever chose it."""
        if isinstance(self.policy, Rememberer):
            self.memory = self.policy.took(self.memory, acts.to(self._device))

    def networks(self) -> contextlib.AbstractContextManager:
        return autocast(self._device, self._precision)


@torch.no_grad()
def think(minds: Sequence[Mind], obs: Tensor) -> list[Thought]:
    """Let minds of the same policy choose actions for their frames (b, c, h, w), as one batch."""
    first = minds[0]
    with first.networks():
        is_first = torch.cat([mind.is_first for mind in minds])
        acts, memory = first.policy.act(obs, join([mind.memory for mind in minds]), is_first)
    shares, values = ([()] * len(minds), [0.0] * len(minds))
    if isinstance(first.policy, Thinker):
        probs, value = first.policy.thoughts(memory)
        table = torch.cat((probs, value[:, None]), dim=1).tolist()
        shares, values = [tuple(each[:-1]) for each in table], [each[-1] for each in table]
    thoughts = []
    for index, mind in enumerate(minds):
        mind.memory, mind.is_first = row(memory, index), torch.zeros_like(mind.is_first)
        act = acts[index]
        thoughts.append(Thought(int(act) if act.ndim == 0 else act, shares[index], values[index]))
    return thoughts
