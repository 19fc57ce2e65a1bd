"""A batch of segments, the form in which every component reads experience."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from data.frames import to_unit_range


@dataclass(frozen=True)
class Batch:
    """Segments of equal length, padded where they reach beyond their episode.

    `obs` uint8 (b, t, c, h, w), `act` int64 (b, t), `rew` float32 (b, t), `end` and `trunc` uint8 (b, t),
    `mask_padding` bool (b, t), False on padding, `final_obs` uint8 (b, c, h, w): the frame behind the episode's last
    step where the episode is over, undefined elsewhere. Actions may also be multi-hot, uint8 (b, t, num_actions).
    `full_obs` uint8 (b, t, c, H, W): where an upsampler learns, the same frames in full size.
    """

    obs: Tensor
    act: Tensor
    rew: Tensor
    end: Tensor
    trunc: Tensor
    mask_padding: Tensor
    final_obs: Tensor
    full_obs: Tensor | None = None

    def __len__(self) -> int:
        return self.obs.size(0)

    @property
    def frames(self) -> Tensor:
        """Observations in [-1, 1], float32 (b, t, c, h, w), zero (mid-grey) on padding."""
        return to_unit_range(self.obs) * self.mask_padding[:, :, None, None, None]

    @property
    def full_frames(self) -> Tensor:
        """As `frames`, in full size."""
        return to_unit_range(self.full_obs) * self.mask_padding[:, :, None, None, None]

    def to(self, device: torch.device) -> "Batch":
        columns = [getattr(self, field.name) for field in fields(self)]
        return Batch(*[None if column is None else column.to(device, non_blocking=True) for column in columns])
