"""Layers that all of DreamerV3's networks are made of."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-4
TRUNCATED_STD = 0.87962566
"""Standard deviation of a standard normal distribution that is truncated at ±2."""


class RMSNorm(nn.Module):
    """Division by the root mean square over the last axis, with a learned scale, in float32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), EPSILON).to(x.dtype)


class BlockLinear(nn.Module):
    """A linear layer of `blocks` blocks: each maps its own slice of the input to its own slice of the output."""

    def __init__(self, in_features: int, out_features: int, blocks: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(blocks, in_features // blocks, out_features // blocks))
        self.bias = nn.Parameter(torch.empty(out_features))
        init(self)

    def forward(self, x: Tensor) -> Tensor:
        """From (n, in_features) to (n, out_features)."""
        blocks = x.unflatten(-1, (len(self.weight), -1)).transpose(0, 1)  # g n in/g
        product = torch.bmm(blocks, self.weight).transpose(0, 1).flatten(1)
        return product + self.bias.to(product.dtype)


class Mlp(nn.Module):
    """Linear layers, each followed by a norm and SiLU, and a linear output layer: (…, in) to (…, out)."""

    def __init__(
        self, in_features: int, out_features: int, width: int, num_layers: int, output_scale: float = 1.0
    ) -> None:
        """The initial weights of the output layer are multiplied by `output_scale`."""
        super().__init__()
        self.num_layers = num_layers
        for index in range(num_layers):
            self.add_module(f"linear{index}", init(nn.Linear(in_features if index == 0 else width, width)))
            self.add_module(f"norm{index}", RMSNorm(width))
        self.out = init(nn.Linear(width, out_features), output_scale)

    def forward(self, x: Tensor) -> Tensor:
        for index in range(self.num_layers):
            x = F.silu(getattr(self, f"norm{index}")(getattr(self, f"linear{index}")(x)))
        return self.out(x).float()


def conv5x5(in_channels: int, out_channels: int) -> nn.Conv2d:
    return init(nn.Conv2d(in_channels, out_channels, kernel_size=5, padding=2))


def linear(in_features: int, out_features: int) -> nn.Linear:
    return init(nn.Linear(in_features, out_features))


def init(layer: nn.Module, scale: float = 1.0) -> nn.Module:
    """Set biases to zero, and draw weights with a standard deviation of `scale` / √inputs; returns the layer.

    The weights are normal, truncated at two standard deviations before the correction for the truncation. The inputs of
    a `BlockLinear` are those of all of its blocks.
    """
    weight = layer.weight
    num_inputs = weight.size(0) * weight.size(1) if isinstance(layer, BlockLinear) else weight[0].numel()
    with torch.no_grad():
        nn.init.trunc_normal_(weight).mul_(scale / TRUNCATED_STD / num_inputs**0.5)
        nn.init.zeros_(layer.bias)
    return layer
