"""Samplers: plain functions of a denoiser that lead from noise to a sample along decreasing noise levels.

Noise levels are Python numbers, from large to small, the last one zero. Branches that depend on them never wait for the
device of the frames.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.diffusion.noise import Randn

Denoise = Callable[[Tensor, Tensor], Tensor]
"""Maps noisy x (b, c, h, w) and its noise levels (b) to the clean x0 (b, c, h, w)."""


@dataclass(frozen=True)
class Churn:
    """Noise added before each step whose level is in [s_tmin, s_tmax] (Karras et al. 2022, alg. 2)."""

    s_churn: float = 0.0
    s_tmin: float = 0.0
    s_tmax: float = math.inf
    s_noise: float = 1.0

    def add(self, x: Tensor, sigma: float, num_steps: int, randn: Randn) -> tuple[Tensor, float]:
        """`x` with added noise, and its new level, before a step from `sigma`; `num_steps` counts all steps."""
        if self.s_churn <= 0 or not self.s_tmin <= sigma <= self.s_tmax:
            return x, sigma
        sigma_hat = sigma * (1 + min(self.s_churn / num_steps, math.sqrt(2) - 1))
        noise = randn(*x.shape, device=x.device)
        return x + self.s_noise * noise * math.sqrt(sigma_hat**2 - sigma**2), sigma_hat


NO_CHURN = Churn()


def euler(
    denoise: Denoise, x: Tensor, sigmas: Sequence[float], churn: Churn = NO_CHURN, randn: Randn = torch.randn
) -> list[Tensor]:
    """Euler's method: one step from each of the n + 1 noise levels to the next.

    `x` (b, c, h, w) is noise. Returns the trajectory: `x` and the n points after it; the last one is the sample.
    """
    trajectory = [x]
    for sigma, next_sigma in itertools.pairwise(sigmas):
        x, sigma_hat = churn.add(x, sigma, len(sigmas) - 1, randn)
        slope = (x - denoise(x, _for_each(x, sigma))) / sigma_hat
        x = x + slope * (next_sigma - sigma_hat)
        trajectory.append(x)
    return trajectory


def heun(
    denoise: Denoise, x: Tensor, sigmas: Sequence[float], churn: Churn = NO_CHURN, randn: Randn = torch.randn
) -> list[Tensor]:
    """Heun's method: like `euler`, with a second evaluation at the end of each step except the last one.

    This is algorithm 2 of Karras et al. 2022, except that the denoiser is given the noise level before churn.
    """
    trajectory = [x]
    for sigma, next_sigma in itertools.pairwise(sigmas):
        x, sigma_hat = churn.add(x, sigma, len(sigmas) - 1, randn)
        slope = (x - denoise(x, _for_each(x, sigma))) / sigma_hat
        following = x + slope * (next_sigma - sigma_hat)
        if next_sigma > 0:
            next_slope = (following - denoise(following, _for_each(x, next_sigma))) / next_sigma
            following = x + (slope + next_slope) / 2 * (next_sigma - sigma_hat)
        x = following
        trajectory.append(x)
    return trajectory


def ddim(
    denoise: Denoise, x: Tensor, sigmas: Sequence[float], eta: float = 0.0, randn: Randn = torch.randn
) -> list[Tensor]:
    """Sampling of Song et al. 2021 (eq. 12 and 16) in terms of noise levels; without noise (η = 0), DDIM.

    With η = 1 it is ancestral sampling: each step draws from the distribution of the next frame given this one and the
    predicted clean frame, whatever the distance between their levels (Ho et al. 2020, eq. 7). `x` (b, c, h, w) is noise
    of the first level. Returns the trajectory as `euler` does.
    """
    trajectory = [x]
    for sigma, next_sigma in itertools.pairwise(sigmas):
        denoised = denoise(x, _for_each(x, sigma))
        new = eta * next_sigma * math.sqrt(1 - (next_sigma / sigma) ** 2)
        x = denoised + (x - denoised) * (math.sqrt(next_sigma**2 - new**2) / sigma)
        if new > 0:
            x = x + new * randn(*x.shape, device=x.device)
        trajectory.append(x)
    return trajectory


def ancestral(denoise: Denoise, x: Tensor, sigmas: Sequence[float], randn: Randn = torch.randn) -> list[Tensor]:
    """Ancestral sampling of DDPM: `ddim` with η = 1."""
    return ddim(denoise, x, sigmas, 1.0, randn)


def _for_each(x: Tensor, sigma: float) -> Tensor:
    """The noise level repeated for each x: (b), on the device of x."""
    return torch.full((len(x),), sigma, device=x.device)
