"""From images to tokens, and from recurrent states and latents back to images."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.dreamer.config import SMALLEST_MAP, NetworkConfig, level_widths
from models.dreamer.layers import BlockLinear, RMSNorm, conv5x5, linear


class Encoder(nn.Module):
    """Levels of a 5×5 convolution, 2×2 max-pooling, a norm and SiLU, down to a map of 4×4."""

    def __init__(self, config: NetworkConfig, frame: tuple[int, int, int]) -> None:
        super().__init__()
        widths = level_widths(frame, config.depth)
        self.num_levels = len(widths)
        self.num_tokens = widths[-1] * SMALLEST_MAP**2
        for index, (before, after) in enumerate(zip((frame[0], *widths), widths, strict=False)):
            self.add_module(f"conv{index}", conv5x5(before, after))
            self.add_module(f"norm{index}", RMSNorm(after))

    def forward(self, obs: Tensor) -> Tensor:
        """Tokens (…, num_tokens), in the order row, column, channel, of uint8 frames (…, c, h, w)."""
        x = obs.flatten(0, -4).float() / 255 - 0.5
        x = x.contiguous(memory_format=torch.channels_last)
        for index in range(self.num_levels):
            x = F.max_pool2d(getattr(self, f"conv{index}")(x), 2)
            x = F.silu(_norm_channels(getattr(self, f"norm{index}"), x))
        return x.permute(0, 2, 3, 1).reshape(*obs.shape[:-3], -1)


class Decoder(nn.Module):
    """A map of 4×4 made from recurrent state and latent, then levels of doubling and 5×5 convolution."""

    def __init__(self, config: NetworkConfig, frame: tuple[int, int, int]) -> None:
        super().__init__()
        *_, first = widths = level_widths(frame, config.depth)
        self.blocks, self.num_levels = config.blocks, len(widths) - 1
        self.deter = BlockLinear(config.deter, first * SMALLEST_MAP**2, config.blocks)
        self.stoch0 = linear(config.stoch * config.classes, 2 * config.units)
        self.stoch0_norm = RMSNorm(2 * config.units)
        self.stoch1 = linear(2 * config.units, first * SMALLEST_MAP**2)
        self.space_norm = RMSNorm(first)
        before = first
        for index, after in enumerate(widths[-2::-1]):
            self.add_module(f"conv{index}", conv5x5(before, after))
            self.add_module(f"norm{index}", RMSNorm(after))
            before = after
        self.image = conv5x5(before, frame[0])

    def forward(self, deter: Tensor, stoch: Tensor) -> Tensor:
        """Images (…, c, h, w) in [0, 1], float32, of states (…, deter) and one-hot latents (…, variables, classes)."""
        leading, side = deter.shape[:-1], SMALLEST_MAP
        deter, stoch = deter.flatten(0, -2), stoch.flatten(0, -3).flatten(1)
        # Each block makes some channels of the map, in the order row, column, channel.
        from_deter = self.deter(deter).unflatten(1, (self.blocks, side, side, -1))  # n g 4 4 c/g
        from_deter = from_deter.permute(0, 2, 3, 1, 4).flatten(3)
        from_stoch = self.stoch1(F.silu(self.stoch0_norm(self.stoch0(stoch)))).unflatten(1, (side, side, -1))
        x = F.silu(self.space_norm(from_deter + from_stoch)).permute(0, 3, 1, 2)
        for index in range(self.num_levels):
            x = self.enlarge(getattr(self, f"conv{index}"), x)
            x = F.silu(_norm_channels(getattr(self, f"norm{index}"), x))
        return self.enlarge(self.image, x).float().sigmoid().unflatten(0, leading)

    def enlarge(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        """A 5×5 convolution of x (n, c, h, w) in double height and width; see `convolve_doubled`."""
        return convolve_doubled(conv, x)


def convolve_doubled(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """The same as `conv(double(x))`, with 36 in place of 100 multiplications for each pixel of x and pair of channels.

    Several of the 5×5 inputs of an output are the same pixel of x, and their weights can be added first. That leaves
    3×3 pixels, and four kernels: for even and odd rows and columns of the output.
    """
    kernels = _at_even_and_odd(_at_even_and_odd(conv.weight))  # p t q s o i: rows, then columns
    kernels = kernels.permute(0, 2, 4, 5, 1, 3).flatten(0, 2).contiguous(memory_format=torch.channels_last)
    parts = F.conv2d(x, kernels, conv.bias.expand(4, -1).flatten(), padding=1).permute(0, 2, 3, 1)
    parts = parts.unflatten(-1, (2, 2, -1)).permute(0, 1, 3, 2, 4, 5)  # n h p w q o
    return parts.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


def _at_even_and_odd(weight: Tensor) -> Tensor:
    """For even and odd outputs, the sums of the 5 weights of the last axis that meet each of 3 pixels: (2, 3, …)."""
    one, two, three, four, five = weight.unbind(-1)
    even, odd = (one + two, three + four, five), (one, two + three, four + five)
    return torch.stack([torch.stack(each) for each in (even, odd)])


def _norm_channels(norm: RMSNorm, x: Tensor) -> Tensor:
    """Normalise the channels of every pixel of (n, c, h, w)."""
    return norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def double(x: Tensor) -> Tensor:
    """Double height and width; each pixel becomes four. In the memory format of x, on every device."""
    n, c, h, w = x.shape
    doubled = x.permute(0, 2, 3, 1)[:, :, None, :, None].expand(n, h, 2, w, 2, c).reshape(n, 2 * h, 2 * w, c)
    return doubled.permute(0, 3, 1, 2)
