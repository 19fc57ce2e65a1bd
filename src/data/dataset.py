"""Episodes on disk, in the layout of the published system, readable both ways."""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data.episode import Episode
from errors import UserError
from files import load_tensors, save_tensors


def find_splits(root: Path) -> tuple[Path, Path]:
    """Where the train and test data of a folder lie.

    The folder is a run, a folder of both, one whose small frames lie in `low_res`, or a data set itself (without test).
    """
    for inside in ("dataset", "low_res"):
        if (root / inside).is_dir():
            root = root / inside
    return (root / "train" if (root / "train").is_dir() else root), root / "test"


class Dataset:
    """A folder of episode files and an `info.pt` that counts them.

    Episodes are written as they come; `save_info` makes the counts follow. What `info.pt` counts is what the data set
    holds: files beyond it are leftovers of a killed process and are removed by `rewind`.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)
        self._forget()

    def _forget(self) -> None:
        self.is_static = False
        self.lengths: list[int] = []
        self.counter_rew: Counter[float] = Counter()
        self.counter_end: Counter[int] = Counter()

    @classmethod
    def open(cls, directory: Path) -> "Dataset":
        """Open an existing data set; raises UserError where there is none, or an empty one.

        Without `info.pt` (a published run does not write it for its last test data) the episode files are counted.
        """
        if not Path(directory).is_dir():
            raise UserError(f"There is no data set: the folder {directory} does not exist.")
        dataset = cls._read(directory)
        if dataset.num_episodes == 0:
            raise UserError(f"The data set in {directory} is empty.")
        return dataset

    @classmethod
    def open_if_any(cls, directory: Path) -> "Dataset | None":
        """An existing data set, or None where there is none or an empty one."""
        dataset = cls._read(directory)
        return dataset if dataset.num_episodes > 0 else None

    @classmethod
    def _read(cls, directory: Path) -> "Dataset":
        dataset = cls(directory)
        if dataset.info_path.is_file():
            dataset.load_state_dict(load_tensors(dataset.info_path))
        else:
            dataset._count_files()
        return dataset

    @property
    def info_path(self) -> Path:
        return self.directory / "info.pt"

    @property
    def num_episodes(self) -> int:
        return len(self.lengths)

    @property
    def num_steps(self) -> int:
        return sum(self.lengths)

    def episode_path(self, episode_id: int) -> Path:
        """`<hundreds>/<tens>/<ones>/<id>.pt`, so that no folder grows large."""
        ones, tens, hundreds = episode_id % 10, episode_id % 100 // 10 * 10, episode_id % 1000 // 100 * 100
        return self.directory / f"{hundreds:03d}" / f"{tens:02d}" / f"{ones}" / f"{episode_id}.pt"

    def load_episode(self, episode_id: int) -> Episode:
        """Read one episode, as far as `info.pt` counts it."""
        path = self.episode_path(episode_id)
        episode, counted = Episode.load(path), self.lengths[episode_id]
        if len(episode) < counted:
            raise UserError(f"{path} holds {len(episode)} steps, but {self.info_path} counts {counted}.")
        return episode.first(counted)

    def episodes(self) -> Iterator[Episode]:
        return (self.load_episode(episode_id) for episode_id in range(self.num_episodes))

    def add_episode(self, episode: Episode, episode_id: int | None = None) -> int:
        """Store a new episode, or (with its number) the later steps of an unfinished one; returns the number."""
        if self.is_static:
            raise ValueError(f"the data set in {self.directory} is static: nothing can be added to it")
        whole = episode if episode_id is None else self.load_episode(episode_id).followed_by(episode)
        episode_id = self._count(episode, episode_id)
        whole.save(self.episode_path(episode_id))
        return episode_id

    def _count_files(self) -> None:
        while (path := self.episode_path(self.num_episodes)).is_file():
            self._count(Episode.load(path))

    def _count(self, episode: Episode, episode_id: int | None = None) -> int:
        if episode_id is None:
            episode_id = self.num_episodes
            self.lengths.append(0)
        self.lengths[episode_id] += len(episode)
        self.counter_rew.update(episode.rew.sign().tolist())
        self.counter_end.update(episode.end.tolist())
        return episode_id

    def save_info(self) -> None:
        save_tensors(self.state_dict(), self.info_path)

    def clear(self) -> None:
        """Remove every episode."""
        self._forget()
        if self.directory.exists():
            shutil.rmtree(self.directory)

    def state_dict(self) -> dict[str, Any]:
        """The content of `info.pt`, with the published names and types."""
        lengths = np.array(self.lengths, dtype=np.int64)
        return {
            "is_static": self.is_static,
            "num_steps": self.num_steps,
            "lengths": lengths,
            "num_episodes": self.num_episodes,
            "counter_rew": Counter(self.counter_rew),
            "counter_end": Counter(self.counter_end),
            "start_idx": np.concatenate((np.zeros(min(1, len(lengths)), np.int64), lengths.cumsum()[:-1])),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        try:
            self.is_static = bool(state["is_static"])
            self.lengths = [int(length) for length in state["lengths"]]
            self.counter_rew = Counter(state["counter_rew"])
            self.counter_end = Counter(state["counter_end"])
        except (KeyError, TypeError):
            raise UserError(f"{self.info_path} is not the info.pt of a data set.") from None

    def rewind(self, state: dict[str, Any]) -> None:
        """Go back to a recorded state: later episodes are removed and `info.pt` is rewritten.

        An episode that grew since is cut when it is read (`load_episode`), and rewritten when it grows again.
        """
        self.load_state_dict(state)
        kept = {self.episode_path(episode_id) for episode_id in range(self.num_episodes)}
        for path in sorted(self.directory.glob("*/*/*/*")):
            if path not in kept:
                path.unlink()
        self.save_info()
