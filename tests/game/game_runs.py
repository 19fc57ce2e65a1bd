"""Small run folders to play in, and a player made of posted key events."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pygame
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

import recordings
from algorithms import read_settings
from algorithms.diamond.agent import DiamondAgent, fit_to_data
from algorithms.diamond.config import DiamondConfig
from algorithms.diamond.policy import ActorCriticPolicy
from data import Actions, Dataset, Episode, Spaces
from envs import frame_shape, make_env
from game.inputs import Command
from game.view import Playable, View
from game.window.painter import Painter, to_array
from game.window.window import Window
from play import main
from preparation.recordings import write_small_copies
from rl.collector import Collector
from run.folder import RunFolder
from run.interrupt import Interrupts
from training_helpers import CPU, compose

EPOCHS = (1, 3)
SCALE = 0.05
NUM_GAMES, LENGTH = 12, 20
"""Of the two-stage run's recordings."""


def make_run(path: Path, *overrides: str, steps: dict[str, int] | None = None) -> RunFolder:
    """A run of small untrained networks on 16×16 Breakout, with weights of two epochs and real episodes."""
    config = compose(*overrides)
    folder, (_, typed) = RunFolder.create(path, config), read_settings(config)
    agent = make_agent(typed, Actions("numbered", 4), 0.1)
    for epoch in EPOCHS:
        agent.save(folder.agent_version(epoch))
    agent.save(folder.best_agent)
    for split, count in ({"train": 60, "test": 60} if steps is None else steps).items():
        dataset, env = Dataset(folder.dataset(split)), make_env(getattr(typed.env, split), 1, 0, CPU)
        collector = Collector(env, ActorCriticPolicy(agent.actor_critic), dataset.add_episode, 1.0)
        collector.begin()
        for _ in range(count):
            collector.step()
        collector.store_unfinished()
        dataset.save_info()
    return folder


def make_agent(config: DiamondConfig, actions: Actions, scale: float) -> DiamondAgent:
    """Untrained networks, with so much randomness in all of their weights that there is something to see."""
    torch.manual_seed(0)
    agent = DiamondAgent(fit_to_data(config.agent, Spaces(frame_shape(config.env.train), actions)))
    for parameter in agent.parameters():
        parameter.data += scale * torch.randn_like(parameter)
    return agent


def make_two_stage_run(root: Path) -> RunFolder:
    """A run with untrained networks of both stages, on recordings with keys and mouse that are still there."""
    for number in range(NUM_GAMES):
        recordings.write_hdf5(root / "data" / "full_res" / f"game_{number}.hdf5", LENGTH, seed=number)
    write_small_copies(root / "data" / "full_res", root / "data" / "low_res", recordings.SMALL_SIZE, None, 2)
    config = compose(game=[*recordings.CSGO, f"static_dataset.path={root / 'data'}"], small=())
    folder = RunFolder.create(root / "run", config)
    make_agent(read_settings(config)[1], Actions("multi-hot", recordings.NUM_ACTIONS), SCALE).save(
        folder.agent_version(1)
    )
    return folder


def copy_run(run: RunFolder, path: Path) -> RunFolder:
    """A run folder with the same settings, weights and data."""
    shutil.copytree(run.path, path, ignore=shutil.ignore_patterns("src", "scripts"))
    return RunFolder(path)


