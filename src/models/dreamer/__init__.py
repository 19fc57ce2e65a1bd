"""DreamerV3 (Hafner et al. 2023): a recurrent model of the world, and an actor and a critic that learn in it."""

from models.dreamer.behaviour import (
    Predictions,
    Trajectories,
    behaviour_losses,
    continue_loss,
    imagine,
    replay_value_loss,
)
from models.dreamer.config import LossConfig, LossScales, NetworkConfig, level_widths
from models.dreamer.images import Decoder, Encoder
from models.dreamer.layers import BlockLinear, Mlp, RMSNorm
from models.dreamer.learner import Learner, Rows
from models.dreamer.returns import ReturnRange, imagined_returns, replayed_returns
from models.dreamer.rssm import Observed, Rssm, State
from models.dreamer.two_hot import TwoHot

__all__ = [
    "BlockLinear",
    "Decoder",
    "Encoder",
    "Learner",
    "LossConfig",
    "LossScales",
    "Mlp",
    "NetworkConfig",
    "Observed",
    "Predictions",
    "RMSNorm",
    "ReturnRange",
    "Rows",
    "Rssm",
    "State",
    "Trajectories",
    "TwoHot",
    "behaviour_losses",
    "continue_loss",
    "imagine",
    "imagined_returns",
    "level_widths",
    "replay_value_loss",
    "replayed_returns",
]
