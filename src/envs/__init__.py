"""Real and imagined environments with one vector interface: `prepare`, `reset`, `step`, `state_dict`."""

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
    "same_frames",
]


def make_env(config: EnvConfig, num_envs: int, seed: int, device: torch.device) -> RealEnv:
    """Make a real environment; raises UserError if the id is unknown."""
    if isinstance(config, RecordedGameConfig):
        raise UserError(
            f"{config.id} cannot be stepped: there are only recordings of it. Train on them: static_dataset.path=DIR."
        )
    # Imported here, because imagined environments need neither of these libraries.
    if isinstance(config, AtariConfig):
        from envs.atari import AtariEmulators

        return RealEnv(AtariEmulators(config, num_envs), seed, device)
    from envs.gymnasium_env import GymEmulators

    return RealEnv(GymEmulators(config, num_envs), seed, device)
