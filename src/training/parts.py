"""The parts of a training run, made from its settings."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agent import COMPONENTS, Agent
from component import Component, Metrics
from data import Batch, Dataset, ExperienceStore, draw_segments
from envs import WorldModelEnv, make_env
from errors import UserError
from rl.collector import Collector
from rl.rollout import Rollouts
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
    device, schedule = ranks.device, Schedule(config)
    precision = choose_precision(config.run.precision, device)
    for name in COMPONENTS:
        batch_size = getattr(config, name).batch_size
        if batch_size % ranks.world_size:
            raise UserError(
                f"{name}.training.batch_size={batch_size} cannot be shared equally by {ranks.world_size} processes."
            )
    train, test = _open_experience(config, folder, device)
    seed_everything(config.seed)
    envs = [None, None]
    if schedule.plays and ranks.is_first:
        sizes = (config.env_train, config.collect_train.num_envs), (config.env_test, config.collect_test.num_envs)
        envs = [make_env(env, count, config.seed + index, device) for index, (env, count) in enumerate(sizes)]
    num_actions = ranks.broadcast(envs[0].num_actions if envs[0] else _num_actions(config, train))
    agent = Agent(config.build_agent_config(num_actions)).to(device)
    agent.denoiser.sigma_distribution = config.sigma_distribution
    agent.actor_critic.loss_config = config.actor_critic_loss
    if config.initialization.path_to_ckpt is not None:
        agent.load(Path(config.initialization.path_to_ckpt), config.initialization.components)
    _compile(agent, config.run.compile, device)

    generators = {
        name: numpy_generator(config.seed, ranks.rank, index) for index, name in enumerate((*COMPONENTS, "video"))
    }
    seed_everything(config.seed + 1_000_003 * (1 + ranks.rank))

    def draw(name: str, length: int, beyond_end: bool) -> Callable[[int], Batch]:
        ignored = config.static_dataset.path is not None and config.static_dataset.ignore_sample_weights
        weights = None if ignored else getattr(config, name).sample_weights

        def draw_batch(batch_size: int) -> Batch:
            replay = train.replay
            lengths = replay.episode_lengths
            segments = draw_segments(generators[name], lengths, batch_size, length, weights, beyond_end)
            return replay.gather(segments).to(device)

        return draw_batch

    n = agent.denoiser.num_steps_conditioning
    draws = {
        "denoiser": draw("denoiser", n + 1 + config.denoiser.num_autoregressive_steps, beyond_end=False),
        "rew_end_model": draw("rew_end_model", config.rew_end_model.seq_length, beyond_end=True),
    }
    batch_sizes = {name: getattr(config, name).batch_size // ranks.world_size for name in COMPONENTS}
    if config.run.model_free:
        env = make_env(config.env_train, batch_sizes["actor_critic"], config.seed + 2 + ranks.rank, device)
    else:
        starts = draw("actor_critic", n, beyond_end=False)
        env = WorldModelEnv(
            agent.denoiser, agent.rew_end_model, starts, config.world_model_env, batch_sizes["actor_critic"]
        )
        env.check_rollout(config.actor_critic_loss.backup_every)
    rollouts = Rollouts(env, agent.actor_critic, config.actor_critic_loss)

    def next_batch(name: str) -> tuple[Any, Metrics]:
        if name != "actor_critic":
            return draws[name](batch_sizes[name]), {}
        with autocast(device, precision):
            return rollouts.collect()

    components = {
        name: Component(
            name,
            getattr(agent, name),
            lambda name=name: next_batch(name),
            getattr(config, name),
            config.optimizers[name],
            precision,
            ranks,
        )
        for name in (COMPONENTS if not config.run.model_free else ("actor_critic",))
    }
    collect_train = collect_test = None
    if envs[0] is not None:
        policy = agent.actor_critic
        collect_train = Collector(envs[0], policy, train.add_episode, config.collect_train.epsilon)
        collect_test = Collector(envs[1], policy, test.add_episode, config.collect_test.epsilon)
    return Parts(agent, components, train, test, collect_train, collect_test, rollouts, generators, device)


def _open_experience(config: TrainerConfig, folder: RunFolder, device: torch.device) -> tuple[ExperienceStore, Dataset]:
    """The run's own data sets, or the static ones (whose frames must have the size of the networks')."""
    replay_device = _replay_device(config, device)
    if config.static_dataset.path is None:
        return ExperienceStore(Dataset(folder.dataset("train")), replay_device), Dataset(folder.dataset("test"))
    root = Path(config.static_dataset.path)
    root = root / "dataset" if (root / "dataset").is_dir() else root
    train = Dataset.open(root / "train" if (root / "train").is_dir() else root)
    test = Dataset.open(root / "test") if (root / "test").is_dir() else Dataset(root / "test")
    size, shape = config.env_train.size, tuple(train.load_episode(0).obs.shape[1:])
    if shape != (3, size, size):
        raise UserError(
            f"The frames in {train.directory} are {shape}, but the networks are made for (3, {size}, {size}): "
            f"set env.train.size={shape[-1]}."
        )
    store = ExperienceStore(train, replay_device)
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


def _compile(agent: Agent, choice: Any, device: torch.device) -> None:
    """Compile the convolutional networks, in place: their parameters keep their names."""
    if choice not in ("auto", True, False):
        raise UserError(f"training.compile={choice} is unknown: use auto, true or false.")
    if choice is True or (choice == "auto" and device.type == "cuda"):
        for network in (agent.denoiser.inner_model, agent.rew_end_model.encoder, agent.actor_critic.encoder):
            network.compile(dynamic=False)
