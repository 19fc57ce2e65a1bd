"""Sampling of the next frame: the schedule of noise levels, and a solver applied to the denoiser."""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from models.diffusion.denoiser import Denoiser, quantise
from models.diffusion.noise import Randn
from models.diffusion.samplers import PLAIN, Churn, Denoise, ddim, euler, heun
from models.diffusion.schedules import CosineScheduleConfig, LinearScheduleConfig, Schedule, respaced_steps
from ranges import BadSetting, Between, Fraction, Positive, Weight

MOST_STEPS = 10_000
"""Without a schedule."""


@dataclass(frozen=True)
class DiffusionSamplerConfig:
    """Schedule (σ from `sigma_max` to `sigma_min`, with exponent `rho`), solver order (1: Euler, 2: Heun) and churn.

    `s_cond` is the σ of the noise that is added to the history before each call of the network; it accumulates.
    """

    num_steps_denoising: Annotated[int, Between(1, MOST_STEPS)] = 3
    sigma_min: Positive = 2e-3
    sigma_max: Positive = 5.0
    rho: Annotated[int, Between(1, 1000)] = 7
    order: Annotated[int, Between(1, 2)] = 1
    s_churn: Weight = 0.0
    s_tmin: Weight = 0.0
    s_tmax: Annotated[float, Between(0, math.inf)] = math.inf
    s_noise: Annotated[float, Between(0, 100)] = 1.0
    s_cond: Annotated[float, Between(0, 100)] = 0.0

    def __post_init__(self) -> None:
        for smaller, larger in (("sigma_min", "sigma_max"), ("s_tmin", "s_tmax")):
            if getattr(self, smaller) > getattr(self, larger):
                words = f"{smaller}={getattr(self, smaller)} is larger than its {larger}={getattr(self, larger)}"
                raise BadSetting(f"{words}.")


@dataclass(frozen=True)
class RespacedSamplerConfig:
    """Steps of a schedule, evenly spaced (see `respaced_steps`); `eta` is the share of noise in each step.

    `eta` is 1 for ancestral sampling, and 0 for DDIM, whose only draw is the first one. `schedule`: None for the one
    that the denoiser was trained with. `s_cond` as in `DiffusionSamplerConfig`.
    """

    num_steps_denoising: Annotated[int, Between(1, 100_000)] = 3
    eta: Fraction = 1.0
    schedule: LinearScheduleConfig | CosineScheduleConfig | None = None
    s_cond: Annotated[float, Between(0, 100)] = 0.0

    def sigmas(self, trained: Schedule | None) -> list[float]:
        """Noise levels from large to small, followed by zero. Raises BadSetting if there are not as many steps."""
        schedule = self.steps_of(trained)
        if self.num_steps_denoising > len(schedule):
            raise BadSetting(f"num_steps_denoising={self.num_steps_denoising} is too many: there are {len(schedule)}.")
        steps = respaced_steps(len(schedule), self.num_steps_denoising)
        return [*schedule.sigmas[steps].tolist(), 0.0]

    def steps_of(self, trained: Schedule | None) -> Schedule:
        """The schedule whose steps are taken, for a denoiser that was trained with `trained`."""
        schedule = trained if self.schedule is None else Schedule(self.schedule)
        if schedule is None:
            raise BadSetting("schedule=null needs a denoiser with a schedule, and this one was trained without.")
        return schedule


SamplerConfig = DiffusionSamplerConfig | RespacedSamplerConfig


def build_sigmas(config: DiffusionSamplerConfig, device: torch.device) -> Tensor:
    """Noise levels of the sampler, from large to small, followed by zero (Karras et al. 2022, eq. 5).

    Returns float32 of shape (num_steps_denoising + 1,).
    """
    ramp = torch.linspace(0, 1, config.num_steps_denoising, device=device)
    largest, smallest = config.sigma_max ** (1 / config.rho), config.sigma_min ** (1 / config.rho)
    sigmas = (largest + ramp * (smallest - largest)) ** config.rho
    return torch.cat((sigmas, sigmas.new_zeros(1)))


class DiffusionSampler:
    """Samples next frames from a denoiser."""

    def __init__(self, denoiser: Denoiser, config: SamplerConfig) -> None:
        """Raises BadSetting if the denoiser has no such steps."""
        self.denoiser = denoiser
        self.config = config
        if isinstance(config, RespacedSamplerConfig):
            self._sigmas = config.sigmas(denoiser.schedule)
        else:
            self._sigmas = build_sigmas(config, torch.device("cpu")).tolist()

    @property
    def most_steps(self) -> int:
        """The largest `num_steps_denoising` that is possible."""
        is_respaced = isinstance(self.config, RespacedSamplerConfig)
        return len(self.config.steps_of(self.denoiser.schedule)) if is_respaced else MOST_STEPS

    @torch.no_grad()
    def sample(self, obs: Tensor, act: Tensor | None, randn: Randn = torch.randn) -> tuple[Tensor, list[Tensor]]:
        """Sample the frame that follows `obs` and `act`, which have the shapes and ranges of `Denoiser.denoise`.

        Returns the frame (b, c, h, w), and the trajectory from noise to it: num_steps_denoising + 1 such frames, scaled
        as the parameterisation shows them.
        """
        b, _, c, h, w = obs.shape
        parameterisation, noise = self.denoiser.parameterisation, randn(b, c, h, w, device=obs.device)
        x = noise / parameterisation.scale(self._sigmas[0])
        trajectory = self._solve(self._denoise_after(obs, act, randn), x, randn)
        shown = [x * parameterisation.scale(sigma) for x, sigma in zip(trajectory, self._sigmas, strict=True)]
        sample = trajectory[-1] if parameterisation.quantises else quantise(trajectory[-1])
        return sample, [*shown[:-1], sample]

    def _solve(self, denoise: Denoise, x: Tensor, randn: Randn) -> list[Tensor]:
        # A denoiser that draws noise at each call is not part of a compiled step.
        config, steps = self.config, PLAIN if self.config.s_cond > 0 else self.denoiser.sampling_steps
        if isinstance(config, RespacedSamplerConfig):
            return ddim(denoise, x, self._sigmas, config.eta, randn, steps)
        churn = Churn(config.s_churn, config.s_tmin, config.s_tmax, config.s_noise)
        return (heun if config.order == 2 else euler)(denoise, x, self._sigmas, churn, randn, steps)

    def _denoise_after(self, obs: Tensor, act: Tensor | None, randn: Randn) -> Denoise:
        """The denoiser as a function of only the noisy frame and its noise levels."""
        s_cond, (b, n, c, h, w) = self.config.s_cond, obs.shape
        if s_cond <= 0:
            return After(self.denoiser, obs, act)
        sigma_cond, noisy_obs = torch.full((b,), s_cond, device=obs.device), obs

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            nonlocal noisy_obs
            noisy_obs = noisy_obs + s_cond * randn(b, n * c, h, w, device=obs.device).view_as(obs)
            return self.denoiser.denoise(x, sigma, noisy_obs, act, sigma_cond)

        return denoise


@dataclass(frozen=True)
class After:
    """A denoiser of the frame that follows given frames and actions."""

    denoiser: Denoiser
    obs: Tensor
    act: Tensor | None

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.denoiser.denoise(x, sigma, self.obs, self.act)
