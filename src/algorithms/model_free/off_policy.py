"""What Double DQN and SAC have in common: they collect and update alternately, from a replay of all experience."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from agent import Agent
from algorithms.base import Interleave, Phase, Surroundings
from algorithms.config import TrainCollectionConfig
from algorithms.model_free.config import MaxGradNorm, ModelFreeConfig, plain_training
from algorithms.model_free.draws import TransitionDraws
from component import Component, share_of_batch
from errors import UserError
from models.metrics import Metrics
from models.model_free import Transitions
from optimizers import OptimizerConfig
from ranges import Count, Fraction, Positive
from rl.policy import Policy
from run.random_state import numpy_generator


@dataclass(frozen=True, kw_only=True)
class TargetSection:
    """After `every` updates, target networks move a share `rate` of the way to the trained ones."""

    every: Count
    rate: Fraction


@dataclass(frozen=True, kw_only=True)
class OffPolicySection:
    """Updates on `batch_size` transitions of `num_steps` steps, `updates_per_step` for each observation.

    They begin when there are `prefill` observations. The last observation of an episode counts, too.
    """

    batch_size: Count
    updates_per_step: Positive
    prefill: Count
    num_steps: Count
    gamma: Fraction
    max_grad_norm: MaxGradNorm
    optimizer: OptimizerConfig
    target: TargetSection

    def check(self, name: str, train: TrainCollectionConfig) -> None:
        """Raise UserError if there would be no update, or nothing to draw from at the first one; `name` is theirs."""
        # Each environment has unfinished steps, and its last observation may not be a step.
        least = train.num_envs * (self.num_steps + 2)
        if self.prefill < least:
            raise UserError(
                f"{name}.prefill={self.prefill} is too few: with collection.train.num_envs={train.num_envs} and "
                f"{name}.num_steps={self.num_steps}, at least {least} observations are needed."
            )
        if train.num_steps_total < self.prefill:
            raise UserError(
                f"collection.train.num_steps_total={train.num_steps_total} is too few: the first update needs "
                f"{name}.prefill={self.prefill} observations."
            )


class Learner(Protocol):
    """A module whose `forward(transitions)` returns a loss and metrics."""

    def follow(self, rate: float) -> None:
        """Move its target networks a share `rate` of the way to the trained ones."""


class OffPolicy:
    """An algorithm with one component, which has the algorithm's name."""

    def __init__(
        self,
        name: str,
        config: ModelFreeConfig,
        section: OffPolicySection,
        agent: Agent,
        policy: Policy,
        learner: Learner,
        explore: Callable[[int], float],
        around: Surroundings,
    ) -> None:
        """`explore(n)` is the probability of a random action after n steps of training."""
        self.agent, self.policy = agent, policy
        self.components: dict[str, Component] = {}
        self._name = name
        self._config, self._section = config, section
        self._around = around
        self._learner = learner
        self._explore = explore
        if around.experience is not None:
            self._learn()

    def phases(self, epoch: int) -> list[Phase]:
        collect, section = self._config.collection.train.collect(epoch), self._section
        return [Interleave(collect, (self._name,), section.updates_per_step, section.prefill)]

    def world(self, num_envs: int) -> None:
        return None

    def epsilon(self) -> float:
        return self._explore(self._around.experience.replay.num_steps)

    def state_of_rank(self) -> dict[str, Any]:
        return self._draws.state_dict()

    def load_state_of_rank(self, state: dict[str, Any]) -> None:
        self._draws.load_state_dict(state)

    def _learn(self) -> None:
        around, section, name = self._around, self._section, self._name
        # An agent that only acts gets whole weights afterwards; those it started from may be gone.
        if (path := self._config.initialization.path_to_ckpt) is not None:
            self.agent.load(Path(path))
        generator = numpy_generator(around.seed, around.ranks.rank, *name.encode())
        num_frames, replay = self._config.agent.num_frames, around.experience.replay
        self._draws = TransitionDraws(replay, num_frames, section.num_steps, section.gamma, generator)
        training = plain_training(section.batch_size, section.max_grad_norm)
        self._share = share_of_batch(name, training, around.ranks)
        self.components[name] = Component(
            name,
            self._learner,
            self._next_batch,
            training,
            section.optimizer.make,
            around.precision,
            around.ranks,
            after_update=self._after_update,
        )

    def _next_batch(self) -> tuple[Transitions, Metrics]:
        metrics: dict[str, Tensor] = {"epsilon": torch.tensor(self.epsilon())}
        return self._draws.draw(self._share, self._around.device), metrics

    def _after_update(self, batches: list[tuple[Any, ...]]) -> None:
        target = self._section.target
        if self.components[self._name].num_updates % target.every == 0:
            self._learner.follow(target.rate)
