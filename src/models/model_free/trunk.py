"""The layers that the networks of model-free agents share: from the latest frames to features."""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from data import to_unit_range
from models.actor_critic import ActorCriticConfig, ActorCriticEncoder
from models.sizes import check_image, check_levels, check_normalised
from ranges import Between, Levels, Switch, Width

NumFrames = Annotated[int, Between(1, 16)]
FrameShape = tuple[int, int, int]
"""Channels, height and width of a frame."""
SMALLEST_FOR_NATURE_CNN = 36


@dataclass(frozen=True)
class EncoderConfig:
    """The encoder of the published actor-critic (`ActorCriticConfig`), with a linear layer in place of its LSTM.

    The agent sees the `num_frames` latest frames instead of having a memory.
    """

    num_frames: NumFrames
    features: Width
    channels: Levels[Width]
    down: Levels[Switch]

    def __post_init__(self) -> None:
        check_levels(channels=self.channels, down=self.down)
        check_normalised(self.channels, (self.channels[0], *self.channels[:-1]))

    def check(self, frame: FrameShape) -> None:
        """Raise BadSetting if frames are too small."""
        check_image(frame[1:], 2 ** sum(self.down), f"down={list(self.down)}")

    def make(self, frame: FrameShape) -> tuple[nn.Module, int, nn.Module]:
        """The encoder of stacked frames, the number of its outputs, and the activation after the linear layer."""
        channels, height, width = frame
        config = ActorCriticConfig(
            self.features, self.num_frames * channels, (height, width), self.channels, self.down, num_actions=0
        )
        shrunk = 2 ** sum(self.down)
        size = self.channels[-1] * (height // shrunk) * (width // shrunk)
        return ActorCriticEncoder(config), size, nn.SiLU()


@dataclass(frozen=True)
class NatureCnnConfig:
    """The network of Mnih et al. 2015: three convolutions, and a linear layer of `features` units."""

    num_frames: NumFrames
    features: Width

    def check(self, frame: FrameShape) -> None:
        """Raise BadSetting if frames are too small."""
        check_image(frame[1:], SMALLEST_FOR_NATURE_CNN, "the strides of agent=nature_cnn")

    def make(self, frame: FrameShape) -> tuple[nn.Module, int, nn.Module]:
        channels, *sides = frame
        layers: list[nn.Module] = []
        width = self.num_frames * channels
        for out, kernel, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
            layers += [nn.Conv2d(width, out, kernel, stride), nn.ReLU()]
            width, sides = out, [(side - kernel) // stride + 1 for side in sides]
        for layer in layers[::2]:
            init_orthogonal(layer)
        return nn.Sequential(*layers, nn.Flatten()), width * sides[0] * sides[1], nn.ReLU()


TrunkConfig = EncoderConfig | NatureCnnConfig


class Trunk(nn.Module):
    """Features float32 (b, features) of stacked frames, uint8 (b, num_frames, c, h, w), the newest last."""

    def __init__(self, config: TrunkConfig, frame: FrameShape) -> None:
        super().__init__()
        self.encoder, size, self.activation = config.make(frame)
        self.linear = init_orthogonal(nn.Linear(size, config.features))

    def forward(self, frames: Tensor) -> Tensor:
        return self.activation(self.linear(self.encoder(to_unit_range(frames.flatten(1, 2))))).float()


class Network(nn.Module):
    """A trunk, and a linear layer: numbers float32 (b, size) for stacked frames, for example values of actions."""

    def __init__(self, config: TrunkConfig, frame: FrameShape, size: int) -> None:
        super().__init__()
        self.trunk = Trunk(config, frame)
        self.head = nn.Linear(config.features, size)

    @property
    def network_to_compile(self) -> nn.Module:
        """The part that takes most of the time."""
        return self.trunk.encoder

    def forward(self, frames: Tensor) -> Tensor:
        return in_float32(self.trunk(frames), self.head)[0]


def in_float32(features: Tensor, *heads: nn.Linear) -> list[Tensor]:
    """Outputs of linear layers in float32, also inside autocast: values and log-probabilities need the precision."""
    with torch.autocast(features.device.type, enabled=False):
        return [head(features) for head in heads]


def init_orthogonal(layer: nn.Module, gain: float = 2**0.5) -> nn.Module:
    """Set a layer's weights to orthogonal ones with this gain, and its biases to zero; returns the layer."""
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer
