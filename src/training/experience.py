"""The experience that a run learns from: collected by itself, or a data set that is there already."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from agent import Agent
from data import Dataset, ExperienceStore, FullFrames, Segments, draw_segments, find_splits
from envs import RecordedGameConfig, action_layout, frame_shape
from errors import UserError
from run.device import choose_device
from run.ranks import Ranks
from training.config import TrainerConfig
from training.draws import Draws

REPLAY_SHARE_OF_MEMORY = 0.3


@dataclass
class Experience:
    """Train and test data; `full` are their frames in full size, by split, where an upsampler needs them."""

    train: ExperienceStore
    test: Dataset
    full: dict[str, FullFrames]


def open_experience(config: TrainerConfig, train_path: Path, test_path: Path, ranks: Ranks) -> Experience:
    """The run's own data sets in the named folders, or the static ones.

    Raises UserError for data sets that cannot be used, or whose frames do not have the size of the networks'.
    """
    if config.static_dataset.path is None:
        expected_steps = config.collect_train.num_steps_total
        size = expected_steps * int(np.prod(frame_shape(config.env_train)))
        train = ExperienceStore(Dataset(train_path), _replay_device(config, ranks, size), expected_steps)
        return Experience(train, Dataset(test_path), {})
    root = Path(config.static_dataset.path)
    train_path, test_path = find_splits(root)
    train = Dataset.open(train_path)
    test = Dataset.open(test_path) if test_path.is_dir() else Dataset(test_path)
    _check_frames(config, train)
    size = train.num_steps * int(np.prod(frame_shape(config.env_train)))
    store = ExperienceStore(train, _replay_device(config, ranks, size), train.num_steps)
    store.load()
    if config.upsampler is None:
        return Experience(store, test, {})
    folder = Path(config.static_dataset.path_full_res or root / "full_res")
    full = {name: FullFrames(folder, split) for name, split in (("train", train), ("test", test))}
    _check_full_frames(config, full["train"], folder)
    return Experience(store, test, full)


def count_actions(config: TrainerConfig, experience: Experience) -> int:
    """How many actions the static data has, or entries of a multi-hot one."""
    train, actions = experience.train.dataset, action_layout(config.env_train)
    first = train.load_episode(0).act
    if first.ndim == 2:
        if actions is None:
            raise UserError(
                f"The actions in {train.directory} are multi-hot, and nothing says what their {first.size(1)} entries "
                "are: choose a game that does, as env=csgo."
            )
        if actions.num_actions != first.size(1):
            raise UserError(
                f"The actions in {train.directory} have {first.size(1)} entries, those of env.train.actions "
                f"{actions.num_actions}: they were made for another game."
            )
        return first.size(1)
    if actions is not None:
        raise UserError(f"The actions in {train.directory} are numbers, without a layout: set env.train.actions=null.")
    largest = max(int(episode.act.max()) for episode in train.episodes())
    return config.static_dataset.num_actions or largest + 1


def make_draws(
    config: TrainerConfig,
    agent: Agent,
    experience: Experience,
    generators: dict[str, np.random.Generator],
    device: torch.device,
) -> dict[str, Draws]:
    """For each component, what draws a batch of that many segments; for the actor-critic, starts of imagination."""
    lengths = segment_lengths(config, agent)
    by_length = config.static_dataset.path is not None and config.static_dataset.ignore_sample_weights
    store = experience.train

    def draws_of(name: str) -> Draws:
        weights = None if by_length else getattr(config, name).sample_weights

        def draw(generator: np.random.Generator, batch_size: int) -> Segments:
            return draw_segments(
                generator,
                store.replay.episode_lengths,
                batch_size,
                lengths[name],
                weights,
                beyond_end=name == "rew_end_model",
            )

        full = experience.full["train"] if name == "upsampler" else None
        return Draws(generators[name], draw, store, full, device, config.static_dataset.num_workers)

    return {name: draws_of(name) for name in agent.components}


def segment_lengths(config: TrainerConfig, agent: Agent) -> dict[str, int]:
    """Steps of the segments that each component learns from."""
    lengths = {"actor_critic": agent.denoiser.num_steps_conditioning, "rew_end_model": config.rew_end_model.seq_length}
    for name in ("denoiser", "upsampler"):
        if name in agent.components:
            num_predictions = 1 + getattr(config, name).num_autoregressive_steps
            lengths[name] = getattr(agent, name).num_steps_conditioning + num_predictions
    return lengths


def _check_frames(config: TrainerConfig, train: Dataset) -> None:
    shape, wanted = tuple(train.load_episode(0).obs.shape[1:]), frame_shape(config.env_train)
    if shape != wanted:
        is_recorded = isinstance(config.env_train, RecordedGameConfig)
        size = f"[{shape[1]},{shape[2]}]" if is_recorded else shape[-1]
        raise UserError(
            f"The frames in {train.directory} are {shape}, but the networks are made for {wanted}: "
            f"set env.train.size={size}."
        )


def _check_full_frames(config: TrainerConfig, full: FullFrames, folder: Path) -> None:
    factor = config.upsampling_factor
    shape = tuple(full.gather(Segments(np.array([0]), np.array([0]), 1)).shape[2:])
    small = frame_shape(config.env_train)
    if shape != (small[0], factor * small[1], factor * small[2]):
        raise UserError(
            f"The frames in {folder} are {shape}, but the upsampler makes them {factor} times as large as {small}: "
            "set agent.upsampler.upsampling_factor, or env.train.size."
        )


def _replay_device(config: TrainerConfig, ranks: Ranks, size: int) -> torch.device | None:
    """Where frames of `size` bytes are kept; None where they stay on disk."""
    name, device = config.run.replay_device, ranks.device
    if name == "disk":
        if config.static_dataset.path is None:
            raise UserError("training.replay_device=disk is for static data sets: set static_dataset.path.")
        return None
    if name != "auto":
        return choose_device(name, setting="training.replay_device=")
    if device.type == "cuda" and size < REPLAY_SHARE_OF_MEMORY * torch.cuda.get_device_properties(device).total_memory:
        return device
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else float("inf")
    # Each rank holds its own.
    is_large = config.static_dataset.path is not None and ranks.world_size * size > REPLAY_SHARE_OF_MEMORY * memory
    return None if is_large else torch.device("cpu")
