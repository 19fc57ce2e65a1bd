"""Any Gymnasium environment with a discrete action space and image observations or rendering."""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import AddRenderObservation
from torch.nn.functional import interpolate

from envs.config import GymConfig, height_and_width
from envs.real_env import Frames
from errors import UserError, near_matches

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in luminance (ITU-R BT.601)."""


class GymEmulators:
    """Gymnasium environments stepped one after another. Frames are the image observations, or else are rendered."""

    def __init__(self, config: GymConfig, num_envs: int) -> None:
        self.num_envs = num_envs
        self._size = None if config.size is None else height_and_width(config.size)
        self._is_grey = config.grayscale
        self._envs = SyncVectorEnv([lambda: make_with_images(config)] * num_envs, autoreset_mode=AutoresetMode.DISABLED)
        self.num_actions = int(self._envs.single_action_space.n)
        self._first_action = int(self._envs.single_action_space.start)
        self.action_names = _action_names(self._envs.envs[0].unwrapped, self.num_actions)
        self._act = np.zeros(num_envs, np.int64)

    def reset(self, mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        obs, _ = self._envs.reset(seed=seeds.tolist(), options={"reset_mask": mask})
        return self._resize(obs)

    def send(self, act: np.ndarray) -> None:
        self._act = act + self._first_action

    def receive(self) -> Frames:
        obs, rew, end, trunc, _ = self._envs.step(self._act)
        return Frames(self._resize(obs), rew.astype(np.float32), end, trunc, end | trunc)

    def close(self) -> None:
        self._envs.close()

    def _resize(self, frames: np.ndarray) -> np.ndarray:
        if frames.ndim == 3:
            frames = frames[..., None]
        if frames.shape[-1] not in (1, 3):
            frames = frames.transpose(0, 2, 3, 1)
        if frames.shape[-1] == 1 and not self._is_grey:
            frames = frames.repeat(3, axis=-1)
        if frames.shape[-1] == 3 and self._is_grey:
            frames = (frames @ LUMA).round().astype(np.uint8)[..., None]
        if self._size is None or frames.shape[1:3] == self._size:
            return frames.copy()
        pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
        resized = interpolate(pixels, size=self._size, mode="area")
        return resized.round().byte().permute(0, 2, 3, 1).numpy()


def make_with_images(config: GymConfig) -> gymnasium.Env:
    """Make the environment with images as observations; raises UserError if it cannot be used."""
    env = _make(config)
    if not isinstance(env.action_space, Discrete):
        raise UserError(f"env.train.id={config.id} has the action space {env.action_space}: a Discrete one is needed.")
    if is_image(env.observation_space):
        return env
    if "rgb_array" in env.metadata.get("render_modes", []):
        env.close()
        rendering = _make(config, render_mode="rgb_array")
        try:
            return AddRenderObservation(rendering, render_only=True)
        except gymnasium.error.DependencyNotInstalled as error:
            reason = " ".join(str(error).split())
            raise UserError(f"env.train.id={config.id} cannot be rendered: {reason}") from None
    raise UserError(
        f"env.train.id={config.id} shows nothing: its observation is {env.observation_space}, and it does not "
        "render rgb_array. A uint8 image (h, w), (h, w, c) or (c, h, w) is needed, or that render mode."
    )


def _make(config: GymConfig, **options: Any) -> gymnasium.Env:
    limit = {} if config.max_episode_steps is None else {"max_episode_steps": config.max_episode_steps}
    try:
        return gymnasium.make(config.id, **limit, **config.options, **options)
    except gymnasium.error.NameNotFound:
        raise UserError(f"env.train.id={config.id} is unknown to Gymnasium.{_hint(config.id)}") from None
    except ModuleNotFoundError as error:
        raise UserError(f"env.train.id={config.id} cannot be made: {error}. Is its package installed?") from None
    except (gymnasium.error.Error, TypeError, ValueError) as error:
        raise UserError(f"env.train.id={config.id} cannot be made: {' '.join(str(error).split())}") from None


def _action_names(env: gymnasium.Env, num_actions: int) -> tuple[str, ...]:
    """The result of the environment's `get_action_meanings`, if it has that method, or else the actions' numbers."""
    if hasattr(env, "get_action_meanings"):
        return tuple(str(name) for name in env.get_action_meanings())
    return tuple(str(action) for action in range(num_actions))


def _hint(env_id: str) -> str:
    return near_matches(env_id.split(":")[-1], list(gymnasium.registry))


def is_image(space: gymnasium.Space) -> bool:
    """Whether observations are images: uint8 (h, w), (h, w, c) or (c, h, w), with one or three channels."""
    if not isinstance(space, Box) or space.dtype != np.uint8:
        return False
    shape = space.shape
    return len(shape) == 2 or (len(shape) == 3 and (shape[-1] in (1, 3) or shape[0] in (1, 3)))
