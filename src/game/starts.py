"""Where imagination starts: stored experience of the run, or some that is collected once and kept."""

from collections import deque
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from data import Batch, Dataset, Episode
from envs import make_env
from errors import UserError
from game.source import Source
from rl.collector import Collector
from run.folder import RunFolder

NUM_COLLECTED_STEPS = 1000


@dataclass(frozen=True)
class Drawn:
    """A start that was drawn: its episode, and the step at which the player takes over."""

    episode: Episode
    step: int


class Starts:
    """Draws whole segments of n real steps; what was drawn is remembered, in order, for a replay of its actions."""

    def __init__(self, dataset: Dataset, num_steps: int, device: torch.device, seed: int) -> None:
        """Raises UserError when no episode has that many steps."""
        self._device = device
        self._num_steps = num_steps
        self._dice = np.random.default_rng(seed)
        self._room = np.maximum(0, np.array(dataset.lengths) - num_steps + 1)
        if not self._room.any():
            raise UserError(
                f"No episode in {dataset.directory} has the {num_steps} steps that imagination starts from."
            )
        self._load = lru_cache(maxsize=16)(dataset.load_episode)
        self.drawn: deque[Drawn] = deque()

    def __call__(self, count: int) -> Batch:
        episode_ids = self._dice.choice(len(self._room), count, p=self._room / self._room.sum())
        rows = []
        for episode_id in episode_ids:
            episode, start = self._load(int(episode_id)), int(self._dice.integers(self._room[episode_id]))
            stop = start + self._num_steps
            self.drawn.append(Drawn(episode, stop - 1))
            rows.append([getattr(episode, name)[start:stop] for name in ("obs", "act", "rew", "end", "trunc")])
        columns: list[Tensor] = [torch.stack(column).to(self._device) for column in zip(*rows, strict=True)]
        mask = torch.ones_like(columns[1], dtype=torch.bool)
        return Batch(*columns, mask, columns[0][:, -1])

    def draw_episode(self) -> Drawn:
        """A whole episode, to replay its actions from the first one on."""
        return Drawn(self._load(int(self._dice.choice(len(self._room), p=self._room / self._room.sum()))), 0)


def open_starts(source: Source, device: torch.device, seed: int, precision: torch.dtype) -> Starts:
    """Starts from the run's test or train data, else from steps that its agent plays now, once."""
    n, name = source.agent.denoiser.num_steps_conditioning, f"play_{source.version}"
    rank = {"test": 0, "train": 1, name: 2}
    for path in sorted((path for path in source.datasets if path.name in rank), key=lambda path: rank[path.name]):
        dataset = Dataset.open_if_any(path)
        if dataset is not None and max(dataset.lengths) >= n:
            return Starts(dataset, n, device, seed)
    return Starts(
        _collect(source, Dataset(RunFolder(source.folder).dataset(name)), device, seed, precision), n, device, seed
    )


def _collect(source: Source, dataset: Dataset, device: torch.device, seed: int, precision: torch.dtype) -> Dataset:
    episodes: list[Episode] = []

    def keep(episode: Episode, episode_id: int | None) -> int:
        episodes.append(episode)
        return len(episodes) - 1

    env = make_env(source.env_test, 1, seed, device)
    collector = Collector(env, source.agent.actor_critic, keep, epsilon=0.0, precision=precision)
    collector.begin()
    for _ in tqdm(range(NUM_COLLECTED_STEPS), "Collecting starts"):
        collector.step()
    collector.store_unfinished()
    env.close()
    # Only now, so that what was begun and interrupted is not taken for the whole.
    dataset.clear()
    for episode in episodes:
        dataset.add_episode(episode)
    dataset.save_info()
    return dataset
