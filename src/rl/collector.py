"""Collection of episodes: a policy plays in a real environment, and what happens is stored."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from data import Episode, Step
from models.actor_critic import ActorCritic
from models.blocks import Memory
from models.losses import sample_categorical
from rl.rollout import Env
from run.device import autocast

Store = Callable[[Episode, int | None], int]
"""Takes a new episode, or (with a number) the later steps of an unfinished one; returns the episode's number."""


class CollectableEnv(Env, Protocol):
    """A real environment: its actions can be counted."""

    num_actions: int


@dataclass
class _Unfinished:
    """Steps of the current episode that are not stored yet, and the number of the episode they belong to, if any."""

    episode_id: int | None = None
    steps: list[tuple[Tensor, ...]] = field(default_factory=list)


class Collector:
    """Plays on from where it stopped, with the policy's memory; its state is complete between any two steps.

    Episodes are stored when they are over, the unfinished ones by `store_unfinished`.
    """

    def __init__(
        self,
        env: CollectableEnv,
        policy: ActorCritic,
        store: Store,
        epsilon: float,
        precision: torch.dtype = torch.float32,
    ) -> None:
        """The policy acts at random with probability `epsilon`, and runs in `precision`."""
        self.env = env
        self.policy = policy
        self.store = store
        self.epsilon = epsilon
        self.precision = precision
        self.num_steps = 0
        self.episodes_of: list[int] = []
        self.returns: list[float] = []
        self.lengths: list[int] = []
        self._quota: list[int] | None = None
        self._obs: Tensor | None = None
        self._hx_cx: Memory | None = None
        self._unfinished: list[_Unfinished] = []
        self._totals = [0.0] * env.num_envs
        self._ages = [0] * env.num_envs

    def begin(self, num_episodes: int | None = None) -> None:
        """Begin anew in every environment, to store all steps, or (evaluation) that many episodes in all.

        Each environment plays its fixed share of the episodes, so that short ones are not preferred.
        """
        start, count = self.env.reset(), self.env.num_envs
        self._obs, self._hx_cx = start.obs, self.policy.initial_memory(count)
        self._unfinished = [_Unfinished() for _ in range(count)]
        self._totals, self._ages, self.episodes_of = [0.0] * count, [0] * count, [0] * count
        self._quota = None
        if num_episodes is not None:
            self._quota = [num_episodes // count + (index < num_episodes % count) for index in range(count)]
        self.forget_results()

    def forget_results(self) -> None:
        """Start counting steps, returns and lengths of finished episodes anew."""
        self.num_steps, self.returns, self.lengths = 0, [], []

    @property
    def has_begun(self) -> bool:
        return self._obs is not None

    @property
    def is_complete(self) -> bool:
        """Whether every environment has played its share of the episodes."""
        return self._quota is not None and all(
            done >= share for done, share in zip(self.episodes_of, self._quota, strict=True)
        )

    @torch.no_grad()
    def step(self) -> None:
        """One step of every environment."""
        with autocast(self._obs.device, self.precision):
            logits, _, hx_cx = self.policy.predict(self._obs, self._hx_cx)
        act = sample_categorical(logits)
        if self.epsilon > 0:
            explore = torch.rand(len(act), device=act.device) < self.epsilon
            act = torch.where(explore, torch.randint_like(act, self.env.num_actions), act)
        step = self.env.step(act)
        self._record(act, step)
        self._obs = step.obs
        self._hx_cx = tuple(torch.where(step.dead[:, None], 0, memory) for memory in hx_cx)

    def store_unfinished(self) -> None:
        """Store the steps of episodes that are still going on; later steps will extend them."""
        for unfinished in self._unfinished:
            if unfinished.steps:
                unfinished.episode_id = self.store(_episode(unfinished.steps), unfinished.episode_id)
                unfinished.steps = []

    @property
    def num_stored_steps(self) -> int:
        """How many of the counted steps are stored already."""
        return self.num_steps - sum(len(unfinished.steps) for unfinished in self._unfinished)

    def unstored_rewards(self) -> Counter[float]:
        """How often each sign of the reward occurs in the steps that are not stored yet."""
        return Counter(float(step[2].sign()) for unfinished in self._unfinished for step in unfinished.steps)

    def state_dict(self) -> dict[str, Any]:
        unfinished = [
            {"episode_id": each.episode_id, "steps": [torch.stack(column) for column in zip(*each.steps, strict=True)]}
            for each in self._unfinished
        ]
        names = ("num_steps", "episodes_of", "returns", "lengths", "_quota", "_obs", "_hx_cx", "_totals", "_ages")
        return {"env": self.env.state_dict(), "unfinished": unfinished, **{name: getattr(self, name) for name in names}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        device = self.policy.critic_linear.weight.device
        self.env.load_state_dict(state["env"])
        self._unfinished = [
            _Unfinished(each["episode_id"], list(zip(*each["steps"], strict=True))) for each in state["unfinished"]
        ]
        for name in state.keys() - {"env", "unfinished"}:
            setattr(self, name, state[name])
        if self._obs is not None:
            self._obs = self._obs.to(device)
            self._hx_cx = tuple(memory.to(device) for memory in self._hx_cx)

    def _record(self, act: Tensor, step: Step) -> None:
        obs, act, rew, end, trunc, final_obs = [
            values.cpu() for values in (self._obs, act, step.rew, step.end, step.trunc, step.final_obs)
        ]
        columns = (obs, act, rew, end.byte(), trunc.byte())
        for index, unfinished in enumerate(self._unfinished):
            if self._quota is not None and self.episodes_of[index] >= self._quota[index]:
                continue
            self.num_steps += 1
            self._totals[index] += float(rew[index])
            self._ages[index] += 1
            # Copies, as a view of one environment would keep the frames of all alive.
            unfinished.steps.append(tuple(column[index].clone() for column in columns))
            if end[index] or trunc[index]:
                self._finish(index, final_obs[index].clone())

    def _finish(self, index: int, final_obs: Tensor) -> None:
        unfinished = self._unfinished[index]
        self.store(_episode(unfinished.steps, final_observation=final_obs), unfinished.episode_id)
        self.returns.append(self._totals[index])
        self.lengths.append(self._ages[index])
        self.episodes_of[index] += 1
        self._unfinished[index], self._totals[index], self._ages[index] = _Unfinished(), 0.0, 0


def _episode(steps: list[tuple[Tensor, ...]], **info: Tensor) -> Episode:
    return Episode(*[torch.stack(column) for column in zip(*steps, strict=True)], info=info)
