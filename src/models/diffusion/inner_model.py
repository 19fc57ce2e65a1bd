"""The network inside the denoiser: a U-Net conditioned on noise levels and recent actions."""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.blocks import (
    ActionEmbedding,
    Downsample,
    FourierFeatures,
    GroupNorm,
    ResBlocks,
    Upsample,
    conv3x3,
    zero_init,
)
from models.sizes import check_unet
from ranges import BadSetting, Between, Depth, ImageChannels, Levels, Switch, Whole, Width


@dataclass(frozen=True)
class InnerModelConfig:
    """Sizes of the network: `depths` (blocks), `channels` (width) and `attn_depths` (0 or 1) have one entry per level.

    `num_actions` is the number of actions, or of entries of an action vector; 0 for data without actions. An upsampler
    takes no actions, and has one more frame in its history: the small frame that it enlarges.
    """

    img_channels: ImageChannels
    num_steps_conditioning: Annotated[int, Between(1, 1000)]
    cond_channels: Width
    depths: Levels[Depth]
    channels: Levels[Width]
    attn_depths: Levels[Switch]
    num_actions: Whole | None = None
    is_upsampler: bool | None = None

    def __post_init__(self) -> None:
        check_unet(self.depths, self.channels, self.attn_depths, has_skips=True)
        n, cond = self.num_steps_conditioning, self.cond_channels
        if cond % 2:
            raise BadSetting(f"cond_channels={cond} must be even: noise levels are embedded as cosines and sines.")
        if not self.is_upsampler and cond % n:
            raise BadSetting(f"cond_channels={cond} cannot be shared by num_steps_conditioning={n} actions equally.")


class InnerModel(nn.Module):
    """The network F of Karras et al. 2022, eq. 7: from scaled frames and noise levels to the scaled residual."""

    def __init__(self, config: InnerModelConfig, has_noise_cond: bool = False) -> None:
        """`has_noise_cond`: whether the network is also conditioned on the noise level of the history."""
        super().__init__()
        n, cond, first = config.num_steps_conditioning, config.cond_channels, config.channels[0]
        self.noise_emb = FourierFeatures(cond)
        self.noise_cond_emb = FourierFeatures(cond) if has_noise_cond else None
        self.act_emb = None
        if not config.is_upsampler:
            self.act_emb = nn.Sequential(ActionEmbedding(config.num_actions, cond // n), nn.Flatten())
        self.cond_proj = nn.Sequential(nn.Linear(cond, cond), nn.SiLU(), nn.Linear(cond, cond))
        num_frames = n + 1 + bool(config.is_upsampler)
        self.conv_in = conv3x3(num_frames * config.img_channels, first)
        self.unet = UNet(cond, config.depths, config.channels, config.attn_depths)
        self.norm_out = GroupNorm(first)
        self.conv_out = zero_init(conv3x3(first, config.img_channels))

    @staticmethod
    def noise_input(step: Tensor, num_steps: int) -> Tensor:
        """The network's input for steps (b) of a schedule with that many: their part of it, in (0, 1]."""
        return (step + 1) / num_steps

    def forward(
        self,
        noisy_next_obs: Tensor,
        c_noise: Tensor,
        obs: Tensor,
        act: Tensor | None,
        c_noise_cond: Tensor | None = None,
    ) -> Tensor:
        """From scaled `noisy_next_obs` (b, c, h, w) and `obs` (b, n·c, h, w) to F (b, c, h, w).

        `c_noise` (b): the noise of the next frame. `c_noise_cond` (b): the noise of the history, None if it has none.
        `act`: int64 (b, n), vectors (b, n, num_actions) of uint8 or float32, or None for an upsampler.
        """
        cond = self.noise_emb(c_noise)
        if self.noise_cond_emb is not None:
            cond = cond + self.noise_cond_emb(torch.zeros_like(c_noise) if c_noise_cond is None else c_noise_cond)
        if self.act_emb is not None:
            cond = cond + self.act_emb(act)
        cond = self.cond_proj(cond)
        x = self.conv_in(torch.cat((obs, noisy_next_obs), dim=1))
        x = self.unet(x, cond)
        return self.conv_out(F.silu(self.norm_out(x)))


class UNet(nn.Module):
    """Levels of residual blocks. Each level down halves the size; every output down is a skip connection up."""

    def __init__(
        self, cond_channels: int, depths: tuple[int, ...], channels: tuple[int, ...], attn_depths: tuple[int, ...]
    ) -> None:
        super().__init__()
        num_levels = len(channels)
        d_blocks, u_blocks = [], []
        for level, (depth, width, attn) in enumerate(zip(depths, channels, attn_depths, strict=True)):
            above = channels[max(0, level - 1)]
            d_blocks.append(ResBlocks([above] + [width] * (depth - 1), [width] * depth, cond_channels, bool(attn)))
            skips_joined = [2 * width] * depth + [width + above]
            u_blocks.append(ResBlocks(skips_joined, [width] * depth + [above], cond_channels, bool(attn)))
        self.d_blocks = nn.ModuleList(d_blocks)
        self.u_blocks = nn.ModuleList(reversed(u_blocks))
        self.mid_blocks = ResBlocks([channels[-1]] * 2, [channels[-1]] * 2, cond_channels, attn=True)
        self.downsamples = nn.ModuleList([nn.Identity()] + [Downsample(width) for width in channels[:-1]])
        self.upsamples = nn.ModuleList([nn.Identity()] + [Upsample(width) for width in reversed(channels[:-1])])
        self.multiple = 2 ** (num_levels - 1)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % self.multiple, 0, -height % self.multiple))
        skips = []
        for blocks, downsample in zip(self.d_blocks, self.downsamples, strict=True):
            entered = downsample(x)
            outputs = blocks(entered, cond)
            skips.append([entered, *outputs])
            x = outputs[-1]
        x = self.mid_blocks(x, cond)[-1]
        for blocks, upsample, level_skips in zip(self.u_blocks, self.upsamples, reversed(skips), strict=True):
            x = blocks(upsample(x), cond, level_skips[::-1])[-1]
        return x[..., :height, :width]
