"""Experience that stays on disk: batches of segments without a copy of everything in memory."""

import numpy as np
import torch
from torch import Tensor

from data.batch import Batch
from data.dataset import Dataset
from data.episode import STEP_FIELDS, Episode
from data.segments import Segments


class StoredReplay:
    """A data set drawn from as a `Replay` is; a batch reads those parts of the episodes' files that it needs."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.episode_lengths = np.array(dataset.lengths, np.int64)

    def gather(self, segments: Segments) -> Batch:
        """The batch of the given segments, in memory."""
        episodes = {int(each): self._dataset.load_episode(int(each)) for each in np.unique(segments.episode_ids)}
        chosen = [episodes[int(each)] for each in segments.episode_ids]
        columns = {name: [getattr(episode, name).numpy() for episode in chosen] for name in STEP_FIELDS}
        columns["mask_padding"] = [np.ones(len(episode), bool) for episode in chosen]
        final_obs = torch.from_numpy(np.stack([_final_obs(episode) for episode in chosen]))
        return Batch(**{name: cut(arrays, segments) for name, arrays in columns.items()}, final_obs=final_obs)


def cut(arrays: list[np.ndarray], segments: Segments) -> Tensor:
    """Each segment's part of its array (t, …), zero beyond it: (b, length, …).

    NumPy alone, because it may be called in threads: PyTorch would begin workers for each of them, which hinder those
    of the main thread.
    """
    batch = np.zeros((len(segments), segments.length, *arrays[0].shape[1:]), arrays[0].dtype)
    for row, array, start in zip(batch, arrays, segments.starts.tolist(), strict=True):
        first, last = max(0, start), min(len(array), start + segments.length)
        row[first - start : last - start] = array[first:last]
    return torch.from_numpy(batch)


def _final_obs(episode: Episode) -> np.ndarray:
    # As in a replay in memory, the last frame stands in where it is not known.
    return episode.info.get("final_observation", episode.obs[-1]).numpy()
