"""Real and imagined environments with one vector interface: `prepare`, `reset`, `step`, `state_dict`."""

import os

import numpy as np
import torch

from envs.config import (
    AtariConfig,
    EnvConfig,
    GymConfig,
    RecordedGameConfig,
    WorldModelEnvConfig,
    action_layout,
    frame_shape,
    same_frames,
)
from envs.real_env import RealEnv
from envs.world_model_env import WorldModelEnv
from errors import UserError

__all__ = [
    "AtariConfig",
    "EnvConfig",
    "GymConfig",
    "RealEnv",
    "RecordedGameConfig",
    "WorldModelEnv",
    "WorldModelEnvConfig",
    "action_layout",
    "frame_shape",
    "make_env",
    "make_groups",
    "same_frames",
]


def make_groups(config: EnvConfig, num_envs: int, num_groups: int, seed: int, device: torch.device) -> list[RealEnv]:
    """Real environments in groups, which share the machine's cores. The games are the same for any number of groups."""
    groups = np.array_split(np.arange(num_envs), min(num_groups, num_envs))
    threads = max(1, (os.cpu_count() or 1) // len(groups))
    return [make_env(config, len(group), seed, device, int(group[0]), threads) for group in groups]


def make_env(
    config: EnvConfig, num_envs: int, seed: int, device: torch.device, first: int = 0, num_threads: int = 0
) -> RealEnv:
    """Make a real environment; raises UserError if the id is unknown.

    `first` is the number of its first game, on which the games' seeds depend. Atari games are emulated by
    `num_threads` threads; 0: one for each core.
    """
    if isinstance(config, RecordedGameConfig):
        raise UserError(
            f"{config.id} cannot be stepped: there are only recordings of it. Train on them: static_dataset.path=DIR."
        )
    # Imported here, because imagined environments need neither of these libraries.
    if isinstance(config, AtariConfig):
        from envs.atari import AtariEmulators

        return RealEnv(AtariEmulators(config, num_envs, num_threads), seed, device, first)
    from envs.gymnasium_env import GymEmulators

    return RealEnv(GymEmulators(config, num_envs), seed, device, first)
