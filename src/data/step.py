"""What environments return: from `reset` and `step`, and from imagining under given actions."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Start:
    """The result of resetting b environments.

    `obs` uint8 (b, c, h, w). `history` uint8 or in [-1, 1] (b, n - 1, c, h, w): the frames before `obs`, with which an
    agent with a memory can warm up; imagined environments provide them. `full_obs` uint8 (b, c, H, W): the frame in
    full size, if the environment draws it. `origin` int64 (b, 2): for imagined environments, the recorded episode and
    the step in it that they start from, as counted by the data that the start was drawn from.
    """

    obs: Tensor
    history: Tensor | None = None
    full_obs: Tensor | None = None
    origin: Tensor | None = None


@dataclass(frozen=True)
class Step:
    """The result of one action in each of b environments.

    `obs` uint8 (b, c, h, w) is the frame to act on next. Where `end` or `trunc` is set, it is the first frame of a new
    episode, and `final_obs` is the last frame of the previous one; elsewhere `final_obs` equals `obs`. `rew` float32
    (b), `end` and `trunc` bool (b). `history` and `origin` as in `Start`, defined where a new episode started.
    `trajectory`: if frames are sampled, the steps of the sampler from noise to `final_obs`, float32 (b, c, h, w) each.
    `full_obs` as in `Start`; `final_full_obs` is `final_obs` in full size. `going_on`: the probability with which the
    episode did not end, float32 (b), if the world gives it.
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
    origin: Tensor | None = None
    going_on: Tensor | None = None

    @property
    def dead(self) -> Tensor:
        return self.end | self.trunc


@dataclass(frozen=True)
class Imagined:
    """What a world imagines under given actions, without ends or restarts.

    `obs` uint8 (b, t, c, h, w). `rew` float32 (b, t) and `end` bool (b, t) answer the actions that lead to these
    frames; both are None if the world predicts neither.
    """

    obs: Tensor
    rew: Tensor | None = None
    end: Tensor | None = None
