"""Experience of one split, on disk and in memory, in step."""

import torch

from data.dataset import Dataset
from data.episode import Episode
from data.replay import Replay
from data.stored import StoredReplay


class ExperienceStore:
    """A data set and the replay that holds the same episodes.

    With several ranks, one of them writes the data set and the others `follow` with the episodes that it added.
    """

    def __init__(self, dataset: Dataset, device: torch.device | None, expected_steps: int = 0) -> None:
        """`device` holds the replay; None leaves a static data set on disk."""
        self.dataset = dataset
        self._device = device
        self._expected_steps = expected_steps
        self._added: list[tuple[Episode, int | None]] = []
        self.replay: Replay | StoredReplay = self._empty_replay()

    @property
    def is_on_disk(self) -> bool:
        return self._device is None

    def _empty_replay(self) -> Replay | StoredReplay:
        return StoredReplay(self.dataset) if self._device is None else Replay(self._device, self._expected_steps)

    def add_episode(self, episode: Episode, episode_id: int | None = None) -> int:
        """Store a new episode, or (with its number) the later steps of an unfinished one; returns the number."""
        self._added.append((episode, episode_id))
        self.replay.add_episode(episode, episode_id)
        return self.dataset.add_episode(episode, episode_id)

    def take_added(self) -> list[tuple[Episode, int | None]]:
        """What was added since the last call, for `follow` on other ranks."""
        added, self._added = self._added, []
        return added

    def follow(self, added: list[tuple[Episode, int | None]]) -> None:
        for episode, episode_id in added:
            self.replay.add_episode(episode, episode_id)

    def clear(self) -> None:
        self.dataset.clear()
        self.replay = self._empty_replay()
        self._added = []

    def load(self) -> None:
        """Read every episode of the data set into memory, unless it stays on disk."""
        self.replay = self._empty_replay()
        if self.is_on_disk:
            return
        # Not at the top, so that networks and batches can be measured where PyTorch alone is installed.
        from tqdm import tqdm

        count, where = self.dataset.num_episodes, self.dataset.directory.name
        for episode in tqdm(self.dataset.episodes(), f"Loading {where} data", count, leave=False, delay=1):
            self.replay.add_episode(episode)
