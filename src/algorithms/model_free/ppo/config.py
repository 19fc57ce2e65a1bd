"""PPO's settings."""

from dataclasses import dataclass
from typing import Annotated

from algorithms.model_free.config import MaxGradNorm, ModelFreeConfig, plain_training
from errors import UserError
from models.model_free import PpoLossConfig
from optimizers import OptimizerConfig, TrainingConfig
from ranges import MOST, Between, Count, Fraction


@dataclass(frozen=True, kw_only=True)
class PpoSection:
    """A rollout has `num_steps` of each environment. It is learnt from `epochs` times, in `minibatches` each time.

    With `anneals_lr`, the learning rate falls linearly to zero over the run's total number of steps.
    """

    num_steps: Annotated[int, Between(2, MOST)]
    epochs: Count
    minibatches: Count
    gamma: Fraction
    lambda_: Fraction
    anneals_lr: bool
    max_grad_norm: MaxGradNorm
    losses: PpoLossConfig
    optimizer: OptimizerConfig

    @property
    def updates(self) -> int:
        """The number of updates after each rollout."""
        return self.epochs * self.minibatches

    def training(self, rollout: int) -> TrainingConfig:
        """The settings of the training loop for rollouts of that many steps."""
        return plain_training(rollout // self.minibatches, self.max_grad_norm)

    def lr_factor(self, num_updates: int, num_rollouts: int) -> float:
        """The share of the learning rate after that many updates: the same for all updates of a rollout."""
        return max(0.0, 1 - num_updates // self.updates / num_rollouts) if self.anneals_lr else 1.0


@dataclass(frozen=True, kw_only=True)
class PpoConfig(ModelFreeConfig):
    ppo: PpoSection

    @property
    def rollout(self) -> int:
        """The number of steps of a rollout, of all environments together."""
        return self.collection.train.num_envs * self.ppo.num_steps

    def check(self) -> None:
        super().check()
        train, rollout = self.collection.train, self.rollout
        if train.epsilon > 0:
            raise UserError(
                f"collection.train.epsilon={train.epsilon} must be 0: algorithm=ppo learns from its own actions."
            )
        settings = {
            "first_epoch.min": train.first_epoch.min,
            "first_epoch.max": train.first_epoch.max,
            "steps_per_epoch": train.steps_per_epoch,
        }
        for name, value in settings.items():
            if value % rollout:
                raise UserError(
                    f"collection.train.{name}={value} must be a multiple of {rollout}, the steps of a rollout "
                    "(collection.train.num_envs times ppo.num_steps)."
                )
        if train.first_epoch.min != train.first_epoch.max:
            raise UserError(
                f"collection.train.first_epoch.max={train.first_epoch.max} must be equal to its min="
                f"{train.first_epoch.min}: algorithm=ppo collects whole rollouts."
            )
        if rollout % self.ppo.minibatches or rollout == self.ppo.minibatches:
            raise UserError(
                f"ppo.minibatches={self.ppo.minibatches} must divide a rollout of {rollout} steps into equal parts of "
                "at least 2 (collection.train.num_envs times ppo.num_steps)."
            )
        if train.num_steps_total < rollout:
            raise UserError(
                f"collection.train.num_steps_total={train.num_steps_total} is too few: a rollout has {rollout} steps "
                "(collection.train.num_envs times ppo.num_steps)."
            )
