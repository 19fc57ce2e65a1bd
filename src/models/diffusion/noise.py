"""Noise in training: which levels are drawn, and how a frame becomes noisy."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Randn = Callable[..., Tensor]
"""`torch.randn`, or something in its place that replays recorded draws."""


@dataclass(frozen=True)
class SigmaDistributionConfig:
    """Log-normal noise levels: ln σ ~ N(loc, scale), clipped to [sigma_min, sigma_max] (Karras et al. 2022, tab. 1)."""

    loc: float = -0.4
    scale: float = 1.2
    sigma_min: float = 2e-3
    sigma_max: float = 20.0

    def draw(self, batch_size: int, device: torch.device, randn: Randn = torch.randn) -> Tensor:
        """Noise levels σ, float32 (batch_size)."""
        log_sigma = self.loc + self.scale * randn(batch_size, device=device)
        return log_sigma.exp().clip(self.sigma_min, self.sigma_max)


def add_noise(frames: Tensor, sigma: Tensor, sigma_offset: float, randn: Randn = torch.randn) -> Tensor:
    """Frames (b, c, h, w) with noise of the levels `sigma` (b), and noise that is constant over each channel.

    `sigma_offset` is the standard deviation of the constant part. The offset is drawn first, then the noise.
    """
    b, c = frames.shape[:2]
    offset = sigma_offset * randn(b, c, 1, 1, device=frames.device)
    return frames + offset + sigma[:, None, None, None] * randn(*frames.shape, device=frames.device)
