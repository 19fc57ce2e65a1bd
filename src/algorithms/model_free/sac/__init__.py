"""Discrete SAC (Christodoulou 2019): a policy with as much entropy as is asked for, and two critics."""

from functools import partial

from algorithms.base import Definition
from algorithms.model_free.config import count_outputs
from algorithms.model_free.sac.algorithm import make_sac
from algorithms.model_free.sac.config import SacConfig

DEFINITION = Definition(
    config=SacConfig,
    make=make_sac,
    count_actions=partial(count_outputs, layer="actor.head", name="sac"),
    epoch_line={
        "return": "collection/test/return_mean",
        "training return": "collection/train/return_mean",
        "loss of the critics": "sac/train/loss_critics",
        "policy entropy": "sac/train/entropy",
    },
    summary={"Policy entropy": "sac/train/entropy", "Temperature": "sac/train/temperature"},
)
