"""The parts of a training run, made from its settings."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agent import COMPONENTS, Agent
from component import Component, Metrics
from data import Batch, Dataset, ExperienceStore, draw_segments, find_splits
from envs import RealEnv, WorldModelEnv, make_env
from errors import UserError
from rl.collector import Collector
from rl.rollout import Rollouts
from run.compiled import compile_networks
from run.device import autocast, choose_device, choose_precision
from run.folder import RunFolder
from run.random_state import numpy_generator, random_state, restore_random_state, seed_everything
from run.ranks import Ranks
from training.config import TrainerConfig
from training.schedule import Schedule

REPLAY_SHARE_OF_GPU = 0.3


@dataclass
class Parts:
    """Agent, experience and everything that moves them; collectors exist on the first rank only."""

    agent: Agent
    components: dict[str, Component]
    train: ExperienceStore
    test: Dataset
    collect_train: Collector | None
    collect_test: Collector | None
    rollouts: Rollouts
    generators: dict[str, np.random.Generator]
    device: torch.device

    def state_of_rank(self) -> dict[str, Any]:
        """What differs between ranks: random states, and the environments that the policy learns in."""
        return {
            "random": random_state(self.device),
            "generators": {name: generator.bit_generator.state for name, generator in self.generators.items()},
            "rollouts": self.rollouts.state_dict(),
        }

    def load_state_of_rank(self, state: dict[str, Any]) -> None:
        self.rollouts.load_state_dict(state["rollouts"])
        for name, generator in self.generators.items():
            generator.bit_generator.state = state["generators"][name]
        restore_random_state(state["random"], self.device)


def build_parts(config: TrainerConfig, folder: RunFolder, ranks: Ranks) -> Parts:
    """Make everything; raises UserError for an environment, data set or checkpoint that cannot be used."""
    device = ranks.device
    train, test = _open_experience(config, folder, device)
    collect_train_env, collect_test_env = _make_collection_envs(config, ranks)
    own_count = collect_train_env.num_actions if collect_train_env is not None else _num_actions(config, train)
    # The same networks on every rank, and other random numbers from there on.
    seed_everything(config.seed)
    agent = _make_agent(config, ranks.broadcast(own_count), ranks)
    seed_everything(config.seed + 1_000_003 * (1 + ranks.rank))
    generators = {name: numpy_generator(config.seed, ranks.rank, index) for index, name in enumerate(COMPONENTS)}
    draws = _draws(config, agent, train, generators, device)
    rollouts = _make_rollouts(config, agent, draws["actor_critic"], ranks)
    components = _make_components(config, agent, draws, rollouts, ranks)
    precision = choose_precision(config.run.precision, device)
    collectors = [
        None if env is None else Collector(env, agent.actor_critic, store, settings.epsilon, precision)
        for env, store, settings in (
            (collect_train_env, train.add_episode, config.collect_train),
            (collect_test_env, test.add_episode, config.collect_test),
        )
    ]
    return Parts(agent, components, train, test, *collectors, rollouts, generators, device)


def _make_collection_envs(config: TrainerConfig, ranks: Ranks) -> tuple[RealEnv | None, RealEnv | None]:
    if not Schedule(config).plays or not ranks.is_first:
        return None, None
    return (
        make_env(config.env_train, config.collect_train.num_envs, config.seed, ranks.device),
        make_env(config.env_test, config.collect_test.num_envs, config.seed + 1, ranks.device),
    )


def _make_agent(config: TrainerConfig, num_actions: int, ranks: Ranks) -> Agent:
    agent = Agent(config.build_agent_config(num_actions)).to(ranks.device)
    agent.denoiser.sigma_distribution = config.sigma_distribution
    agent.actor_critic.loss_config = config.actor_critic_loss
    if config.initialization.path_to_ckpt is not None:
        agent.load(Path(config.initialization.path_to_ckpt), config.initialization.components)
    networks = [agent.denoiser.inner_model, agent.rew_end_model.encoder, agent.actor_critic.encoder]
    compile_networks(networks, config.run.compile, ranks.device, ranks.is_first)
    return agent


def _draws(
    config: TrainerConfig,
    agent: Agent,
    train: ExperienceStore,
    generators: dict[str, np.random.Generator],
    device: torch.device,
) -> dict[str, Callable[[int], Batch]]:
    """For each component, what draws a batch of that many segments; for the actor-critic, starts of imagination."""
    n = agent.denoiser.num_steps_conditioning
    lengths = {
        "denoiser": n + 1 + config.denoiser.num_autoregressive_steps,
        "rew_end_model": config.rew_end_model.seq_length,
        "actor_critic": n,
    }
    by_length = config.static_dataset.path is not None and config.static_dataset.ignore_sample_weights

    def draw(name: str, batch_size: int) -> Batch:
        weights = None if by_length else getattr(config, name).sample_weights
        segments = draw_segments(
            generators[name],
            train.replay.episode_lengths,
            batch_size,
            lengths[name],
            weights,
            beyond_end=name == "rew_end_model",
        )
        return train.replay.gather(segments).to(device)

    return {name: functools.partial(draw, name) for name in COMPONENTS}


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
    draws: dict[str, Callable[[int], Batch]],
    rollouts: Rollouts,
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
        for name in (("actor_critic",) if config.run.model_free else COMPONENTS)
    }


def _share(config: TrainerConfig, name: str, ranks: Ranks) -> int:
    """This rank's share of a component's batch."""
    batch_size = getattr(config, name).batch_size
    if batch_size % ranks.world_size:
        raise UserError(
            f"{name}.training.batch_size={batch_size} cannot be shared equally by {ranks.world_size} processes."
        )
    return batch_size // ranks.world_size


def _open_experience(config: TrainerConfig, folder: RunFolder, device: torch.device) -> tuple[ExperienceStore, Dataset]:
    """The run's own data sets, or the static ones (whose frames must have the size of the networks')."""
    replay_device = _replay_device(config, device)
    if config.static_dataset.path is None:
        expected_steps = config.collect_train.num_steps_total
        train = ExperienceStore(Dataset(folder.dataset("train")), replay_device, expected_steps)
        return train, Dataset(folder.dataset("test"))
    train_path, test_path = find_splits(Path(config.static_dataset.path))
    train = Dataset.open(train_path)
    test = Dataset.open(test_path) if test_path.is_dir() else Dataset(test_path)
    size, shape = config.env_train.size, tuple(train.load_episode(0).obs.shape[1:])
    if shape != (3, size, size):
        raise UserError(
            f"The frames in {train.directory} are {shape}, but the networks are made for (3, {size}, {size}): "
            f"set env.train.size={shape[-1]}."
        )
    store = ExperienceStore(train, replay_device, train.num_steps)
    store.load()
    return store, test


def _num_actions(config: TrainerConfig, train: ExperienceStore) -> int:
    if config.static_dataset.path is None:
        return 0
    largest = max(int(episode.act.max()) for episode in train.dataset.episodes())
    return config.static_dataset.num_actions or largest + 1


def _replay_device(config: TrainerConfig, device: torch.device) -> torch.device:
    name = config.run.replay_device
    if name != "auto":
        return choose_device(name)
    if device.type != "cuda":
        return torch.device("cpu")
    expected = config.collect_train.num_steps_total * 3 * config.env_train.size**2
    fits = expected < REPLAY_SHARE_OF_GPU * torch.cuda.get_device_properties(device).total_memory
    return device if fits else torch.device("cpu")
