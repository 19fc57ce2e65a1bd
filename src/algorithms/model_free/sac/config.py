"""Discrete SAC's settings."""

import math
from dataclasses import dataclass

from algorithms.model_free.config import ModelFreeConfig
from algorithms.model_free.off_policy import OffPolicySection
from ranges import Fraction, Positive


@dataclass(frozen=True, kw_only=True)
class SacSection(OffPolicySection):
    """The temperature starts at `temperature`, and holds the entropy at the share `entropy` of the largest one."""

    temperature: Positive
    entropy: Fraction

    def target_entropy(self, num_actions: int) -> float:
        """The entropy to hold, in nats."""
        return self.entropy * math.log(num_actions)


@dataclass(frozen=True, kw_only=True)
class SacConfig(ModelFreeConfig):
    sac: SacSection

    def check(self) -> None:
        super().check()
        self.sac.check("sac", self.collection.train)

    def explore(self, num_steps: int) -> float:
        """The probability of a random action after that many steps: all are random until the first update."""
        return 1.0 if num_steps < self.sac.prefill else self.collection.train.epsilon
