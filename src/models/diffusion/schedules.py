"""Noise schedules with numbered steps, as in DDPM (Ho et al. 2020): the variance that is added at each step.

A frame after step t is `sqrt(ᾱ_t)·x_0 + sqrt(1 − ᾱ_t)·ε`. Divided by `sqrt(ᾱ_t)` it is a frame with noise of level
`σ_t = sqrt((1 − ᾱ_t)/ᾱ_t)`, which is how this project counts noise everywhere. Steps count from 0; the last one is the
noisiest.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch

from ranges import Above, BadSetting, Between

NumSteps = Annotated[int, Between(2, 100_000)]
Variance = Annotated[float, Above(0, 0.9999)]
SMALLEST_BETA, LARGEST_BETA = 1e-4, 0.9999


@dataclass(frozen=True)
class LinearScheduleConfig:
    """Variances in even steps from `beta_start` to `beta_end`, both included (Ho et al. 2020, section 4)."""

    num_steps: NumSteps = 1000
    beta_start: Variance = 1e-4
    beta_end: Variance = 2e-2

    def __post_init__(self) -> None:
        if self.beta_start > self.beta_end:
            raise BadSetting(f"beta_start={self.beta_start} is larger than its beta_end={self.beta_end}.")

    def betas(self) -> np.ndarray:
        """The variance of each step, float32 (num_steps)."""
        return torch.linspace(self.beta_start, self.beta_end, self.num_steps, device="cpu").numpy()


@dataclass(frozen=True)
class CosineScheduleConfig:
    """A squared cosine for ᾱ, shifted by `offset` (Nichol and Dhariwal 2021, eq. 17).

    The variances are clipped to [1e-4, 0.9999], and ᾱ is the product that follows from the clipped ones.
    """

    num_steps: NumSteps = 100
    offset: Annotated[float, Between(0, 1)] = 0.008

    def betas(self) -> np.ndarray:
        """The variance of each step, float32 (num_steps)."""
        share = (np.arange(self.num_steps + 1) / self.num_steps + self.offset) / (1 + self.offset)
        kept = np.cos(share * np.pi / 2) ** 2
        return np.clip(1 - kept[1:] / kept[:-1], SMALLEST_BETA, LARGEST_BETA).astype(np.float32)


ScheduleConfig = LinearScheduleConfig | CosineScheduleConfig


class Schedule:
    """The quantities of each step that follow from the variances: `betas`, `alphas_cumprod` and `sigmas`, float64."""

    def __init__(self, config: ScheduleConfig) -> None:
        betas = config.betas()
        self.betas = betas.astype(np.float64)
        # The product is rounded to float32, as in the published systems: near ᾱ = 1 its rounding shows.
        self.alphas_cumprod = torch.cumprod(torch.from_numpy(1 - betas), dim=0).double().numpy()
        self.sigmas = np.sqrt((1 - self.alphas_cumprod) / self.alphas_cumprod)

    def __len__(self) -> int:
        return len(self.betas)

    @property
    def posterior_variance(self) -> np.ndarray:
        """The variance β̃ of a step back, given the clean frame (Ho et al. 2020, eq. 7)."""
        before = np.concatenate(([1.0], self.alphas_cumprod[:-1]))
        return self.betas * (1 - before) / (1 - self.alphas_cumprod)


def respaced_steps(num_train_steps: int, num_steps: int) -> list[int]:
    """`num_steps` of the steps of a schedule, from noisy to clean: multiples of their distance T // n, ending at 0.

    A single step is taken from the middle: near the last one, a network that predicts noise only copies its input.
    Raises ValueError for more steps than the schedule has.
    """
    if num_steps > num_train_steps:
        raise ValueError(f"{num_steps} steps of a schedule of {num_train_steps}")
    if num_steps == 1:
        return [num_train_steps // 2]
    distance = num_train_steps // num_steps
    return [step * distance for step in reversed(range(num_steps))]
