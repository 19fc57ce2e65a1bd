"""DreamerV3's training: it acts and updates alternately, on windows of rows whose states it writes back."""

from functools import partial
from pathlib import Path
from typing import Any

import torch

from algorithms.base import Interleave, Phase, Surroundings
from algorithms.dreamer.agent import DreamerAgent
from algorithms.dreamer.config import DreamerConfig
from algorithms.dreamer.policy import DreamerPolicy
from algorithms.dreamer.rebuilding import rebuild
from algorithms.dreamer.rows import DETER, INDEX, DrawnRows, Windows
from algorithms.dreamer.world import DreamerWorld
from component import Component, share_of_batch
from data import Draws, SegmentConfig
from models.dreamer import Learner
from models.metrics import Metrics
from run.random_state import numpy_generator

NAME = "dreamer"


def make_dreamer(config: DreamerConfig, around: Surroundings) -> "Dreamer":
    """Make the networks for the given data, and the component that trains them if there is experience."""
    agent = DreamerAgent(config.networks, around.spaces).to(around.device)
    # An agent that only acts gets whole weights afterwards; those it started from may be gone.
    if config.initialization.path_to_ckpt is not None and around.experience is not None:
        agent.load(Path(config.initialization.path_to_ckpt))
    return Dreamer(config, agent, around)


class Dreamer:
    """One component trains all networks: world model, actor and critic."""

    def __init__(self, config: DreamerConfig, agent: DreamerAgent, around: Surroundings) -> None:
        self.agent = agent
        self.policy = DreamerPolicy(agent)
        self.components: dict[str, Component] = {}
        self._config = config
        self._around = around
        self._section = config.dreamer
        self._collection = config.collection.train
        if around.experience is not None:
            self._learn()

    def phases(self, epoch: int) -> list[Phase]:
        section, since = self._section, self._section.num_prefill_rows(self._collection.num_envs)
        return [Interleave(self._collection.collect(epoch), (NAME,), section.updates_per_row, since)]

    def world(self, num_envs: int) -> DreamerWorld:
        config, around = self._config.imagined, self._around
        discount = self._section.losses.discount
        if around.experience is None:
            draw = partial(around.draw_starts, length=config.num_context_steps, with_full_frames=False)
            return DreamerWorld(self.agent, config, discount, num_envs, draw)
        generator = numpy_generator(around.seed, around.ranks.rank, *b"starts")
        segments = SegmentConfig(config.num_context_steps, None)
        draws = Draws(segments, around.experience, generator, around.device)
        gather = partial(draws.gather, around.experience)
        return DreamerWorld(self.agent, config, discount, num_envs, draws, gather)

    def state_of_rank(self) -> dict[str, Any]:
        return self._windows.state_dict()

    def load_state_of_rank(self, state: dict[str, Any]) -> None:
        self._windows.load_state_dict(state)

    def rebuild_columns(self) -> None:
        rebuild(self._around.experience.replay, self.agent, self._around.device)

    def _learn(self) -> None:
        around, section, networks = self._around, self._section, self.agent.rssm.config
        replay, ranks = around.experience.replay, around.ranks
        replay.add_column(DETER, (networks.deter,), around.precision)
        replay.add_column(INDEX, (networks.stoch,), torch.uint8)
        generator = numpy_generator(around.seed, ranks.rank, *NAME.encode())
        num_envs, length = self._collection.num_envs, section.length + 1
        self._windows = Windows(replay, num_envs, length, generator, ranks.rank, ranks.world_size)
        self._learner = Learner(self.agent, section.losses, networks.bins)
        self._share = share_of_batch(NAME, section.training, ranks)
        make = {"joint": section.optimizer.make, "separate": section.optimizer.make_separate}
        self.components[NAME] = Component(
            NAME,
            self._learner,
            self._next_rows,
            section.training,
            make[self._config.algorithm.optimizers],
            around.precision,
            ranks,
            after_update=self._after_update,
            lr_factor=section.optimizer.lr_factor,
            networks=self.agent.trained_networks,
        )

    def _next_rows(self) -> tuple[DrawnRows, Metrics]:
        return self._windows.gather(self._windows.draw(self._share), self._around.device), {}

    def _after_update(self, batches: list[tuple[Any, ...]]) -> None:
        self._learner.follow_critic()
        for rows, deter, index in batches:
            self._windows.write(rows.places, deter, index)
