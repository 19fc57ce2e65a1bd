"""A batch of segments: the input of every component."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from data.frames import to_unit_range
from data.segments import Segments


@dataclass(frozen=True)
class Batch:
    """Segments of equal length, padded where they extend beyond their episode.

    `obs` uint8 (b, t, c, h, w); `act` int64 (b, t), or multi-hot uint8 or continuous float32 (b, t, num_actions); `rew`
    float32 (b, t); `end` and `trunc` uint8 (b, t); `mask_padding` bool (b, t), False on padding; `final_obs` uint8
    (b, c, h, w): the frame after the episode's last step where the episode is over, undefined elsewhere.
    `full_obs` uint8 (b, t, c, H, W): the same frames in full size, or None. `segments`: the origin of each row, if
    known. `extra`: columns that an algorithm added to the replay, (b, t, …) each.
    """

    obs: Tensor
    act: Tensor
    rew: Tensor
    end: Tensor
    trunc: Tensor
    mask_padding: Tensor
    final_obs: Tensor
    full_obs: Tensor | None = None
    segments: Segments | None = None
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.obs.size(0)

    @property
    def frames(self) -> Tensor:
        """Observations in [-1, 1], float32 (b, t, c, h, w), zero (mid-grey) on padding."""
        return to_unit_range(self.obs) * self.mask_padding[:, :, None, None, None]

    @property
    def full_frames(self) -> Tensor:
        """The same as `frames`, in full size."""
        return to_unit_range(self.full_obs) * self.mask_padding[:, :, None, None, None]

    def between(self, first: int, stop: int) -> "Batch":
        """The steps [first, stop) of every segment. In the result, `segments` is None."""
        steps = {
            name: getattr(self, name)[:, first:stop] for name in ("obs", "act", "rew", "end", "trunc", "mask_padding")
        }
        full_obs = None if self.full_obs is None else self.full_obs[:, first:stop]
        extra = {name: value[:, first:stop] for name, value in self.extra.items()}
        return Batch(**steps, final_obs=self.final_obs, full_obs=full_obs, extra=extra)

    def to(self, device: torch.device) -> "Batch":
        moved = {name: to_device(value, device) for name, value in vars(self).items() if torch.is_tensor(value)}
        extra = {name: to_device(value, device) for name, value in self.extra.items()}
        return replace(self, **moved, extra=extra)


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device. On its way to a GPU it is copied from pinned memory, so that the host does not wait.

    Only such a copy may run while the host continues: the source could change or be freed before any other has ended.
    """
    if device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)
