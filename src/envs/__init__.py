"""Worlds, real and imagined, behind one vector interface: `prepare`, `reset`, `step`, `state_dict`."""

import torch

from data import ActionLayout
from envs.config import (
    AtariConfig,
    EnvConfig,
    GymConfig,
    RecordedGameConfig,
    WorldModelEnvConfig,
    action_layout,
    frame_shape,
)
from envs.real_env import RealEnv
from envs.world_model_env import WorldModelEnv
from errors import UserError
from models.diffusion import DiffusionSamplerConfig

__all__ = [
    "ENV_TARGETS",
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
]

ENV_TARGETS: dict[str, type] = {
    "envs.AtariConfig": AtariConfig,
    "envs.GymConfig": GymConfig,
    "envs.RecordedGameConfig": RecordedGameConfig,
    "data.ActionLayout": ActionLayout,
    "envs.WorldModelEnvConfig": WorldModelEnvConfig,
    "models.diffusion.DiffusionSamplerConfig": DiffusionSamplerConfig,
}
"""What `_target_` may name in the configuration of an environment."""


def make_env(config: EnvConfig, num_envs: int, seed: int, device: torch.device) -> RealEnv:
    """A real environment; raises UserError when there is none of that name."""
    if isinstance(config, RecordedGameConfig):
        raise UserError(
            f"{config.id} cannot be stepped: there are only recordings of it. Train on them: static_dataset.path=DIR."
        )
    # Imported here, as imagination alone needs neither of their libraries.
    if isinstance(config, AtariConfig):
        from envs.atari import AtariEmulators

        return RealEnv(AtariEmulators(config, num_envs), seed, device)
    from envs.gymnasium_env import GymEmulators

    return RealEnv(GymEmulators(config, num_envs), seed, device)
