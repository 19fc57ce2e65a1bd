"""Checkpoints: the state of a run is written atomically, and restored after any interruption.

The last checkpoint refers to test episodes, and its best return to `best.pt`. What replaces them is written beside
them, and takes their place when a checkpoint that includes it is on disk.
"""

import sys
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from algorithms.base import Algorithm, Rebuilder
from data import Dataset
from errors import UserError
from files import load_tensors, save_tensors
from rl.collector import Collector
from run.folder import RunFolder
from run.log import Log
from run.random_state import random_state, restore_random_state
from run.ranks import Ranks
from training.data import RunData
from training.progress import Progress
from training.schedule import Schedule


@dataclass(frozen=True)
class Saved:
    """The objects whose state a checkpoint holds; `collectors` is empty on all ranks except the first."""

    folder: RunFolder
    ranks: Ranks
    progress: Progress
    algorithm: Algorithm
    data: RunData
    collectors: dict[str, Collector]

    def save(self, log: Log | None) -> None:
        """Write everything needed to resume; all ranks have to call this, with `log` on the first only.

        Raises NotFinite, without writing anything, if a loss, gradients or weights are not finite.
        """
        states_of_ranks = self.ranks.gather(self._state_of_rank())
        columns = self.ranks.gather(self.data.train.state_dict())
        if self.ranks.is_first:
            components = self.algorithm.components.items()
            for _, component in components:
                component.check_finite()
            if self.data.is_own:
                self.data.train.dataset.save_info()
                self.data.test.dataset.save_info()
            log.sync()
            state = {
                "progress": asdict(self.progress),
                "agent": self.algorithm.agent.state_dict(),
                "components": {name: component.state_dict() for name, component in components},
                "collectors": {name: collector.state_dict() for name, collector in self.collectors.items()},
                "datasets": {
                    "train": self.data.train.dataset.state_dict(),
                    "test": self.data.test.dataset.state_dict(),
                },
                "ranks": states_of_ranks,
                "columns": self._save_columns(columns),
                "generation": self.data.test.dataset.generation,
                "log_position": log.position,
            }
            save_tensors(state, self.folder.state)
            self.folder.remove_columns(kept=state["columns"])
            if self.data.is_own:
                self.data.test.dataset.settle()
            settle_best_agent(self.folder, self.progress)
        # No rank may exit, or change the data, before the file is complete.
        self.ranks.broadcast("saved")

    def restore(self) -> int:
        """Restore the last checkpoint, if there is one; returns the position of the log.

        Data that the run stored after it is removed. If the number of ranks has changed, the ranks' own states are not
        restored: rollouts and random generators start again. Raises UserError if the checkpoint does not fit the
        settings.
        """
        if self.ranks.is_first:
            self.folder.remove_parts()
        if not self.folder.state.exists():
            if self.data.is_own and self.ranks.is_first:
                self.data.train.clear()
                self.data.test.clear()
            if self.ranks.is_first:
                self.folder.remove_columns(kept=None)
                settle_best_agent(self.folder, self.progress)
            return 0
        state = read_state(self.folder)
        if isinstance(state["progress"]["phase"], str):
            raise UserError(
                f"{self.folder.state} was written by an earlier version of this project, whose code the run folder "
                f"holds: resume it with {self.folder.path}/scripts/resume.sh."
            )
        try:
            self._load(state)
            if self.ranks.is_first:
                self.folder.remove_columns(kept=state.get("columns"))
            return int(state["log_position"])
        except (OSError, UserError):
            raise
        # Each part of the run reads its own entries, and fails in its own way on entries of another run.
        except Exception as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(f"{self.folder.state} does not fit the settings of this run ({reason}).") from error

    def _load(self, state: dict[str, Any]) -> None:
        vars(self.progress).update(asdict(Progress(**state["progress"])))
        if self.ranks.is_first:
            settle_best_agent(self.folder, self.progress)
        self.algorithm.agent.load_state_dict(state["agent"])
        for name, component in self.algorithm.components.items():
            component.load_state_dict(state["components"][name])
        if self.data.is_own:
            self._load_data(state)
        self._load_columns(state.get("columns"))
        if len(state["ranks"]) == self.ranks.world_size:
            own = state["ranks"][self.ranks.rank]
            self.algorithm.load_state_of_rank(own["algorithm"])
            restore_random_state(own["random"], self.ranks.device)

    def _load_data(self, state: dict[str, Any]) -> None:
        train, test = self.data.train, self.data.test
        if self.ranks.is_first:
            train.dataset.rewind(state["datasets"]["train"])
            test.dataset.rewind(state["datasets"]["test"], state.get("generation", 0))
            for name, collector in self.collectors.items():
                collector.load_state_dict(state["collectors"][name], self.ranks.device)
        else:
            train.dataset.load_state_dict(state["datasets"]["train"])
        train.load()

    def _state_of_rank(self) -> dict[str, Any]:
        return {
            "random": random_state(self.ranks.device),
            "algorithm": self.algorithm.state_of_rank(),
        }

    def _save_columns(self, columns: list[dict[str, Tensor]]) -> str | None:
        """Write the replay columns of all ranks; returns the name of their file, or None if there are none.

        The columns follow from the numbers of steps and updates: a file of this name holds these very columns.
        """
        if not columns[0]:
            return None
        num_updates = sum(each.num_updates for each in self.algorithm.components.values())
        path = self.folder.columns(self.data.train.dataset.num_steps, num_updates)
        if not path.exists():
            save_tensors(columns, path)
        return path.name

    def _load_columns(self, name: str | None) -> None:
        """Restore the replay columns. If they are lost, or of another number of ranks, they are made again."""
        if name is None:
            return
        path = self.folder.state.with_name(name)
        try:
            columns = load_tensors(path)
            lost = None if len(columns) == self.ranks.world_size else f"{path} is of {len(columns)} processes."
        except UserError as error:
            lost = str(error)
        if lost is None:
            self.data.train.load_state_dict(columns[self.ranks.rank])
        elif not isinstance(self.algorithm, Rebuilder):
            raise UserError(f"{lost} The replay columns that it held cannot be made again.")
        else:
            if self.ranks.is_first:
                path.unlink(missing_ok=True)
                print(f"warning: {lost} It is computed again: the run will not be exactly the same.", file=sys.stderr)
            self.algorithm.rebuild_columns()


