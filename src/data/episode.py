"""One episode of experience, in memory and in the published file format."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.frames import to_bytes, to_unit_range
from errors import UserError
from files import load_tensors, save_tensors


@dataclass
class Episode:
    """Steps of one environment, from a start to an end, a truncation, or as far as it got.

    `obs` uint8 (t, c, h, w), `act` int64 (t) or multi-hot uint8 (t, num_actions), `rew` float32 (t), `end` and `trunc`
    uint8 (t). `rew[i]`, `end[i]` and `trunc[i]` answer `act[i]`, taken at `obs[i]`. `info["final_observation"]`, uint8
    (c, h, w), is the frame that follows the last action, known where the episode is over. Other entries of `info` are
    carried along.
    """

    obs: Tensor
    act: Tensor
    rew: Tensor
    end: Tensor
    trunc: Tensor
    info: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.obs.size(0)

    @property
    def is_over(self) -> bool:
        return bool(self.end[-1] or self.trunc[-1])

    @property
    def total_reward(self) -> float:
        return float(self.rew.sum())

    def followed_by(self, later: "Episode") -> "Episode":
        """This episode with the steps of `later` behind its own, and the later one's `info`."""
        joined = [torch.cat((getattr(self, name), getattr(later, name))) for name in STEP_FIELDS]
        return Episode(*joined, info={**self.info, **later.info})

    def first(self, num_steps: int) -> "Episode":
        """The first steps; an episode that is cut no longer has a final observation."""
        if num_steps >= len(self):
            return self
        info = {name: value for name, value in self.info.items() if name != "final_observation"}
        return Episode(*[getattr(self, name)[:num_steps] for name in STEP_FIELDS], info=info)

    def save(self, path: Path) -> None:
        """Write the published layout: as in memory, but the final observation as float32 in [-1, 1]."""
        info = dict(self.info)
        if "final_observation" in info:
            info["final_observation"] = to_unit_range(info["final_observation"])
        # A tensor that is a view would be stored with all the memory behind it.
        steps = {name: getattr(self, name).cpu().contiguous().clone() for name in STEP_FIELDS}
        save_tensors({**steps, "info": info}, path)

    @classmethod
    def load(cls, path: Path) -> "Episode":
        """Read an episode file, steps only as they are used; raises UserError when it is missing or none."""
        stored = load_tensors(path, maps=True)
        if not isinstance(stored, dict) or not set(STEP_FIELDS) <= stored.keys():
            raise UserError(f"{path} is not an episode: it needs the entries {', '.join(STEP_FIELDS)}.")
        steps = [stored[name] for name in STEP_FIELDS]
        if not all(torch.is_tensor(value) and value.ndim and len(value) == len(steps[0]) for value in steps):
            raise UserError(f"{path} is not an episode: its entries differ in length.")
        info = dict(stored.get("info", {}))
        if "final_observation" in info:
            info["final_observation"] = to_bytes(info["final_observation"])
        return cls(to_bytes(steps[0]), *steps[1:], info=info)


STEP_FIELDS = ("obs", "act", "rew", "end", "trunc")
