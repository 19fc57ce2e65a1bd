"""The latest frames: what agents without a recurrent memory see. At first, they are copies of the first frame."""

import torch
from torch import Tensor

from data import Replay, Segments, to_bytes


class FrameStack:
    """The latest frames of b episodes, as part of a policy's memory: uint8 (b, num_frames, c, h, w)."""

    def __init__(self, num_frames: int, frame: tuple[int, int, int], device: torch.device) -> None:
        self._shape, self._device = (num_frames, *frame), device

    def initial(self, batch_size: int) -> Tensor:
        return torch.zeros(batch_size, *self._shape, dtype=torch.uint8, device=self._device)

    def push(self, frames: Tensor, obs: Tensor, is_first: Tensor) -> Tensor:
        """The frames after a new one, `obs` (b, c, h, w), uint8 or in [-1, 1]."""
        newest = to_bytes(obs)[:, None]
        # Products: torch.where takes five times as long for bytes, and nothing here waits for a GPU.
        replaced = is_first.to(torch.uint8)[:, None, None, None, None]
        older = frames[:, 1:] * (1 - replaced) + newest * replaced
        return torch.cat((older, newest), dim=1)


def frames_before(replay: Replay, places: Segments, num_frames: int) -> tuple[Tensor, Tensor]:
    """The latest frames at steps, and one step later at the ends of episodes, uint8 (b, num_frames, c, h, w) each.

    `places` are segments of one step. Of steps that are not the last of an episode, the second result is undefined.
    """
    batch = replay.gather(Segments(places.episode_ids, places.starts - (num_frames - 1), num_frames))
    # Before an episode, a replay gives its first frame.
    return batch.obs, torch.cat((batch.obs[:, 1:], batch.final_obs[:, None]), dim=1)
