"""What was played, kept as data sets."""

import os
from pathlib import Path

import torch
from torch import Tensor

from data import Dataset, Episode
from errors import UserError


class Recorder:
    """Gathers the steps of an episode and stores it in `<root>/rec_<env>_<who>` when it is over or interrupted.

    When another player takes over, the rest of the episode is stored as an episode of its own, from that frame on.
    Raises UserError when nothing can be stored there.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        if not os.access(root, os.W_OK):
            raise UserError(f"Nothing can be recorded: {root} cannot be written to.")
        self.root = root
        self._datasets: dict[str, Dataset] = {}
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
        dataset = self._open(f"rec_{self._name}")
        dataset.add_episode(Episode(*columns, info={**info, "final_observation": self._final_obs}))
        dataset.save_info()
        self._steps, self._extras = [], []

    @property
    def counts(self) -> dict[str, int]:
        """The number of episodes in each data set that was added to."""
        return {name: dataset.num_episodes for name, dataset in self._datasets.items()}

    def _open(self, name: str) -> Dataset:
        if name not in self._datasets:
            self._datasets[name] = Dataset.open_if_any(self.root / name) or Dataset(self.root / name)
        return self._datasets[name]
