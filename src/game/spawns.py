"""Places to start from, stored beside published weights: a few frames in both sizes, and the actions that followed."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data import Batch, Segments
from errors import UserError
from files import load_array, natural_order
from game.starts import Recording


class SpawnStarts:
    """Draws from folders `<i>/` with `low_res.npy` (n, c, h, w), `act.npy` and `next_act.npy` (t, num_actions).

    `full_res.npy` (n, c, H, W) holds the frames in full size. All are uint8.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Raises UserError when there is no such folder."""
        self._device = device
        self._places = [path for path in folder.glob("*") if (path / "low_res.npy").is_file()]
        self._places.sort(key=lambda path: natural_order(path.name))
        if not self._places:
            raise UserError(f"There is nowhere to start: {folder} holds no folder with a low_res.npy.")

    def draw(self, count: int, length: int, with_full_frames: bool) -> Batch:
        """The last `length` frames of random places. The number of a place is its episode id."""
        chosen = torch.randint(len(self._places), (count,)).numpy()
        obs, act = [self._stack(chosen, name, length) for name in ("low_res", "act")]
        has_full = with_full_frames and all((self._places[place] / "full_res.npy").is_file() for place in chosen)
        full_obs = self._stack(chosen, "full_res", length) if has_full else None
        nothing = torch.zeros(count, length, device=self._device)
        flags = nothing.byte()
        segments = Segments(chosen, np.zeros(count, np.int64), length)
        return Batch(obs, act, nothing, flags, flags, torch.ones_like(flags).bool(), obs[:, -1], full_obs, segments)

    def recording(self, episode_id: int, step: int) -> Recording:
        place = self._places[episode_id]
        obs, act, next_act = [_load(place / f"{name}.npy") for name in ("low_res", "act", "next_act")]
        return Recording(obs[-1], torch.cat((act[-1:], next_act)))

    def draw_recording(self) -> Recording:
        return self.recording(int(torch.randint(len(self._places), ())), 0)

    def _stack(self, chosen: np.ndarray, name: str, length: int) -> Tensor:
        arrays = [_load(self._places[place] / f"{name}.npy") for place in chosen]
        for place, array in zip(chosen, arrays, strict=True):
            if len(array) < length and name != "full_res":
                path = self._places[place] / f"{name}.npy"
                raise UserError(f"{path} holds {len(array)} steps, and imagination starts from {length}.")
        return torch.stack([array[-length:] for array in arrays]).to(self._device)


def _load(path: Path) -> Tensor:
    array = load_array(path)
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.bool_):
        raise UserError(f"{path} holds {array.dtype}, and should hold uint8.")
    return torch.from_numpy(array.astype(np.uint8))
