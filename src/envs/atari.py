"""Atari 2600 games, with the preprocessing of the published system."""

from functools import lru_cache

import gymnasium
import numpy as np
from ale_py import ALEInterface, LoggerMode, roms
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode
from PIL import Image

from envs.config import AtariConfig, height_and_width
from envs.real_env import Frames
from errors import UserError, near_matches

FRAME_SKIP = 4


class AtariEmulators:
    """Games stepped by ale-py's threads: frame skip 4, maximum of the last two raw frames, and interpolation."""

    def __init__(self, config: AtariConfig, num_envs: int, num_threads: int = 0) -> None:
        """`num_threads=0`: as many as the machine has cores."""
        rom, sticky_actions = parse_atari_id(config.id)
        ALEInterface.setLoggerMode(LoggerMode.Error)
        *own_size, self.action_names = _read_rom(rom)
        height, width = height_and_width(config.size or tuple(own_size))
        self._size: tuple[int, int] | None = None
        if config.resize == "bilinear_antialiased":
            # ale-py knows other interpolations only: it leaves the frames as they are.
            self._size, (height, width) = (height, width), own_size
        self.num_envs = num_envs
        self._env = AtariVectorEnv(
            rom,
            num_envs,
            num_threads=num_threads,
            img_height=height,
            img_width=width,
            grayscale=config.grayscale,
            stack_num=1,
            frameskip=FRAME_SKIP,
            repeat_action_probability=sticky_actions,
            noop_max=config.noop_max,
            max_num_frames_per_episode=config.max_episode_steps * FRAME_SKIP,
            life_loss_info=config.done_on_life_loss,
            reward_clipping=False,
            use_fire_reset=False,
            autoreset_mode=AutoresetMode.SAME_STEP,
        )
        self.num_actions = int(self._env.single_action_space.n)
        self._is_grey = config.grayscale
        self._frame_numbers = np.zeros(num_envs, np.int64)

    def reset(self, mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        obs, info = self._env.reset(seed=seeds[mask], options={"reset_mask": mask})
        self._frame_numbers = info["episode_frame_number"].astype(np.int64)
        return self._newest(obs)

    def send(self, act: np.ndarray) -> None:
        self._env.send(act)

    def receive(self) -> Frames:
        obs, rew, end, trunc, info = self._env.recv()
        # After a lost life the frame number increases; after a game over it starts again from 0.
        frame_numbers = info["episode_frame_number"].astype(np.int64)
        over = (end | trunc) & (frame_numbers < self._frame_numbers + FRAME_SKIP)
        self._frame_numbers = frame_numbers
        next_obs = last = self._newest(obs)
        if over.any():
            last = np.where(over[:, None, None, None], self._newest(info["final_obs"]), next_obs)
        return Frames(last, rew, end, trunc, over, next_obs)

    def close(self) -> None:
        self._env.close()

    def _newest(self, stacked: np.ndarray) -> np.ndarray:
        """The frame of a stack of one frame, uint8 (b, h, w, c)."""
        frames = stacked[:, 0]
        if self._size is not None:
            height, width = self._size
            resized = [Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR) for frame in frames]
            frames = np.stack([np.asarray(image) for image in resized])
        return frames[..., None] if self._is_grey else frames


@lru_cache
def _read_rom(rom: str) -> tuple[int, int, tuple[str, ...]]:
    """Height and width of the raw frames, and the names of the minimal action set."""
    emulator = ALEInterface()
    emulator.loadROM(roms.get_rom_path(rom))
    return *emulator.getScreenDims(), tuple(action.name for action in emulator.getMinimalActionSet())


def parse_atari_id(env_id: str) -> tuple[str, float]:
    """The ROM and the sticky-action probability of an id; raises UserError, with similar ids, if it is unknown."""
    # ale-py registers the games for one player: a few of its ROMs have no such mode.
    games = {spec.name: spec.kwargs for spec in gymnasium.registry.values() if spec.namespace == "ALE"}
    if env_id.startswith("ALE/"):
        name, known = env_id.removeprefix("ALE/").removesuffix("-v5"), [f"ALE/{game}-v5" for game in games]
    else:
        name, known = env_id.removesuffix("NoFrameskip-v4"), [f"{game}NoFrameskip-v4" for game in games]
    if env_id in known:
        sticky_actions = games[name]["repeat_action_probability"] if env_id.startswith("ALE/") else 0.0
        return games[name]["game"], sticky_actions
    hint = near_matches(env_id, known) or near_matches(name.split("-")[0] + "NoFrameskip-v4", known)
    raise UserError(
        f"env.train.id={env_id} is not an Atari game for one player: use <Game>NoFrameskip-v4 or ALE/<Game>-v5.{hint} "
        "(For other Gymnasium environments: env=gym.)"
    )