def mark_data(path: Path, frame: tuple[int, int, int], acts: Callable[[int, Tensor], Tensor]) -> Dataset:
    """Episodes of some lengths, whose frames tell by brightness which they are: see `read_mark`.

    `acts(number, steps)` are the actions at these steps of an episode.
    """
    dataset = Dataset(path)
    for number, length in enumerate((9, 3, 12, 7)):
        steps, flags = torch.arange(length), torch.zeros(length, dtype=torch.uint8)
        obs = torch.zeros(length, *frame, dtype=torch.uint8)
        obs[:, :, : frame[1] // 2] = 60 * number
        obs[:, :, frame[1] // 2 :] = 20 * steps[:, None, None, None]
        dataset.add_episode(Episode(obs, acts(number, steps), flags.float(), flags, flags))
    dataset.save_info()
    return dataset


def read_mark(frame: Tensor) -> tuple[int, int]:
    """Episode and step of a marked frame (c, h, w); an assertion fails where it is no such frame."""
    half = frame.size(1) // 2
    upper, lower = frame[:, :half].unique(), frame[:, half:].unique()
    assert upper.numel() == lower.numel() == 1
    number, step = int(upper) / 60, int(lower) / 20
    assert number.is_integer()
    assert step.is_integer()
    return int(number), int(step)


def write_published_layout(path: Path, folder: RunFolder) -> None:
    """The same run as the published system leaves it: settings without `_target_` for the environments."""
    config = OmegaConf.to_container(folder.load_config())
    for split in ("train", "test"):
        config["env"][split] = {"id": config["env"]["train"]["id"], "size": 16, "max_episode_steps": None}
    config["env"]["keymap"] = "atari/Breakout"
    (path / "config").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create({"agent": config["agent"], "env": config["env"]}), path / "config" / "trainer.yaml")


class Player:
    """Stands between the window and what is played, and posts the next key events at each tick.

    A script is a list with the events of each tick: `"m"` is a key that goes down and up, `"+a"` and `"-a"` one that
    goes down or up, `None` nothing. After its end, the window is closed.
    """

    def __init__(self, playable: Playable, script: list[str | Callable[[], None] | None]) -> None:
        self.playable = playable
        self.repeating_keys = playable.repeating_keys
        self.game_keys = playable.game_keys
        self.help = playable.help
        self.is_still = self.is_over = False
        self.views: list[View] = []
        self.screens: list[np.ndarray] = []
        self._script: Iterator = iter(script)
        self._post_next()

    @property
    def wants_pointer(self) -> bool:
        return self.playable.wants_pointer

    def press(self, key: str) -> None:
        self.playable.press(key)

    def obey(self, command: Command) -> None:
        self.playable.obey(command)

    def tick(self, held: list[str], motion: tuple[float, float] = (0, 0)) -> None:
        self.playable.tick(held, motion)

    def view(self) -> View:
        self.views.append(self.playable.view())
        if pygame.display.get_surface() is not None:
            self.screens.append(to_array(pygame.display.get_surface()))
        self._post_next()
        return self.views[-1]

    def close(self) -> None:
        self.screens.append(to_array(pygame.display.get_surface()))
        self.playable.close()

    def _post_next(self) -> None:
        match next(self._script, "close"):
            case None:
                return
            case "close":
                pygame.event.post(pygame.event.Event(pygame.QUIT))
            case str() as key:
                name = key[1:] if key[0] in "+-" and len(key) > 1 else key
                code = pygame.key.key_code(name)
                if not key.startswith("-") or key == "-":
                    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=code))
                if not key.startswith("+") or key == "+":
                    pygame.event.post(pygame.event.Event(pygame.KEYUP, key=code))
            case act:
                act()


def play(playable: Playable, script: list, size: int = 160, has_header: bool = True) -> Player:
    """Show it in a real window (of SDL's dummy driver) and let the script play."""
    pygame.display.init()
    window = Window("test", Painter(size, has_header), 1000, Interrupts(), seconds_of_help=0, seconds_of_banner=0)
    player = Player(playable, script)
    window.show(player)
    return player


def fields(view: View) -> dict[str, str]:
    """What the header says: values by their labels, and the two without a label as `world` and `who`."""
    unlabelled = iter(("world", "who"))
    return {field.label or next(unlabelled): field.text for field in view.fields}


def call_door(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """`python src/play.py` with these arguments, in this process."""
    monkeypatch.setattr(sys, "argv", ["play.py", "--device", "cpu", *map(str, arguments)])
    try:
        return main()
    except SystemExit as leaving:
        return leaving.code


def read_film(path: Path) -> np.ndarray:
    """The frames of a film, uint8 (t, h, w, 3)."""
    reader = imageio_ffmpeg.read_frames(str(path))
    width, height = next(reader)["size"]
    return np.stack([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader])
