"""Places to begin in, stored beside published weights: a few frames in both sizes, and what was done from there on."""

from collections import deque
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data import Batch
from errors import UserError
from files import natural_order
from game.starts import Drawn

ARRAYS = ("low_res", "act", "next_act")


class Spawns:
    """Draws from folders `<i>/` with `low_res.npy` (n, c, h, w), `act.npy` and `next_act.npy` (t, num_actions).

    `full_res.npy` (n, c, H, W) holds the frames in full size. All are uint8. What was drawn is remembered, in order.
    """

    def __init__(self, folder: Path, device: torch.device, seed: int) -> None:
        """Raises UserError when there is no such folder."""
        self._device = device
        self._dice = np.random.default_rng(seed)
        self._places = [path for path in folder.glob("*") if (path / "low_res.npy").is_file()]
        self._places.sort(key=lambda path: natural_order(path.name))
        self.drawn: deque[Drawn] = deque()
        if not self._places:
            raise UserError(f"There is nowhere to begin: {folder} holds no folder with a low_res.npy.")

    def __call__(self, count: int) -> Batch:
        rows = []
        for choice in self._dice.choice(len(self._places), count):
            place = self._places[choice]
            obs, act, next_act = [_load(place / f"{name}.npy") for name in ARRAYS]
            full = place / "full_res.npy"
            rows.append((obs, act, _load(full) if full.is_file() else None))
            self.drawn.append(Drawn(obs, torch.cat((act[-1:], next_act))))
        obs, act = [torch.stack(column).to(self._device) for column in zip(*[row[:2] for row in rows], strict=True)]
        has_full = all(row[2] is not None for row in rows)
        full_obs = torch.stack([row[2] for row in rows]).to(self._device) if has_full else None
        nothing = torch.zeros(act.shape[:2], device=self._device)
        flags = nothing.byte()
        return Batch(obs, act, nothing, flags, flags, torch.ones_like(flags).bool(), obs[:, -1], full_obs)


def _load(path: Path) -> Tensor:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.bool_):
        raise UserError(f"{path} holds {array.dtype}, and should hold uint8.")
    return torch.from_numpy(array.astype(np.uint8))
