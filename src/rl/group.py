"""Environments that are stepped together, and what the policy that plays in them remembers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from data import Start, Step, to_device
from rl.exploration import Exploration
from rl.policy import Memory, Policy, Rememberer, send
from run.device import autocast


class Games(Protocol):
    """A vector environment that works on a step from `send` to `receive`, as `envs.RealEnv`."""

    num_envs: int
    num_actions: int

    def reset(self) -> Start: ...

    def send(self, act: Tensor) -> None: ...

    def receive(self) -> Step: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Choice:
    """Actions (b) for frames, and what the policy remembers of them, for columns of the replay."""

    act: Tensor
    extra: Mapping[str, Tensor]


class Group:
    """A policy plays in a vector environment: `begin_step` sends its actions, `end_step` returns what followed.

    The state can be saved at any time, also between the two.
    """

    def __init__(
        self,
        env: Games,
        policy: Policy,
        exploration: Exploration,
        precision: torch.dtype,
        device: torch.device | None,
    ) -> None:
        self.env = env
        self.obs: Tensor | None = None
        self._policy = policy
        self._remembers = isinstance(policy, Rememberer)
        self._exploration = exploration
        self._precision = precision
        self._device = device
        self._memory: Memory = None
        self._is_first: Tensor | None = None
        self._choice: Choice | None = None
        self._answer: Step | None = None

    def reset(self) -> None:
        """Start a new game in every environment."""
        self._receive()
        start, count = self.env.reset(), self.env.num_envs
        self.obs, self._memory = start.obs, self._policy.initial(count)
        self._is_first = torch.ones(count, dtype=torch.bool, device=start.obs.device)
        self._choice = self._answer = None

    def begin_step(self, at_random: bool, remembers: bool) -> None:
        """Choose actions, and send them to the games, unless that is done already.

        With `at_random`, all actions are uniformly random. With `remembers`, columns for the replay are kept.
        """
        if self._choice is not None:
            return
        home = self.obs.device
        device = home if self._device is None else self._device
        obs, is_first = to_device(self.obs, device), to_device(self._is_first, device)
        with autocast(device, self._precision):
            act, self._memory = self._policy.act(obs, self._memory, is_first)
        act = act.to(home)
        if at_random:
            act = torch.randint_like(act, self.env.num_actions)
        else:
            act = self._exploration.explore(act, self._is_first)
        extra: Mapping[str, Tensor] = {}
        if self._remembers:
            self._memory = self._policy.took(self._memory, to_device(act, device))
            if remembers:
                extra = {name: values.cpu() for name, values in self._policy.columns(self._memory).items()}
        self.env.send(act)
        self._choice = Choice(act, extra)

    def end_step(self, record: Callable[[Tensor, Choice, Step], None]) -> None:
        """Wait for the games; `record` gets the frames (b, c, h, w) before the step, the choice and the answer."""
        self._receive()
        choice, step = self._choice, self._answer
        record(self.obs, choice, step)
        self.obs, self._is_first = step.obs, step.dead
        self._choice = self._answer = None

    def state_dict(self) -> dict[str, Any]:
        self._receive()
        choice, step = self._choice, self._answer
        return {
            "env": self.env.state_dict(),
            "exploration": self._exploration.state_dict(),
            "obs": self.obs,
            "memory": self._memory,
            "is_first": self._is_first,
            "choice": None if choice is None else (choice.act, dict(choice.extra)),
            "answer": None if step is None else (step.obs, step.rew, step.end, step.trunc, step.final_obs),
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Go back to a saved state; the policy's memory is moved to `device`."""
        self.env.load_state_dict(state["env"])
        if state["exploration"] is not None:
            self._exploration.load_state_dict(state["exploration"])
        home = device if self._device is None else torch.device("cpu")
        self.obs, self._is_first, answer = send((state["obs"], state["is_first"], state["answer"]), home)
        self._memory = send(state["memory"], device)
        self._choice = None if state["choice"] is None else Choice(*state["choice"])
        self._answer = None if answer is None else Step(*answer)

    def _receive(self) -> None:
        """Wait until the games are ready."""
        if self._choice is not None and self._answer is None:
            self._answer = self.env.receive()
