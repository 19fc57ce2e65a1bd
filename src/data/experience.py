"""The experience of one split: its data set on disk, and the replay that batches are gathered from."""

from dataclasses import replace
from typing import Any

import torch

from data.batch import Batch
from data.dataset import Dataset
from data.episode import Episode
from data.full_frames import FullFrames
from data.replay import Replay
from data.segments import Segments
from data.stored import StoredReplay


class Experience:
    """A data set, a replay of the same episodes, and their full-size frames, if any.

    With several ranks, rank 0 writes the data set, and the others add the same episodes to their replays with `follow`.
    """

    def __init__(
        self,
        dataset: Dataset,
        device: torch.device | None,
        expected_steps: int = 0,
        full: FullFrames | None = None,
    ) -> None:
        """`device` is the device of the replay; with None, batches are read from the data set on disk."""
        self.dataset = dataset
        self.full = full
        self.replay = StoredReplay(dataset) if device is None else Replay(device, expected_steps)
        self._added: list[tuple[Episode, int | None]] = []

    @property
    def is_on_disk(self) -> bool:
        return isinstance(self.replay, StoredReplay)

    def gather(self, segments: Segments, with_full_frames: bool = False) -> Batch:
        """The batch of the given segments, on the replay's device."""
        batch = self.replay.gather(segments)
        return replace(batch, full_obs=self.full.gather(segments)) if with_full_frames else batch

    def add_episode(self, episode: Episode, episode_id: int | None = None) -> int:
        """Add a new episode, or further steps of the unfinished episode `episode_id`; returns the episode's id."""
        self._added.append((episode, episode_id))
        self.replay.add_episode(episode, episode_id)
        return self.dataset.add_episode(episode, episode_id)

    def take_added(self) -> list[tuple[Episode, int | None]]:
        """The episodes added since the last call, for `follow` on other ranks."""
        added, self._added = self._added, []
        return added

    def follow(self, added: list[tuple[Episode, int | None]]) -> None:
        for episode, episode_id in added:
            self.replay.add_episode(episode, episode_id)

    def clear(self) -> None:
        """Remove every episode, also from disk."""
        self.dataset.clear()
        self.replay.clear()
        self._added = []

    def start_over(self) -> None:
        """Forget every episode; the files stay until the data set is settled."""
        self.dataset.start_over()
        self.replay.clear()
        self._added = []

    def load(self) -> None:
        """Read every episode of the data set into the replay, unless the replay itself reads from disk."""
        self.replay.clear()
        if self.is_on_disk:
            return
        # Imported here, so that networks and batches can be benchmarked with only PyTorch installed.
        from tqdm import tqdm

        count, where = self.dataset.num_episodes, self.dataset.directory.name
        for episode in tqdm(self.dataset.episodes(), f"Loading {where} data", count, leave=False, delay=1):
            self.replay.add_episode(episode)

    def state_dict(self) -> dict[str, Any]:
        """The columns that an algorithm added. The episodes themselves are saved in the data set."""
        return self.replay.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.replay.load_state_dict(state)
