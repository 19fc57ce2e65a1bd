"""Double DQN (van Hasselt et al. 2016): action values from a replay, with a target network and ε-greedy actions."""

from functools import partial

from algorithms.base import Definition
from algorithms.model_free.config import count_outputs
from algorithms.model_free.ddqn.algorithm import make_ddqn
from algorithms.model_free.ddqn.config import DdqnConfig

DEFINITION = Definition(
    config=DdqnConfig,
    make=make_ddqn,
    count_actions=partial(count_outputs, layer="online.head", name="ddqn"),
    epoch_line={
        "return": "collection/test/return_mean",
        "training return": "collection/train/return_mean",
        "loss": "ddqn/train/loss",
        "epsilon": "ddqn/train/epsilon",
    },
    summary={"Mean action value": "ddqn/train/value_mean"},
)
