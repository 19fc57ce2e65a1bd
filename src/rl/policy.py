"""Protocols of policies and environments, and policies without networks of their own."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from data import Start, Step

Memory = Any
"""The state of a policy between steps: tensors (b, …), in tuples, lists or dictionaries."""


class Policy(Protocol):
    """Chooses actions from frames, one step at a time."""

    def initial(self, batch_size: int) -> Memory:
        """The memory at the start of an episode."""

    def act(self, obs: Tensor, memory: Memory, is_first: Tensor) -> tuple[Tensor, Memory]:
        """Actions (b) for frames (b, c, h, w), uint8 or in [-1, 1], and the new memory.

        Where `is_first` bool (b) is set, an episode begins and the old memory is ignored.
        """


@runtime_checkable
class Thinker(Protocol):
    """A policy that can show its action probabilities and value."""

    def thoughts(self, memory: Memory) -> tuple[Tensor, Tensor]:
        """Action probabilities (b, num_actions) and values (b), from the memory that `act` returned."""


@runtime_checkable
class Rememberer(Protocol):
    """A policy whose memory depends on the actions taken, and is stored with the steps."""

    def took(self, memory: Memory, act: Tensor) -> Memory:
        """The memory, if the actions (b) were taken instead of those that `act` returned with it."""

    def columns(self, memory: Memory) -> Mapping[str, Tensor]:
        """Values (b, …) for columns of the replay, from the memory that `act` returned."""


@runtime_checkable
class Critic(Thinker, Protocol):
    """A thinker whose values are estimates of discounted returns, of the signs of rewards."""

    gamma: float
    """The discount of a step."""


class Greedy:
    """Takes the most likely action of a policy that shows its action probabilities."""

    def __init__(self, policy: Policy) -> None:
        """`policy` is a `Thinker`, too."""
        self._policy = policy

    def initial(self, batch_size: int) -> Memory:
        return self._policy.initial(batch_size)

    def act(self, obs: Tensor, memory: Memory, is_first: Tensor) -> tuple[Tensor, Memory]:
        _, memory = self._policy.act(obs, memory, is_first)
        act = self._policy.thoughts(memory)[0].argmax(dim=-1)
        if isinstance(self._policy, Rememberer):
            memory = self._policy.took(memory, act)
        return act, memory


class RandomPolicy:
    """Takes every action with the same probability."""

    def __init__(self, num_actions: int) -> None:
        self._num_actions = num_actions

    def initial(self, batch_size: int) -> tuple[()]:
        return ()

    def act(self, obs: Tensor, memory: tuple[()], is_first: Tensor) -> tuple[Tensor, tuple[()]]:
        return torch.randint(self._num_actions, is_first.shape, device=is_first.device), memory


class Env(Protocol):
    """A vector environment, real or imagined: the environments in `envs/`, and the worlds of algorithms."""

    num_envs: int
    num_actions: int

    def prepare(self, num_steps: int) -> None:
        """Prepare what the next `num_steps` steps may need, so that they do not wait for the device."""

    def reset(self) -> Start: ...

    def step(self, act: Tensor) -> Step: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def send(memory: Memory, device: torch.device) -> Memory:
    """Move all tensors of a memory to a device."""
    if isinstance(memory, dict):
        return {name: send(part, device) for name, part in memory.items()}
    if isinstance(memory, tuple | list):
        return type(memory)(send(part, device) for part in memory)
    return memory.to(device) if torch.is_tensor(memory) else memory


def join(memories: Sequence[Memory]) -> Memory:
    """One memory of b rows from b memories of one row."""
    first = memories[0]
    if isinstance(first, dict):
        return {name: join([memory[name] for memory in memories]) for name in first}
    if isinstance(first, tuple | list):
        return type(first)(join(parts) for parts in zip(*memories, strict=True))
    return torch.cat(list(memories)) if torch.is_tensor(first) else first


def row(memory: Memory, index: int) -> Memory:
    """One row of a memory, as a memory of one row."""
    if isinstance(memory, dict):
        return {name: row(part, index) for name, part in memory.items()}
    if isinstance(memory, tuple | list):
        return type(memory)(row(part, index) for part in memory)
    return memory[index : index + 1] if torch.is_tensor(memory) else memory
