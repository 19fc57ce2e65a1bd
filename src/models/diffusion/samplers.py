"""Samplers: plain functions of a denoiser that lead from noise to a sample along decreasing noise levels.

Noise levels are Python numbers, from large to small, the last one zero. Branches that depend on them never wait for the
device of the frames.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class Steps:
    """One step of each sampler, as a function of tensors alone, so that it can be compiled with the network inside.

    Noise levels and coefficients are tensors without dimensions: other numbers need no other code.
    """

    euler: Callable[..., Tensor]
    heun: Callable[..., Tensor]
    ddim: Callable[..., Tensor]

    def compiled(self, **options: Any) -> "Steps":
        """The same steps, each compiled at its first call."""
        return Steps(*[torch.compile(step, **options) for step in vars(self).values()])


def euler_step(denoise: Denoise, x: Tensor, sigma: Tensor, sigma_hat: Tensor, change: Tensor) -> Tensor:
    """From x of level `sigma_hat` to level `sigma_hat + change`; `sigma` is the level that the denoiser is given."""
    slope = (x - denoise(x, sigma.expand(len(x)))) / sigma_hat
    return x + slope * change


def heun_step(
    denoise: Denoise, x: Tensor, sigma: Tensor, sigma_hat: Tensor, change: Tensor, next_sigma: Tensor
) -> Tensor:
    """As `euler_step`, with the mean of the slopes at both ends; `next_sigma` is the level of the second one."""
    slope = (x - denoise(x, sigma.expand(len(x)))) / sigma_hat
    following = x + slope * change
    next_slope = (following - denoise(following, next_sigma.expand(len(x)))) / next_sigma
    return x + (slope + next_slope) / 2 * change


def ddim_step(denoise: Denoise, x: Tensor, sigma: Tensor, kept: Tensor) -> Tensor:
    """From x of level `sigma` towards the clean frame: the share `kept` of the noise remains."""
    denoised = denoise(x, sigma.expand(len(x)))
    return denoised + (x - denoised) * kept


PLAIN = Steps(euler_step, heun_step, ddim_step)


def euler(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    churn: Churn = NO_CHURN,
    randn: Randn = torch.randn,
    steps: Steps = PLAIN,
) -> list[Tensor]:
    """Euler's method: one step from each of the n + 1 noise levels to the next.

    `x` (b, c, h, w) is noise. Returns the trajectory: `x` and the n points after it; the last one is the sample.
    """
    trajectory = [x]
    for sigma, next_sigma in itertools.pairwise(sigmas):
        x, sigma_hat = churn.add(x, sigma, len(sigmas) - 1, randn)
        x = steps.euler(denoise, x, *_beside(x, sigma, sigma_hat, next_sigma - sigma_hat))
        trajectory.append(x)
    return trajectory


def heun(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    churn: Churn = NO_CHURN,
    randn: Randn = torch.randn,
    steps: Steps = PLAIN,
) -> list[Tensor]:
    """Heun's method: like `euler`, with a second evaluation at the end of each step except the last one.

    This is algorithm 2 of Karras et al. 2022, except that the denoiser is given the noise level before churn.
    """
    trajectory = [x]
    for sigma, next_sigma in itertools.pairwise(sigmas):
        x, sigma_hat = churn.add(x, sigma, len(sigmas) - 1, randn)
        levels = _beside(x, sigma, sigma_hat, next_sigma - sigma_hat)
        if next_sigma > 0:
            x = steps.heun(denoise, x, *levels, *_beside(x, next_sigma))
        else:
            x = steps.euler(denoise, x, *levels)
        trajectory.append(x)
    return trajectory


def ddim(
    denoise: Denoise,
    x: Tensor,
    sigmas: Sequence[float],
    eta: float = 0.0,
    randn: Randn = torch.randn,
    steps: Steps = PLAIN,
) -> list[Tensor]:
    """Sampling of Song et al. 2021 (eq. 12 and 16) in terms of noise levels; without noise (η = 0), DDIM.

    With η = 1 it is ancestral sampling: each step draws from the distribution of the next frame given this one and the
    predicted clean frame, whatever the distance between their levels (Ho et al. 2020, eq. 7). `x` (b, c, h, w) is noise
    of the first level. Returns the trajectory as `euler` does.
    """
    trajectory = [x]
    for sigma, next_sigma in itertools.pairwise(sigmas):
        new = eta * next_sigma * math.sqrt(1 - (next_sigma / sigma) ** 2)
        x = steps.ddim(denoise, x, *_beside(x, sigma, math.sqrt(next_sigma**2 - new**2) / sigma))
        if new > 0:
            x = x + new * randn(*x.shape, device=x.device)
        trajectory.append(x)
    return trajectory


def ancestral(denoise: Denoise, x: Tensor, sigmas: Sequence[float], randn: Randn = torch.randn) -> list[Tensor]:
    """Ancestral sampling of DDPM: `ddim` with η = 1."""
    return ddim(denoise, x, sigmas, 1.0, randn)


def _beside(x: Tensor, *numbers: float) -> list[Tensor]:
    """Numbers as tensors without dimensions on the device of x, which are filled there: nothing is copied."""
    return [torch.full((), number, dtype=x.dtype, device=x.device) for number in numbers]
