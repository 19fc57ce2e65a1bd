"""Where imagination starts: the run's data, or experience that is collected once and kept."""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from data import Batch, Dataset, Episode, FullFrames, Segments, StoredReplay, with_stride
from envs import make_env
from envs.trust import check_env
from errors import UserError
from rl.collector import Collector
from rl.policy import Policy
from run.folder import RunFolder
from run.lock import turn_in
from trained.opening import check_fits, find_spaces
from trained.source import Source

NUM_COLLECTED_STEPS = 1000


@dataclass(frozen=True)
class Recording:
    """What was recorded from a start on: its frame, uint8 (c, h, w), and the actions taken from that frame on.

    `acts` (t), or vectors (t, num_actions).
    """

    obs: Tensor
    acts: Tensor


class StartSource(Protocol):
    """Real experience to start from. Each start carries its origin: an episode, and the step of its last frame.

    Draws come from PyTorch's default generator, which is that of the player who draws (see `RandomNumbers`).
    """

    def draw(self, count: int, length: int, with_full_frames: bool) -> Batch:
        """Segments of that many real steps, whose `segments` name their origins."""

    def recording(self, episode_id: int, step: int) -> Recording:
        """What was recorded from an origin on."""

    def draw_recording(self) -> Recording:
        """A whole recording, to replay its actions from the first one on."""


class DatasetStarts:
    """Draws whole segments of real steps from a data set."""

    def __init__(self, dataset: Dataset, device: torch.device, full: FullFrames | None = None) -> None:
        """`full`: the same frames in full size."""
        self._dataset = dataset
        self._replay = StoredReplay(dataset)
        self._device = device
        self._full = full
        self._load = lru_cache(maxsize=16)(dataset.load_episode)

    def draw(self, count: int, length: int, with_full_frames: bool) -> Batch:
        """Raises UserError when no episode has that many steps."""
        room = np.maximum(0, np.array(self._dataset.lengths) - length + 1)
        if not room.any():
            where = self._dataset.directory
            raise UserError(f"No episode in {where} has the {length} steps that imagination starts from.")
        ends = room.cumsum()
        places = torch.randint(int(ends[-1]), (count,)).numpy()
        episode_ids = np.searchsorted(ends, places, side="right")
        segments = Segments(episode_ids, places - (ends - room)[episode_ids], length)
        full_obs = self._full.gather(segments) if with_full_frames and self._full is not None else None
        return replace(self._replay.gather(segments), full_obs=full_obs).to(self._device)

    def recording(self, episode_id: int, step: int) -> Recording:
        episode = self._load(episode_id)
        return Recording(episode.obs[step], episode.act[step:])

    def draw_recording(self) -> Recording:
        return self.recording(int(torch.randint(self._dataset.num_episodes, ())), 0)


def open_starts(
    source: Source,
    length: int,
    policy: Policy | None,
    device: torch.device,
    seed: int,
    precision: torch.dtype,
    num_steps: int = NUM_COLLECTED_STEPS,
) -> DatasetStarts:
    """Starts of that many steps from the run's test or train data, else from `num_steps` that its policy plays once.

    Raises UserError where there is neither such data nor a policy.
    """
    name = f"play_{source.version}"
    rank = {"test": 0, "train": 1, name: 2}
    for path in sorted((path for path in source.datasets if path.name in rank), key=lambda path: rank[path.name]):
        dataset = Dataset.open_if_any(path)
        if dataset is not None and max(dataset.lengths) >= length:
            dataset = with_stride(dataset, source.config.static_dataset.stride)
            check_fits(dataset, find_spaces(source), source)
            full = None if source.full_res is None else FullFrames(source.full_res, dataset)
            return DatasetStarts(dataset, device, full)
    if policy is None:
        raise UserError(f"{source.folder} has nowhere to start: no data set of {length} steps, and no spawn folder.")
    folder = RunFolder(source.folder)
    # Another player of this run may be collecting the same steps.
    with turn_in(folder.dataset("")):
        dataset = Dataset.open_if_any(folder.dataset(name)) or Dataset(folder.dataset(name))
        if max(dataset.lengths, default=0) < length:
            _collect(source, policy, dataset, device, seed, precision, num_steps)
    return DatasetStarts(dataset, device)


def _collect(
    source: Source,
    policy: Policy,
    dataset: Dataset,
    device: torch.device,
    seed: int,
    precision: torch.dtype,
    num_steps: int,
) -> None:
    episodes: list[Episode] = []

    def keep(episode: Episode, episode_id: int | None) -> int:
        episodes.append(episode)
        return len(episodes) - 1

    check_env(source.config.env.test, source.trusts)
    env = make_env(source.config.env.test, 1, seed, device)
    collector = Collector(env, policy, keep, epsilon=0.0, precision=precision)
    collector.begin()
    for _ in tqdm(range(num_steps), "Collecting starts"):
        collector.step()
    collector.store_unfinished()
    env.close()
    # Only now, so that an interrupted collection is not taken for a whole one.
    dataset.clear()
    for episode in episodes:
        dataset.add_episode(episode)
    dataset.save_info()
