"""One episode of experience, in memory and in the published file format."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.checks import STEP_FIELDS, check_info, check_steps
from data.frames import to_unit_range
from errors import UserError
from files import load_tensors, save_tensors


@dataclass
class Episode:
    """Steps of one environment, from a reset to an end or truncation, or to the last step so far.

    `obs` uint8 (t, c, h, w), `act` int64 (t) or multi-hot uint8 (t, num_actions), `rew` float32 (t), `end` and `trunc`
    uint8 (t). `rew[i]`, `end[i]` and `trunc[i]` answer `act[i]`, taken at `obs[i]`. `info["final_observation"]`, uint8
    (c, h, w), is the frame after the last action, if the episode is over. Other entries of `info` are kept unchanged.
    `extra`: values (t, …) for columns that an algorithm added to the replay; they are not part of a data set.
    """

    obs: Tensor
    act: Tensor
    rew: Tensor
    end: Tensor
    trunc: Tensor
    info: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.obs.size(0)

    @property
    def is_over(self) -> bool:
        return bool(self.end[-1] or self.trunc[-1])

    @property
    def total_reward(self) -> float:
        return float(self.rew.sum())

    @classmethod
    def joined(cls, parts: Sequence["Episode"]) -> "Episode":
        """The steps of all parts in a row; of equal entries of `info`, the last one is kept."""
        steps = [torch.cat([getattr(part, name) for part in parts]) for name in STEP_FIELDS]
        return cls(*steps, info={name: value for part in parts for name, value in part.info.items()})

    def first(self, num_steps: int) -> "Episode":
        """The first `num_steps` steps; if any are cut off, the result has no final observation."""
        if num_steps >= len(self):
            return self
        info = {name: value for name, value in self.info.items() if name != "final_observation"}
        return Episode(*[getattr(self, name)[:num_steps] for name in STEP_FIELDS], info=info)

    def save(self, path: Path) -> None:
        """Write the published file format, in which the final observation is float32 in [-1, 1]."""
        info = dict(self.info)
        if "final_observation" in info:
            info["final_observation"] = to_unit_range(info["final_observation"])
        # A view would be saved with the whole storage that it shares.
        steps = {name: getattr(self, name).cpu().contiguous().clone() for name in STEP_FIELDS}
        save_tensors({**steps, "info": info}, path)

    @classmethod
    def load(cls, path: Path) -> "Episode":
        """Open an episode file, memory-mapped.

        Raises UserError if it is missing or is not an episode, with the name of the entry that is wrong.
        """
        stored = load_tensors(path, maps=True)
        try:
            steps = check_steps(stored)
            return cls(*steps, info=check_info(stored, steps[0]))
        except ValueError as error:
            raise UserError(f"{path} is not an episode: {error}.") from None
