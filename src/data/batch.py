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
    step where the episode is over, undefined elsewhere.
    """

    obs: Tensor
    act: Tensor
    rew: Tensor
    end: Tensor
    trunc: Tensor
    mask_padding: Tensor
    final_obs: Tensor

    def __len__(self) -> int:
        return self.obs.size(0)

    @property
    def frames(self) -> Tensor:
        """Observations in [-1, 1], float32 (b, t, c, h, w), zero (mid-grey) on padding."""
        return to_unit_range(self.obs) * self.mask_padding[:, :, None, None, None]

    def to(self, device: torch.device) -> "Batch":
        return Batch(*[getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)])
