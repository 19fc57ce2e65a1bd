"""Double DQN's settings."""

from dataclasses import dataclass

from algorithms.model_free.config import ModelFreeConfig
from algorithms.model_free.off_policy import OffPolicySection
from ranges import Fraction


@dataclass(frozen=True, kw_only=True)
class DdqnSection(OffPolicySection):
    """The probability of a random action falls linearly from 1 to `collection.train.epsilon`.

    It does so during the first `exploration` of the run's total number of steps.
    """

    exploration: Fraction


@dataclass(frozen=True, kw_only=True)
class DdqnConfig(ModelFreeConfig):
    ddqn: DdqnSection

    def check(self) -> None:
        super().check()
        self.ddqn.check("ddqn", self.collection.train)

    def explore(self, num_steps: int) -> float:
        """The probability of a random action after that many steps of training."""
        train = self.collection.train
        until = self.ddqn.exploration * train.num_steps_total
        done = min(1.0, num_steps / until) if until > 0 else 1.0
        return 1 - done + done * train.epsilon
