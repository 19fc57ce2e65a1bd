"""PPO's training: it collects a rollout, learns from it, and forgets it."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agent import Agent
from algorithms.base import Collect, Phase, Surroundings, Update
from algorithms.model_free.config import require_numbered
from algorithms.model_free.frames import FrameStack
from algorithms.model_free.ppo.config import PpoConfig
from algorithms.model_free.ppo.policy import LOG_PROB, VALUE, PpoPolicy
from algorithms.model_free.ppo.rebuilding import rebuild
from algorithms.model_free.ppo.rollouts import Rollout, RolloutReader
from component import Component, share_of_batch
from models.metrics import Metrics
from models.model_free import Minibatch, PpoNetwork
from run.compiled import uncompiled
from run.device import autocast
from run.random_state import numpy_generator

NAME = "ppo"


def make_ppo(config: PpoConfig, around: Surroundings) -> "Ppo":
    """Make the network for the given data, and the component that trains it if there is experience."""
    num_actions = require_numbered(around.spaces, NAME)
    network = PpoNetwork(config.agent, around.spaces.frame, num_actions, config.ppo.losses)
    agent = Agent({"network": network}).to(around.device)
    # An agent that only acts gets whole weights afterwards; those it started from may be gone.
    if config.initialization.path_to_ckpt is not None and around.experience is not None:
        agent.load(Path(config.initialization.path_to_ckpt))
    return Ppo(config, agent, network, around)


class Ppo:
    """One component trains policy and value."""

    def __init__(self, config: PpoConfig, agent: Agent, network: PpoNetwork, around: Surroundings) -> None:
        self.agent = agent
        self.policy = PpoPolicy(network, FrameStack(config.agent.num_frames, around.spaces.frame, around.device))
        self.components: dict[str, Component] = {}
        self._config, self._section = config, config.ppo
        self._around = around
        self._network = network
        self._rollout: Rollout | None = None
        self._order = np.zeros(0, np.int64)
        if around.experience is not None:
            self._learn()

    def phases(self, epoch: int) -> list[Phase]:
        """As many rollouts as the epoch has, each followed by its updates."""
        train, rollout = self._config.collection.train, self._config.rollout
        wanted = train.first_epoch.min if epoch == 1 else train.steps_per_epoch
        before = 0 if epoch == 1 else train.first_epoch.min + (epoch - 2) * train.steps_per_epoch
        count = math.ceil(min(wanted, train.num_steps_total - before) / rollout)
        return [Collect(rollout), Update(NAME, self._section.updates)] * count

    def world(self, num_envs: int) -> None:
        return None

    def state_of_rank(self) -> dict[str, Any]:
        return {
            "reader": self._reader.state_dict(),
            "rollout": None if self._rollout is None else self._rollout.state_dict(),
            "order": torch.from_numpy(self._order),
            "generator": self._generator.bit_generator.state,
        }

    def load_state_of_rank(self, state: dict[str, Any]) -> None:
        self._reader.load_state_dict(state["reader"])
        self._rollout = None if state["rollout"] is None else Rollout.of(state["rollout"])
        self._order = state["order"].numpy().copy()
        self._generator.bit_generator.state = state["generator"]

    def rebuild_columns(self) -> None:
        """Without them and the state of the ranks, the newest steps are the next rollout."""
        rebuild(self._reader.replay, self._network, self._config.agent.num_frames, self._around.device)
        self._reader.forget(self._config.rollout)

    def _learn(self) -> None:
        around, config, section = self._around, self._config, self._section
        replay, ranks = around.experience.replay, around.ranks
        for column in (LOG_PROB, VALUE):
            replay.add_column(column, (), torch.float32)
        self._reader = RolloutReader(replay, config.agent.num_frames, section.gamma, section.lambda_, self._evaluate)
        # The same on every rank: they share the minibatches of one order.
        self._generator = numpy_generator(around.seed, *NAME.encode())
        training = section.training(config.rollout)
        self._share = share_of_batch(NAME, training, ranks)
        num_rollouts = math.ceil(config.collection.train.num_steps_total / config.rollout)
        self.components[NAME] = Component(
            NAME,
            self._network,
            self._next_minibatch,
            training,
            section.optimizer.make,
            around.precision,
            ranks,
            before_phase=self._begin,
            lr_factor=partial(section.lr_factor, num_rollouts=num_rollouts),
        )

    def _begin(self) -> None:
        rollout = self._reader.read()
        # A last, short rollout can consist of steps that wait for a next one.
        self._rollout = self._rollout if len(rollout) == 0 else rollout

    def _next_minibatch(self) -> tuple[Minibatch, Metrics]:
        if self._rollout is None:
            self._begin()
        number = self.components[NAME].num_updates_in_phase % self._section.minibatches
        if number == 0 or len(self._order) == 0:
            # All minibatches have one size, which compiled networks need; the sizes of rollouts differ a little.
            order = self._generator.permutation(len(self._rollout))
            self._order = np.resize(order, self._config.rollout)
        ranks = self._around.ranks
        start = (number * ranks.world_size + ranks.rank) * self._share
        chosen = self._order[start : start + self._share]
        num_frames = self._config.agent.num_frames
        return self._rollout.minibatch(chosen, self._reader.replay, num_frames, self._around.device), {}

    @torch.no_grad()
    def _evaluate(self, frames: Tensor) -> Tensor:
        """The values of frames (b, num_frames, c, h, w), whose number differs from call to call."""
        device = self._around.device
        with uncompiled(), autocast(device, self._around.precision):
            return self._network.predict(frames.to(device))[1]
