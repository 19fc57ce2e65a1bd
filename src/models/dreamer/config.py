"""Sizes of DreamerV3's networks, and the constants of its losses."""

from dataclasses import dataclass, field
from typing import Annotated

from ranges import BadSetting, Between, Fraction, Positive, Weight, Width

NumLayers = Annotated[int, Between(1, 20)]
Channels = Annotated[int, Between(1, 4096)]
SMALLEST_MAP = 4
"""Height and width of the map between encoder and decoder."""
WIDTHS = (2, 2, 3, 4, 4)
"""Widths of the levels of an encoder in units of `depth`; images of 64×64 have the last four."""

Bins = Annotated[int, Between(3, 16_383)]
Classes = Annotated[int, Between(2, 256)]
"""The replay keeps the class of a latent variable in one byte."""
Many = Annotated[int, Between(1, 1024)]
"""Latent variables, or blocks of the recurrent state."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Sizes of the networks (Hafner et al. 2023, table 3).

    The recurrent state has `deter` numbers, in `blocks` blocks; the latent has `stoch` variables of `classes` classes.
    `hidden` is the width of the recurrent model's layers, `units` that of the heads, and `depth` the unit of channels.
    A share `unimix` of every latent distribution is uniform.
    """

    deter: Width
    hidden: Width
    classes: Classes
    units: Width
    depth: Channels
    stoch: Many = 32
    blocks: Many = 8
    bins: Bins = 255
    unimix: Fraction = 0.01
    reward_layers: NumLayers = 1
    continue_layers: NumLayers = 1
    actor_layers: NumLayers = 3
    critic_layers: NumLayers = 3

    def __post_init__(self) -> None:
        if self.deter % self.blocks:
            raise BadSetting(f"deter={self.deter} cannot be divided into blocks={self.blocks} equal blocks.")
        if 4 * self.depth % self.blocks:
            raise BadSetting(
                f"depth={self.depth} makes maps of {4 * self.depth} channels, which cannot be divided into "
                f"blocks={self.blocks} equal blocks."
            )
        if self.bins % 2 == 0:
            raise BadSetting(f"bins={self.bins} must be odd, so that one bin is zero.")

    @property
    def num_features(self) -> int:
        """Width of the heads' input: the recurrent state and the latent."""
        return self.deter + self.stoch * self.classes


@dataclass(frozen=True, kw_only=True)
class LossScales:
    """Weights of the losses (Hafner et al. 2023, table 4)."""

    image: Weight = 1.0
    reward: Weight = 1.0
    continues: Weight = 1.0
    dynamics: Weight = 1.0
    representation: Weight = 0.1
    policy: Weight = 1.0
    value: Weight = 1.0
    replay_value: Weight = 0.3


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Constants of the losses: `horizon` imagined steps, the `discount` γ, and λ of the returns.

    `slow_rate` is the share of the critic that the slow critic takes over in each update. The critic's loss has
    `slow_regulariser` times its cross-entropy with the slow critic. The range of returns is averaged at `return_rate`
    and scales the policy's loss if it is above `return_limit`.
    """

    horizon: Annotated[int, Between(1, 1000)] = 15
    discount: Fraction = 1 - 1 / 333
    lambda_: Fraction = 0.95
    free_nats: Weight = 1.0
    entropy_scale: Weight = 3e-4
    slow_rate: Fraction = 0.02
    slow_regulariser: Weight = 1.0
    return_rate: Fraction = 0.01
    return_limit: Positive = 1.0
    scales: LossScales = field(default_factory=LossScales)


def level_widths(frame: tuple[int, int, int], depth: int) -> tuple[int, ...]:
    """Channels of the encoder's levels for frames (c, h, w): as many levels as lead to a map of 4×4.

    Raises BadSetting if the frames do not lead there.
    """
    _, height, width = frame
    for num_levels in range(2, len(WIDTHS) + 1):
        if height == width == SMALLEST_MAP * 2**num_levels:
            return tuple(depth * each for each in WIDTHS[-num_levels:])
    sizes = ", ".join(str(SMALLEST_MAP * 2**each) for each in range(2, len(WIDTHS) + 1))
    raise BadSetting(
        f"size=[{height},{width}] does not lead to maps of 4×4 by halving: the size must be one of {sizes}."
    )
