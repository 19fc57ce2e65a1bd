"""DreamerV3 (Hafner et al. 2023): a recurrent latent model of the world, and a policy that learns in imagination."""

from algorithms.base import Definition
from algorithms.dreamer.agent import count_actions
from algorithms.dreamer.algorithm import make_dreamer
from algorithms.dreamer.config import DreamerConfig

DEFINITION = Definition(
    config=DreamerConfig,
    make=make_dreamer,
    count_actions=count_actions,
    epoch_line={
        "return": "collection/test/return_mean",
        "training return": "collection/train/return_mean",
        "image loss": "dreamer/train/loss_image",
        "policy entropy": "dreamer/train/policy_entropy",
    },
    summary={"Image loss": "dreamer/train/loss_image"},
)
