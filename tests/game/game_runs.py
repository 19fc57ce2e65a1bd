"""Small run folders to play in, and a player made of posted key events."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pygame
import torch
from omegaconf import OmegaConf

from agent import Agent
from data import Dataset
from envs import make_env
from game.painter import Painter, to_array
from game.view import Playable, View
from game.window import Window
from rl.collector import Collector
from run.folder import RunFolder
from run.interrupt import Interrupts
from training.config import TrainerConfig
from training_helpers import CPU, compose

EPOCHS = (1, 3)


def make_run(path: Path, *overrides: str, steps: dict[str, int] | None = None) -> RunFolder:
    """A run of small untrained networks on 16×16 Breakout, with weights of two epochs and real episodes."""
    config = compose(*overrides)
    folder, typed = RunFolder.create(path, config), TrainerConfig.from_yaml(config)
    torch.manual_seed(0)
    agent = Agent(typed.build_agent_config(4))
    for parameter in agent.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    for epoch in EPOCHS:
        agent.save(folder.agent_version(epoch))
    agent.save(folder.best_agent)
    for split, count in ({"train": 60, "test": 60} if steps is None else steps).items():
        env_config = typed.env_train if split == "train" else typed.env_test
        dataset = Dataset(folder.dataset(split))
        collector = Collector(make_env(env_config, 1, 0, CPU), agent.actor_critic, dataset.add_episode, 1.0)
        collector.begin()
        for _ in range(count):
            collector.step()
        collector.store_unfinished()
        dataset.save_info()
    return folder


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
    goes down or up, `None` nothing. Behind its end, the window is closed.
    """

    def __init__(self, playable: Playable, script: list[str | Callable[[], None] | None]) -> None:
        self.playable = playable
        self.repeating_keys = playable.repeating_keys
        self.game_keys = playable.game_keys
        self.views: list[View] = []
        self.screens: list[np.ndarray] = []
        self._script: Iterator = iter(script)
        self._post_next()

    @property
    def wants_pointer(self) -> bool:
        return self.playable.wants_pointer

    def press(self, key: str) -> None:
        self.playable.press(key)

    def tick(self, held: list[str], motion: tuple[int, int] = (0, 0)) -> None:
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
    window = Window("test", Painter(size, has_header), 1000, Interrupts())
    player = Player(playable, script)
    window.show(player)
    return player


def fields(view: View) -> dict[str, str]:
    """What the header says: values by their labels, and the two without a label as `world` and `who`."""
    unlabelled = iter(("world", "who"))
    return {field.label or next(unlabelled): field.value for field in view.fields}
