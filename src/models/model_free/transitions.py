"""What methods that learn action values from a replay are trained on."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Transitions:
    """b steps, each with what followed within n steps.

    `frames` uint8 (b, num_frames, c, h, w): the latest frames, the newest last. `act` int64 (b). `rew` float32 (b): the
    discounted sum of the signs of the rewards of up to n steps. `next_frames`, like `frames`, are those after these
    steps, and `discount` float32 (b) is the weight of their value: 0 after an end.
    """

    frames: Tensor
    act: Tensor
    rew: Tensor
    next_frames: Tensor
    discount: Tensor

    def __len__(self) -> int:
        return len(self.act)
