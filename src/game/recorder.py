"""What was played, kept as data sets."""

import os
import sys
import tempfile
import threading
from pathlib import Path

import torch
from torch import Tensor

from data import Dataset, Episode
from errors import UserError, one_line
from run.lock import turn_in


class Recorder:
    """Gathers the steps of an episode and stores it in `<root>/rec_<env>_<who>` when it is over or interrupted.

    When another player takes over, the rest of the episode is stored as an episode of its own, from that frame on.
    Several processes and threads can store in the same data set: they take turns, and each adds to what is on disk by
    then. Episodes for which the disk has no room stay in memory, and are stored later; those that are left in the end
    go to a folder for temporary files. Raises UserError when nothing can be stored there.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        if not os.access(root, os.W_OK):
            raise UserError(f"Nothing can be recorded: {root} cannot be written to.")
        self.root = root
        self.is_saved = False
        self._waiting: list[tuple[str, Episode]] = []
        self._recorded: list[str] = []
        self._known: dict[Path, tuple[Dataset, tuple[int, int] | None]] = {}
        self._name = ""
        self._steps: list[tuple[Tensor, ...]] = []
        self._extras: list[dict[str, Tensor]] = []
        self._final_obs: Tensor | None = None
        self._is_closed = False
        self._problem = ""
        # A player can leave while a step is being computed in another thread.
        self._lock = threading.RLock()

    @property
    def status(self) -> tuple[str, ...]:
        """What the player should know."""
        if self._waiting:
            count = len(self._waiting)
            kept = f"{count} episode{'s' if count > 1 else ''} kept in memory"
            return (f"not saved, {kept} (s: try again): {self._problem}",)
        return ("recording", "saved") if self.is_saved and not self._steps else ("recording",)

    def add(
        self,
        name: str,
        obs: Tensor,
        act: int | Tensor,
        answer: tuple[float, bool, bool],
        final_obs: Tensor,
        **extras: Tensor,
    ) -> None:
        """One step for the data set `rec_<name>`; after `close`, it is ignored.

        `obs` and `final_obs` uint8 (c, h, w); `answer` is reward, end and truncation. `extras` are kept in the
        episode's `info`, stacked over its steps.
        """
        with self._lock:
            if self._is_closed:
                return
            if name != self._name:
                self.store()
            self._name = name
            rew, end, trunc = answer
            flags = [torch.tensor(flag, dtype=torch.uint8) for flag in (end, trunc)]
            self._steps.append((obs, torch.as_tensor(act), torch.tensor(rew), *flags))
            self._extras.append(extras)
            self._final_obs = final_obs
            if end or trunc:
                self.store()

    def store(self) -> None:
        """Store the steps since the last stored episode, if there are any, and what had no room before."""
        with self._lock:
            if self._steps:
                columns = [torch.stack(column) for column in zip(*self._steps, strict=True)]
                info = {name: torch.stack([extras[name] for extras in self._extras]) for name in self._extras[0]}
                episode = Episode(*columns, info={**info, "final_observation": self._final_obs})
                self._waiting.append((f"rec_{self._name}", episode))
                self._steps, self._extras = [], []
            self._write_waiting(self.root)

    def close(self) -> None:
        """Store everything. What finds no room goes to a folder for temporary files, and a line says so."""
        with self._lock:
            self.store()
            self._is_closed = True
            if not self._waiting:
                return
            problem = self._problem
            elsewhere = Path(tempfile.mkdtemp(prefix="recordings-"))
            self._write_waiting(elsewhere)
            lost = f", and {len(self._waiting)} episodes had no room there either" if self._waiting else ""
            where = f"The last recordings are in {elsewhere}{lost}."
            print(f"warning: {self.root} could not be written to ({problem}). {where}", file=sys.stderr)

    @property
    def counts(self) -> dict[str, int]:
        """The number of episodes in each data set that was added to."""
        return {name: self._open(self.root / name).num_episodes for name in self._recorded}

    def _write_waiting(self, root: Path) -> None:
        """Write as many episodes as there is room for."""
        while self._waiting:
            name, episode = self._waiting[0]
            try:
                with turn_in(root / name):
                    dataset = self._open(root / name)
                    # Until it is on disk, it is not known what is there.
                    self._known.pop(root / name, None)
                    dataset.add_episode(episode)
                    dataset.save_info()
                    self._known[root / name] = dataset, _stamp(dataset)
            # A full disk, or one that was taken away.
            except (UserError, OSError) as error:
                self._problem = one_line(error)
                return
            del self._waiting[0]
            self.is_saved = True
            if root == self.root and name not in self._recorded:
                self._recorded.append(name)

    def _open(self, path: Path) -> Dataset:
        """The data set; it is read and checked again only if somebody else has added to it."""
        dataset, stamp = self._known.get(path, (None, None))
        if dataset is not None and _stamp(dataset) == stamp:
            return dataset
        return Dataset.open_if_any(path) or Dataset(path)


def _stamp(dataset: Dataset) -> tuple[int, int] | None:
    """What changes when a data set does."""
    try:
        facts = dataset.info_path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns
