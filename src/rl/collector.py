"""Collection of episodes: a policy plays in a real environment, and what happens is stored."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from data import Episode, Step
from models.actor_critic import ActorCritic
from models.blocks import LstmState
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
    obs: list[Tensor] = field(default_factory=list)
    answers: list[tuple[int, float, bool, bool]] = field(default_factory=list)
    """Action, reward, end and truncation of each step."""

    def __len__(self) -> int:
        return len(self.obs)


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
        self._hx_cx: LstmState | None = None
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
            if len(unfinished) > 0:
                unfinished.episode_id = self.store(_episode(unfinished), unfinished.episode_id)
                unfinished.obs, unfinished.answers = [], []

    @property
    def num_stored_steps(self) -> int:
        """How many of the counted steps are stored already."""
        return self.num_steps - sum(len(unfinished) for unfinished in self._unfinished)

    def unstored_rewards(self) -> Counter[float]:
        """How often each sign of the reward occurs in the steps that are not stored yet."""
        return Counter(float(np.sign(rew)) for unfinished in self._unfinished for _, rew, *_ in unfinished.answers)

    def state_dict(self) -> dict[str, Any]:
        unfinished = [
            {
                "episode_id": each.episode_id,
                "obs": torch.stack(each.obs) if each.obs else None,
                "answers": list(each.answers),
            }
            for each in self._unfinished
        ]
        names = ("num_steps", "episodes_of", "returns", "lengths", "_quota", "_obs", "_hx_cx", "_totals", "_ages")
        return {"env": self.env.state_dict(), "unfinished": unfinished, **{name: getattr(self, name) for name in names}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        device = self.policy.critic_linear.weight.device
        self.env.load_state_dict(state["env"])
        self._unfinished = [
            _Unfinished(each["episode_id"], [] if each["obs"] is None else list(each["obs"]), list(each["answers"]))
            for each in state["unfinished"]
        ]
        for name in state.keys() - {"env", "unfinished"}:
            setattr(self, name, state[name])
        if self._obs is not None:
            self._obs = self._obs.to(device)
            self._hx_cx = tuple(memory.to(device) for memory in self._hx_cx)

    def _record(self, act: Tensor, step: Step) -> None:
        answers = zip(act.tolist(), step.rew.tolist(), step.end.tolist(), step.trunc.tolist(), strict=True)
        obs = self._obs.cpu()
        for index, (unfinished, answer) in enumerate(zip(self._unfinished, answers, strict=True)):
            if self._quota is not None and self.episodes_of[index] >= self._quota[index]:
                continue
            _, rew, end, trunc = answer
            self.num_steps += 1
            self._totals[index] += rew
            self._ages[index] += 1
            # A copy, as a view of one environment would keep the frames of all alive.
            unfinished.obs.append(obs[index].clone())
            unfinished.answers.append(answer)
            if end or trunc:
                self._finish(index, step.final_obs[index].cpu().clone())

    def _finish(self, index: int, final_obs: Tensor) -> None:
        unfinished = self._unfinished[index]
        self.store(_episode(unfinished, final_observation=final_obs), unfinished.episode_id)
        self.returns.append(self._totals[index])
        self.lengths.append(self._ages[index])
        self.episodes_of[index] += 1
        self._unfinished[index], self._totals[index], self._ages[index] = _Unfinished(), 0.0, 0


def _episode(unfinished: _Unfinished, **info: Tensor) -> Episode:
    act, rew, end, trunc = zip(*unfinished.answers, strict=True)
    flags = [torch.tensor(column, dtype=torch.uint8) for column in (end, trunc)]
    return Episode(torch.stack(unfinished.obs), torch.tensor(act), torch.tensor(rew), *flags, info=info)
