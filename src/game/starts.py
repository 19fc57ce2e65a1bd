"""Where imagination starts: stored experience of the run, or some that is collected once and kept."""

from collections import deque
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from data import Batch, Dataset, Episode, FullFrames, Segments
from envs import make_env
from errors import UserError
from game.source import Source
from rl.collector import Collector
from run.folder import RunFolder

NUM_COLLECTED_STEPS = 1000


@dataclass(frozen=True)
class Drawn:
    """A start that was drawn: its frames uint8 (n, c, h, w), and the actions that were taken from the last one on.

    `acts` (t), or multi-hot (t, num_actions).
    """

    obs: Tensor
    acts: Tensor


class Starts:
    """Draws whole segments of n real steps; what was drawn is remembered, in order, for a replay of its actions."""

    def __init__(
        self, dataset: Dataset, num_steps: int, device: torch.device, seed: int, full: FullFrames | None = None
    ) -> None:
        """`full` are the frames in full size. Raises UserError when no episode has that many steps."""
        self._device = device
        self._num_steps = num_steps
        self._dice = np.random.default_rng(seed)
        self._full = full
        self._room = np.maximum(0, np.array(dataset.lengths) - num_steps + 1)
        if not self._room.any():
            raise UserError(
                f"No episode in {dataset.directory} has the {num_steps} steps that imagination starts from."
            )
        self._load = lru_cache(maxsize=16)(dataset.load_episode)
        self.drawn: deque[Drawn] = deque()

    def __call__(self, count: int) -> Batch:
        episode_ids = self._dice.choice(len(self._room), count, p=self._room / self._room.sum())
        first_steps = np.array([self._dice.integers(self._room[episode_id]) for episode_id in episode_ids])
        rows = []
        for episode_id, start in zip(episode_ids.tolist(), first_steps.tolist(), strict=True):
            episode, stop = self._load(episode_id), start + self._num_steps
            self.drawn.append(Drawn(episode.obs[start:stop], episode.act[stop - 1 :]))
            rows.append([getattr(episode, name)[start:stop] for name in ("obs", "act", "rew", "end", "trunc")])
        columns: list[Tensor] = [torch.stack(column).to(self._device) for column in zip(*rows, strict=True)]
        mask = torch.ones_like(columns[2], dtype=torch.bool)
        full_obs = None
        if self._full is not None:
            full_obs = self._full.gather(Segments(episode_ids, first_steps, self._num_steps)).to(self._device)
        return Batch(*columns, mask, columns[0][:, -1], full_obs)

    def draw_episode(self) -> Drawn:
        """A whole episode, to replay its actions from the first one on."""
        episode = self._load(int(self._dice.choice(len(self._room), p=self._room / self._room.sum())))
        return Drawn(episode.obs[:1], episode.act)


def open_starts(source: Source, device: torch.device, seed: int, precision: torch.dtype) -> Starts:
    """Starts from the run's test or train data, else from steps that its agent plays now, once.

    Raises UserError where there is no data, and nobody who could play.
    """
    n, name = source.agent.denoiser.num_steps_conditioning, f"play_{source.version}"
    rank = {"test": 0, "train": 1, name: 2}
    for path in sorted((path for path in source.datasets if path.name in rank), key=lambda path: rank[path.name]):
        dataset = Dataset.open_if_any(path)
        if dataset is not None and max(dataset.lengths) >= n:
            full = None if source.full_res is None else FullFrames(source.full_res, dataset)
            return Starts(dataset, n, device, seed, full)
    if source.agent.actor_critic is None:
        raise UserError(f"{source.folder} has nowhere to begin: no data set of {n} steps, and no spawn folder.")
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
