"""A data set in which each step is several recorded ones: what a model sees that looks further ahead."""

from dataclasses import replace

import torch
from torch import Tensor

from data.dataset import Dataset
from data.episode import Episode
from data.spaces import Actions
from errors import UserError


def with_stride(dataset: Dataset, stride: int) -> Dataset:
    """A view of an opened data set that takes every `stride`-th frame; the data set itself for a stride of 1.

    Raises UserError if no episode has two such frames, or if the actions are numbers, which cannot be joined.
    """
    return dataset if stride == 1 else StridedDataset(dataset, stride)


class StridedDataset(Dataset):
    """Each episode gives as many episodes as the stride: one begins at each of its first frames.

    So every frame belongs to one of them, and every two frames that are `stride` steps apart are neighbours in one. A
    step has the actions of all its recorded steps, joined to one vector, and the sum of their rewards; after the last
    recorded action, actions are zero.
    """

    def __init__(self, dataset: Dataset, stride: int) -> None:
        super().__init__(dataset.directory)
        self.info = dataset.info
        self._stride = stride
        self._whole = dataset
        # The places (episode, first frame) of the episodes of this view.
        whole = enumerate(dataset.lengths)
        self._places = [(number, first) for number, length in whole for first in range(min(stride, length))]
        self._lengths = [-(-(dataset.lengths[number] - first) // stride) for number, first in self._places]
        if max(self._lengths) < 2:
            raise UserError(
                f"static_dataset.stride={stride} is longer than every episode in {dataset.directory}: the longest has "
                f"{max(dataset.lengths)} frames, and at least {stride + 1} are needed."
            )
        actions = dataset.spaces.actions
        if actions.kind == "numbered":
            raise UserError(
                f"The actions in {dataset.directory} are numbers, and static_dataset.stride={stride} joins vectors: "
                "set it to 1."
            )
        self.spaces = replace(dataset.spaces, actions=Actions(actions.kind, stride * actions.size))

    @property
    def lengths(self) -> list[int]:
        return self._lengths

    @property
    def num_episodes(self) -> int:
        return len(self._lengths)

    @property
    def num_steps(self) -> int:
        return sum(self._lengths)

    def load_episode(self, episode_id: int) -> Episode:
        number, first = self._places[episode_id]
        return every_nth(self._whole.load_episode(number), self._stride, first)


def every_nth(episode: Episode, stride: int, first: int) -> Episode:
    """The episode that begins at step `first`, which is less than `stride`, and whose steps are `stride` recorded ones.

    The episode itself for a stride of 1: its actions may be numbers.
    """
    if stride == 1:
        return episode
    info = dict(episode.info)
    if (len(episode) - first) % stride:
        # The frame after the last step belongs to another of these episodes.
        info.pop("final_observation", None)

    def windows(values: Tensor) -> Tensor:
        """The values of all recorded steps of each step, (t, stride, …), zero after the last one."""
        inside = values[first:]
        missing = inside.new_zeros(-len(inside) % stride, *inside.shape[1:])
        return torch.cat((inside, missing)).unflatten(0, (-1, stride))

    return Episode(
        episode.obs[first::stride].contiguous(),
        windows(episode.act).flatten(1),
        windows(episode.rew).sum(dim=1),
        windows(episode.end).amax(dim=1),
        windows(episode.trunc).amax(dim=1),
        info,
    )
