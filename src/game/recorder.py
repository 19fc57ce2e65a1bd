"""What was played, kept as data sets."""

import os
from pathlib import Path

import torch
from torch import Tensor

from data import Dataset, Episode
from errors import UserError
from run.lock import turn_in


class Recorder:
    """Gathers the steps of an episode and stores it in `<root>/rec_<env>_<who>` when it is over or interrupted.

    When another player takes over, the rest of the episode is stored as an episode of its own, from that frame on.
    Several processes can store in the same data set: they take turns, and each adds to what is on disk by then.
    Raises UserError when nothing can be stored there.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        if not os.access(root, os.W_OK):
            raise UserError(f"Nothing can be recorded: {root} cannot be written to.")
        self.root = root
        self._recorded: list[str] = []
        self._name = ""
        self._steps: list[tuple[Tensor, ...]] = []
        self._extras: list[dict[str, Tensor]] = []
        self._final_obs: Tensor | None = None

    def add(
        self,
        name: str,
        obs: Tensor,
        act: int | Tensor,
        answer: tuple[float, bool, bool],
        final_obs: Tensor,
        **extras: Tensor,
    ) -> None:
        """One step for the data set `rec_<name>`.

        `obs` and `final_obs` uint8 (c, h, w); `answer` is reward, end and truncation. `extras` are kept in the
        episode's `info`, stacked over its steps.
        """
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
        """Store the steps since the last stored episode, if there are any."""
        if not self._steps:
            return
        columns = [torch.stack(column) for column in zip(*self._steps, strict=True)]
        info = {name: torch.stack([extras[name] for extras in self._extras]) for name in self._extras[0]}
        name = f"rec_{self._name}"
        with turn_in(self.root / name):
            dataset = self._open(name)
            dataset.add_episode(Episode(*columns, info={**info, "final_observation": self._final_obs}))
            dataset.save_info()
        if name not in self._recorded:
            self._recorded.append(name)
        self._steps, self._extras = [], []

    @property
    def counts(self) -> dict[str, int]:
        """The number of episodes in each data set that was added to."""
        return {name: self._open(name).num_episodes for name in self._recorded}

    def _open(self, name: str) -> Dataset:
        return Dataset.open_if_any(self.root / name) or Dataset(self.root / name)
