"""Episodes on disk, in the layout of the published system; either system can read the other's data sets."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from data.checked import check_episodes, require_inside
from data.episode import Episode
from data.info import Info
from data.spaces import Spaces
from errors import UserError
from files import load_tensors, require_plain_file, save_tensors


def find_splits(root: Path) -> tuple[Path, Path]:
    """The folders of the train and test data inside `root`.

    `root` is a run folder, a folder with `train` and `test`, a folder with these inside `low_res`, or a single data
    set, which has no test data.
    """
    for inside in ("dataset", "low_res"):
        if (root / inside).is_dir():
            root = root / inside
    return (root / "train" if (root / "train").is_dir() else root), root / "test"


class Dataset:
    """A folder of episode files, and an `info.pt` with their number and lengths.

    An episode is written when it is over. `save_info` writes unfinished episodes, and then `info.pt`. Only episodes and
    steps that `info.pt` counts belong to the data set: other files were left by a killed process, and `rewind` removes
    them. `spaces` are the frames and actions of an opened data set; numbered actions are counted up to the largest.

    The last checkpoint may refer to the files. So `start_over` leaves them, and new episodes are written to a folder
    inside, which is named after their `generation`. `settle` replaces the files, when the next checkpoint is on disk.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)
        self.generation = 0
        self._forget()
        self._written_to = self.directory

    def _forget(self) -> None:
        self.info = Info()
        self.spaces: Spaces | None = None
        self._unwritten: dict[int, list[Episode]] = {}

    @classmethod
    def open(cls, directory: Path) -> "Dataset":
        """Open an existing data set, and check its episodes.

        Raises UserError if it does not exist or is empty, and for an episode that cannot be used, with the name of the
        entry that is wrong. Episodes that were found good before are not read again while they are unchanged. If there
        is no `info.pt` (a published run does not write it for its last test data), the files are counted.
        """
        if not Path(directory).is_dir():
            raise UserError(f"There is no data set: the folder {directory} does not exist.")
        dataset = cls._read(directory)
        if dataset.num_episodes == 0:
            raise UserError(f"The data set in {directory} is empty.")
        return dataset

    @classmethod
    def open_if_any(cls, directory: Path) -> "Dataset | None":
        """Open and check an existing data set; returns None if it does not exist or is empty."""
        dataset = cls._read(directory)
        return dataset if dataset.num_episodes > 0 else None

    @classmethod
    def _read(cls, directory: Path) -> "Dataset":
        dataset = cls(directory)
        # A pipe or a broken link exists, too, and is refused.
        if os.path.lexists(dataset.info_path):
            require_plain_file(dataset.info_path)
            require_inside(dataset.directory, dataset.info_path)
            dataset.load_state_dict(load_tensors(dataset.info_path))
        else:
            dataset._count_files()
        if dataset.num_episodes > 0:
            paths = [dataset.episode_path(episode_id) for episode_id in range(dataset.num_episodes)]
            dataset.spaces = check_episodes(dataset.directory, paths, dataset.lengths)
        return dataset

    @property
    def info_path(self) -> Path:
        return self._written_to / "info.pt"

    @property
    def lengths(self) -> list[int]:
        """The number of steps of each episode."""
        return self.info.lengths

    @property
    def num_episodes(self) -> int:
        return len(self.info.lengths)

    @property
    def num_steps(self) -> int:
        return self.info.num_steps

    def episode_path(self, episode_id: int) -> Path:
        """The path `<hundreds>/<tens>/<ones>/<id>.pt`, which keeps folders small."""
        ones, tens, hundreds = episode_id % 10, episode_id % 100 // 10 * 10, episode_id % 1000 // 100 * 100
        return self._written_to / f"{hundreds:03d}" / f"{tens:02d}" / f"{ones}" / f"{episode_id}.pt"

    def load_episode(self, episode_id: int) -> Episode:
        """Read one episode, up to the number of steps that is counted."""
        unwritten = self._unwritten.get(episode_id, [])
        counted = self.lengths[episode_id] - sum(map(len, unwritten))
        parts = list(unwritten)
        if counted > 0:
            path = self.episode_path(episode_id)
            episode = Episode.load(path)
            if len(episode) < counted:
                raise UserError(f"{path} holds {len(episode)} steps, but {self.info_path} counts {counted}.")
            parts.insert(0, episode.first(counted))
        return Episode.joined(parts)

    def episodes(self) -> Iterator[Episode]:
        return (self.load_episode(episode_id) for episode_id in range(self.num_episodes))

    def add_episode(self, episode: Episode, episode_id: int | None = None) -> int:
        """Add a new episode, or further steps of the unfinished episode `episode_id`; returns the episode's id."""
        if self.info.is_static:
            raise ValueError(f"the data set in {self.directory} is static: nothing can be added to it")
        episode_id = self.info.count(episode, episode_id)
        self._unwritten.setdefault(episode_id, []).append(replace(episode, extra={}))
        if episode.is_over:
            self._write(episode_id)
        return episode_id

    def save_info(self) -> None:
        """Write the steps of unfinished episodes, and then `info.pt`."""
        for episode_id in list(self._unwritten):
            self._write(episode_id)
        save_tensors(self.state_dict(), self.info_path)

    def _write(self, episode_id: int) -> None:
        self.load_episode(episode_id).save(self.episode_path(episode_id))
        del self._unwritten[episode_id]

    def _count_files(self) -> None:
        while os.path.lexists(path := self.episode_path(self.num_episodes)):
            self.info.count(Episode.load(path), None)

    def clear(self) -> None:
        """Remove every episode."""
        self._forget()
        self._written_to = self.directory
        if self.directory.exists():
            # The folder can be a link to one on another disk.
            folder = self.directory.resolve()
            shutil.rmtree(folder)
            folder.mkdir()

    def start_over(self) -> None:
        """Forget every episode, but keep the files until `settle`; new episodes are written beside them."""
        self._forget()
        self._remove_folders_beside()
        self.generation += 1
        self._written_to = self._folder_beside

    def settle(self) -> None:
        """Replace the files from before `start_over` by those written since. It can be repeated after a kill."""
        self._written_to = self.directory
        beside = self._folder_beside
        if beside.is_dir():
            # `info.pt` is the last: whoever opens the data set meanwhile finds the episodes that it counts.
            for path in sorted(beside.rglob("*.pt"), key=lambda path: path.name == "info.pt"):
                target = self.directory / path.relative_to(beside)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.replace(target)
            self._remove_uncounted()
        self._remove_folders_beside()

    def state_dict(self) -> dict[str, Any]:
        """The content of `info.pt`."""
        return self.info.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the content of an `info.pt`; raises UserError, and changes nothing, if it is not one."""
        self.info = Info.of(state, self.info_path)

    def rewind(self, state: dict[str, Any], generation: int = 0) -> None:
        """Go back to an earlier state: remove later episodes and rewrite `info.pt`.

        An episode that has become longer since is cut when it is read (`load_episode`), and rewritten when steps are
        added to it.
        """
        self._unwritten = {}
        self.load_state_dict(state)
        self.generation = generation
        self.settle()
        self._remove_uncounted()
        self.save_info()

    @property
    def _folder_beside(self) -> Path:
        return self.directory / f"{_BESIDE}{self.generation}"

    def _remove_folders_beside(self) -> None:
        for folder in self.directory.glob(f"{_BESIDE}*"):
            shutil.rmtree(folder)

    def _remove_uncounted(self) -> None:
        kept = {self.episode_path(episode_id) for episode_id in range(self.num_episodes)}
        for path in sorted(self.directory.glob("[0-9]*/*/*/*")):
            if path not in kept:
                path.unlink()


_BESIDE = ".generation-"
