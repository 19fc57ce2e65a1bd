"""Experience that stays on disk: batches are read from episode files instead of memory."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from data.batch import Batch
from data.checks import STEP_FIELDS
from data.dataset import Dataset
from data.episode import Episode
from data.segments import Segments
from errors import UserError


class StoredReplay:
    """A data set with the interface of `Replay`; `gather` reads only the parts of the episode files that it needs."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    @property
    def episode_lengths(self) -> np.ndarray:
        return np.array(self._dataset.lengths, np.int64)

    @property
    def num_episodes(self) -> int:
        return self._dataset.num_episodes

    @property
    def num_steps(self) -> int:
        return self._dataset.num_steps

    def gather(self, segments: Segments) -> Batch:
        """The batch of the given segments, in memory."""
        episodes = {int(each): self._dataset.load_episode(int(each)) for each in np.unique(segments.episode_ids)}
        chosen = [episodes[int(each)] for each in segments.episode_ids]
        columns = {name: [getattr(episode, name).numpy() for episode in chosen] for name in STEP_FIELDS}
        columns["mask_padding"] = [np.ones(len(episode), bool) for episode in chosen]
        final_obs = torch.from_numpy(np.stack([_final_obs(episode) for episode in chosen]))
        steps = {name: cut(arrays, segments) for name, arrays in columns.items()}
        return Batch(**steps, final_obs=final_obs, segments=segments)

    def add_episode(self, episode: Episode, episode_id: int | None = None) -> None:
        """Does nothing: the data set holds the episode."""

    def clear(self) -> None:
        """Does nothing: there is no copy of the episodes in memory."""

    def add_column(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        raise UserError(f"Experience on disk has no room for {name}: set training.replay_device=cpu.")

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Does nothing: the data set holds everything."""


def cut(arrays: list[np.ndarray], segments: Segments) -> Tensor:
    """Cut each segment from its array (t, …), with zeros beyond the array: (b, length, …).

    This uses only NumPy because it may run in threads: PyTorch would start a pool of workers for each thread, which
    slows down the main thread's workers.
    """
    batch = np.zeros((len(segments), segments.length, *arrays[0].shape[1:]), arrays[0].dtype)
    for row, array, start in zip(batch, arrays, segments.starts.tolist(), strict=True):
        first, last = max(0, start), min(len(array), start + segments.length)
        row[first - start : last - start] = array[first:last]
    return torch.from_numpy(batch)


def _final_obs(episode: Episode) -> np.ndarray:
    # As in `Replay`, the last frame replaces a missing final observation.
    return episode.info.get("final_observation", episode.obs[-1]).numpy()
