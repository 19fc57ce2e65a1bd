"""Collection of episodes: a policy plays in real environments, and its episodes are stored."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data import Episode, Step
from rl.exploration import Epsilon, Exploration
from rl.group import Choice, Games, Group
from rl.policy import Policy
from rl.results import Results
from run.device import casts_kept, one_thread

Store = Callable[[Episode, int | None], int]
"""Stores a new episode, or further steps of the episode with the given id; returns the episode's id."""


@dataclass
class _Unfinished:
    """Steps of the current episode that are not stored yet, and the episode's id if earlier steps are stored."""

    episode_id: int | None = None
    obs: list[Tensor] = field(default_factory=list)
    answers: list[tuple[int, float, bool, bool]] = field(default_factory=list)
    """Action, reward, end and truncation of each step."""
    extra: list[dict[str, Tensor]] = field(default_factory=list)
    """What the policy remembered at each step, for columns of the replay."""

    def __len__(self) -> int:
        return len(self.obs)


class Collector:
    """Collects episodes across calls of `step`: games and the policy's memory continue from one call to the next.

    Its state can be saved between any two steps. An episode is stored when it is over; `store_unfinished` stores the
    steps of unfinished episodes. With several groups of environments, the policy acts in one of them while the games
    of the others are emulated; it gets one thread then, and leaves the other cores to the emulators.
    """

    def __init__(
        self,
        envs: Games | Sequence[Games],
        policy: Policy,
        store: Store | None,
        epsilon: Epsilon,
        precision: torch.dtype = torch.float32,
        device: torch.device | None = None,
        zeta: float | None = None,
    ) -> None:
        """Plays in one vector environment, or in several of the same games: groups that take turns.

        Random actions are taken as `Exploration` says about `epsilon` and `zeta`.
        The policy runs in `precision`. With `store=None` no frames are kept, only returns and lengths of episodes.
        `device`: where the policy runs; by default, where the environment's frames are. Episodes are kept in main
        memory, so the frames of an environment that returns them there travel only once: to the policy.
        """
        self._groups = [
            Group(env, policy, Exploration(epsilon, zeta, env.num_envs, env.num_actions), precision, device)
            for env in (envs if isinstance(envs, Sequence) else [envs])
        ]
        self.num_envs = sum(group.env.num_envs for group in self._groups)
        self.store = store
        self.num_steps = 0
        self.episodes_of: list[int] = []
        self.returns: list[float] = []
        self.lengths: list[int] = []
        self._quota: list[int] | None = None
        self._at_random = False
        self._unfinished: list[_Unfinished] = []
        self._totals = [0.0] * self.num_envs
        self._ages = [0] * self.num_envs

    def begin(self, num_episodes: int | None = None, at_random: bool = False) -> None:
        """Reset every environment. All steps are stored, or, with `num_episodes` (evaluation), that many episodes.

        With `at_random`, all actions are uniformly random. Each environment plays a fixed share of the episodes:
        otherwise short episodes would be overrepresented.
        """
        for group in self._groups:
            group.reset()
        count = self.num_envs
        self._unfinished = [_Unfinished() for _ in range(count)]
        self._totals, self._ages, self.episodes_of = [0.0] * count, [0] * count, [0] * count
        self._quota, self._at_random = None, at_random
        if num_episodes is not None:
            self._quota = [num_episodes // count + (index < num_episodes % count) for index in range(count)]
        self.forget_results()

    def rest(self) -> Iterator[int]:
        """Play until every environment has played its share; yields the number of episodes played, after each step."""
        while not self.is_complete:
            self.step()
            yield len(self.returns)

    def forget_results(self) -> None:
        """Reset the number of steps, and the returns and lengths of finished episodes."""
        self.num_steps, self.returns, self.lengths = 0, [], []

    @property
    def results(self) -> Results:
        """Of the episodes that ended since `begin` or `forget_results`."""
        return Results(tuple(self.returns), tuple(self.lengths))

    @property
    def has_begun(self) -> bool:
        return self._groups[0].obs is not None

    @property
    def is_complete(self) -> bool:
        """Whether every environment has played its share of the episodes."""
        return self._quota is not None and all(
            done >= share for done, share in zip(self.episodes_of, self._quota, strict=True)
        )

    def glance(self) -> tuple[Tensor, float]:
        """The frame uint8 (c, h, w) and the return so far of the first environment that has episodes left."""
        quota = self._quota or [None] * self.num_envs
        left = [index for index, share in enumerate(quota) if share is None or self.episodes_of[index] < share]
        index = left[0] if left else 0
        frames = [frame for group in self._groups for frame in group.obs]
        return frames[index], self._totals[index]

    @torch.no_grad()
    def step(self, ahead: bool = False) -> None:
        """One step of every environment.

        With `ahead`, the next step begins, too: then games are emulated at any time. Not before weights change: the
        next actions would be those of the old ones.
        """
        with casts_kept(), one_thread() if len(self._groups) > 1 else contextlib.nullcontext():
            self._begin_step(self._groups)
            first = 0
            for group in self._groups:
                group.end_step(partial(self._record, first))
                first += group.env.num_envs
                if ahead:
                    self._begin_step([group])

    def _begin_step(self, groups: Sequence[Group]) -> None:
        for group in groups:
            group.begin_step(self._at_random, remembers=self._quota is None)

    def store_unfinished(self) -> None:
        """Store the steps of unfinished episodes; later steps will extend them."""
        for unfinished in self._unfinished:
            if len(unfinished) > 0:
                unfinished.episode_id = self.store(_episode(unfinished), unfinished.episode_id)
                unfinished.obs, unfinished.answers, unfinished.extra = [], [], []

    @property
    def num_stored_steps(self) -> int:
        """The number of counted steps that are stored."""
        return self.num_steps - sum(len(unfinished) for unfinished in self._unfinished)

    def unstored_rewards(self) -> Counter[float]:
        """Counts of each sign of the reward in the steps that are not stored yet."""
        return Counter(float(np.sign(rew)) for unfinished in self._unfinished for _, rew, *_ in unfinished.answers)

    def state_dict(self) -> dict[str, Any]:
        unfinished = [
            {
                "episode_id": each.episode_id,
                "obs": torch.stack(each.obs) if each.obs else None,
                "answers": list(each.answers),
                "extra": list(each.extra),
            }
            for each in self._unfinished
        ]
        counts = {name: getattr(self, name) for name in _COUNTS}
        groups = [group.state_dict() for group in self._groups]
        return {"groups": groups, "unfinished": unfinished, "counts": counts}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Go back to a saved state; the policy's memory is moved to `device`."""
        for group, its_state in zip(self._groups, _groups_of(state), strict=True):
            group.load_state_dict(its_state, device)
        self._unfinished = [
            _Unfinished(
                each["episode_id"],
                [] if each["obs"] is None else list(each["obs"]),
                list(each["answers"]),
                list(each.get("extra", [{}] * len(each["answers"]))),
            )
            for each in state["unfinished"]
        ]
        for name in _COUNTS:
            setattr(self, name, state["counts"].get(name, False))  # earlier versions did not play at random

    def _record(self, first: int, obs: Tensor, choice: Choice, step: Step) -> None:
        """Keep a step of a group whose first environment has the number `first`."""
        answers = zip(choice.act.tolist(), step.rew.tolist(), step.end.tolist(), step.trunc.tolist(), strict=True)
        obs = obs.cpu()
        for row, answer in enumerate(answers):
            index = first + row
            if self._quota is not None and self.episodes_of[index] >= self._quota[index]:
                continue
            unfinished = self._unfinished[index]
            _, rew, end, trunc = answer
            self.num_steps += 1
            self._totals[index] += rew
            self._ages[index] += 1
            if self.store is not None:
                # A copy: a view would keep the frames of all environments in memory.
                unfinished.obs.append(obs[row].clone())
                unfinished.answers.append(answer)
                unfinished.extra.append({name: values[row].clone() for name, values in choice.extra.items()})
            if end or trunc:
                self._finish(index, step.final_obs[row].cpu().clone())

    def _finish(self, index: int, final_obs: Tensor) -> None:
        unfinished = self._unfinished[index]
        if self.store is not None:
            self.store(_episode(unfinished, final_observation=final_obs), unfinished.episode_id)
        self.returns.append(self._totals[index])
        self.lengths.append(self._ages[index])
        self.episodes_of[index] += 1
        self._unfinished[index], self._totals[index], self._ages[index] = _Unfinished(), 0.0, 0


_COUNTS = ("num_steps", "episodes_of", "returns", "lengths", "_quota", "_at_random", "_totals", "_ages")
"""Names of the attributes that a collector's state holds as counts."""


def _episode(unfinished: _Unfinished, **info: Tensor) -> Episode:
    act, rew, end, trunc = zip(*unfinished.answers, strict=True)
    flags = [torch.tensor(column, dtype=torch.uint8) for column in (end, trunc)]
    extra = {name: torch.stack([each[name] for each in unfinished.extra]) for name in unfinished.extra[0]}
    return Episode(torch.stack(unfinished.obs), torch.tensor(act), torch.tensor(rew), *flags, info=info, extra=extra)


def _groups_of(state: dict[str, Any]) -> list[dict[str, Any]]:
    """The states of the groups; a collector of earlier versions has one, which never begins a step ahead."""
    if "groups" in state:
        return state["groups"]
    return [
        {
            "env": state["env"],
            "exploration": state.get("exploration"),
            **state["position"],
            "choice": None,
            "answer": None,
        }
    ]
