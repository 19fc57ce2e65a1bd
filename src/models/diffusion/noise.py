"""Noise in training: the distribution of noise levels, and noise that is constant over a channel."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from ranges import BadSetting, Between, Positive

Randn = Callable[..., Tensor]
"""`torch.randn`, or a replacement for it that replays recorded draws."""
Randint = Callable[..., Tensor]
"""`torch.randint`, in the same way."""


@dataclass(frozen=True)
class SigmaDistributionConfig:
    """Log-normal noise levels: ln σ ~ N(loc, scale), clipped to [sigma_min, sigma_max] (Karras et al. 2022, tab. 1)."""

    loc: Annotated[float, Between(-100, 100)] = -0.4
    scale: Annotated[float, Between(0, 100)] = 1.2
    sigma_min: Positive = 2e-3
    sigma_max: Positive = 20.0

    def __post_init__(self) -> None:
        if self.sigma_min > self.sigma_max:
            raise BadSetting(f"sigma_min={self.sigma_min} is larger than its sigma_max={self.sigma_max}.")

    def draw(self, batch_size: int, device: torch.device, randn: Randn = torch.randn) -> Tensor:
        """Draw noise levels σ, float32 (batch_size)."""
        log_sigma = self.loc + self.scale * randn(batch_size, device=device)
        return log_sigma.exp().clip(self.sigma_min, self.sigma_max)


def draw_offset(frames: Tensor, sigma_offset: float, randn: Randn = torch.randn) -> Tensor:
    """Offset noise (b, c, 1, 1) for frames (b, c, h, w): constant over each channel, with that standard deviation."""
    b, c = frames.shape[:2]
    return sigma_offset * randn(b, c, 1, 1, device=frames.device)
