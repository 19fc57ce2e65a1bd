"""PPO (Schulman et al. 2017): updates on whole rollouts, within a small distance of the policy that acted."""

from functools import partial

from algorithms.base import Definition
from algorithms.model_free.config import count_outputs
from algorithms.model_free.ppo.algorithm import make_ppo
from algorithms.model_free.ppo.config import PpoConfig

DEFINITION = Definition(
    config=PpoConfig,
    make=make_ppo,
    count_actions=partial(count_outputs, layer="network.actor", name="ppo"),
    epoch_line={
        "return": "collection/test/return_mean",
        "training return": "collection/train/return_mean",
        "value loss": "ppo/train/loss_values",
        "policy entropy": "ppo/train/entropy",
    },
    summary={"Policy entropy": "ppo/train/entropy"},
)
