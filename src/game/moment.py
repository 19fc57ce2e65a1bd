"""The world that a player is in, and what is seen there at one moment."""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from algorithms.base import ContinuingWorld, World
from data import Step
from envs import RealEnv


@dataclass(frozen=True)
class Place:
    """One environment to play in; `original` is the same game with frames in its own size."""

    name: str
    label: str
    env: World | RealEnv
    original: RealEnv | None = None

    @cached_property
    def imagined(self) -> World | None:
        """The environment, if it is imagined."""
        return None if isinstance(self.env, RealEnv) else self.env

    @property
    def shows_rewards(self) -> bool:
        return self.imagined is None or self.imagined.shows_rewards

    @property
    def shows_continue(self) -> bool:
        """Whether the world says with which probability an episode continues."""
        return isinstance(self.env, ContinuingWorld) and self.env.tells_continue


@dataclass(frozen=True)
class Moment:
    """What is seen now, what led to it, and what the policy thinks of it.

    `full_obs` is the upsampler's frame, `original_obs` the real game's frame in its own size. `going_on` is the
    probability with which the world let the episode continue, if it says so. `probs` are for the next action,
    `probs_before` those that `act` was chosen by.
    """

    obs: Tensor
    original_obs: Tensor | None = None
    full_obs: Tensor | None = None
    step: int = 0
    total: float = 0.0
    act: int | Tensor | None = None
    rew: float = 0.0
    end: bool = False
    trunc: bool = False
    going_on: float | None = None
    probs: tuple[float, ...] = ()
    probs_before: tuple[float, ...] = ()
    value: float = 0.0

    @property
    def is_last(self) -> bool:
        """Whether the episode is over."""
        return self.end or self.trunc

    def after(self, answer: Step, acts: Tensor, original_obs: Tensor | None) -> "Moment":
        """The next moment of the episode, to which actions (1), or vectors (1, size), led."""
        rew, end, trunc = torch.stack((answer.rew[0], answer.end[0].float(), answer.trunc[0].float())).tolist()
        return replace(
            self,
            obs=answer.final_obs,
            original_obs=original_obs,
            full_obs=answer.final_full_obs,
            step=self.step + 1,
            total=self.total + rew,
            act=int(acts[0]) if acts.ndim == 1 else acts[0],
            rew=rew,
            end=bool(end),
            trunc=bool(trunc),
            going_on=None if answer.going_on is None else float(answer.going_on[0]),
            probs_before=self.probs,
        )

    @property
    def entropy(self) -> float:
        """Of the policy, in bits."""
        return -sum(share * math.log2(share) for share in self.probs if share > 0)