def read_state(folder: RunFolder) -> dict[str, Any]:
    """The content of `state.pt`, whose `progress` has the entries of `Progress`, of which some may be missing.

    Raises UserError if it is not the state of a run.
    """
    state = load_tensors(folder.state)
    progress = state.get("progress") if isinstance(state, dict) else None
    if not isinstance(progress, dict):
        raise UserError(f"{folder.state} is not the state of a run: it has no progress.")
    kinds = {"epoch": int, "phase": int | str, "is_finished": bool}
    for name, kind in kinds.items():
        if not isinstance(progress.get(name), kind):
            raise UserError(f"{folder.state} is not the state of a run: its {name} is {progress.get(name)!r}.")
    if progress["epoch"] < 1:
        raise UserError(f"{folder.state} is not the state of a run: its epoch is {progress['epoch']}.")
    return state


def check_phase(progress: Progress, schedule: Schedule, folder: RunFolder) -> None:
    """Raise UserError if the restored progress is in a phase that the epoch does not have."""
    count = len(schedule.phases(progress))
    if not 0 <= progress.phase <= count:
        raise UserError(
            f"{folder.state} is in phase {progress.phase} of epoch {progress.epoch}, which has {count} phases: it does "
            "not fit the settings of this run."
        )


def settle_best_agent(folder: RunFolder, progress: Progress) -> None:
    """Give the best weights their place, if the checkpoint with this progress includes them; remove later ones."""
    if progress.best_epoch is not None and (path := folder.next_best_agent(progress.best_epoch)).exists():
        path.replace(folder.best_agent)
    for path in folder.best_agent.parent.glob(".best_epoch_*.pt"):
        path.unlink()


def settle_finished(folder: RunFolder, state: dict[str, Any]) -> None:
    """Do what remained to be done if a run was killed just after its last checkpoint."""
    settle_best_agent(folder, Progress(**state["progress"]))
    folder.remove_columns(kept=state.get("columns"))
    test = Dataset(folder.dataset("test"))
    test.load_state_dict(state["datasets"]["test"])
    test.generation = state.get("generation", 0)
    test.settle()
