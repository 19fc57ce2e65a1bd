"""REINFORCE with a linear policy: an example of an algorithm outside of the project.

It adds a replay column, `visits`: the number of times that a step was learnt from, which lowers the weight of the step.
The policy that acts is a moving average over updates of the policy that is trained.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from agent import Agent
from algorithms.base import Definition, Interleave, Phase, Surroundings
from algorithms.config import TrainerConfig
from component import Component, share_of_batch
from data import Batch, Draws, SegmentConfig
from models.metrics import Metrics
from optimizers import OptimizerConfig, TrainingConfig
from ranges import Count, Fraction, Positive, SampleWeights
from run.random_state import numpy_generator


@dataclass(frozen=True, kw_only=True)
class ReinforceSection:
    training: TrainingConfig
    optimizer: OptimizerConfig
    length: Count
    age_weights: SampleWeights
    gamma: Fraction
    decay: Fraction
    ratio: Positive


@dataclass(frozen=True, kw_only=True)
class ReinforceConfig(TrainerConfig):
    reinforce: ReinforceSection


class LinearPolicy(nn.Module):
    def __init__(self, num_inputs: int, num_actions: int, gamma: float) -> None:
        super().__init__()
        self.linear, self.gamma = nn.Linear(num_inputs, num_actions), gamma

    def forward(self, batch: Batch) -> tuple[Tensor, Metrics, Tensor]:
        log_probs = self.linear(batch.frames.flatten(2)).log_softmax(-1).gather(-1, batch.act[..., None])[..., 0]
        returns, later = torch.zeros_like(batch.rew), torch.zeros_like(batch.rew[:, 0])
        for step in range(batch.rew.size(1) - 1, -1, -1):
            later = returns[:, step] = batch.rew[:, step] + self.gamma * (1 - batch.end[:, step].float()) * later
        weights = batch.mask_padding / (1 + batch.extra["visits"])
        loss = -(log_probs * (returns - returns.mean()) * weights).sum() / weights.sum()
        return loss, {"loss": loss.detach(), "return_mean": returns.mean()}, batch.extra["visits"] + 1


class Reinforce:
    def __init__(self, config: ReinforceConfig, around: Surroundings) -> None:
        self._config, self._around, self.policy = config, around, self
        sizes = (torch.Size(around.spaces.frame).numel(), around.spaces.actions.size, config.reinforce.gamma)
        self.agent = Agent({"policy": LinearPolicy(*sizes), "average": LinearPolicy(*sizes)}).to(around.device)
        self.agent.average.load_state_dict(self.agent.policy.state_dict())
        self.components: dict[str, Component] = {}
        if around.experience is not None:
            section, name = config.reinforce, "policy"
            around.experience.replay.add_column("visits", (), torch.float32)
            generator = numpy_generator(around.seed, around.ranks.rank)
            self._draws = Draws(
                SegmentConfig(section.length, section.age_weights), around.experience, generator, around.device
            )
            share = share_of_batch(name, section.training, around.ranks)
            self.components[name] = Component(
                name,
                self.agent.policy,
                lambda: (self._draws(share), {}),
                section.training,
                section.optimizer.make,
                around.precision,
                around.ranks,
                after_update=self._after_update,
            )

    def phases(self, epoch: int) -> list[Phase]:
        return [Interleave(self._config.collection.train.collect(epoch), ("policy",), self._config.reinforce.ratio)]

    def world(self, num_envs: int) -> None:
        return None

    def initial(self, batch_size: int) -> tuple[()]:
        return ()

    def act(self, obs: Tensor, memory: tuple[()], is_first: Tensor) -> tuple[Tensor, tuple[()]]:
        logits = self.agent.average.linear(obs.flatten(1).float() / 127.5 - 1)
        return torch.distributions.Categorical(logits=logits.float()).sample(), memory

    def state_of_rank(self) -> dict[str, Any]:
        return self._draws.state_dict()

    def load_state_of_rank(self, state: dict[str, Any]) -> None:
        self._draws.load_state_dict(state)

    @torch.no_grad()
    def _after_update(self, batches: list[tuple[Batch, Tensor]]) -> None:
        for batch, visits in batches:
            self._around.experience.replay.write("visits", batch.segments, visits)
        for slow, fast in zip(self.agent.average.parameters(), self.agent.policy.parameters(), strict=True):
            slow.lerp_(fast, 1 - self._config.reinforce.decay)


DEFINITION = Definition(
    config=ReinforceConfig,
    make=Reinforce,
    count_actions=lambda weights: len(weights["policy.linear.bias"]),
    epoch_line={"return": "collection/train/return_mean", "policy loss": "policy/train/loss"},
)
