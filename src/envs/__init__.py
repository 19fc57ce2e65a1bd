"""Worlds, real and imagined, behind one vector interface: `prepare`, `reset`, `step`, `state_dict`."""

import torch

from envs.atari import AtariConfig, AtariEmulators
from envs.gymnasium_env import GymConfig, GymEmulators
from envs.real_env import RealEnv
from envs.world_model_env import WorldModelEnv, WorldModelEnvConfig
from models.diffusion import DiffusionSamplerConfig

__all__ = ["ENV_TARGETS", "AtariConfig", "GymConfig", "RealEnv", "WorldModelEnv", "WorldModelEnvConfig", "make_env"]

ENV_TARGETS: dict[str, type] = {
    "envs.AtariConfig": AtariConfig,
    "envs.GymConfig": GymConfig,
    "envs.WorldModelEnvConfig": WorldModelEnvConfig,
    "models.diffusion.DiffusionSamplerConfig": DiffusionSamplerConfig,
}
"""What `_target_` may name in the configuration of an environment."""


def make_env(config: AtariConfig | GymConfig, num_envs: int, seed: int, device: torch.device) -> RealEnv:
    """A real environment; raises UserError when there is none of that name."""
    emulators = AtariEmulators if isinstance(config, AtariConfig) else GymEmulators
    return RealEnv(emulators(config, num_envs), seed, device)
