"""Networks that learn from real experience alone, and their losses: PPO, Double DQN, discrete SAC."""

from models.model_free.discrete_sac import DiscreteSacLearner, Outputs, Temperature, discrete_sac_losses
from models.model_free.double_dqn import DoubleDqnLearner, NextValues, double_dqn_loss
from models.model_free.ppo import Minibatch, PpoLossConfig, PpoNetwork, ppo_loss
from models.model_free.transitions import Transitions
from models.model_free.trunk import EncoderConfig, NatureCnnConfig, Network, Trunk, TrunkConfig

__all__ = [
    "DiscreteSacLearner",
    "DoubleDqnLearner",
    "EncoderConfig",
    "Minibatch",
    "NatureCnnConfig",
    "Network",
    "NextValues",
    "Outputs",
    "PpoLossConfig",
    "PpoNetwork",
    "Temperature",
    "Transitions",
    "Trunk",
    "TrunkConfig",
    "discrete_sac_losses",
    "double_dqn_loss",
    "ppo_loss",
]
