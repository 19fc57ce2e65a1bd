"""A U-Net that predicts the noise in a frame from the frames before it and the number of the noise step."""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.blocks import ActionEmbedding, Upsample, conv1x1, conv3x3, zero_init
from ranges import BadSetting, Between, Count, Depth, ImageChannels, Levels, Pixels, Whole, Width


@dataclass(frozen=True)
class ConditionalUNetConfig:
    """Sizes of the network: level i has `base_channels · channel_mults[i]` channels.

    Levels whose size is listed in `attention_resolutions` have attention; their sizes are `initial_img_resolution`,
    halved at each level. Frames may have other sizes, and attention then stays in the same levels. `dropout_rate` acts
    in training. `num_actions` is the number of entries of an action; 0 or None for a network without actions.
    """

    img_channels: ImageChannels
    num_steps_conditioning: Annotated[int, Between(1, 1000)] = 1
    base_channels: Width = 32
    channel_mults: Levels[Annotated[int, Between(1, 64)]] = (1, 2, 3)
    num_res_blocks_per_level: Depth = 1
    attention_resolutions: tuple[Pixels, ...] = (32,)
    time_emb_dim: Annotated[int, Between(4, 16_384)] = 128
    time_emb_mlp_dim: Width = 512
    dropout_rate: Annotated[float, Between(0, 0.99)] = 0.1
    initial_img_resolution: Pixels = 128
    num_heads_attn: Count = 8
    num_groups_norm: Count = 32
    num_actions: Whole | None = None

    def __post_init__(self) -> None:
        if self.channel_mults[0] != 1:
            raise BadSetting(f"channel_mults={list(self.channel_mults)} must begin with 1.")
        if self.time_emb_dim % 2:
            raise BadSetting(f"time_emb_dim={self.time_emb_dim} must be even: steps are embedded as sines and cosines.")
        for name in ("num_groups_norm", "num_heads_attn"):
            for width in self.widths:
                if width % getattr(self, name):
                    raise BadSetting(
                        f"base_channels={self.base_channels} makes a level of {width} channels, which {name}="
                        f"{getattr(self, name)} does not divide: use multiples of {getattr(self, name)}."
                    )

    @property
    def widths(self) -> list[int]:
        """The channels of each level."""
        return [self.base_channels * factor for factor in self.channel_mults]

    @property
    def has_attention(self) -> list[bool]:
        """Whether each level has attention."""
        sizes = [self.initial_img_resolution // 2**level for level in range(len(self.channel_mults))]
        return [size in self.attention_resolutions for size in sizes]

    def check_frame(self, height: int, width: int) -> None:
        """Raise BadSetting for frames that the levels cannot halve."""
        halvings = len(self.channel_mults) - 1
        if height % 2**halvings or width % 2**halvings:
            raise BadSetting(
                f"channel_mults={list(self.channel_mults)} halve frames {halvings} times, but {height} and {width} "
                f"are not both multiples of {2**halvings}: change env.train.size, or use fewer levels."
            )


class ConditionalUNet(nn.Module):
    """The network of the kitchen's frames: residual blocks with attention, told the step of the noise."""

    def __init__(self, config: ConditionalUNetConfig) -> None:
        super().__init__()
        cond, widths, depth = config.time_emb_mlp_dim, config.widths, config.num_res_blocks_per_level
        self.time_emb_dim = config.time_emb_dim
        self.time_mlp = nn.Sequential(nn.Linear(config.time_emb_dim, cond), nn.SiLU(), nn.Linear(cond, cond))
        self.act_emb = zero_init(ActionEmbedding(config.num_actions, cond)) if config.num_actions else None
        self.conv_in = conv3x3((config.num_steps_conditioning + 1) * config.img_channels, widths[0])

        def level(before: int, width: int, attends: bool) -> nn.ModuleList:
            blocks = [ResidualBlock(before if n == 0 else width, width, config) for n in range(depth)]
            return nn.ModuleList([*blocks, AttentionBlock(width, config)] if attends else blocks)

        above = [widths[0], *widths[:-1]]
        levels = list(zip(above, widths, config.has_attention, strict=True))
        self.encoder_blocks = nn.ModuleList(level(*each) for each in levels)
        self.encoder_downsamples = nn.ModuleList(Downsample(width) for width in widths[:-1])
        self.bottleneck_res1 = ResidualBlock(widths[-1], widths[-1], config)
        self.bottleneck_attn = AttentionBlock(widths[-1], config)
        self.bottleneck_res2 = ResidualBlock(widths[-1], widths[-1], config)
        below = [*widths[1:], widths[-1]]
        joined = list(zip(below, widths, config.has_attention, strict=True))[::-1]
        self.decoder_blocks = nn.ModuleList(level(before + width, width, attends) for before, width, attends in joined)
        self.decoder_upsamples = nn.ModuleList(Upsample(width) for width in widths[:0:-1])
        self.conv_out_norm = nn.GroupNorm(config.num_groups_norm, widths[0])
        self.conv_out = conv3x3(widths[0], config.img_channels)

    @staticmethod
    def noise_input(step: Tensor, num_steps: int) -> Tensor:
        """The network's input for steps of a schedule (b): their numbers."""
        return step

    def forward(
        self,
        noisy_next_obs: Tensor,
        c_noise: Tensor,
        obs: Tensor,
        act: Tensor | None = None,
        c_noise_cond: Tensor | None = None,
    ) -> Tensor:
        """From scaled `noisy_next_obs` (b, c, h, w) and `obs` (b, n·c, h, w) to the prediction (b, c, h, w).

        `c_noise` (b): the steps of the noise. `act` as in `InnerModel.forward`. The history has no noise:
        `c_noise_cond` is None.
        """
        cond = self.embed(c_noise)
        if self.act_emb is not None:
            cond = cond + self.act_emb(act).sum(dim=1)
        x = self.conv_in(torch.cat((noisy_next_obs, obs), dim=1))
        skips = []
        for level, blocks in enumerate(self.encoder_blocks):
            x = _through(blocks, x, cond)
            skips.append(x)
            if level < len(self.encoder_downsamples):
                x = self.encoder_downsamples[level](x)
        x = self.bottleneck_res2(self.bottleneck_attn(self.bottleneck_res1(x, cond), cond), cond)
        for level, blocks in enumerate(self.decoder_blocks):
            x = _through(blocks, torch.cat((x, skips.pop()), dim=1), cond)
            if level < len(self.decoder_upsamples):
                x = self.decoder_upsamples[level](x)
        return self.conv_out(F.silu(self.conv_out_norm(x)))

    def embed(self, step: Tensor) -> Tensor:
        """The condition (b, time_emb_mlp_dim) for steps (b)."""
        return self.time_mlp(embed_step(step, self.time_emb_dim))


def embed_step(step: Tensor, dim: int) -> Tensor:
    """Sines, then cosines, of a number at `dim / 2` frequencies from 1 to 1/10000: (b) to float32 (b, dim)."""
    count = dim // 2
    frequencies = torch.exp(-math.log(10_000) / (count - 1) * torch.arange(count, device=step.device))
    angles = step.float()[:, None] * frequencies
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions after normalisation; the condition is added between them, and the input after them."""

    def __init__(self, in_channels: int, out_channels: int, config: ConditionalUNetConfig) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(config.num_groups_norm, in_channels)
        self.conv1 = conv3x3(in_channels, out_channels)
        self.time_mlp = nn.Sequential(nn.SiLU(), nn.Linear(config.time_emb_mlp_dim, out_channels))
        self.norm2 = nn.GroupNorm(config.num_groups_norm, out_channels)
        self.dropout = nn.Dropout(config.dropout_rate)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.skip_connection = conv1x1(in_channels, out_channels) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x))) + self.time_mlp(cond)[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        return h + self.skip_connection(x)


class AttentionBlock(nn.Module):
    """Multi-head attention over all positions, without a code of the position, added to the input."""

    def __init__(self, channels: int, config: ConditionalUNetConfig) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(config.num_groups_norm, channels)
        self.qkv_proj = conv1x1(channels, 3 * channels)
        self.attention = nn.MultiheadAttention(channels, config.num_heads_attn, batch_first=True)
        self.out_proj = conv1x1(channels, channels)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = self.qkv_proj(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=-1)  # each: b (h w) c
        # Without weights, PyTorch computes it by its scaled dot product attention.
        attended, _ = self.attention(q, k, v, need_weights=False)
        return x + self.out_proj(attended.transpose(1, 2).reshape(b, c, h, w))


class Downsample(nn.Module):
    """Halve height and width with a strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = conv3x3(channels, channels, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def _through(blocks: nn.ModuleList, x: Tensor, cond: Tensor) -> Tensor:
    for block in blocks:
        x = block(x, cond)
    return x
