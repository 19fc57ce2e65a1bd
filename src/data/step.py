"""What a vector environment says: where it starts, and what answers an action."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Start:
    """Where b environments start.

    `obs` uint8 (b, c, h, w). `history` uint8 (b, n - 1, c, h, w): the frames before it, where an environment knows
    them (an imagined one does), for an agent with a memory to watch first. `full_obs` uint8 (b, c, H, W): the frame in
    full size, where there is an upsampler.
    """

    obs: Tensor
    history: Tensor | None = None
    full_obs: Tensor | None = None


@dataclass(frozen=True)
class Step:
    """The answer of b environments to one action each.

    `obs` uint8 (b, c, h, w) is what to act on next: where `end` or `trunc` is set it starts a new episode, and
    `final_obs` holds the last frame of the one before (elsewhere `final_obs` equals `obs`). `rew` float32 (b),
    `end` and `trunc` bool (b). `history` as in `Start`, defined where an episode started. `trajectory`: where frames
    are sampled, what they were on the way from noise to `final_obs`, float32 (b, c, h, w) each. `full_obs` as in
    `Start`, and `final_full_obs` for `final_obs`.
    """

    obs: Tensor
    rew: Tensor
    end: Tensor
    trunc: Tensor
    final_obs: Tensor
    history: Tensor | None = None
    trajectory: list[Tensor] | None = None
    full_obs: Tensor | None = None
    final_full_obs: Tensor | None = None

    @property
    def dead(self) -> Tensor:
        return self.end | self.trunc
