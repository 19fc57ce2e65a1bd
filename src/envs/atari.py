"""Atari 2600 games, preprocessed as in the published system."""

import gymnasium
import numpy as np
from ale_py import ALEInterface, LoggerMode, roms
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode

from envs.config import AtariConfig
from envs.real_env import Frames
from errors import UserError, near_matches

FRAME_SKIP = 4


class AtariEmulators:
    """Games stepped by ale-py's threads: RGB, frame skip 4, maximum over the last two raw frames, area-resized."""

    def __init__(self, config: AtariConfig, num_envs: int) -> None:
        rom, sticky_actions = parse_atari_id(config.id)
        ALEInterface.setLoggerMode(LoggerMode.Error)
        height, width, self.action_names = _read_rom(rom)
        self.num_envs = num_envs
        self._env = AtariVectorEnv(
            rom,
            num_envs,
            img_height=config.size or height,
            img_width=config.size or width,
            grayscale=False,
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
        self._frame_numbers = np.zeros(num_envs, np.int64)

    def reset(self, mask: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        obs, info = self._env.reset(seed=seeds[mask], options={"reset_mask": mask})
        self._frame_numbers = info["episode_frame_number"].astype(np.int64)
        return obs[:, 0]

    def step(self, act: np.ndarray) -> Frames:
        obs, rew, end, trunc, info = self._env.step(act)
        # After a lost life the game goes on and its frames count up; after a game over they count anew.
        frame_numbers = info["episode_frame_number"].astype(np.int64)
        over = (end | trunc) & (frame_numbers < self._frame_numbers + FRAME_SKIP)
        self._frame_numbers = frame_numbers
        last = np.where(over[:, None, None, None, None], info["final_obs"], obs) if over.any() else obs
        return Frames(last[:, 0], rew, end, trunc, over, next_obs=obs[:, 0])

    def close(self) -> None:
        self._env.close()


def _read_rom(rom: str) -> tuple[int, int, tuple[str, ...]]:
    """Height and width of the game's own frames, and the names of its minimal action set."""
    emulator = ALEInterface()
    emulator.loadROM(roms.get_rom_path(rom))
    return *emulator.getScreenDims(), tuple(action.name for action in emulator.getMinimalActionSet())


def parse_atari_id(env_id: str) -> tuple[str, float]:
    """The ROM and the sticky-action probability of an id; raises UserError, with near matches, for an unknown one."""
    # What ale-py registers is what one player can play: a few of its ROMs have no such mode.
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
        f"env.train.id={env_id} is no Atari game for one player: use <Game>NoFrameskip-v4 or ALE/<Game>-v5.{hint} "
        "(For other Gymnasium environments: env=gym.)"
    )
