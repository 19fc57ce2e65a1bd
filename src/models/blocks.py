"""Building blocks of the networks: normalisation, attention, residual blocks, Fourier features."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ranges import BadSetting, Pixels, in_yaml

LstmState = tuple[Tensor, Tensor]
"""Hidden and cell state of an LSTM."""

ImageSize = Pixels | tuple[Pixels, ...]
"""Side of a square frame, or (height, width)."""

GROUP_SIZE = 32
ATTENTION_HEAD_DIM = 8
EPSILON = 1e-5


def conv1x1(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=1)


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1)


def height_width(size: ImageSize) -> tuple[int, int]:
    """Convert an `ImageSize` to (height, width).

    Raises BadSetting for a tuple of any other length than two.
    """
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2:
        raise BadSetting(f"img_size={in_yaml(size)} must be the side of a square, or a height and a width.")
    return sides


def zero_init(layer: nn.Module) -> nn.Module:
    """Set all parameters of a layer to zero, so that its initial output is zero; returns the layer."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def num_groups(channels: int) -> int:
    return max(1, channels // GROUP_SIZE)


class GroupNorm(nn.Module):
    """Group normalisation in groups of 32 channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(num_groups(channels), channels, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        if _needs_own_group_norm(x):
            return channels_last_group_norm(x, self.norm.num_groups, self.norm.weight, self.norm.bias)
        return self.norm(x)


class AdaptiveGroupNorm(nn.Module):
    """Group normalisation whose scale and shift are linear functions of a condition (b, cond_channels)."""

    def __init__(self, channels: int, cond_channels: int) -> None:
        super().__init__()
        self.num_groups = num_groups(channels)
        self.linear = nn.Linear(cond_channels, 2 * channels)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        scale, shift = self.linear(cond)[:, :, None, None].chunk(2, dim=1)
        if _needs_own_group_norm(x):
            normalised = channels_last_group_norm(x, self.num_groups)
        else:
            normalised = F.group_norm(x, self.num_groups, eps=EPSILON)
        return torch.addcmul(shift, normalised, 1 + scale)


def channels_last_group_norm(
    x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """`F.group_norm` of a channels-last x (b, c, h, w) whose result is channels-last too, in the dtype of x.

    It computes in float32, as `F.group_norm` does inside.
    """
    grouped = x.unflatten(1, (num_groups, -1)).float()  # b g (c/g) h w
    var, mean = torch.var_mean(grouped, dim=(2, 3, 4), correction=0, keepdim=True)
    scale = (var + EPSILON).rsqrt()
    normalised = torch.addcmul(-mean * scale, grouped, scale).flatten(1, 2)
    if weight is not None:
        normalised = torch.addcmul(bias[:, None, None], normalised, weight[:, None, None])
    return normalised.to(x.dtype)


def _needs_own_group_norm(x: Tensor) -> bool:
    """Whether PyTorch's group normalisation would copy x into the other memory format, as it does on CUDA."""
    return x.is_cuda and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


class SelfAttention2d(nn.Module):
    """Self-attention over all positions, with heads of 8 channels.

    As the published weights require, the result is added to the normalised input instead of the input itself.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.num_heads = max(1, channels // ATTENTION_HEAD_DIM)
        self.norm = GroupNorm(channels)
        self.qkv_proj = conv1x1(channels, 3 * channels)
        self.out_proj = zero_init(conv1x1(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = self.norm(x)
        qkv = self.qkv_proj(x).reshape(b, 3, self.num_heads, c // self.num_heads, h * w)
        q, k, v = qkv.transpose(-1, -2).unbind(1)  # each: b heads (h w) d
        # Fused attention in bfloat16 is slow on CPUs: 3 times slower than these plain operations for 64 positions.
        if x.device.type == "cpu" and q.dtype == torch.bfloat16:
            attended = (q @ k.transpose(-1, -2) * q.size(-1) ** -0.5).softmax(dim=-1) @ v
        else:
            attended = F.scaled_dot_product_attention(q, k, v)
        return x + self.out_proj(attended.transpose(-1, -2).reshape(b, c, h, w))


class ResBlock(nn.Module):
    """Two 3×3 convolutions, each after adaptive normalisation, with a skip connection, and then optional attention."""

    def __init__(self, in_channels: int, out_channels: int, cond_channels: int, attn: bool) -> None:
        super().__init__()
        self.proj = conv1x1(in_channels, out_channels) if in_channels != out_channels else nn.Identity()
        self.norm1 = AdaptiveGroupNorm(in_channels, cond_channels)
        self.conv1 = conv3x3(in_channels, out_channels)
        self.norm2 = AdaptiveGroupNorm(out_channels, cond_channels)
        self.conv2 = zero_init(conv3x3(out_channels, out_channels))
        self.attn = SelfAttention2d(out_channels) if attn else nn.Identity()

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        skip = self.proj(x)
        x = self.conv1(F.silu(self.norm1(x, cond)))
        x = self.conv2(F.silu(self.norm2(x, cond)))
        return self.attn(x + skip)


class ResBlocks(nn.Module):
    """A sequence of residual blocks; if `skips` are given, each block takes one as well. Returns all outputs.

    With `recomputes`, a block stores only its input, and recomputes its activations in the backward pass (gradient
    checkpointing, Chen et al. 2016).
    """

    recomputes = False

    def __init__(self, in_channels: list[int], out_channels: list[int], cond_channels: int, attn: bool) -> None:
        super().__init__()
        widths = zip(in_channels, out_channels, strict=True)
        self.resblocks = nn.ModuleList(ResBlock(before, after, cond_channels, attn) for before, after in widths)

    def forward(self, x: Tensor, cond: Tensor, skips: list[Tensor] | None = None) -> list[Tensor]:
        outputs = []
        for index, block in enumerate(self.resblocks):
            entered = x if skips is None else torch.cat((x, skips[index]), dim=1)
            keeps_input_only = self.recomputes and torch.is_grad_enabled()
            x = checkpoint(block, entered, cond, use_reentrant=False) if keeps_input_only else block(entered, cond)
            outputs.append(x)
        return outputs


def recompute_activations(module: nn.Module) -> None:
    """Enable gradient checkpointing in every part of a module that can, which saves memory and costs time."""
    for part in module.modules():
        if hasattr(part, "recomputes"):
            part.recomputes = True


class Downsample(nn.Module):
    """Halve height and width with a strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3x3(channels, channels, stride=2)
        nn.init.orthogonal_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Upsample(nn.Module):
    """Double height and width by nearest-neighbour interpolation, followed by a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling() and x.device.type == "cpu":
            # PyTorch 2.13 loses the gradient of `interpolate` when it is compiled for the CPU in bfloat16.
            b, c, h, w = x.shape
            return self.conv(x[:, :, :, None, :, None].expand(b, c, h, 2, w, 2).reshape(b, c, 2 * h, 2 * w))
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class ActionEmbedding(nn.Embedding):
    """An embedding of numbered actions; for an action vector, the sum of the embeddings weighted by its entries."""

    def forward(self, act: Tensor) -> Tensor:
        """Embed actions of any kind: (b, n, embedding_dim).

        `act` is int64 (b, n) for numbered actions, uint8 (b, n, num_actions) for multi-hot ones, and float32 of the
        same shape for continuous ones. For data without actions, `num_actions` is 0, and the result is zero.
        """
        return super().forward(act) if act.ndim == 2 else act.to(self.weight.dtype) @ self.weight


class FourierFeatures(nn.Module):
    """Cosines and sines of a number at fixed random frequencies: (b) to (b, channels).

    They are float32 in every precision: in bfloat16, many noise levels would share one embedding.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(1, channels // 2))

    def forward(self, number: Tensor) -> Tensor:
        # Not a matrix product, which autocast computes in bfloat16, and CUDA possibly in TF32.
        angles = 2 * math.pi * number.float()[:, None] * self.weight.float()
        return torch.cat((angles.cos(), angles.sin()), dim=-1)


def init_lstm(lstm: nn.LSTM | nn.LSTMCell) -> None:
    """Initialise input weights (Xavier uniform), recurrent weights (orthogonal) and biases (0; forget gate 1)."""
    for name, parameter in lstm.named_parameters():
        if "weight_ih" in name:
            nn.init.xavier_uniform_(parameter)
        elif "weight_hh" in name:
            nn.init.orthogonal_(parameter)
        else:
            nn.init.zeros_(parameter)
            if "bias_ih" in name:
                gate = len(parameter) // 4
                nn.init.ones_(parameter.data[gate : 2 * gate])
