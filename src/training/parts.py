"""The parts of a training run, made from its settings."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from agent import COMPONENTS, Agent
from component import Component, Metrics
from data import Batch, Dataset, ExperienceStore
from envs import RealEnv, WorldModelEnv, make_env
from errors import UserError
from models.blocks import recompute_activations
from rl.collector import Collector
from rl.rollout import Rollouts
from run.compiled import compile_networks
from run.device import autocast, choose_precision
from run.folder import RunFolder
from run.random_state import numpy_generator, random_state, restore_random_state, seed_everything
from run.ranks import Ranks
from training.config import TrainerConfig
from training.draws import Draws
from training.experience import Experience, count_actions, make_draws, open_experience
from training.schedule import Schedule


@dataclass
class Parts:
    """Agent, experience and everything that moves them; collectors exist on the first rank only."""

    agent: Agent
    components: dict[str, Component]
    experience: Experience
    collect_train: Collector | None
    collect_test: Collector | None
    rollouts: Rollouts | None
    draws: dict[str, Draws]
    device: torch.device
    offload_idle: bool

    @property
    def train(self) -> ExperienceStore:
        return self.experience.train

    @property
    def test(self) -> Dataset:
        return self.experience.test

    def make_room_for(self, name: str, is_trained: bool = True) -> None:
        """Have the named component on the device; with `training.offload_idle`, no other, and no idle optimizer."""
        if not self.offload_idle:
            return
        # First out, then in.
        for other, component in sorted(self.components.items(), key=lambda item: item[0] == name):
            is_wanted = other == name
            component.move_to(self.device if is_wanted else torch.device("cpu"), is_wanted and is_trained)

    def state_of_rank(self) -> dict[str, Any]:
        """What differs between ranks: random states, and the environments that the policy learns in."""
        return {
            "random": random_state(self.device),
            "generators": {name: draws.state_dict() for name, draws in self.draws.items()},
            "rollouts": None if self.rollouts is None else self.rollouts.state_dict(),
        }

    def load_state_of_rank(self, state: dict[str, Any]) -> None:
        if self.rollouts is not None:
            self.rollouts.load_state_dict(state["rollouts"])
        for name, draws in self.draws.items():
            draws.load_state_dict(state["generators"][name])
        restore_random_state(state["random"], self.device)


def build_parts(config: TrainerConfig, folder: RunFolder, ranks: Ranks) -> Parts:
    """Make everything; raises UserError for an environment, data set or checkpoint that cannot be used."""
    device = ranks.device
    experience = open_experience(config, folder.dataset("train"), folder.dataset("test"), ranks)
    collect_train_env, collect_test_env = _make_collection_envs(config, ranks)
    if collect_train_env is not None:
        own_count = collect_train_env.num_actions
    else:
        own_count = 0 if config.static_dataset.path is None else count_actions(config, experience)
    # The same networks on every rank, and other random numbers from there on.
    seed_everything(config.seed)
    agent = _make_agent(config, ranks.broadcast(own_count), ranks)
    seed_everything(config.seed + 1_000_003 * (1 + ranks.rank))
    generators = {name: numpy_generator(config.seed, ranks.rank, SEED_OF[name]) for name in COMPONENTS}
    draws = make_draws(config, agent, experience, generators, device)
    rollouts = None
    if "actor_critic" in agent.components:
        rollouts = _make_rollouts(config, agent, draws["actor_critic"], ranks)
    components = _make_components(config, agent, draws, rollouts, ranks)
    precision = choose_precision(config.run.precision, device)
    collectors = [
        None if env is None else Collector(env, agent.actor_critic, store, settings.epsilon, precision)
        for env, store, settings in (
            (collect_train_env, experience.train.add_episode, config.collect_train),
            (collect_test_env, experience.test.add_episode, config.collect_test),
        )
    ]
    return Parts(agent, components, experience, *collectors, rollouts, draws, device, config.run.offload_idle)


SEED_OF = {"denoiser": 0, "rew_end_model": 1, "actor_critic": 2, "upsampler": 3}
"""Which of a run's generators draws for which component."""


def _make_collection_envs(config: TrainerConfig, ranks: Ranks) -> tuple[RealEnv | None, RealEnv | None]:
    if not Schedule(config).plays or not ranks.is_first:
        return None, None
    return (
        make_env(config.env_train, config.collect_train.num_envs, config.seed, ranks.device),
        make_env(config.env_test, config.collect_test.num_envs, config.seed + 1, ranks.device),
    )


def _make_agent(config: TrainerConfig, num_actions: int, ranks: Ranks) -> Agent:
    networks = config.build_agent_config(num_actions)
    agent = Agent(networks, config.sigma_distributions, config.actor_critic_loss).to(ranks.device)
    if config.initialization.path_to_ckpt is not None:
        agent.load(Path(config.initialization.path_to_ckpt), config.initialization.components)
    if config.run.gradient_checkpointing:
        recompute_activations(agent)
    compile_networks(agent.large_networks, config.run.compile, ranks.device, ranks.is_first)
    return agent


def _make_rollouts(config: TrainerConfig, agent: Agent, draw_starts: Callable[[int], Batch], ranks: Ranks) -> Rollouts:
    """The policy in imagination, or (model-free) in the real environment."""
    num_envs = _share(config, "actor_critic", ranks)
    if config.run.model_free:
        env = make_env(config.env_train, num_envs, config.seed + 2 + ranks.rank, ranks.device)
    else:
        env = WorldModelEnv(agent.denoiser, agent.rew_end_model, draw_starts, config.world_model_env, num_envs)
        env.check_rollout(config.actor_critic_loss.backup_every)
    return Rollouts(env, agent.actor_critic, config.actor_critic_loss)


def _make_components(
    config: TrainerConfig,
    agent: Agent,
    draws: dict[str, Draws],
    rollouts: Rollouts | None,
    ranks: Ranks,
) -> dict[str, Component]:
    precision = choose_precision(config.run.precision, ranks.device)

    def next_batch(name: str, batch_size: int) -> tuple[Any, Metrics]:
        if name != "actor_critic":
            return draws[name](batch_size), {}
        with autocast(ranks.device, precision):
            return rollouts.collect()

    return {
        name: Component(
            name,
            getattr(agent, name),
            functools.partial(next_batch, name, _share(config, name, ranks)),
            getattr(config, name),
            config.optimizers[name],
            precision,
            ranks,
        )
        for name in (("actor_critic",) if config.run.model_free else agent.components)
    }


def _share(config: TrainerConfig, name: str, ranks: Ranks) -> int:
    """This rank's share of a component's batch."""
    batch_size = getattr(config, name).batch_size
    if batch_size % ranks.world_size:
        raise UserError(
            f"{name}.training.batch_size={batch_size} cannot be shared equally by {ranks.world_size} processes."
        )
    return batch_size // ranks.world_size
